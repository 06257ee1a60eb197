"""The embedded engines keep the promises of their doors, across processes and kills too."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import rule, run_state_machine_as_test

from conosco.engines.sqlite.control import SqliteControl
from conosco.engines.sqlite.keys import FileKeys
from conosco.engines.sqlite.leases import SqliteLeases
from conosco.engines.sqlite.log import SqliteLog
from conosco.engines.sqlite.log_archive import SqliteArchive
from conosco.engines.sqlite.state import SqliteState
from conosco.ports.archive import Archive
from conosco.ports.control import Control
from conosco.ports.keys import Keys
from conosco.ports.leases import Leases
from conosco.ports.log import Log
from conosco.ports.state import State
from conosco.testing.clock import FrozenClock
from conosco.testing.conformance.archive import ArchiveSuite, SealingLog
from conosco.testing.conformance.control import ControlSuite
from conosco.testing.conformance.keys import KeysSuite
from conosco.testing.conformance.leases import LeasesSuite
from conosco.testing.conformance.log import START, DurableLogSuite, LogMachine
from conosco.testing.conformance.processes import Opener, system_clock
from conosco.testing.conformance.state import StateMachine, StateSuite

# So small that a file is followed by the next after a record or two: everything that spans files is met all the time.
TINY = 40_000


class TestSqliteLog(DurableLogSuite):
    @pytest.fixture
    def door(self, tmp_path: Path, clock: FrozenClock) -> Iterator[Log]:
        log = SqliteLog(tmp_path / "log", clock)
        yield log
        log.close()

    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return partial(SqliteLog, tmp_path / "shared", system_clock)


class TestSqliteLogOfManyFiles(DurableLogSuite):
    @pytest.fixture
    def door(self, tmp_path: Path, clock: FrozenClock) -> Iterator[Log]:
        log = SqliteLog(tmp_path / "log", clock, segment_bytes=TINY)
        yield log
        log.close()

    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return partial(SqliteLog, tmp_path / "shared", system_clock, segment_bytes=TINY)


def open_sealing(folder: Path, clock: Callable[[], int]) -> Log:
    """A log of tiny files that are sealed, in parts that hold a record or two."""
    return SealingLog(SqliteLog(folder, clock, segment_bytes=TINY), SqliteArchive(folder, clock, part_bytes=15_000), 25)


class TestSqliteLogOfSealedFiles(DurableLogSuite):
    @pytest.fixture
    def door(self, tmp_path: Path, clock: FrozenClock) -> Iterator[Log]:
        log = open_sealing(tmp_path / "log", clock)
        yield log
        log.close()

    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return partial(open_sealing, tmp_path / "shared", system_clock)


class TestSqliteArchive(ArchiveSuite):
    @pytest.fixture
    def clock(self) -> FrozenClock:
        return FrozenClock(START)

    @pytest.fixture
    def door(self, tmp_path: Path, clock: FrozenClock) -> Iterator[Log]:
        log = SqliteLog(tmp_path / "log", clock, segment_bytes=TINY)
        yield log
        log.close()

    @pytest.fixture
    def archive(self, tmp_path: Path, clock: FrozenClock) -> Iterator[Archive]:
        archive = SqliteArchive(tmp_path / "log", clock, part_bytes=15_000)
        yield archive
        archive.close()

    @pytest.fixture
    def reopened(self, tmp_path: Path, clock: FrozenClock) -> Callable[[], Archive]:
        return partial(SqliteArchive, tmp_path / "log", clock)


class TestSqliteState(StateSuite):
    @pytest.fixture
    def door(self, tmp_path: Path) -> Iterator[State]:
        state = SqliteState(tmp_path / "state.sqlite")
        yield state
        state.close()

    @pytest.fixture
    def reader(self, door: State, tmp_path: Path) -> Callable[[], State]:
        return partial(SqliteState, tmp_path / "state.sqlite", read_only=True)

    @pytest.fixture
    def rival(self, door: State, tmp_path: Path) -> Callable[[], State]:
        return partial(SqliteState, tmp_path / "state.sqlite")


class TestSqliteControl(ControlSuite):
    @pytest.fixture
    def door(self, tmp_path: Path) -> Iterator[Control]:
        control = SqliteControl(tmp_path / "control.sqlite")
        yield control
        control.close()


class TestFileKeys(KeysSuite):
    @pytest.fixture
    def door(self, tmp_path: Path) -> Keys:
        return FileKeys(tmp_path / "keys")


class TestSqliteLeases(LeasesSuite):
    @pytest.fixture
    def door(self, tmp_path: Path) -> Iterator[Leases]:
        leases = SqliteLeases(tmp_path / "leases.sqlite", secret=b"synthetic secret")
        yield leases
        leases.close()


class SqliteLogMachine(LogMachine):
    root: Path
    examples = count()

    def fresh(self) -> Log:
        self.folder = self.root / f"log-{next(self.examples)}"
        return SqliteLog(self.folder, self.clock, segment_bytes=TINY)

    def reopen(self) -> Log:
        self.log.close()
        return SqliteLog(self.folder, self.clock, segment_bytes=TINY)


class SealedLogMachine(SqliteLogMachine):
    log: SealingLog

    def fresh(self) -> Log:
        self.folder = self.root / f"log-{next(self.examples)}"
        return open_sealing(self.folder, self.clock)

    def reopen(self) -> Log:
        self.log.close()
        return open_sealing(self.folder, self.clock)

    @rule()
    def seal(self) -> None:
        """Seal whatever is finished."""
        self.log.seal()


class SqliteStateMachine(StateMachine):
    root: Path
    examples = count()

    def fresh(self) -> State:
        self.path = self.root / f"{next(self.examples)}.sqlite"
        return SqliteState(self.path)

    def reader(self) -> State:
        return SqliteState(self.path, read_only=True)

    def reopen(self) -> State:
        self.state.close()
        return SqliteState(self.path)


def test_log_histories(tmp_path: Path) -> None:
    class Machine(SqliteLogMachine):
        root = tmp_path

    run_state_machine_as_test(Machine, settings=settings(max_examples=20, stateful_step_count=20))


def test_sealed_log_histories(tmp_path: Path) -> None:
    class Machine(SealedLogMachine):
        root = tmp_path

    run_state_machine_as_test(Machine, settings=settings(max_examples=8, stateful_step_count=20))


def test_state_histories(tmp_path: Path) -> None:
    class Machine(SqliteStateMachine):
        root = tmp_path

    run_state_machine_as_test(Machine, settings=settings(max_examples=20, stateful_step_count=20))
