"""`conosco replay`: derive State anew from the log beside the live one, and compare the two."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from conosco.cli.words import explain
from conosco.model.problem import Refused
from conosco.ports.state import StateAbsent
from conosco.runtime.bootstrap import clock
from conosco.runtime.journal import Journal
from conosco.runtime.migrations.steps import require_current
from conosco.runtime.rebuilding import Rebuilding
from conosco.runtime.settings import read_settings


def replay(
    data: Annotated[Path, typer.Option(help="The folder of the installation.", exists=True, file_okay=False)],
    swap: Annotated[bool, typer.Option(help="Take the rebuilt State; the server must be stopped.")] = False,
) -> None:
    """Rebuild State from the log and compare digests; exits 1 if they differ."""
    settings = read_settings(data.absolute(), "127.0.0.1", 0)
    if swap and settings.keep_raw_days:
        typer.echo(
            "Old requests are destroyed here (CONOSCO_KEEP_RAW_DAYS), so a rebuilt State would know less. Not swapped.", err=True
        )
        raise typer.Exit(1)
    try:
        require_current(settings.data)
    except Refused as refused:
        raise typer.Exit(explain(refused)) from None
    try:
        rebuilding = Rebuilding(settings, Journal("replay", clock).note)
    except StateAbsent:
        typer.echo(
            f"There is no State in {data} to compare with: `conosco serve` makes it, from the log if there is one.", err=True
        )
        raise typer.Exit(1) from None
    try:
        with Progress(
            TextColumn("replaying"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        ) as bar:
            task = bar.add_task("replay", total=rebuilding.position)
            live, rebuilt = rebuilding.run(lambda position: bar.update(task, completed=position))
        typer.echo(f"digest live {live}")
        typer.echo(f"digest rebuilt {rebuilt}")
        if swap:
            if not rebuilding.take_over():
                typer.echo("The server is running on this folder: stop it first, then --swap.", err=True)
                raise typer.Exit(1)
            typer.echo("The rebuilt State is in place; the warehouse will be filled anew at the next start.", err=True)
        elif live != rebuilt:
            raise typer.Exit(1)
    finally:
        rebuilding.close()
