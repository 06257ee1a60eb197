"""The engines in memory keep the promises of their doors."""

from collections.abc import Callable

import pytest
from hypothesis import settings

from conosco.engines.memory.control import MemoryControl
from conosco.engines.memory.keys import MemoryKeys
from conosco.engines.memory.leases import MemoryLeases
from conosco.engines.memory.log import MemoryLog
from conosco.engines.memory.state import MemoryState
from conosco.ports.control import Control
from conosco.ports.keys import Keys
from conosco.ports.leases import Leases
from conosco.ports.log import Log
from conosco.ports.state import State
from conosco.testing.clock import FrozenClock
from conosco.testing.conformance.control import ControlSuite
from conosco.testing.conformance.keys import KeysSuite
from conosco.testing.conformance.leases import LeasesSuite
from conosco.testing.conformance.log import LogMachine, LogSuite
from conosco.testing.conformance.state import StateMachine, StateSuite


class TestMemoryLog(LogSuite):
    @pytest.fixture
    def door(self, clock: FrozenClock) -> Log:
        return MemoryLog(clock)


class TestMemoryState(StateSuite):
    @pytest.fixture
    def door(self) -> MemoryState:
        return MemoryState()

    @pytest.fixture
    def reader(self, door: MemoryState) -> Callable[[], State]:
        return door.reader

    @pytest.fixture
    def rival(self, door: MemoryState) -> Callable[[], State]:
        return door.writer


class TestMemoryControl(ControlSuite):
    @pytest.fixture
    def door(self) -> Control:
        return MemoryControl()


class TestMemoryKeys(KeysSuite):
    @pytest.fixture
    def door(self) -> Keys:
        return MemoryKeys()


class TestMemoryLeases(LeasesSuite):
    @pytest.fixture
    def door(self) -> Leases:
        return MemoryLeases()


class MemoryLogMachine(LogMachine):
    def fresh(self) -> Log:
        return MemoryLog(self.clock)


class MemoryStateMachine(StateMachine):
    def fresh(self) -> State:
        self.memory = MemoryState()
        return self.memory

    def reader(self) -> State:
        return self.memory.reader()

    def reopen(self) -> State:
        self.state.close()
        return self.memory.writer()


TestMemoryLogHistories = MemoryLogMachine.TestCase
TestMemoryLogHistories.settings = settings(max_examples=40, stateful_step_count=30)
TestMemoryStateHistories = MemoryStateMachine.TestCase
TestMemoryStateHistories.settings = settings(max_examples=40, stateful_step_count=30)
