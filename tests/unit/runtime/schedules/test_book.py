"""What is due, by a clock that tests set: missed times once, changed schedules, asking."""

import msgspec
import pytest

from conosco.engines.memory.control import MemoryControl
from conosco.engines.memory.state import MemoryState
from conosco.model.definition import Export
from conosco.model.moment import HOUR, MINUTE
from conosco.ports.tables import DEFINITIONS, DefinitionRow, encode_row
from conosco.runtime.schedules.book import Book
from conosco.runtime.schedules.records import Schedules


class World:
    """A book with one export."""

    def __init__(self) -> None:
        self.now = 1_000 * HOUR + MINUTE
        self.state = MemoryState()
        self.schedules = Schedules(MemoryControl())
        self.book = Book(self.state, self.schedules, lambda: self.now)

    def define(self, every: str | None, version: int, state: str = "active") -> None:
        spec = {"place": {}, **({"schedule": {"every": every}} if every else {})}
        made = Export(key="all", name="All", purpose="operations", region="eu", spec=spec, id="exp_1", version=version)
        body = msgspec.json.encode(msgspec.structs.replace(made, state=state))
        self.state.begin(1)
        self.state.put_many(DEFINITIONS, {("export", "all"): encode_row(DefinitionRow(body=body))})
        self.state.commit(version)

    def due(self) -> list[str]:
        return [due.why for due in self.book.due()]

    def serve(self) -> None:
        for due in self.book.due():
            self.book.begin(due)


@pytest.fixture
def world() -> World:
    return World()


def test_a_new_schedule_owes_nothing_and_is_due_at_its_next_time(world: World) -> None:
    world.define("1h", 1)
    assert world.due() == []
    world.now += 58 * MINUTE
    assert world.due() == []
    world.now += MINUTE
    assert world.due() == ["schedule"]
    world.serve()
    assert world.due() == []


def test_what_was_missed_while_nothing_ran_is_done_once(world: World) -> None:
    world.define("15m", 1)
    world.due()
    world.now += 50 * HOUR
    world.book = Book(world.state, world.schedules, lambda: world.now)
    assert world.due() == ["schedule"]
    world.serve()
    assert world.due() == []


def test_a_changed_schedule_owes_nothing_of_before(world: World) -> None:
    world.define("7d", 1)
    world.due()
    world.now += 20 * HOUR
    world.define("1h", 2)
    assert world.due() == []
    world.now += HOUR
    assert world.due() == ["schedule"]


def test_asking_is_served_once_and_archived_ones_are_not_run(world: World) -> None:
    world.define(None, 1)
    world.now += 5_000 * HOUR
    assert world.due() == []
    world.schedules.ask("exp_1")
    world.schedules.ask("exp_1")
    assert world.due() == ["asked"]
    world.serve()
    assert world.due() == []
    world.schedules.ask("exp_1")
    world.define(None, 2, "archived")
    assert world.due() == []
