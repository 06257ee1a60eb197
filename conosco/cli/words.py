"""Words for problems at the terminal."""

import typer

from conosco.model.problem import Refused

SENTENCES = {
    "bad_network": "{variable} holds {value}, which is not a network such as 10.0.0.0/8. Separate several with commas.",
    "engine_not_built_yet": "{variable} is set, but this release has the embedded engines only. Unset it to go on.",
}


def explain(refused: Refused) -> int:
    """Print each problem as a sentence; returns the exit code."""
    for problem in refused.problems:
        sentence = SENTENCES.get(problem.code, problem.code + " {params}")
        typer.echo(sentence.format(params=problem.params, **problem.params), err=True)
    return 2
