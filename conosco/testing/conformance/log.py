"""The suite of the Log door: order, atomicity, time that never goes back, erasure, pruning, and a chain that proves it."""

import threading
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from conosco.model.record import GENESIS, IMPORTED, Draft, Record, verify
from conosco.ports.log import Appended, Head, Log
from conosco.testing.clock import FrozenClock
from conosco.testing.conformance.processes import Opener, draft, kill_appender, run_appenders
from conosco.testing.conformance.threads import all_at_once

START = 1_790_000_000_000_000


def texts(records: list[Record]) -> list[str]:
    """The event of each record made by ``draft``; an erased one is empty."""
    return [(record.slices[1] or b"").decode() for record in records]


def check_chain(records: list[Record], previous: bytes) -> None:
    """Prove records with the reference function, without asking the engine."""
    for record in records:
        assert verify(record, previous) == []
        previous = record.chain


class LogSuite:
    """Promises of every Log. Give it the fixture ``door``: an empty log that reads the fixture ``clock``."""

    @pytest.fixture
    def clock(self) -> FrozenClock:
        """The log's clock."""
        return FrozenClock(START)

    def test_an_empty_log_starts_at_genesis(self, door: Log) -> None:
        assert door.head() == Head(0, 0, GENESIS)
        assert door.read(0, 10) == []
        assert door.verify() == []
        assert door.append([]) == []

    def test_records_come_back_as_they_were_appended(self, door: Log, clock: FrozenClock) -> None:
        drafts = [
            Draft(kind="request", source_id="src_1", flags=IMPORTED, slices=(b"{}", b"\x00\xff", b"")),
            Draft(kind="tick"),
            Draft(kind="definition", slices=("żółć".encode() * 5_000,)),
        ]
        assert door.append(drafts) == [Appended(position, START) for position in (1, 2, 3)]
        records = door.read(0, 10)
        for record, made in zip(records, drafts, strict=True):
            assert (record.kind, record.source_id, record.flags) == (made.kind, made.source_id, made.flags)
            assert record.slices == made.slices
            assert len(record.salts) == len(made.slices)
        assert len({salt for record in records for salt in record.salts}) == 4
        check_chain(records, GENESIS)
        assert door.head() == Head(3, START, records[-1].chain)

    def test_logged_at_never_decreases_when_the_clock_is_set_back(self, door: Log, clock: FrozenClock) -> None:
        door.append([draft("a")])
        clock.advance(-86_400_000_000)
        assert door.append([draft("b")])[0].logged_at == START
        clock.set(START + 5)
        assert door.append([draft("c")])[0].logged_at == START + 5
        assert door.head().logged_at == START + 5

    def test_an_append_that_fails_leaves_nothing_and_holds_up_nobody(self, door: Log, clock: FrozenClock) -> None:
        door.append([draft("before")])
        head = door.head()
        clock.set("no time")  # type: ignore[arg-type]  # a fault in the middle of the call
        with pytest.raises(TypeError):
            door.append([draft("lost")])
        clock.set(START + 1)
        assert door.head() == head
        assert all_at_once(lambda: door.append([draft("after")])[0].position, 1) == [2]
        assert texts(door.read(0, 10)) == ["before", "after"]

    def test_reading_is_limited_by_records_and_bytes(self, door: Log) -> None:
        door.append([draft(f"{number:0100}") for number in range(20)])
        assert [record.position for record in door.read(4, 3)] == [5, 6, 7]
        assert door.read(0, 0) == []
        assert len(door.read(0, 100, max_bytes=1)) == 1
        some = door.read(0, 100, max_bytes=500)
        assert 3 <= len(some) <= 6
        assert door.read(20, 10) == []
        assert door.read(1_000, 10) == []

    def test_reading_on_from_the_last_position_gives_everything_once(self, door: Log) -> None:
        for number in range(25):
            door.append([draft(str(number))])
        seen: list[Record] = []
        while some := door.read(seen[-1].position if seen else 0, 7):
            seen += some
        assert texts(seen) == [str(number) for number in range(25)]
        check_chain(seen, GENESIS)

    def test_events_are_counted_after_a_position(self, door: Log) -> None:
        for number in range(6):
            door.append([draft("one"), Draft(kind="tick"), Draft(kind="request", slices=(b"{}", *[b"event"] * number))])
        door.erase([(1, 1), (18, 1)])
        assert door.count(0) == 6 + sum(range(6))
        assert [door.count(after) for after in (1, 14, 15, 16, 17, 18, 99)] == [20, 10, 6, 5, 5, 0, 0]

    def test_erased_slices_are_gone_and_everything_else_is_still_proven(self, door: Log) -> None:
        door.append([draft("one"), draft("two"), draft("three")])
        hashes = [record.hashes for record in door.read(0, 10)]
        assert door.erase([(2, 1), (2, 1), (3, 0)]) == 2
        records = door.read(0, 10)
        assert texts(records) == ["one", "", "three"]
        assert (records[1].slices, records[2].slices) == ((b"{}", None), (None, b"three"))
        assert records[1].salts[1] is None
        assert records[1].salts[0] is not None
        assert [record.hashes for record in records] == hashes
        check_chain(records, GENESIS)
        assert door.verify() == []
        assert door.erase([(2, 1)]) == 0
        assert door.append([draft("four")])[0].position == 4

    def test_erasing_what_is_not_there_changes_nothing(self, door: Log) -> None:
        door.append([draft("one")])
        assert door.erase([(1, 2), (1, -1), (0, 0), (9, 0), (-1, 0)]) == 0
        assert texts(door.read(0, 10)) == ["one"]

    def test_pruned_records_are_gone_and_the_rest_goes_on(self, door: Log) -> None:
        door.append([draft(str(number)) for number in range(10)])
        head = door.head()
        assert door.prune(4) == 3
        assert door.prune(4) == 0
        assert [record.position for record in door.read(0, 100)] == [4, 5, 6, 7, 8, 9, 10]
        assert door.head() == head
        assert door.verify() == []
        assert door.verify(7) == []
        assert door.append([draft("more")])[0].position == 11
        check_chain(door.read(10, 1), head.chain)

    def test_a_log_that_was_pruned_to_nothing_keeps_its_place(self, door: Log, clock: FrozenClock) -> None:
        door.append([draft("a"), draft("b")])
        head = door.head()
        assert door.prune(100) == 2
        assert (door.read(0, 10), door.head(), door.verify()) == ([], head, [])
        clock.advance(-10)
        assert door.append([draft("c")]) == [Appended(3, START)]
        check_chain(door.read(0, 10), head.chain)

    def test_threads_get_one_total_order_and_calls_stay_together(self, door: Log) -> None:
        given: dict[str, list[Appended]] = {}

        def work(name: str) -> None:
            mine = [door.append([draft(f"{name}-{number}-{part}") for part in range(3)]) for number in range(20)]
            given[name] = [appended for call in mine for appended in call]

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        records = door.read(0, 1_000)
        assert [record.position for record in records] == list(range(1, 241))
        check_chain(records, GENESIS)
        at = dict(zip((record.position for record in records), texts(records), strict=True))
        for name, appended in given.items():
            expected = [f"{name}-{number}-{part}" for number in range(20) for part in range(3)]
            assert [at[place.position] for place in appended] == expected
            assert all(second.position == first.position + 1 for first, second in zip(appended[::3], appended[1::3], strict=True))

    def test_closing_twice_is_no_error(self, door: Log) -> None:
        door.append([draft("a")])
        door.close()
        door.close()


class DurableLogSuite(LogSuite):
    """Promises of a Log that outlives its process. Give it ``opener`` too: makes a door on one log, in any process."""

    def test_everything_is_there_when_opened_again(self, opener: Opener) -> None:
        log = opener()
        log.append([draft("a"), draft("b")])
        log.erase([(1, 1)])
        head = log.head()
        log.close()
        log = opener()
        assert log.head() == head
        assert texts(log.read(0, 10)) == ["", "b"]
        assert log.verify() == []
        assert log.append([draft("c")])[0].position == 3
        log.close()

    def test_two_doors_see_each_other(self, opener: Opener) -> None:
        first, second = opener(), opener()
        for number in range(10):
            door, other = (first, second) if number % 2 else (second, first)
            appended = door.append([draft(str(number))])[0]
            assert other.head().position == appended.position == number + 1
        assert first.read(0, 100) == second.read(0, 100)
        assert texts(first.read(0, 100)) == [str(number) for number in range(10)]
        first.close()
        second.close()

    def test_processes_append_in_one_total_order(self, opener: Opener) -> None:
        given = run_appenders(opener, ["left", "right"], 200)
        log = opener()
        records = log.read(0, 1_000)
        assert [record.position for record in records] == list(range(1, 401))
        assert all(first.logged_at <= second.logged_at for first, second in pairwise(records))
        check_chain(records, GENESIS)
        at = dict(zip((record.position for record in records), texts(records), strict=True))
        for name, positions in given.items():
            assert [at[position] for position in positions] == [f"{name}-{number}" for number in range(200)]
        assert log.verify() == []
        log.close()

    def test_what_was_acknowledged_survives_a_kill(self, opener: Opener) -> None:
        positions = kill_appender(opener, "victim", 60)
        log = opener()
        at = dict(zip((record.position for record in log.read(0, 1_000_000)), texts(log.read(0, 1_000_000)), strict=True))
        assert [at.get(position) for position in positions] == [f"victim-{number}" for number in range(len(positions))]
        assert log.verify() == []
        assert log.append([draft("after")])[0].position == len(at) + 1
        log.close()


class LogMachine(RuleBasedStateMachine):
    """Random histories against a plain list. Subclass it with ``fresh`` (an empty log) and, if it is durable, ``reopen``."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FrozenClock(START)
        self.log: Log
        # What must be there: [position, logged_at, slices].
        self.model: list[list[Any]] = []
        self.head = (0, 0)

    def fresh(self) -> Log:
        """An empty log that reads ``self.clock``."""
        raise NotImplementedError

    def reopen(self) -> Log:
        """Close the log and open it again; an engine that is not durable gives the same one."""
        return self.log

    @initialize()
    def start(self) -> None:
        """Begin with an empty log."""
        self.log = self.fresh()

    @rule(bodies=st.lists(st.lists(st.binary(max_size=300), max_size=4), min_size=1, max_size=5), passed=st.integers(-50, 50))
    def append(self, bodies: list[list[bytes]], passed: int) -> None:
        """Append drafts after some time, which may run backwards."""
        logged_at = max(self.head[1], self.clock.advance(passed))
        appended = self.log.append([Draft(kind="request", slices=tuple(slices)) for slices in bodies])
        for slices, place in zip(bodies, appended, strict=True):
            self.head = (self.head[0] + 1, logged_at)
            assert (place.position, place.logged_at) == self.head
            self.model.append([*self.head, list(slices)])

    @rule(data=st.data(), wanted=st.lists(st.tuples(st.integers(0, 60), st.integers(-1, 4)), max_size=6))
    def erase(self, data: st.DataObject, wanted: list[tuple[int, int]]) -> None:
        """Erase slices, some of which exist."""
        destroyed = 0
        for position, _, slices in self.model:
            for index in {index for other, index in wanted if other == position and 0 <= index < len(slices)}:
                destroyed += slices[index] is not None
                slices[index] = None
        assert self.log.erase(wanted) == destroyed

    @rule(before=st.integers(0, 60))
    def prune(self, before: int) -> None:
        """Drop the oldest records."""
        kept = [entry for entry in self.model if entry[0] >= before]
        assert self.log.prune(before) == len(self.model) - len(kept)
        self.model = kept

    @rule(after=st.integers(0, 60), count=st.integers(0, 20))
    def read(self, after: int, count: int) -> None:
        """Read a stretch."""
        expected = [entry for entry in self.model if entry[0] > after][:count]
        assert [[found.position, found.logged_at, list(found.slices)] for found in self.log.read(after, count)] == expected

    @rule()
    @precondition(lambda self: self.model)
    def open_again(self) -> None:
        """Leave and come back."""
        self.log = self.reopen()

    @rule(after=st.integers(0, 60))
    def check(self, after: int) -> None:
        """Nothing is ever wrong in a log that nobody harmed."""
        assert self.log.verify(after) == []

    @invariant()
    def head_is_the_newest(self) -> None:
        """The head follows appends and nothing else."""
        if hasattr(self, "log"):
            found = self.log.head()
            assert (found.position, found.logged_at) == self.head

    def teardown(self) -> None:
        """Release the log."""
        if hasattr(self, "log"):
            self.log.close()
