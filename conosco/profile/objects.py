"""Objects in State: fold what an event says of things, and who deals with them. Written only by events that speak of objects."""

from collections.abc import Iterable, Sequence
from typing import Final

from conosco.model.event import Event
from conosco.ports.state import Key
from conosco.ports.tables import CELL_OBJECTS, OBJECT_PEOPLE, OBJECTS, FlagRow, ObjectPersonRow, ObjectRow
from conosco.ports.work import Work

# Properties kept of one object. Which ones is a matter of their names alone, so that arrival has no say in it.
PROPERTIES_KEPT: Final = 128
# What an event says of one object: kind, object_id, roles of its person, and properties with their JSON values.
Told = tuple[str, str, Sequence[str], dict[str, bytes]]


def object_keys(told: Iterable[Told]) -> list[Key]:
    """The rows of OBJECTS that these will change."""
    return [(kind, object_id) for kind, object_id, _, _ in told]


def keep_objects(work: Work, event: Event, cell: int, told: Iterable[Told]) -> None:
    """Fold an event whose time has come into the objects that it speaks of; its person is that of its home cell."""
    for kind, object_id, roles, state in told:
        key = (kind, object_id)
        row: ObjectRow = work.get(OBJECTS, key) or ObjectRow(first_at=event.event_at, last_at=event.event_at)
        row.first_at = min(row.first_at, event.event_at)
        row.last_at = max(row.last_at, event.event_at)
        if state:
            _observe(row, event, state)
        work.put(OBJECTS, key, row)
        if roles:
            _relate(work, event, cell, key, roles)


def _observe(row: ObjectRow, event: Event, state: dict[str, bytes]) -> None:
    order = event.order
    for name, value in state.items():
        known = row.state.get(name)
        if known is None or known[:3] < order:
            row.state[name] = (*order, value)
    if len(row.state) > PROPERTIES_KEPT:
        row.state = {name: row.state[name] for name in sorted(row.state)[:PROPERTIES_KEPT]}


def _relate(work: Work, event: Event, cell: int, key: tuple[str, str], roles: Iterable[str]) -> None:
    place = (*key, cell)
    row: ObjectPersonRow | None = work.get(OBJECT_PEOPLE, place)
    if row is None:
        row = ObjectPersonRow(namespace=event.home.namespace, value=event.home.value)
        work.put(CELL_OBJECTS, (cell, *key), FlagRow())
    for role in roles:
        first_at, last_at = row.roles.get(role, (event.event_at, event.event_at))
        row.roles[role] = (min(first_at, event.event_at), max(last_at, event.event_at))
    work.put(OBJECT_PEOPLE, place, row)


def changed_at(row: ObjectRow) -> int | None:
    """When the newest part of an object's state was told; None if nothing was."""
    return max((seen[0] for seen in row.state.values()), default=None)
