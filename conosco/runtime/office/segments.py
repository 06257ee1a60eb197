"""The segments desk: who is in a segment, who came and went, and how many a condition would take."""

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from conosco.model.answer import AsOf, Member, Movement, Page, Preview, SegmentSize
from conosco.model.moment import spell_moment
from conosco.model.problem import Problem, Refused
from conosco.ports.tables import CURSORS, MEMBERS, MEMBERSHIPS, PERSONS
from conosco.rules.compile import people
from conosco.rules.explain import sentence
from conosco.rules.parse import parse_where
from conosco.runtime.office.history import History
from conosco.runtime.office.reading import Reading, cursor_of, read_cursor

SAMPLE: Final = 10
COUNTED_HERE: Final = 2_000


class SegmentsDesk:
    """Implements ``web.office.Segments``."""

    def __init__(self, reading: Reading, history: History) -> None:
        self._reading = reading
        self._history = history

    def _is_computing(self, key: str) -> bool:
        """While a definition is put in force over history, its memberships are not shown: they appear all together."""
        row = self._reading.row(CURSORS, ("computing",))
        return row is not None and key in row.value

    async def sizes(self, keys: Sequence[str]) -> dict[str, SegmentSize]:
        """Size and sentence of segments."""
        configuration = self._reading.configuration()
        counts: dict[str, int] = {}
        large: list[str] = []
        for key in keys:
            if key in configuration.conditions:
                counts[key] = 0 if self._is_computing(key) else self._count(configuration.segment_numbers[key])
                if counts[key] == COUNTED_HERE:
                    large.append(key)
        if large:
            counts |= await self._history.member_counts(large)
        return {
            key: SegmentSize(members=count, sentence=sentence(configuration.conditions[key])) for key, count in counts.items()
        }

    def _count(self, number: int) -> int:
        """How many members a small segment has; a large one is counted by the warehouse, so that nobody waits meanwhile."""
        return len(self._reading.state.scan(MEMBERS, (number,), (number + 1,), COUNTED_HERE))

    async def members(self, ref: str, cursor: str, limit: int) -> Page[Member]:
        """People in the segment now."""
        definition = self._reading.required("segment", ref)
        number = self._reading.configuration().segment_numbers.get(definition.key)
        if number is None or self._is_computing(definition.key):
            return Page(items=[])
        after = read_cursor(cursor, int)
        start = (number,) if after is None else (number, after + 1)
        found = self._reading.state.scan(MEMBERS, start, (number + 1,), limit + 1)
        numbers = [key[1] for key, _ in found[:limit]]
        items = self._members(number, numbers)
        return Page(items=items, next=cursor_of(numbers[-1]) if len(found) > limit else None)

    def _members(self, segment: int, numbers: Sequence[int]) -> list[Member]:
        people_rows = self._reading.rows(PERSONS, [(number,) for number in numbers])
        keys: dict[tuple[Any, ...], str] = {}
        for number in numbers:
            person = people_rows.get((number,))
            if person is not None and segment in person.memberships:
                _, position, ordinal = person.memberships[segment]
                keys[person.profile_id, position, ordinal] = person.profile_id
        rows = self._reading.rows(MEMBERSHIPS, list(keys))
        return [
            Member(
                profile_id=profile_id,
                entered_at=spell_moment(rows[key].entered_at),
                because=msgspec.json.decode(rows[key].because),
            )
            for key, profile_id in keys.items()
            if key in rows
        ]

    async def history(self, ref: str, cursor: str, limit: int) -> Page[Movement]:
        """Who entered and left the segment, newest first."""
        return await self._movements(self._reading.required("segment", ref).key, cursor, limit)

    async def movements(self, cursor: str, limit: int) -> Page[Movement]:
        """Who entered and left any segment, newest first."""
        return await self._movements(None, cursor, limit)

    async def _movements(self, key: str | None, cursor: str, limit: int) -> Page[Movement]:
        skip: int = read_cursor(cursor, int) or 0
        rows = await self._history.movements(key, skip, limit + 1)
        items = [_movement(row) for row in rows[:limit]]
        return Page(items=items, next=cursor_of(skip + limit) if len(rows) > limit else None)

    async def preview(self, spec: dict[str, Any], as_of: AsOf) -> Preview:
        """How many people satisfy a condition."""
        try:
            condition = parse_where(spec, self._reading.configuration().catalogue)
        except Refused as refused:
            problems: list[Problem] = [
                msgspec.structs.replace(problem, pointer="/spec" + problem.pointer) for problem in refused.problems
            ]
            raise Refused(problems) from None
        true_at, known_at = await self._history.axes(as_of)
        count, sample, position = await self._history.count(people(condition, true_at=true_at, known_at=known_at), SAMPLE)
        return Preview(count=count, exact=True, sample=sample, as_of=min(position, known_at))


def _movement(row: tuple[Any, ...]) -> Movement:
    kind, segment, profile_id, at, position, because, backfill = row
    type_: Literal["segment.entered", "segment.exited"] = "segment.entered" if kind == "entered" else "segment.exited"
    return Movement(
        type=type_,
        segment=segment,
        profile_id=profile_id,
        at=spell_moment(at),
        position=position,
        because=msgspec.json.decode(because) if because else {},
        live=not backfill,
    )
