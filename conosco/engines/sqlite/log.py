"""The embedded Log: SQLite files of bounded size that follow one another, with one total order and one chain across them.

A file is finished in the transaction of its last append; only then does the next one come into being, and whoever finds
it finished first makes it. So processes agree on the current file without talking to one another. Finished files are
sealed into Parquet by log_archive.py; here both forms are read alike.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from conosco.engines.sqlite.connection import DAMAGED, UNWRITABLE, make_folder, only_one, sync_folder
from conosco.engines.sqlite.log_check import check_files, rows_past_damage
from conosco.engines.sqlite.log_damage import CARE_LOCK, DamageBook, Note, read_head
from conosco.engines.sqlite.log_file import LogFile, Mark, Row, encode_body, read_record
from conosco.engines.sqlite.log_notes import write_note
from conosco.engines.sqlite.log_parquet import Parquet
from conosco.engines.sqlite.log_rescue import Presence, rescue
from conosco.engines.sqlite.log_sealed import SealedFile, drop_sealed, note_path, open_sealed
from conosco.model.record import GENESIS, SCHEMA, Draft, Record, fresh_salts, next_chain, slice_hashes
from conosco.ports.archive import Alarm
from conosco.ports.log import Appended, Head, LogFull

SEGMENT_BYTES: Final = 1 << 30
# The note outside the files is a lower bound of what must be there, so it may lag by this much.
NOTE_SECONDS: Final = 5.0
OPEN_FILES_MAX: Final = 4
_START: Final = Mark(0, 0, GENESIS)
_NAME: Final = re.compile(r"log-(\d{6,})\.(?:sqlite|sealed)\Z", re.ASCII)
Segment = LogFile | SealedFile


class _Prepared(NamedTuple):
    """What of a draft does not depend on its place in the log, made before the write lock is taken."""

    draft: Draft
    hashes: bytes
    body: bytes


class SqliteLog:
    """The Log door on a folder of SQLite files. Threads may share it; several processes may each have their own.

    Reading raises LogFull too, when a file it has not opened before cannot be opened for want of room.
    """

    def __init__(self, folder: Path, clock: Callable[[], int], *, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Open or make the log. ``clock`` gives microseconds UTC; a file that grows above ``segment_bytes`` is followed by the next."""
        make_folder(folder)
        self._folder = folder
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._closed = False
        self._noted_s: float | None = None
        self._parquet = Parquet()
        self._damage = DamageBook(folder)
        self._parquet.on_mended = self._damage.mended(clock)
        self._presence = Presence(folder)
        # Positions that were handed out before must never be handed out again, even if their rows were lost.
        self._floor = self._read_note() or _START
        self._writer_number, self._writer = self._newest_or_first()
        self._newest = self._writer_number
        self._note_loss()
        self._readers: dict[int, Segment] = {}
        self._bases: dict[int, int] = {}

    def _note_loss(self) -> None:
        """Raise an alarm if records are gone that were there: the engine does not say so."""
        lost = self._floor.position - self._writer.tail()[1].position
        if lost > 0:
            self._damage.add(Alarm(found_at=self._clock(), file=self._writer.path.name, what="records_lost", lost=lost))

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        """Append all drafts durably, next to one another, or raise LogFull and keep none."""
        if not drafts:
            return []
        prepared = [_prepare(draft) for draft in drafts]
        with self._writing:
            try:
                rows, sealed = self._write(prepared)
            except BaseException as error:
                self._writer.roll_back()
                if isinstance(error, (*UNWRITABLE, *DAMAGED)):
                    raise LogFull(f"{self._writer.path.name}: {error}") from error
                raise
            if sealed:
                self._writer.settle()
            last = rows[-1]
            self._keep_note(Mark(last.position, last.logged_at, last.chain), at_once=sealed)
            return [Appended(row.position, row.logged_at) for row in rows]

    def _write(self, prepared: list[_Prepared]) -> tuple[list[Row], bool]:
        """Insert in one transaction; returns the rows and whether they were the last ones of their file."""
        writer, tail = self._lock_current()
        position = max(tail.position, self._floor.position)
        logged_at = max(tail.logged_at, self._floor.logged_at, self._clock())
        chain = tail.chain
        rows = []
        for draft, hashes, body in prepared:
            position += 1
            chain = next_chain(chain, position, draft.kind, SCHEMA, logged_at, draft.source_id, draft.flags, hashes)
            rows.append(Row(position, draft.kind, SCHEMA, logged_at, draft.source_id, draft.flags, hashes, chain, body))
        writer.insert(rows)
        sealed = writer.size_bytes() > self._segment_bytes
        if sealed:
            writer.seal()
        writer.commit()
        return rows, sealed

    def _lock_current(self) -> tuple[LogFile, Mark]:
        """Open the write transaction on the file that is current, which another process may have moved on."""
        while True:
            self._writer.begin()
            sealed, tail = self._writer.tail()
            if not sealed:
                return self._writer, tail
            self._writer.roll_back()
            number, following = self._after(self._writer_number, tail)
            self._writer.close()
            self._writer_number, self._writer = number, following

    def read(self, after: int, max_records: int, max_bytes: int = 64_000_000) -> list[Record]:
        """Read records after a position, in order, across files."""
        records: list[Record] = []
        with self._reading:
            self._newest_tail()
            number: int | None = self._holding(after) if max_records > 0 else None
            while number is not None:
                file = self._reader(number)
                # Asked before reading: a file sealed in between may hold more than what is read now.
                ended = file is None or number < self._newest or file.tail()[0]
                if file is not None:
                    with closing(rows_past_damage(file, after, max_records - len(records))) as rows:
                        for row in rows:
                            records.append(read_record(row))
                            max_bytes -= len(row.body)
                            if max_bytes <= 0 or len(records) == max_records:
                                return records
                number = self._following(number) if ended else None
        return records

    def head(self) -> Head:
        """The newest durable record, by one look-up of a cached statement."""
        with self._reading:
            return Head(*self._newest_tail())

    def count(self, after: int) -> int:
        """How many events lie in requests after a position, across files."""
        total = 0
        with self._reading:
            self._newest_tail()
            number: int | None = self._holding(after)
            while number is not None:
                file = self._reader(number)
                ended = file is None or number < self._newest or file.tail()[0]
                total += file.events_after(after) if file is not None else 0
                number = self._following(number) if ended else None
        return total

    def prune(self, before: int) -> int:
        """Drop whole files, and rows of the file that the position falls into; what was pruned cannot come back."""
        pruned = 0
        with only_one(self._folder / CARE_LOCK):
            with only_one(self._folder / "log.lock"):
                # The newest file stays, so that positions and the chain go on from it.
                for number in self._whole()[:-1]:
                    with self._apart(number) as file:
                        if file.tail()[1].position >= before:
                            break
                        pruned += file.count_before(before)
                    self._drop(number)
            with self._apart(self._numbers()[0]) as file:
                pruned += file.prune(before)
                file.truncate_wal()
        return pruned

    def erase(self, slices: Sequence[tuple[int, int]]) -> int:
        """Overwrite slices and salts in every file and empty the WAL; raises LogFull if that could not be finished.

        Calling again finishes what a failed call left.
        """
        wanted: dict[int, set[int]] = {}
        for position, index in slices:
            wanted.setdefault(position, set()).add(index)
        destroyed = 0
        with only_one(self._folder / CARE_LOCK):
            for number in self._numbers():
                with suppress(FileNotFoundError), self._apart(number) as file:
                    base, last = file.base().position, file.tail()[1].position
                    here = {position: indexes for position, indexes in wanted.items() if base < position <= last}
                    destroyed += file.erase(here) if here else 0
            if wanted:
                # Copies of damaged bytes may hold anything.
                self._damage.forget_copies()
        return destroyed

    def verify(self, after: int = 0) -> list[tuple[int, int]]:
        """Recompute everything after a position, on connections of its own; lost records count as not matching."""
        notes = [self._floor]
        noted = self._read_note()
        if noted is not None:
            notes.append(noted)
        files: list[Segment] = []
        try:
            for number in self._whole():
                with suppress(FileNotFoundError):
                    files.append(self._open(number))
            return check_files(files, after, [note for note in notes if note.position > after])
        finally:
            for file in files:
                file.close()

    def close(self) -> None:
        """Write the note and release files; closing again is no error."""
        with self._writing, self._reading:
            if self._closed:
                return
            self._closed = True
            tail = self._writer.tail()[1]
            if tail.position >= self._floor.position:
                self._keep_note(tail, at_once=True)
            for file in (self._writer, *self._readers.values()):
                file.close()
            self._readers.clear()
            self._parquet.close()
            self._presence.close()

    def _numbers(self) -> list[int]:
        """The numbers of the files that exist, ascending."""
        found = (_NAME.match(path.name) for path in self._folder.iterdir())
        return sorted({int(name[1]) for name in found if name})

    def _whole(self) -> list[int]:
        """As ``_numbers``, without a newest file whose making was cut short: nobody has written to it."""
        numbers = self._numbers()
        with suppress(FileNotFoundError):
            if numbers:
                self._open(numbers[-1]).close()
            return numbers
        return numbers[:-1]

    def _path(self, number: int) -> Path:
        return self._folder / f"log-{number:06d}.sqlite"

    def _newest_or_first(self) -> tuple[int, LogFile]:
        """Open the newest file, or make the first one."""
        with only_one(self._folder / "log.lock"):
            if self._presence.is_first():
                try:
                    rescue(self._folder, self._numbers(), self._floor, self._damage, self._clock)
                except BaseException as error:
                    # Whoever tries again must not wait for this one.
                    self._presence.close()
                    if isinstance(error, UNWRITABLE):
                        raise LogFull(f"{self._folder.name}: {error}") from error
                    raise
            self._presence.stay()
            whole = self._whole()
            if whole and not self._is_sealed(whole[-1]):
                return whole[-1], LogFile(self._path(whole[-1]))
            number = whole[-1] + 1 if whole else 1
            return number, LogFile.create(self._path(number), self._end_of(whole[-1]) if whole else _START)

    def _after(self, number: int, base: Mark) -> tuple[int, LogFile]:
        """Open the first file there is after a sealed one, making it if there is none; those between may be pruned."""
        with only_one(self._folder / "log.lock"):
            later = [other for other in self._numbers() if other > number]
            for following in later:
                if not self._is_sealed(following):
                    return following, LogFile.create(self._path(following), base)
            if later:
                return later[-1] + 1, LogFile.create(self._path(later[-1] + 1), self._end_of(later[-1]))
            return number + 1, LogFile.create(self._path(number + 1), base)

    def _is_sealed(self, number: int) -> bool:
        return note_path(self._folder, number).exists()

    def _end_of(self, number: int) -> Mark:
        with closing(self._open(number)) as file:
            return file.tail()[1]

    @contextmanager
    def _apart(self, number: int) -> Iterator[Segment]:
        """A file on a connection of its own; trouble with the disk becomes LogFull. Raises FileNotFoundError if pruned."""
        file = self._open(number)
        try:
            yield file
        except UNWRITABLE as error:
            file.roll_back()
            raise LogFull(f"{file.path.name}: {error}") from error
        finally:
            file.close()

    def _open(self, number: int) -> Segment:
        sealed = open_sealed(self._folder, number, self._parquet)
        if sealed is not None:
            return sealed
        try:
            return LogFile(self._path(number))
        except FileNotFoundError:
            # It may have been sealed a moment ago.
            sealed = open_sealed(self._folder, number, self._parquet)
            if sealed is None:
                raise
            return sealed
        except UNWRITABLE as error:
            raise LogFull(f"{self._path(number).name}: {error}") from error

    def _reader(self, number: int) -> Segment | None:
        """A reading connection to a file, or None if it is not there (not made yet, or pruned)."""
        file = self._readers.get(number)
        if file is not None and not file.is_current():
            # Another process has pruned, sealed or rewritten it; what this one still sees must not be shown any more.
            self._readers.pop(number).close()
            file = None
        if file is None:
            try:
                file = self._open(number)
            except FileNotFoundError:
                return None
            if len(self._readers) >= OPEN_FILES_MAX:
                self._readers.pop(min(self._readers)).close()
            self._readers[number] = file
            self._bases[number] = file.base().position
        return file

    def _newest_tail(self) -> Mark:
        """Go on to the newest file there is; its newest record."""
        while True:
            file = self._reader(self._newest)
            sealed, tail = file.tail() if file else (True, _START)
            following = self._following(self._newest) if sealed else None
            if following is None:
                return tail
            self._newest = following

    def _following(self, number: int) -> int | None:
        """The next file there is after a sealed or pruned one; files between may have been pruned."""
        if self._reader(number + 1) is not None:
            return number + 1
        later = [other for other in self._numbers() if other > number and self._reader(other) is not None]
        return later[0] if later else None

    def _holding(self, after: int) -> int:
        """The newest file whose first record is at most the one after a position, else the oldest file."""
        oldest = self._newest
        for number in range(self._newest, 0, -1):
            if number not in self._bases and self._reader(number) is None:
                break
            oldest = number
            if self._bases[number] <= after:
                break
        return oldest

    def _drop(self, number: int) -> None:
        with self._reading:
            reader = self._readers.pop(number, None)
            if reader is not None:
                reader.close()
            self._bases.pop(number, None)
        sealed = open_sealed(self._folder, number, self._parquet)
        if sealed is not None:
            drop_sealed(sealed)
        for suffix in ("", "-wal", "-shm"):
            self._path(number).with_name(self._path(number).name + suffix).unlink(missing_ok=True)
        sync_folder(self._folder)

    def _read_note(self) -> Mark | None:
        """The mark in ``log.head``; None if there is none or it is unreadable: then nothing is known from outside."""
        return read_head(self._folder, self._damage, self._clock)

    def _keep_note(self, mark: Mark, *, at_once: bool) -> None:
        """Write ``log.head`` if it is time. Failing is no harm: an older note is still true."""
        now_s = time.monotonic()
        if not at_once and self._noted_s is not None and now_s - self._noted_s < NOTE_SECONDS:
            return
        self._noted_s = now_s
        note = Note(position=mark.position, logged_at=mark.logged_at, chain=mark.chain.hex())
        try:
            write_note(self._folder / "log.head", note)
        except OSError:
            return


def _prepare(draft: Draft) -> _Prepared:
    salts = fresh_salts(len(draft.slices))
    return _Prepared(draft, slice_hashes(draft.slices, salts), encode_body(salts, draft.slices))
