"""The Archive door on the folder of a SqliteLog: seals finished files into Parquet, finds slices by identifier, keeps alarms."""

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import msgspec

from conosco.engines.sqlite.connection import UNWRITABLE, only_one, raise_refusal, sync_folder
from conosco.engines.sqlite.log_check import UNREADABLE, check_files
from conosco.engines.sqlite.log_damage import CARE_LOCK, DamageBook, read_head
from conosco.engines.sqlite.log_file import LogFile, Mark, Row, decode_record
from conosco.engines.sqlite.log_notes import write_note
from conosco.engines.sqlite.log_parquet import Entry, Parquet
from conosco.engines.sqlite.log_rescue import Presence
from conosco.engines.sqlite.log_sealed import Part, Place, SealedFile, SealNote, described, note_path, open_sealed, part_names
from conosco.model.record import HASH_BYTES, verify
from conosco.ports.archive import Alarm, Identify, Sealed, Stock
from conosco.ports.log import LogFull

# Bodies of a part before compression: what an erasure rewrites and unpacks at most, and far below 256 MB a file.
PART_BYTES: Final = 64_000_000
PAUSE_RECORDS: Final = 100
TRIES: Final = 3
READ_RECORDS: Final = 256
_NAME: Final = re.compile(r"log-(\d{6,})\.(?:sqlite|sealed)\Z", re.ASCII)
_ORPHAN: Final = re.compile(r"log-(\d{6,})-\d+-\d+(?:\.index)?\.parquet", re.ASCII)


class _Damaged(Exception):
    """The file to be sealed does not verify."""


class _Changed(Exception):
    """Somebody erased or pruned in the file while it was being sealed: begin again."""


class SqliteArchive:
    """Care of finished files. One process at a time seals; finding and alarms are for anybody."""

    def __init__(self, folder: Path, clock: Callable[[], int], *, part_bytes: int = PART_BYTES) -> None:
        """``clock`` gives microseconds UTC, for alarms."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._clock = clock
        self._part_bytes = part_bytes
        self._parquet = Parquet()
        self._damage = DamageBook(folder)
        self._parquet.on_mended = self._damage.mended(clock)
        self._presence = Presence(folder)
        self._presence.stay()
        self._unfit: set[int] = set()

    def seal(self, identify: Identify, pause: Callable[[], None]) -> Sealed | None:
        """Seal the oldest finished file; None if there is none left."""
        try:
            with only_one(self._folder / "sealing.lock"):
                self._remove_orphans()
                return self._seal_next(identify, pause)
        except (OSError, *UNWRITABLE) as error:
            raise LogFull(f"a file could not be sealed: {error}") from error

    def _seal_next(self, identify: Identify, pause: Callable[[], None]) -> Sealed | None:
        for number in self._finished():
            try:
                for _ in range(TRIES):
                    with suppress(_Changed):
                        return self._seal(number, identify, pause)
                # Erased in again and again: its turn comes later.
            except (_Damaged, *UNREADABLE) as error:
                raise_refusal(error)
                self._unfit.add(number)
                self._damage.add(Alarm(found_at=self._clock(), file=self._path(number).name, what=f"not_sealed: {error}"))
        return None

    def find(self, hashes: Sequence[bytes], identify: Identify) -> list[tuple[int, int]]:
        """Slices with one of these hashes, in order."""
        wanted = set(hashes)
        numbers = [int.from_bytes(each, "big") for each in wanted]
        found: set[tuple[int, int]] = set()
        for number in self._numbers():
            with suppress(FileNotFoundError):
                file = open_sealed(self._folder, number, self._parquet)
                if file is not None:
                    found.update(file.find(numbers))
                    continue
                with closing(LogFile(self._path(number))) as plain:
                    for row in _pages(plain, plain.base().position, plain.tail()[1].position):
                        record = decode_record(row)
                        found.update((row.position, slot) for slot, hashed in identify(record) if hashed in wanted)
        return sorted(found)

    def stock(self) -> list[Stock]:
        """The files of the log, oldest first."""
        stock = []
        for number in self._numbers():
            with suppress(FileNotFoundError):
                file: LogFile | SealedFile | None = open_sealed(self._folder, number, self._parquet)
                is_sealed = file is not None
                file = file or LogFile(self._path(number))
                with closing(file):
                    base, last = file.base(), file.tail()[1]
                    stock.append(
                        Stock(
                            name=file.path.name,
                            first=base.position + 1,
                            last=last.position,
                            first_logged_at=base.logged_at,
                            last_logged_at=last.logged_at,
                            is_sealed=is_sealed,
                            bytes=file.size_bytes(),
                        )
                    )
        return stock

    def examine(self, progress: Callable[[int], None]) -> list[tuple[int, int]]:
        """Check everything, and say how far it is."""
        head = read_head(self._folder, self._damage, self._clock)
        files: list[LogFile | SealedFile] = []
        try:
            for number in self._numbers():
                with suppress(FileNotFoundError):
                    files.append(open_sealed(self._folder, number, self._parquet) or LogFile(self._path(number)))
            return check_files(files, 0, [head] if head is not None else [], progress) if files else []
        finally:
            for file in files:
                file.close()

    def mend(self) -> int:
        """Mend sealed files, whole ones included in the search; how many were mended."""
        known = len(self.alarms())
        with only_one(self._folder / CARE_LOCK):
            for number in self._numbers():
                file = open_sealed(self._folder, number, self._parquet)
                if file is not None:
                    file.mend()
        return len(self.alarms()) - known

    def alarms(self) -> list[Alarm]:
        """Damage found so far."""
        return self._damage.alarms()

    def raise_alarm(self, alarm: Alarm) -> None:
        """Keep an alarm."""
        self._damage.add(alarm)

    def close(self) -> None:
        """Release files."""
        self._parquet.close()
        self._presence.close()

    # Files.

    def _path(self, number: int) -> Path:
        return self._folder / f"log-{number:06d}.sqlite"

    def _numbers(self) -> list[int]:
        found = (_NAME.match(path.name) for path in self._folder.iterdir())
        return sorted({int(name[1]) for name in found if name})

    def _finished(self) -> Iterator[int]:
        """Numbers of files that are finished and not sealed, oldest first; the newest file is never one of them."""
        for number in self._numbers()[:-1]:
            if number not in self._unfit and not note_path(self._folder, number).exists():
                with suppress(FileNotFoundError), closing(LogFile(self._path(number))) as file:
                    if file.tail()[0]:
                        yield number

    def _remove_orphans(self) -> None:
        """Parts without a note, of a sealing or a pruning that was cut short."""
        with only_one(self._folder / CARE_LOCK):
            for path in list(self._folder.iterdir()):
                name = _ORPHAN.match(path.name)
                if name and not note_path(self._folder, int(name[1])).exists():
                    path.unlink()
            for number in self._numbers():
                file = open_sealed(self._folder, number, self._parquet)
                if file is not None:
                    file.tidy()

    # Sealing.

    def _seal(self, number: int, identify: Identify, pause: Callable[[], None]) -> Sealed:
        """Parts, then the comparison, then the note, then the old file goes."""
        with closing(LogFile(self._path(number))) as source:
            seen = source.change_count()
            base, last = source.base(), source.tail()[1]
            parts = self._write_parts(number, source, identify, pause)
            note = SealNote(number=number, generation=0, base=Place.of(base), last=Place.of(last), parts=tuple(parts))
            self._compare(source, note, pause)
            sync_folder(self._folder)
            with only_one(self._folder / CARE_LOCK):
                if source.change_count() != seen:
                    self._drop(note)
                    raise _Changed
                bytes_before = source.size_bytes()
                write_note(note_path(self._folder, number), note)
        # Before this line the old file counts, after it the note does; what is left of the other is removed by ``tidy``.
        with only_one(self._folder / CARE_LOCK):
            sealed = SealedFile(self._folder, number, self._parquet)
            sealed.tidy()
        return Sealed(
            number=number,
            first=base.position + 1,
            last=last.position,
            records=sum(part.records for part in parts),
            events=sum(part.events for part in parts),
            bytes_before=bytes_before,
            bytes_after=sealed.size_bytes(),
        )

    def _write_parts(self, number: int, source: LogFile, identify: Identify, pause: Callable[[], None]) -> list[Part]:
        """Write all parts of a file, each with its index, checking every record on the way."""
        end = source.tail()[1].position
        part_base = source.base()
        parts: list[Part] = []
        while part_base.position < end:
            made = _PartMaker(source, part_base, end, identify, pause, self._part_bytes)
            names = part_names(number, part_base.position + 1, 0)
            self._parquet.write(self._folder / names[0], made.rows())
            self._parquet.write_index(self._folder / names[1], made.entries)
            pause()
            parts.append(described(self._folder, names, part_base, made.previous, made.records, made.events))
            part_base = made.previous
        return parts

    def _compare(self, source: LogFile, note: SealNote, pause: Callable[[], None]) -> None:
        """Read back every record and compare it with the one it was made from."""
        for part in note.parts:
            after, until = part.base.position, part.last.position
            while after < until:
                step = min(after + READ_RECORDS, until)
                back = self._parquet.rows(self._folder / part.name, after, step)
                if back != list(_pages(source, after, step)):
                    raise _Changed
                after = step
                pause()

    def _drop(self, note: SealNote) -> None:
        for part in note.parts:
            for name in (part.name, part.index):
                (self._folder / name).unlink(missing_ok=True)


class _PartMaker:
    """Walks records of a file until a part is full, checks them against the chain, and gathers the index."""

    def __init__(
        self, source: LogFile, base: Mark, end: int, identify: Identify, pause: Callable[[], None], part_bytes: int
    ) -> None:
        self._source = source
        self._end = end
        self._identify = identify
        self._pause = pause
        self._part_bytes = part_bytes
        self.previous = base
        self.entries: list[Entry] = []
        self.records = self.events = 0

    def rows(self) -> Iterator[Row]:
        """The rows of this part. Raises _Damaged at the first that does not verify."""
        size = 0
        for row in _pages(self._source, self.previous.position, self._end):
            try:
                record = decode_record(row)
            except msgspec.DecodeError:
                raise _Damaged(f"record {row.position} cannot be unpacked") from None
            if row.position != self.previous.position + 1 or verify(record, self.previous.chain):
                raise _Damaged(f"record {row.position} does not match its hash, or one before it is missing")
            self.entries += {
                (int.from_bytes(hashed, "big"), row.position, slot)
                for slot, hashed in self._identify(record)
                if record.slices[slot] is not None
            }
            self.previous = Mark(row.position, row.logged_at, row.chain)
            self.records += 1
            self.events += max(0, len(row.hashes) // HASH_BYTES - 1) if row.kind == "request" else 0
            if self.records % PAUSE_RECORDS == 0:
                self._pause()
            yield row
            size += len(row.body)
            if size >= self._part_bytes:
                return
        if not self.records:
            raise _Damaged(f"records after {self.previous.position} are missing")


def _pages(file: LogFile, after: int, until: int) -> Generator[Row, None, None]:
    """Rows of a stretch, in pages so that no snapshot is held for long."""
    while after < until:
        page = [row for row in file.rows(after, READ_RECORDS) if row.position <= until]
        if not page:
            return
        yield from page
        after = page[-1].position
