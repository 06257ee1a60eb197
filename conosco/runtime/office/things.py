"""The things desk: visits of a person, objects with their state and history, and who deals with them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from conosco.model.answer import AsOf, KnownObject, ObjectChange, ObjectPerson, ObjectProperty, Page, PersonObject, Role, Visit
from conosco.model.identifier import Identifier
from conosco.model.moment import spell_moment
from conosco.model.problem import Refused, refuse
from conosco.ports.tables import CELL_OBJECTS, IDENTIFIERS, OBJECT_PEOPLE, OBJECTS, PERSONS, ObjectPersonRow, ObjectRow
from conosco.profile.objects import changed_at
from conosco.runtime.office.history import History
from conosco.runtime.office.people import PeopleDesk
from conosco.runtime.office.reading import Reading, cursor_of, read_cursor

PersonRef = str | Identifier
# Of an object's people and changes so many are shown; the tables have them all.
PEOPLE_SHOWN: Final = 100
CHANGES_SHOWN: Final = 100
# As many identifiers' dealings with one object are looked through for them.
DEALINGS_READ: Final = 1_000
_LAST_CELL: Final = 1 << 62
_EVERYTHING: Final = 1 << 62
_NULL: Final = b"null"

_VISITS: Final = """
select * exclude (started_at, ended_at, first_touch, last_touch), epoch_us(started_at) as started_at,
  epoch_us(ended_at) as ended_at, first_touch, last_touch
from store.visits_as_of(?, ?) where profile_id = ?
order by started_at desc, visit_id limit ? offset ?
"""

_PROPERTIES: Final = """
select name, value, source_id, message_id, epoch_us(event_at) from store.object_observations
where kind = ? and object_id = ? and position <= ? and event_at <= make_timestamp(?)
qualify row_number() over (partition by name order by event_at desc, source_id desc, message_id desc) = 1
order by name
"""

_SEEN: Final = """
select epoch_us(first_seen_at), epoch_us(last_seen_at), epoch_us(changed_at), state
from store.objects_as_of(?, ?) where kind = ? and object_id = ?
"""

_PEOPLE: Final = """
select profile_id, role, epoch_us(first_at), epoch_us(last_at) from store.object_people_as_of(?, ?)
where kind = ? and object_id = ? order by last_at desc, profile_id, role limit ?
"""

_CHANGES: Final = """
select name, value, previous, epoch_us(changed_at), source_id, message_id, position
from store.object_history_as_of(?, ?) where kind = ? and object_id = ?
order by changed_at desc, source_id desc, message_id desc, name limit ?
"""

_OBJECTS_OF: Final = """
with mine as (
  select kind, object_id, list({'role': role, 'first_at': epoch_us(first_at), 'last_at': epoch_us(last_at)} order by role) as roles
  from store.object_people_as_of(?, ?)
  where profile_id = ? and (? = '' or kind = ?) and (kind > ? or (kind = ? and object_id > ?))
  group by kind, object_id order by kind, object_id limit ?
)
select mine.kind, mine.object_id, mine.roles, o.state, epoch_us(o.changed_at)
from mine join store.objects_as_of(?, ?) as o on o.kind = mine.kind and o.object_id = mine.object_id
order by mine.kind, mine.object_id
"""


class ThingsDesk:
    """Implements ``web.office.Things``. The present of objects is read from State, all else from the warehouse."""

    def __init__(self, reading: Reading, history: History, people: PeopleDesk) -> None:
        self._reading = reading
        self._history = history
        self._people = people

    async def visits(self, ref: PersonRef, as_of: AsOf, cursor: str, limit: int) -> Page[Visit]:
        """A person's visits, newest first."""
        profile_id, _, true_at, known_at = await self._people.whose(ref, as_of)
        skip: int = read_cursor(cursor, int) or 0
        # What the warehouse knows counts, which is a moment behind State.
        position = _EVERYTHING if as_of.known_at is None else known_at
        answer = await self._history.ask(_VISITS, [true_at, position, profile_id, limit + 1, skip])
        visits = [_visit(dict(zip(answer.columns, row, strict=True))) for row in answer.rows[:limit]]
        return Page(items=visits, next=cursor_of(skip + limit) if len(answer.rows) > limit else None)

    async def objects_of(self, ref: PersonRef, kind: str, as_of: AsOf, cursor: str, limit: int) -> Page[PersonObject]:
        """The objects that a person deals with, by kind and id; an empty kind means all."""
        profile_id, cells, true_at, known_at = await self._people.whose(ref, as_of)
        after: tuple[str, str] = read_cursor(cursor, tuple[str, str]) or (kind, "")
        if as_of.is_now:
            found = self._objects_now(cells, kind, after, limit + 1)
        else:
            moment = [true_at, known_at]
            asked = [*moment, profile_id, kind, kind, after[0], after[0], after[1], limit + 1, *moment]
            found = [_person_object(row) for row in (await self._history.ask(_OBJECTS_OF, asked)).rows]
        page = found[:limit]
        return Page(items=page, next=cursor_of((page[-1].kind, page[-1].object_id)) if len(found) > limit else None)

    def _objects_now(self, cells: Sequence[int], kind: str, after: tuple[str, str], most: int) -> list[PersonObject]:
        """Every cell has its objects in order, so that as many of each suffice for the first of all."""
        keys: set[tuple[str, str]] = set()
        for cell in cells:
            stop = (cell, kind + "\x00") if kind else (cell + 1,)
            start = (cell, after[0], after[1] + "\x00") if after[1] else (cell, *after[:1])
            keys.update((key[1], key[2]) for key, _ in self._reading.scan(CELL_OBJECTS, start, stop, most))
        chosen = sorted(keys)[:most]
        states = self._reading.rows(OBJECTS, chosen)
        places = [(*key, cell) for key in chosen for cell in cells]
        dealings: Mapping[Any, ObjectPersonRow] = self._reading.rows(OBJECT_PEOPLE, places)
        return [
            PersonObject(
                kind=key[0],
                object_id=key[1],
                state=_state_now(states[key]),
                changed_at=_spell(changed_at(states[key])),
                roles=_roles([dealings[place] for cell in cells if (place := (*key, cell)) in dealings]),
            )
            for key in chosen
        ]

    async def object(self, kind: str, object_id: str, as_of: AsOf) -> KnownObject:
        """An object with its state, its history and its people."""
        if as_of.is_now:
            return await self._object_now(kind, object_id)
        true_at, known_at = await self._history.axes(as_of)
        seen = (await self._history.ask(_SEEN, [true_at, known_at, kind, object_id])).rows
        if not seen:
            raise _unknown(kind, object_id)
        first_at, last_at, newest_at, state = seen[0]
        properties = (await self._history.ask(_PROPERTIES, [kind, object_id, known_at, true_at])).rows
        people = (await self._history.ask(_PEOPLE, [true_at, known_at, kind, object_id, PEOPLE_SHOWN + 1])).rows
        kept = msgspec.json.decode(state, type=dict[str, msgspec.Raw])
        return KnownObject(
            kind=kind,
            object_id=object_id,
            state=kept,
            properties=[
                ObjectProperty(
                    name=name, value=_raw(value), observed_at=spell_moment(at), source_id=source_id, message_id=message_id
                )
                for name, value, source_id, message_id, at in properties
                if name in kept
            ],
            first_seen_at=spell_moment(first_at),
            last_seen_at=spell_moment(last_at),
            changed_at=_spell(newest_at),
            people=[
                ObjectPerson(profile_id=who, role=role, first_at=spell_moment(first), last_at=spell_moment(last))
                for who, role, first, last in people[:PEOPLE_SHOWN]
            ],
            more_people=len(people) > PEOPLE_SHOWN,
            history=await self._changes(kind, object_id, true_at, known_at),
            as_of=known_at,
        )

    async def _object_now(self, kind: str, object_id: str) -> KnownObject:
        position = self._reading.state.offset()[0]
        row: ObjectRow | None = self._reading.row(OBJECTS, (kind, object_id))
        if row is None:
            raise _unknown(kind, object_id)
        people, is_more = self._people_now(kind, object_id)
        history: list[ObjectChange] | None
        try:
            history = await self._changes(kind, object_id, self._reading.clock(), _EVERYTHING)
        except Refused:
            # The warehouse is not up: State still tells what the object is.
            history = None
        return KnownObject(
            kind=kind,
            object_id=object_id,
            state=_state_now(row),
            properties=[
                ObjectProperty(
                    name=name, value=_raw(value), observed_at=spell_moment(at), source_id=source_id, message_id=message_id
                )
                for name, (at, source_id, message_id, value) in sorted(row.state.items())
                if value != _NULL
            ],
            first_seen_at=spell_moment(row.first_at),
            last_seen_at=spell_moment(row.last_at),
            changed_at=_spell(changed_at(row)),
            people=people,
            more_people=is_more,
            history=history,
            as_of=position,
        )

    def _people_now(self, kind: str, object_id: str) -> tuple[list[ObjectPerson], bool]:
        """Who deals with an object, the most recent first; and whether there are more."""
        stop = (kind, object_id, _LAST_CELL)
        rows: list[tuple[Any, ObjectPersonRow]] = self._reading.scan(OBJECT_PEOPLE, (kind, object_id, 0), stop, DEALINGS_READ + 1)
        identifiers = self._reading.rows(IDENTIFIERS, [(row.namespace, row.value) for _, row in rows])
        persons = self._reading.rows(PERSONS, sorted({(found.person,) for found in identifiers.values() if found.person}))
        dealings: dict[str, list[ObjectPersonRow]] = {}
        for _, row in rows[:DEALINGS_READ]:
            found = identifiers.get((row.namespace, row.value))
            person = persons.get((found.person,)) if found is not None else None
            if person is not None:
                dealings.setdefault(person.profile_id, []).append(row)
        people = [
            ObjectPerson(profile_id=profile_id, role=role.role, first_at=role.first_at, last_at=role.last_at)
            for profile_id, theirs in dealings.items()
            for role in _roles(theirs)
        ]
        people.sort(key=lambda each: (each.profile_id, each.role))
        people.sort(key=lambda each: each.last_at, reverse=True)
        return people[:PEOPLE_SHOWN], len(people) > PEOPLE_SHOWN or len(rows) > DEALINGS_READ

    async def _changes(self, kind: str, object_id: str, true_at: int, known_at: int) -> list[ObjectChange]:
        rows = (await self._history.ask(_CHANGES, [true_at, known_at, kind, object_id, CHANGES_SHOWN])).rows
        return [
            ObjectChange(
                name=name,
                value=_raw(value),
                previous=_raw(previous),
                at=spell_moment(at),
                source_id=source_id,
                message_id=message_id,
                position=position,
            )
            for name, value, previous, at, source_id, message_id, position in rows
        ]


def _unknown(kind: str, object_id: str) -> Refused:
    return refuse("not_found", status=404, kind=kind, ref=object_id)


def _spell(at: int | None) -> str | None:
    return None if at is None else spell_moment(at)


def _raw(value: str | bytes | None) -> msgspec.Raw | None:
    if value is None:
        return None
    return msgspec.Raw(value.encode() if isinstance(value, str) else value)


def _state_now(row: ObjectRow) -> dict[str, Any]:
    return {name: msgspec.Raw(seen[3]) for name, seen in sorted(row.state.items()) if seen[3] != _NULL}


def _roles(rows: Sequence[ObjectPersonRow]) -> list[Role]:
    """The roles of several identifiers as those of the one person behind them."""
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        for role, (first_at, last_at) in row.roles.items():
            known = found.get(role, (first_at, last_at))
            found[role] = (min(known[0], first_at), max(known[1], last_at))
    return [
        Role(role=role, first_at=spell_moment(first_at), last_at=spell_moment(last_at))
        for role, (first_at, last_at) in sorted(found.items())
    ]


def _person_object(row: tuple[Any, ...]) -> PersonObject:
    kind, object_id, roles, state, newest_at = row
    return PersonObject(
        kind=kind,
        object_id=object_id,
        state=msgspec.json.decode(state, type=dict[str, msgspec.Raw]),
        changed_at=_spell(newest_at),
        roles=[
            Role(role=each["role"], first_at=spell_moment(each["first_at"]), last_at=spell_moment(each["last_at"]))
            for each in roles
        ],
    )


def _visit(row: dict[str, Any]) -> Visit:
    spelled: dict[str, Any] = {name: spell_moment(row.pop(name)) for name in ("started_at", "ended_at")}
    touches: dict[str, Any] = {
        name: msgspec.json.decode(text) if (text := row.pop(name)) else None for name in ("first_touch", "last_touch")
    }
    return Visit(**row, **spelled, **touches)
