"""Objects in State: what is kept of them, within which limits, and that their order of arrival is no matter."""

from itertools import permutations
from typing import Any

import msgspec

from conosco.engines.memory.state import MemoryState
from conosco.model.identifier import Identifier
from conosco.ports.tables import CELL_OBJECTS, OBJECT_PEOPLE, OBJECTS, ObjectPersonRow, ObjectRow
from conosco.ports.work import Work
from conosco.profile.objects import PROPERTIES_KEPT, Told, changed_at, keep_objects, object_keys
from tests.unit.profile.test_stage import event_at


def told(*roles: str, **state: Any) -> Told:
    return "order", "o1", roles, {name: msgspec.json.encode(value) for name, value in state.items()}


def kept(*happened: tuple[int, Told], cell: int = 3) -> tuple[ObjectRow, ObjectPersonRow | None]:
    work = Work(MemoryState())
    for at, said in happened:
        keep_objects(work, event_at(at, position=at), cell, [said])
    row: ObjectRow = work.get(OBJECTS, ("order", "o1"))
    return row, work.get(OBJECT_PEOPLE, ("order", "o1", cell))


def test_the_latest_in_event_time_is_the_state() -> None:
    for order in permutations(
        [(1, told("buyer", status="new", total=1)), (2, told("owner", status="paid")), (3, told("buyer", total=None))]
    ):
        row, person = kept(*order)
        assert {name: seen[3] for name, seen in row.state.items()} == {"status": b'"paid"', "total": b"null"}
        assert (row.first_at, row.last_at, changed_at(row)) == (1, 3, 3)
        assert person is not None
        assert (person.roles, person.namespace, person.value) == ({"buyer": (1, 3), "owner": (2, 2)}, "user_id", "u")


def test_what_is_only_mentioned_has_no_state_and_nobody() -> None:
    row, person = kept((5, told()))
    assert (row.state, changed_at(row), person) == ({}, None, None)


def test_the_first_names_stay_whatever_comes_first() -> None:
    names = [f"p{number:03d}" for number in range(PROPERTIES_KEPT + 20)]
    halves = [(1, told(**dict.fromkeys(names[::2], 1))), (2, told(**dict.fromkeys(names[1::2], 2)))]
    rows = [kept(*order)[0] for order in (halves, halves[::-1])]
    assert sorted(rows[0].state) == names[:PROPERTIES_KEPT]
    assert rows[0].state == rows[1].state


def test_the_way_back_is_kept_for_each_identifier() -> None:
    work = Work(MemoryState())
    for cell, value in ((3, "u"), (4, "v")):
        event = msgspec.structs.replace(event_at(1), identifiers=(Identifier("user_id", value),))
        keep_objects(work, event, cell, [told("buyer")])
    assert [key for key, _ in work.scan(CELL_OBJECTS, (), None, 10)] == [(3, "order", "o1"), (4, "order", "o1")]
    assert object_keys([told("buyer")]) == [("order", "o1")]
