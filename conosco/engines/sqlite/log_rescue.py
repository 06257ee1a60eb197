"""What is done before the log's files are used again after nobody had them open: damaged ones are mended or made anew.

Starting never fails because of damage. The damaged bytes are copied aside, what can be read is kept, and an alarm says how
many records are lost.
"""

import fcntl
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import apsw

from conosco.engines.sqlite.connection import DAMAGED, UnfitFile, raise_refusal, replace_file, sync_folder
from conosco.engines.sqlite.log_damage import DamageBook
from conosco.engines.sqlite.log_file import LogFile, Mark
from conosco.engines.sqlite.log_pages import Pages, found_rows, is_passable, is_unmade
from conosco.engines.sqlite.log_parquet import Parquet
from conosco.engines.sqlite.log_sealed import note_path, open_sealed
from conosco.engines.sqlite.log_wal import committed_pages, mend, read_wal
from conosco.model.record import GENESIS
from conosco.ports.archive import Alarm

UNUSABLE = (*DAMAGED, apsw.SQLError, apsw.IOError, UnfitFile, IndexError)


class Presence:
    """Tells whether anybody else has this log open. One object a log; ``stay`` before the files are used."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / "open.lock", os.O_CREAT | os.O_RDWR, 0o600)

    def is_first(self) -> bool:
        """True if nobody else is here; nobody else can come until ``stay``."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def stay(self) -> None:
        """Be here, beside others."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def close(self) -> None:
        """Be gone."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def rescue(folder: Path, numbers: Sequence[int], floor: Mark, damage: DamageBook, clock: Callable[[], int]) -> None:
    """Mend every file that is not sealed, as far as it needs it. ``floor`` is the newest record known from outside."""
    for number in numbers:
        path = folder / f"log-{number:06d}.sqlite"
        raw = read_wal(_wal(path))
        if note_path(folder, number).exists() or not path.exists() or path.stat().st_size + len(raw) == 0:
            continue
        mended = mend(raw)
        if mended.bits:
            found_at = clock()
            kept = damage.keep_copy([_wal(path)], found_at)
            replace_file(_wal(path), mended.body)
            damage.add(Alarm(found_at=found_at, file=_wal(path).name, what="wal_mended", kept=kept))
        if not _is_usable(path, mended.body):
            _make_anew(folder, number, number == numbers[-1], floor, damage, clock, mended.body)


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _is_usable(path: Path, wal: bytes) -> bool:
    """Whether every record can be reached, but for those in a leaf that is damaged itself."""
    try:
        pages = Pages(path, committed_pages(wal) if wal else None)
    except apsw.Error as error:
        raise_refusal(error)
        return False
    if pages.count == 0:
        return True
    with closing(pages):
        if is_unmade(pages):
            return True
        if not is_passable(pages):
            return False
    try:
        with closing(LogFile(path)) as file:
            file.tail()
            file.base()
        return True
    except FileNotFoundError:
        # Its making was cut short: nobody has written to it.
        return True
    except UNUSABLE as error:
        raise_refusal(error)
        return False


def _make_anew(
    folder: Path, number: int, is_newest: bool, floor: Mark, damage: DamageBook, clock: Callable[[], int], wal: bytes
) -> None:
    """Put every record that can be found in a damaged file into a new one that takes its place."""
    path = folder / f"log-{number:06d}.sqlite"
    found_at = clock()
    kept = damage.keep_copy([each for each in (path, _wal(path)) if each.exists()], found_at)
    base = _end_before(folder, number)
    expected = floor.position if is_newest else _base_after(folder, number)
    made = folder / f"rescue-{number:06d}.new"
    for suffix in ("", "-wal", "-shm"):
        made.with_name(made.name + suffix).unlink(missing_ok=True)
    with closing(Pages(path, committed_pages(wal))) as pages:
        rows = {row.position: row for row in found_rows(pages) if base is None or row.position > base.position}
    if base is None:
        base = _base_of(path, wal) or Mark(min(rows, default=1) - 1, 0, GENESIS)
    with closing(LogFile.create(made, base)) as file:
        file.begin()
        file.insert(rows[position] for position in sorted(rows) if position > base.position)
        if not is_newest:
            file.seal()
        file.commit()
        file.truncate_wal()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    made.replace(path)
    for suffix in ("-wal", "-shm"):
        made.with_name(made.name + suffix).unlink(missing_ok=True)
    sync_folder(folder)
    last = max(expected, max(rows, default=base.position))
    lost = last - base.position - len(rows)
    damage.add(Alarm(found_at=found_at, file=path.name, what="made_anew", lost=max(0, lost), kept=kept))


def _base_of(path: Path, wal: bytes) -> Mark | None:
    """What the first file of a pruned log says of the record before it, if the way to that is open."""
    try:
        with closing(LogFile(path)) as file:
            return file.base()
    except (*UNUSABLE, FileNotFoundError) as error:
        raise_refusal(error)
        return None


def _end_before(folder: Path, number: int) -> Mark | None:
    """The last record of the file before; None if there is none."""
    parquet = Parquet()
    for before in range(number - 1, max(0, number - 3), -1):
        sealed = open_sealed(folder, before, parquet)
        if sealed is not None:
            return sealed.tail()[1]
        try:
            with closing(LogFile(folder / f"log-{before:06d}.sqlite")) as file:
                return file.tail()[1]
        except (*UNUSABLE, FileNotFoundError) as error:
            raise_refusal(error)
    return Mark(0, 0, GENESIS) if number == 1 else None


def _base_after(folder: Path, number: int) -> int:
    """The last position of a file as the one after it knows it; 0 if that cannot be read."""
    sealed = open_sealed(folder, number + 1, Parquet())
    if sealed is not None:
        return sealed.base().position
    try:
        with closing(LogFile(folder / f"log-{number + 1:06d}.sqlite")) as file:
            return file.base().position
    except (*UNUSABLE, FileNotFoundError) as error:
        raise_refusal(error)
        return 0
