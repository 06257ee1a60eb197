"""`conosco verify`: recompute every hash of the log, and say in plain words what does not match."""

from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from conosco.cli.words import explain
from conosco.model.problem import Refused
from conosco.ports.archive import Alarm, Archive
from conosco.ports.log import UNUSED_BYTES, LogFull
from conosco.runtime.bootstrap import clock, open_archive
from conosco.runtime.settings import read_settings

FINDINGS_SHOWN = 50


def verify(
    data: Annotated[Path, typer.Option(help="The folder of the installation.", exists=True, file_okay=False)],
    mend: Annotated[bool, typer.Option("--mend", help="Turn back single bits that have fallen over in sealed files.")] = False,
) -> None:
    """Check every record of the log against its hash and the chain; exits 1 if anything does not match. The server may run."""
    try:
        archive = open_archive(read_settings(data.absolute(), "127.0.0.1", 0))
    except Refused as refused:
        raise typer.Exit(explain(refused)) from None
    try:
        if mend:
            typer.echo(f"Mended files: {archive.mend()}.")
        found = _examine(archive)
        _tell(archive, found)
    except LogFull as trouble:
        typer.echo(f"The log cannot be read or written now: {trouble}.", err=True)
        raise typer.Exit(1) from None
    finally:
        archive.close()
    if found:
        raise typer.Exit(1)


def _examine(archive: Archive) -> list[tuple[int, int]]:
    stock = archive.stock()
    first = min((file.first for file in stock), default=1)
    with Progress(
        TextColumn("checking"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task("check", total=max((file.last for file in stock), default=0) - first + 1)
        return archive.examine(lambda position: bar.update(task, completed=position - first + 1))


def _tell(archive: Archive, found: list[tuple[int, int]]) -> None:
    stock = archive.stock()
    count = sum(file.last - file.first + 1 for file in stock)
    sealed = sum(file.is_sealed for file in stock)
    typer.echo(f"Checked {count} records in {len(stock)} files, {sealed} of them sealed.")
    for alarm in archive.alarms():
        typer.echo(f"Earlier: {_alarm(alarm)}")
    if not found:
        typer.echo("Every record and every byte is as it was written.")
        return
    # Findings that differ by what goes up with them lie next to one another: one line a stretch.
    stretches = [list(group) for _, group in groupby(enumerate(found), lambda each: (each[1][0] - each[0], each[1][1]))]
    for stretch in stretches[:FINDINGS_SHOWN]:
        (first, index), (last, _) = stretch[0][1], stretch[-1][1]
        typer.echo(_finding(first, last, index))
    if len(stretches) > FINDINGS_SHOWN:
        typer.echo(f"... and {len(stretches) - FINDINGS_SHOWN} more.")
    harmed = sorted({position for position, index in found if index != UNUSED_BYTES})
    if harmed:
        archive.raise_alarm(
            Alarm(found_at=clock(), file=f"records {harmed[0]}-{harmed[-1]}", what="does_not_match", lost=len(harmed))
        )
    typer.echo(
        "What to do: run `conosco verify --mend`, which repairs sealed files where a single bit fell over; for the rest take these "
        "records from a backup. Look at the disk: bits rarely fall alone."
    )


def _finding(first: int, last: int, index: int) -> str:
    which = f"Record {first}" if first == last else f"Records {first} to {last}"
    if index == UNUSED_BYTES:
        return f"{which}: bytes of the file near here are not as they were written, but no record depends on them."
    if index < 0:
        return f"{which}: missing, unreadable, or not as it was written."
    return f"{which}: slice {index} is not as it was written."


def _alarm(alarm: Alarm) -> str:
    words = {
        "note_damaged": "a note beside the log was damaged and has been written anew",
        "wal_mended": "a bit in the write-ahead log was turned back before it was read",
        "mended": "a bit in a sealed file was turned back",
        "made_anew": "a file was damaged and has been made anew from what could be read",
        "records_lost": "records that were durable are no longer there",
        "does_not_match": "records did not match their hashes",
    }
    kept = f"; the damaged bytes are kept as damage/{alarm.kept}" if alarm.kept else ""
    return f"{alarm.file}: {words.get(alarm.what, alarm.what)}; {alarm.lost} records lost{kept}."
