"""`conosco restore`: a backup becomes a folder that can be served, proven before it is there."""

from pathlib import Path
from typing import Annotated

import typer

from conosco.cli.words import explain
from conosco.model.moment import spell_moment
from conosco.model.problem import Refused, refuse
from conosco.ports.log import LogFull
from conosco.ports.state import StateFull
from conosco.runtime.backup_restore import newest
from conosco.runtime.backup_restore import restore as restore_backup
from conosco.runtime.settings import read_backup_key


def restore(
    source: Annotated[Path, typer.Option("--from", help="A backup, or a folder of backups: then the newest.")],
    to: Annotated[Path, typer.Option(help="The new folder; it must be absent or empty.")],
    key_file: Annotated[
        Path | None, typer.Option(help="The file that holds the backup key; else CONOSCO_BACKUP_KEY.", dir_okay=False)
    ] = None,
) -> None:
    """Restore a backup into a new folder and prove it."""
    try:
        key = key_file.read_text(errors="replace") if key_file else read_backup_key()
        if not key:
            raise refuse("backup_key_missing")
        chosen = newest(source.absolute())
        restored = restore_backup(chosen, to.absolute(), key)
    except Refused as refused:
        raise typer.Exit(explain(refused)) from None
    except (OSError, StateFull, LogFull) as error:
        typer.echo(f"Nothing was restored: {error}. Mend that and try again.", err=True)
        raise typer.Exit(1) from None
    made = restored.manifest
    typer.echo(f"restored {chosen} to {restored.folder}")
    typer.echo(f"position {restored.position}")
    typer.echo(
        f"Proven: every byte of {len(made.files)} files, the log's chain up to position {restored.position}"
        + (f", the mark at {made.position} ({spell_moment(made.logged_at)})" if made.position else "")
        + (f", the digest of State at {made.state_position}." if made.state_digest else ".")
    )
    typer.echo(f"Start it with: conosco serve --data {restored.folder}")
    typer.echo(
        "Deliveries that were pending are parked, for they may have been made since: look at them before you release them."
    )
