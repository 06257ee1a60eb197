"""One sealed file of the log: a note that names its parts, the parts (Parquet), and an index of identifiers for each part.

The note is what counts: a part or index that it does not name is a leftover of work that was cut short. Whatever rewrites a
part gives it a new name and replaces the note as a whole, so that everyone sees the file before or after, never between.
"""

from collections.abc import Generator, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from conosco.engines.sqlite.connection import replace_file, sync_folder
from conosco.engines.sqlite.log_file import Mark, Row
from conosco.engines.sqlite.log_mending import block_sums, mended_bytes
from conosco.engines.sqlite.log_notes import file_digest, read_note, sync_file, write_note
from conosco.engines.sqlite.log_parquet import Parquet, UnreadablePart
from conosco.ports.log import LogFull

# Records that are unpacked at once: few at first, because whoever asks for one wants no more.
_STEPS: Final = (64, 256)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A Mark as it is spelled in a note."""

    position: int
    logged_at: int
    chain: str

    @staticmethod
    def of(mark: Mark) -> "Place":
        """Spell a mark."""
        return Place(position=mark.position, logged_at=mark.logged_at, chain=mark.chain.hex())

    def mark(self) -> Mark:
        """The mark that is spelled here."""
        return Mark(self.position, self.logged_at, bytes.fromhex(self.chain))


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part: file names, the record before its first one, its last one, and digests of all bytes."""

    name: str
    index: str
    base: Place
    last: Place
    records: int
    events: int
    bytes: int
    digest: str
    index_digest: str
    sums: tuple[int, ...] = ()
    index_sums: tuple[int, ...] = ()

    def files(self) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        """(name, digest, checksums of the blocks) of its two files."""
        return (self.name, self.digest, self.sums), (self.index, self.index_digest, self.index_sums)


class SealNote(msgspec.Struct, frozen=True, kw_only=True):
    """What stands for a sealed file. ``generation`` counts its rewritings and is part of every new name."""

    format: int = 1
    number: int
    generation: int
    base: Place
    last: Place
    parts: tuple[Part, ...]


def note_path(folder: Path, number: int) -> Path:
    """Where the note of a sealed file lies."""
    return folder / f"log-{number:06d}.sealed"


def part_names(number: int, first: int, generation: int) -> tuple[str, str]:
    """The names of a part and its index."""
    stem = f"log-{number:06d}-{first:012d}-{generation}"
    return f"{stem}.parquet", f"{stem}.index.parquet"


def described(folder: Path, names: tuple[str, str], base: Mark, last: Mark, records: int, events: int) -> Part:
    """A part whose files are written: they are made durable and their digests taken."""
    for name in names:
        sync_file(folder / name)
    return Part(
        name=names[0],
        index=names[1],
        base=Place.of(base),
        last=Place.of(last),
        records=records,
        events=events,
        bytes=sum((folder / name).stat().st_size for name in names),
        digest=file_digest(folder / names[0]),
        index_digest=file_digest(folder / names[1]),
        sums=block_sums(folder / names[0]),
        index_sums=block_sums(folder / names[1]),
    )


class SealedFile:
    """A sealed file, with the same ways in as a LogFile. Whoever changes it holds the log's care lock.

    Raises FileNotFoundError if there is no note, UnreadablePart where bytes are damaged.
    """

    def __init__(self, folder: Path, number: int, parquet: Parquet) -> None:
        self._folder = folder
        self._parquet = parquet
        self.number = number
        self.path = note_path(folder, number)
        self._load()

    def _load(self) -> None:
        found = self.path.stat()
        self._seen = (found.st_ino, found.st_mtime_ns)
        note, self._is_whole = read_note(self.path.read_bytes(), SealNote)
        if note is None:
            raise UnreadablePart(f"{self.path.name}: the note can not be read")
        self.note = note

    def is_current(self) -> bool:
        """Whether the note is still the one that was read."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return False
        return (found.st_ino, found.st_mtime_ns) == self._seen

    # As a LogFile.

    def tail(self) -> tuple[bool, Mark]:
        """True, and the last record."""
        return True, self.note.last.mark()

    def base(self) -> Mark:
        """The record before the first one."""
        return self.note.base.mark()

    def size_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(part.bytes for part in self.note.parts) + self.path.stat().st_size

    def at_or_before(self, position: int) -> Mark:
        """The newest record here that is not after a position, else the base."""
        for part in reversed(self.note.parts):
            if part.last.position <= position:
                return part.last.mark()
            if part.base.position < position:
                rows = self._part_rows(part, part.base.position, position)
                return Mark(rows[-1].position, rows[-1].logged_at, rows[-1].chain) if rows else part.base.mark()
        return self.base()

    def rows(self, after: int, max_records: int) -> Generator[Row, None, None]:
        """Walk rows with position > after."""
        step = 0
        while max_records > 0:
            part = next((each for each in self.note.parts if each.last.position > after), None)
            if part is None:
                return
            begin = max(after, part.base.position)
            after = min(begin + min(max_records, _STEPS[step]), part.last.position)
            step = 1
            found = self._part_rows(part, begin, after)
            max_records -= len(found)
            yield from found

    def row(self, position: int) -> Row | None:
        """The row at a position."""
        part = next((each for each in self.note.parts if each.base.position < position <= each.last.position), None)
        found = self._part_rows(part, position - 1, position) if part is not None else []
        return found[0] if found else None

    def _part_rows(self, part: Part, after: int, until: int) -> list[Row]:
        """Rows of a part; one that was rewritten since the note was read is looked up under its new name."""
        try:
            return self._parquet.rows(self._folder / part.name, after, until)
        except UnreadablePart:
            if self.is_current():
                if not self._mend(part):
                    raise
                return self._parquet.rows(self._folder / part.name, after, until)
        # An erasure has replaced the part, or pruning has dropped it.
        with suppress(FileNotFoundError):
            self._load()
            renewed = next((each for each in self.note.parts if each.last.position == part.last.position), None)
            if renewed is not None:
                return self._parquet.rows(self._folder / renewed.name, after, until)
        return []

    def events_after(self, after: int) -> int:
        """How many events the requests after a position hold."""
        total = 0
        for part in self.note.parts:
            if part.base.position >= after:
                total += part.events
            elif part.last.position > after:
                condition = "kind = 'request' AND slot >= 1 AND position > ?"
                total += self._parquet.count(self._folder / part.name, condition, [after])
        return total

    def count_before(self, before: int) -> int:
        """How many records lie before a position."""
        total = 0
        for part in self.note.parts:
            if part.last.position < before:
                total += part.records
            elif part.base.position + 1 < before:
                total += self._parquet.count(self._folder / part.name, "slot <= 0 AND position < ?", [before])
        return total

    def roll_back(self) -> None:
        """Nothing is ever open."""

    def truncate_wal(self) -> None:
        """There is none."""

    def close(self) -> None:
        """Nothing is held."""

    # Changes, under the care lock.

    def tidy(self) -> None:
        """Remove what a rewriting or sealing that was cut short has left behind: files that the note does not name."""
        named = {name for part in self.note.parts for name in (part.name, part.index)}
        removed = False
        prefix = f"log-{self.number:06d}"
        # A leftover of the file's earlier form goes first, for its bytes may hold what was to be erased.
        for path in [self._folder / f"{prefix}.sqlite{suffix}" for suffix in ("", "-wal", "-shm")]:
            removed |= path.exists()
            path.unlink(missing_ok=True)
        for path in self._folder.glob(f"{prefix}-*.parquet*"):
            if path.name not in named:
                path.unlink(missing_ok=True)
                removed = True
        if removed:
            sync_folder(self._folder)

    def erase(self, wanted: dict[int, set[int]]) -> int:
        """Destroy slices with their salts and their entries in the index: the parts that hold them are written anew.

        A part that cannot be unpacked is left; then UnreadablePart is raised once all others are done.
        """
        self.tidy()
        destroyed, trouble = 0, None
        parts: list[Part] = []
        generation = self.note.generation + 1
        for part in self.note.parts:
            here = sorted(
                (position, slot)
                for position, slots in wanted.items()
                if part.base.position < position <= part.last.position
                for slot in slots
                if slot >= 0
            )
            try:
                count, made = self._without(part, here, generation) if here else (0, part)
            except UnreadablePart as error:
                count, made, trouble = 0, part, error
            destroyed += count
            parts.append(made)
        if destroyed:
            self._replace(msgspec.structs.replace(self.note, generation=generation, parts=tuple(parts)))
        if trouble is not None:
            raise trouble
        return destroyed

    def _without(self, part: Part, wanted: Sequence[tuple[int, int]], generation: int) -> tuple[int, Part]:
        names = part_names(self.number, part.base.position + 1, generation)
        made, index = (self._folder / name for name in names)
        destroyed = self._parquet.erase(self._folder / part.name, made, wanted)
        if not destroyed:
            return 0, part
        self._parquet.thin_index(self._folder / part.index, index, wanted, 0)
        return destroyed, described(self._folder, names, part.base.mark(), part.last.mark(), part.records, part.events)

    def prune(self, before: int) -> int:
        """Drop records before a position; the last record stays, as the whole file is dropped otherwise."""
        self.tidy()
        pruned, base, generation = 0, self.base(), self.note.generation + 1
        parts: list[Part] = []
        for part in self.note.parts:
            if part.last.position < before:
                pruned += part.records
                base = part.last.mark()
            elif part.base.position + 1 < before:
                kept, count = self._from(part, before, generation)
                pruned += count
                base = kept.base.mark()
                parts.append(kept)
            else:
                parts.append(part)
        if pruned:
            note = msgspec.structs.replace(self.note, generation=generation, base=Place.of(base), parts=tuple(parts))
            self._replace(note)
        return pruned

    def _from(self, part: Part, first: int, generation: int) -> tuple[Part, int]:
        """A part without the records before a position, and how many these were."""
        names = part_names(self.number, first, generation)
        base = self.at_or_before(first - 1)
        source = self._folder / part.name
        gone = self._parquet.count(source, "slot <= 0 AND position < ?", [first])
        events = self._parquet.count(source, "kind = 'request' AND slot >= 1 AND position >= ?", [first])
        self._parquet.keep_from(source, self._folder / names[0], first)
        self._parquet.thin_index(self._folder / part.index, self._folder / names[1], (), first)
        return described(self._folder, names, base, part.last.mark(), part.records - gone, events), gone

    def _replace(self, note: SealNote) -> None:
        """Put a new note in place and remove what it no longer names. Raises LogFull."""
        try:
            sync_folder(self._folder)
            write_note(self.path, note)
        except OSError as error:
            raise LogFull(f"{self.path.name}: {error}") from error
        self._load()
        self.tidy()

    # Care.

    def find(self, hashes: Sequence[int]) -> list[tuple[int, int]]:
        """Addresses of slices with one of these hashes."""
        found: list[tuple[int, int]] = []
        for part in self.note.parts:
            try:
                found += self._parquet.find(self._folder / part.index, hashes)
            except UnreadablePart:
                if not self._mend(part):
                    raise
                found += self._parquet.find(self._folder / part.index, hashes)
        return found

    def mend(self) -> None:
        """Mend whatever single bits have fallen over. Under the care lock."""
        if not self._is_whole:
            write_note(self.path, self.note)
            self._load()
            self._parquet.on_mended(self.path.name)
        for part in self.note.parts:
            self._mend(part)

    def _mend(self, part: Part) -> bool:
        """Turn back single bits in the two files of a part; True if any file is now as it was written and was not before."""
        has_mended = False
        for name, digest, sums in part.files():
            path = self._folder / name
            try:
                if file_digest(path) == digest:
                    continue
                body = mended_bytes(path, sums)
                if body is None or blake2b(body, digest_size=32).hexdigest() != digest:
                    continue
                replace_file(path, body)
            except OSError:
                continue
            if not self.is_current():
                # An erasure has replaced the part meanwhile: what it destroyed must not come back.
                path.unlink(missing_ok=True)
                continue
            self._parquet.on_mended(name)
            has_mended = True
        return has_mended

    def damaged(self) -> list[tuple[str, int]]:
        """Files whose bytes are not those that were written: (name, position to report it under)."""
        found = [] if self._is_whole else [(self.path.name, self.base().position + 1)]
        for part in self.note.parts:
            for name, digest, _ in part.files():
                try:
                    is_same = file_digest(self._folder / name) == digest
                except OSError:
                    is_same = False
                if not is_same and self.is_current():
                    found.append((name, part.base.position + 1))
        return found


def open_sealed(folder: Path, number: int, parquet: Parquet) -> SealedFile | None:
    """The sealed form of a file; None if it is not sealed."""
    try:
        return SealedFile(folder, number, parquet)
    except FileNotFoundError:
        return None


def drop_sealed(file: SealedFile) -> None:
    """Remove a sealed file altogether: first the note, after which it is no more."""
    file.tidy()
    file.path.unlink(missing_ok=True)
    sync_folder(file.path.parent)
    for part in file.note.parts:
        for name in (part.name, part.index):
            (file.path.parent / name).unlink(missing_ok=True)
    sync_folder(file.path.parent)
