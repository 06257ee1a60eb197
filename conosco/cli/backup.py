"""`conosco backup`: one encrypted file with all that an installation cannot derive, made while it runs."""

from pathlib import Path
from typing import Annotated

import typer

from conosco.cli.words import explain
from conosco.model.moment import spell_moment
from conosco.model.problem import Refused
from conosco.ports.log import LogFull
from conosco.ports.state import StateFull
from conosco.runtime.backup import DEFAULT_KEY, Made, back_up
from conosco.runtime.bootstrap import clock
from conosco.runtime.settings import read_settings

NEW_KEY = """
A backup key was made. It is shown now and never again:

    {key}

Keep it apart from this machine and from the backups, in a password manager or on paper in a safe. Whoever has it can read the
backups; without it nobody can, and no backup can be restored. Later backups are closed for the same key.
"""


def backup(
    data: Annotated[Path, typer.Option(help="The folder of the installation; its server may run.", exists=True, file_okay=False)],
    to: Annotated[Path, typer.Option(help="A new file that ends in .backup, or a folder where each backup gets a name.")],
    key_name: Annotated[str, typer.Option(help="Which backup key to close it for; made if it is new.")] = DEFAULT_KEY,
    keep: Annotated[int, typer.Option(help="Keep so many backups in the folder, the newest; 0 keeps all.", min=0)] = 0,
) -> None:
    """Back up a running installation into one encrypted file."""
    try:
        settings = read_settings(data.absolute(), "127.0.0.1", 0)
        made = back_up(settings, to.absolute(), clock, _show, key_name=key_name, keep=keep)
    except Refused as refused:
        raise typer.Exit(explain(refused)) from None
    except (OSError, StateFull, LogFull) as error:
        typer.echo(f"The backup was not made: {error}. Choose another place with --to, or make room.", err=True)
        raise typer.Exit(1) from None
    _report(made)


def _show(key: str) -> None:
    typer.echo(NEW_KEY.format(key=key), err=True)


def _report(made: Made) -> None:
    found = made.manifest
    held = sum(entry.size for entry in found.files)
    typer.echo(f"backed up to {made.path}")
    typer.echo(f"mark {found.position}")
    typer.echo(
        f"Nothing is missing of what was acknowledged up to position {found.position} ({spell_moment(found.logged_at)}): {found.events:,} events. "
        "What was accepted later is not promised to be in it."
    )
    typer.echo(f"{len(found.files)} files, {held / 1e6:,.1f} MB, {made.size / 1e6:,.1f} MB compressed and encrypted.")
    for path in made.removed:
        typer.echo(f"removed {path}")
