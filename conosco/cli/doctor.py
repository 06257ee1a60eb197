"""`conosco doctor`: look at an installation, running or not, and say what to do."""

from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from conosco.cli.words import explain
from conosco.model.problem import Refused
from conosco.runtime.doctor import Finding, Level, examine, summary
from conosco.runtime.settings import read_settings

# Level -> its mark and style. The mark alone says it too, for those who see no colours.
MARKS: Final[dict[Level, tuple[str, str]]] = {
    "ok": ("ok     ", "green"),
    "note": ("note   ", "cyan"),
    "warning": ("warning", "yellow"),
    "failure": ("FAILURE", "bold red"),
}
EXIT_CODES: Final[dict[Level, int]] = {"ok": 0, "note": 0, "warning": 0, "failure": 1}


def doctor(
    data: Annotated[Path, typer.Option(help="The folder of the installation.")],
    port: Annotated[int, typer.Option(help="The port that the server listens on.", min=1, max=65_535)] = 8000,
    as_json: Annotated[bool, typer.Option("--json", help="Answer for programs.")] = False,
) -> None:
    """Check machine, folder, secrets, log and State; exits 1 if something fails."""
    try:
        settings = read_settings(data.absolute(), "127.0.0.1", port)
    except Refused as refused:
        raise typer.Exit(explain(refused)) from None
    console = Console(highlight=False, soft_wrap=True)
    findings: list[Finding] = []
    for found in examine(settings):
        findings.append(found)
        if not as_json:
            show(console, found)
    told = summary(findings)
    if as_json:
        typer.echo(msgspec.json.encode(told))
    raise typer.Exit(EXIT_CODES[told["level"]])


def show(console: Console, found: Finding) -> None:
    """One line for what was found, and one below it for what to do."""
    mark, style = MARKS[found.level]
    console.print(Text.assemble((mark, style), f"  {found.check:<9} {found.said}"))
    if found.todo:
        console.print(Text(f"{'':19}{found.todo}", style="dim"))
