"""The suite of the Archive door: what a Log promises is true of sealed files, and everything in them is found by identifier."""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import pairwise

import pytest

from conosco.model.record import GENESIS, Draft, Record
from conosco.ports.archive import HASH_KEY_BYTES, Alarm, Archive
from conosco.ports.log import Appended, Head, Log
from conosco.testing.conformance.log import check_chain, texts
from conosco.testing.conformance.processes import draft


def hash_of(text: bytes) -> bytes:
    """The key of an identifier in these tests: the text of a slice up to its first dash."""
    return blake2b(text.partition(b"-")[0], digest_size=HASH_KEY_BYTES).digest()


def identify(record: Record) -> Iterable[tuple[int, bytes]]:
    """As runtime does, for slices made by ``draft``."""
    return [(slot, hash_of(body)) for slot, body in enumerate(record.slices) if slot and body is not None]


def no_pause() -> None:
    """Nobody has to wait for these."""


def seal_all(archive: Archive) -> int:
    """Seal whatever is finished; how many files."""
    count = 0
    while archive.seal(identify, no_pause) is not None:
        count += 1
    return count


class Enough(Exception):
    """Raised by a pause that ends the work."""


class SealingLog:
    """A Log whose finished files are sealed every few appends: behind it the suites of the Log door meet sealed files."""

    def __init__(self, log: Log, archive: Archive, every: int = 5) -> None:
        self._log = log
        self._archive = archive
        self._every = every
        self._appends = 0

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        """As the log; then it may be time to seal."""
        appended = self._log.append(drafts)
        self._appends += 1
        if self._appends % self._every == 0:
            self.seal()
        return appended

    def seal(self) -> int:
        """Seal whatever is finished."""
        return seal_all(self._archive)

    def read(self, after: int, max_records: int, max_bytes: int = 64_000_000) -> list[Record]:
        """As the log."""
        return self._log.read(after, max_records, max_bytes)

    def head(self) -> Head:
        """As the log."""
        return self._log.head()

    def count(self, after: int) -> int:
        """As the log, with everything sealed that can be."""
        self.seal()
        return self._log.count(after)

    def prune(self, before: int) -> int:
        """As the log, with everything sealed that can be."""
        self.seal()
        return self._log.prune(before)

    def erase(self, slices: Sequence[tuple[int, int]]) -> int:
        """As the log, with everything sealed that can be."""
        self.seal()
        return self._log.erase(slices)

    def verify(self, after: int = 0) -> list[tuple[int, int]]:
        """As the log."""
        return self._log.verify(after)

    def close(self) -> None:
        """Release both."""
        self._archive.close()
        self._log.close()


class ArchiveSuite:
    """Promises of every Archive. Give it ``door``, an empty log whose files hold a few records of 10 KB, and its ``archive``."""

    @pytest.fixture
    def filled(self, door: Log, archive: Archive) -> int:
        """Files that hold records 1 to 30, sealed as far as they can be; how many."""
        for number in range(30):
            door.append([Draft(kind="request", source_id="s", slices=(b"{}", f"user{number % 7}-{number:010000}".encode()))])
        return seal_all(archive)

    def test_everything_is_read_as_before(self, door: Log, archive: Archive) -> None:
        for number in range(30):
            door.append([draft(f"{number:010000}"), Draft(kind="tick"), Draft(kind="request", slices=(b"", b"\x00\xff"))])
        before, head = door.read(0, 1_000), door.head()
        assert seal_all(archive) > 3
        assert door.head() == head
        assert door.read(0, 1_000) == before
        check_chain(before, GENESIS)
        assert [door.read(after, 1) for after in range(90)] == [[record] for record in before]
        assert (door.verify(), door.verify(17), door.count(0), door.count(40)) == ([], [], 60, 33)
        assert seal_all(archive) == 0

    def test_stock_says_what_is_sealed(self, door: Log, archive: Archive, filled: int) -> None:
        stock = archive.stock()
        assert [file.is_sealed for file in stock] == [True] * filled + [False]
        assert stock[0].first == 1
        assert stock[-1].last == door.head().position
        assert all(one.last + 1 == next_one.first for one, next_one in pairwise(stock))
        assert all(file.bytes > 0 for file in stock)

    def test_people_are_found_in_sealed_and_other_files(self, door: Log, archive: Archive, filled: int) -> None:
        assert filled > 3
        for wanted in (b"user3", b"user6"):
            expected = [
                (record.position, 1) for record in door.read(0, 1_000) if (record.slices[1] or b"").startswith(wanted + b"-")
            ]
            assert archive.find([hash_of(wanted)], identify) == expected
        assert archive.find([hash_of(b"nobody")], identify) == []
        assert archive.find([], identify) == []

    def test_what_is_erased_is_in_no_index(self, door: Log, archive: Archive, filled: int) -> None:
        found = archive.find([hash_of(b"user3")], identify)
        assert door.erase(found) == len(found) > 3
        assert archive.find([hash_of(b"user3")], identify) == []
        assert archive.find([hash_of(b"user4")], identify)
        assert door.verify() == []
        assert door.erase(found) == 0
        assert sum(text == "" for text in texts(door.read(0, 100))) == len(found)

    def test_what_is_erased_while_a_file_is_sealed_stays_erased(self, door: Log, archive: Archive) -> None:
        for number in range(12):
            door.append([draft(f"{number:010000}")])
        destroyed: list[int] = []

        def erase_first(record: Record) -> Iterable[tuple[int, bytes]]:
            if not destroyed:
                destroyed.append(door.erase([(1, 1)]))
            return identify(record)

        assert archive.seal(erase_first, no_pause) is not None
        assert destroyed == [1]
        assert archive.stock()[0].is_sealed
        assert texts(door.read(0, 1)) == [""]
        assert archive.find([hash_of(b"0" * 10_000)], identify) == []
        assert door.verify() == []

    def test_sealed_files_are_pruned(self, door: Log, archive: Archive, filled: int) -> None:
        sealed = archive.stock()[0]
        middle = sealed.first + 1
        assert door.prune(middle) == 1
        assert [record.position for record in door.read(0, 100)] == list(range(middle, 31))
        assert archive.find([hash_of(b"user0")], identify)[0] == (8, 1)
        assert door.prune(sealed.last + 2) == sealed.last + 2 - middle
        assert (door.verify(), door.count(0)) == ([], 30 - sealed.last - 1)
        assert len(archive.stock()) == filled

    def test_a_pause_that_raises_leaves_everything_as_it_was(self, door: Log, archive: Archive) -> None:
        for number in range(12):
            door.append([draft(f"{number:010000}")])
        before = door.read(0, 100)

        def enough() -> None:
            raise Enough

        with pytest.raises(Enough):
            archive.seal(identify, enough)
        assert not any(file.is_sealed for file in archive.stock())
        assert door.read(0, 100) == before
        assert seal_all(archive) > 1
        assert door.read(0, 100) == before

    def test_alarms_are_kept_once(self, archive: Archive, reopened: Callable[[], Archive]) -> None:
        assert archive.alarms() == []
        alarm = Alarm(found_at=5, file="some", what="note_damaged", lost=3)
        archive.raise_alarm(alarm)
        archive.raise_alarm(Alarm(found_at=6, file="some", what="note_damaged", lost=3))
        other = reopened()
        assert other.alarms() == [alarm]
        other.close()
