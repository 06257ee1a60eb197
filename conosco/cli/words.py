"""Words for problems at the terminal."""

import typer

from conosco.model.problem import Refused
from conosco.rules.messages import say

SENTENCES = {
    "bad_network": "{variable} holds {value}, which is not a network such as 10.0.0.0/8. Separate several with commas.",
    "bad_public_url": "{variable} holds {value}, which is not an address such as https://cdp.example.com (no path behind it).",
    "bad_number": "{variable} holds {value}, which is not a whole number from {least} on. Correct it, or leave it unset.",
    "engine_not_built_yet": "{variable} is set, but this release has the embedded engines only. Unset it to go on.",
}


def explain(refused: Refused) -> int:
    """Print each problem as a sentence; returns the exit code."""
    for problem in refused.problems:
        sentence = SENTENCES.get(problem.code)
        typer.echo(sentence.format(**problem.params) if sentence else say(problem), err=True)
    return 2
