"""Putting a definition in force over all history, in chunks that each commit, so that a kill resumes where it was.

First the streams that nobody read before are folded into the cells from the log, then everyone is asked whether they are in
the segments whose condition changed. Memberships are told to the warehouse with the last chunk.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from conosco.model.definition import Definition, kind_of
from conosco.model.event import Event
from conosco.model.ids import derived
from conosco.model.record import Record
from conosco.ports.log import Log
from conosco.ports.state import State
from conosco.ports.tables import (
    BACKFILL_FEED,
    CELLS,
    CURSORS,
    DEFINITION_VERSIONS,
    DEFINITIONS,
    FEED,
    IDENTIFIERS,
    META,
    PERSONS,
    CellRow,
    DefinitionRow,
    MetaRow,
    PersonRow,
    decode_row,
    encode_row,
)
from conosco.ports.work import Work
from conosco.profile.cells import address_of, insert_row
from conosco.profile.view import PersonView
from conosco.rules.condition import canonical
from conosco.rules.evaluate import Extra
from conosco.rules.streams import StreamPlan, select, value_of
from conosco.runtime.configuration import Configuration, meta
from conosco.runtime.duplicates import Duplicates
from conosco.runtime.feed import Feed
from conosco.runtime.meaning import Meaning, scan_of
from conosco.segment.plans import SegmentPlan
from conosco.segment.stage import Cause, Evaluated, Ordinals, evaluate, expel

RECORDS_PER_CHUNK: Final = 500
PEOPLE_PER_CHUNK: Final = 2_000
# Rows that a backfill opens are numbered far above those that events and timers open at the same position.
FIRST_ORDINAL: Final = 1 << 40


class Backfill:
    """The effect of one definition. ``run`` may be killed and run again from the start: it finds its cursor in State."""

    def __init__(
        self,
        state: State,
        log: Log,
        duplicates: Duplicates,
        secret: bytes,
        epoch: int,
        before: Configuration,
        definition: Definition,
        record: Record,
        note: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._state = state
        self._log = log
        self._duplicates = duplicates
        self._secret = secret
        self._epoch = epoch
        self._before = before
        self._after = before.with_definition(definition)
        self._definition = definition
        self._position = record.position
        self._now = record.logged_at
        self._note = note
        self._meaning = Meaning(scan_of(state))
        self._new: list[StreamPlan] = []

    def run(self, sequence: int) -> int:
        """Do what is left of it; returns the sequence of the newest feed row."""
        first_new = len(self._before.streams.texts())
        progress = meta(self._state, "backfill", None, CURSORS) or {
            "step": "history",
            "cursor": 0,
            "rows": 0,
            "first_new": first_new,
            "job_id": derived("job", self._secret, self._position),
            "begun_at": self._now,
        }
        # After a kill between chunks the new streams are numbered already; the cursor remembers which they are.
        self._new = self._after.streams.since(progress["first_new"])
        changed = self._changed_segments()
        gone = self._gone_segments()
        if progress["step"] == "history":
            if self._new:
                self._fold_history(progress)
            progress = {**progress, "step": "people", "cursor": -1}
        if changed or gone:
            self._ask_everyone(progress, changed, gone)
        return self._finish(sequence, progress["rows"])

    def _changed_segments(self) -> list[SegmentPlan]:
        """Segments whose complete condition, references inlined, is not what it was."""
        before = {key: canonical(condition) for key, condition in self._before.conditions.items()}
        return [made for made in self._after.plans.all if before.get(made.key) != canonical(self._after.conditions[made.key])]

    def _gone_segments(self) -> list[int]:
        """Numbers of segments that are no longer live."""
        return [made.number for made in self._before.plans.all if made.key not in self._after.conditions]

    # Step one: history into cells.

    def _fold_history(self, progress: dict[str, Any]) -> None:
        wanted: dict[tuple[str, str | None], list[StreamPlan]] = {}
        for plan in self._new:
            wanted.setdefault((plan.stream.type, plan.stream.event), []).append(plan)
        while True:
            records = self._log.read(progress["cursor"], RECORDS_PER_CHUNK)
            records = [record for record in records if record.position < self._position]
            if not records:
                return
            work = Work(self._state)
            for record in records:
                if record.kind == "request":
                    self._fold_record(work, record, wanted)
            progress["cursor"] = records[-1].position
            self._commit_chunk(work, progress)

    def _fold_record(self, work: Work, record: Record, wanted: dict[tuple[str, str | None], list[StreamPlan]]) -> None:
        for event in self._meaning.items(record, self._before):
            if not isinstance(event, Event):
                continue
            candidates = [*wanted.get((event.type, event.event), ()), *wanted.get((event.type, None), ())]
            if event.event is None:
                candidates = wanted.get((event.type, None), [])
            touched = select(candidates, event) if candidates else []
            if touched and event.event_at <= self._now and self._duplicates.is_first(event):
                self._fold_event(work, event, touched)

    def _fold_event(self, work: Work, event: Event, touched: Iterable[StreamPlan]) -> None:
        identifier = work.get(IDENTIFIERS, event.home)
        if identifier is None or not identifier.person:
            return
        key = (identifier.person, identifier.number)
        cell: CellRow = work.get(CELLS, key) or CellRow()
        address = address_of(event.position, event.slot)
        for plan in touched:
            extra = None
            if plan.stream.value is not None:
                extra = Extra(value_of(plan.stream, event), event.source_id, event.message_id)
            fold_before = self._now - self._after.window(plan.number)
            insert_row(cell, plan.number, event.event_at, address, extra, fold_before)
        work.put(CELLS, key, cell)

    # Step two: everyone is asked.

    def _ask_everyone(self, progress: dict[str, Any], changed: Sequence[SegmentPlan], gone: Sequence[int]) -> None:
        cause = Cause("definition", self._position, self._now, self._now, (), False, True)
        while True:
            work = Work(self._state)
            people = work.scan(PERSONS, (progress["cursor"] + 1,), None, PEOPLE_PER_CHUNK)
            if not people:
                return
            ordinals = Ordinals(FIRST_ORDINAL + progress["cursor"] + 1)
            feed = Feed()
            for (number,), person in people:
                feed.memberships(self._ask(work, number, person, changed, gone, cause, ordinals).versions, self._position)
            progress["cursor"] = people[-1][0][0]
            self._state.begin(self._epoch)
            if feed.write(self._state, progress["rows"] + 1, self._position, BACKFILL_FEED):
                progress["rows"] += 1
            self._put_progress(work, progress)
            self._state.commit(None)
            self._note("backfill", {"definition": self._definition.key, "people": progress["cursor"]})

    def _ask(
        self,
        work: Work,
        number: int,
        person: PersonRow,
        changed: Sequence[SegmentPlan],
        gone: Sequence[int],
        cause: Cause,
        ordinals: Ordinals,
    ) -> Evaluated:
        view = PersonView(work, number, person)
        found = evaluate(work, number, person, view, changed, cause, ordinals)
        found.versions.extend(expel(work, number, person, gone, cause))
        return found

    def _commit_chunk(self, work: Work, progress: dict[str, Any]) -> None:
        self._state.begin(self._epoch)
        self._put_progress(work, progress)
        self._state.commit(None)

    def _put_progress(self, work: Work, progress: dict[str, Any]) -> None:
        work.put(CURSORS, ("backfill",), MetaRow(value=progress))
        computing = [made.key for made in self._changed_segments()]
        work.put(CURSORS, ("computing",), MetaRow(value=computing))
        # Numbers of streams must mean the same after a kill between chunks.
        for name, row in self._after.meta_rows().items():
            work.put(META, (name,), row)
        work.flush()

    def _finish(self, sequence: int, rows: int) -> int:
        """The last transaction: the definition is in force, its memberships are told, the offset moves past it."""
        work = Work(self._state)
        kind, body = kind_of(self._definition), msgspec.json.encode(self._definition)
        work.put(DEFINITIONS, (kind, self._definition.key), DefinitionRow(body=body))
        work.put(DEFINITION_VERSIONS, (kind, self._definition.key, self._definition.version), DefinitionRow(body=body))
        for name, row in self._after.meta_rows().items():
            work.put(META, (name,), row)
        work.put(META, ("now",), MetaRow(value=self._now))
        work.delete(CURSORS, ("backfill",))
        work.delete(CURSORS, ("computing",))
        self._state.begin(self._epoch)
        work.flush()
        for number in range(1, rows + 1):
            held = self._state.get_many(BACKFILL_FEED, [(number,)])[(number,)]
            sequence += 1
            self._state.put_many(FEED, {(sequence,): held})
            self._state.delete(BACKFILL_FEED, [(number,)])
        self._state.put_many(CURSORS, {("feed_sequence",): encode_row(MetaRow(value=sequence))})
        self._state.commit(self._position)
        return sequence


def is_computing(state: State, key: str) -> bool:
    """Whether a segment's memberships are still being computed over history, and so not to be shown."""
    raw = state.get_many(CURSORS, [("computing",)]).get(("computing",))
    return raw is not None and key in decode_row(CURSORS, raw).value
