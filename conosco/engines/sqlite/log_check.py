"""Checks the whole log: every hash, the chain across files, gaps, and what a note kept outside says must be there."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import apsw
import msgspec

from conosco.engines.sqlite.connection import DAMAGED, raise_refusal
from conosco.engines.sqlite.log_file import LogFile, Mark, Row, decode_record
from conosco.engines.sqlite.log_pages import Pages, unaccounted
from conosco.engines.sqlite.log_parquet import UnreadablePart
from conosco.engines.sqlite.log_sealed import SealedFile
from conosco.engines.sqlite.log_wal import committed_pages, read_wal
from conosco.model.record import verify
from conosco.ports.log import UNUSED_BYTES

_PAGE_RECORDS: Final = 200
LOOKS: Final = 3
LOOK_AGAIN_S: Final = 0.2
# A damaged page makes records unreadable; then each position is tried by itself.
UNREADABLE: Final = (*DAMAGED, apsw.IOError, UnreadablePart)
# The chain value before a record whose predecessor is lost.
_UNKNOWN: Final = b""

Finding = tuple[int, int]


def check_files(
    files: Sequence[LogFile | SealedFile],
    after: int,
    notes: Sequence[Mark],
    progress: Callable[[int], None] = lambda position: None,
) -> list[Finding]:
    """Check records with position > after in files that follow one another; ``notes`` are marks kept outside the files.

    Returns (position, slice index) of slices that do not match their hash, and (position, -1) for a header or chain
    that does not match, for a record that cannot be read, and for each position that should be there and is not.
    """
    wrong: list[Finding] = []
    noted = {note.position: note.chain for note in notes}
    started = files[0].base()
    previous = Mark(max(after, started.position), 0, started.chain)
    for file in files:
        base, last = file.base(), file.tail()[1]
        if last.position <= after:
            previous = last if last.position == after else Mark(after, 0, _UNKNOWN)
            continue
        if base.position <= after:
            found = file.at_or_before(after)
            previous = found if found.position == after else Mark(after, 0, _UNKNOWN)
        elif base.position > previous.position:
            wrong += ((missing, -1) for missing in range(previous.position + 1, base.position + 1))
            previous = base
        elif base.chain != previous.chain:
            wrong.append((base.position, -1))
            previous = base
        if base.position == previous.position and base.logged_at != previous.logged_at and file is not files[0] and not after:
            wrong.append((base.position, -1))
        before = len(wrong)
        previous = _check_file(file, previous, last.position, noted, wrong, progress)
        if len(wrong) == before:
            # Bytes that no record depends on can be damaged too.
            if isinstance(file, SealedFile):
                wrong += ((position, UNUSED_BYTES) for _, position in file.damaged())
            elif _has_damaged_pages(file.path) or (file is not files[-1] and not file.tail()[0]):
                wrong.append((base.position + 1, UNUSED_BYTES))
    end = max(noted, default=0)
    wrong += ((missing, -1) for missing in range(previous.position + 1, end + 1))
    return sorted(set(wrong))


def _check_file(
    file: LogFile | SealedFile,
    previous: Mark,
    last: int,
    noted: dict[int, bytes],
    wrong: list[Finding],
    progress: Callable[[int], None],
) -> Mark:
    """Check the records of one file up to ``last``; adds to ``wrong`` and returns the last record seen."""
    for row in _rows(file, previous.position, last):
        progress(row.position)
        gap = range(previous.position + 1, row.position)
        wrong += ((missing, -1) for missing in gap)
        try:
            # After a gap the chain value before this record is unknown; the gap itself is what is reported.
            known = not gap and previous.chain != _UNKNOWN
            wrong += ((row.position, index) for index in verify(decode_record(row), previous.chain) if index >= 0 or known)
        except msgspec.DecodeError:
            wrong.append((row.position, -1))
        if noted.get(row.position, row.chain) != row.chain:
            wrong.append((row.position, -1))
        previous = Mark(row.position, row.logged_at, row.chain)
    wrong += ((missing, -1) for missing in range(previous.position + 1, last + 1))
    return previous._replace(position=max(previous.position, last))


def _has_damaged_pages(path: Path) -> bool:
    """Whether pages hold bytes that are not what they must be, records apart.

    Others may be writing meanwhile, so only what is found again and again counts.
    """
    for _ in range(LOOKS):
        newer = committed_pages(read_wal(path.with_name(path.name + "-wal")))
        try:
            with closing(Pages(path, newer)) as pages:
                if not unaccounted(pages):
                    return False
        except apsw.Error:
            if not path.exists():
                return False
        time.sleep(LOOK_AGAIN_S)
    return path.exists()


def _rows(file: LogFile | SealedFile, after: int, last: int) -> Iterator[Row]:
    """Rows up to ``last`` in pages, so that nobody waits for a long snapshot; unreadable ones are left out."""
    while after < last:
        until = min(after + _PAGE_RECORDS, last)
        try:
            page = [row for row in file.rows(after, _PAGE_RECORDS) if row.position <= last]
        except UNREADABLE as error:
            raise_refusal(error)
            page = [row for row in (_row(file, position) for position in range(after + 1, until + 1)) if row is not None]
        yield from page
        after = max(until, page[-1].position) if page else until


def _row(file: LogFile | SealedFile, position: int) -> Row | None:
    try:
        return file.row(position)
    except UNREADABLE as error:
        raise_refusal(error)
        return None


def rows_past_damage(file: LogFile | SealedFile, after: int, max_records: int) -> Generator[Row, None, None]:
    """As ``file.rows``; where bytes are damaged, each record is tried by itself and those that cannot be read are passed over."""
    try:
        with closing(file.rows(after, max_records)) as rows:
            for row in rows:
                yield row
                after = row.position
                max_records -= 1
        return
    except UNREADABLE as error:
        raise_refusal(error)
        last = file.tail()[1].position
    while after < last and max_records > 0:
        after += 1
        row_found = _row(file, after)
        if row_found is not None:
            yield row_found
            max_records -= 1
