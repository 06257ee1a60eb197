"""A micro-batch: records of the log applied one event at a time to one Work, to be committed in one transaction."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from heapq import heapify, heappop
from itertools import groupby
from operator import itemgetter
from time import perf_counter_ns
from typing import Final

import msgspec

from conosco.activate.outbox import is_long_ago, oldest_end, park, prune, retry, settle
from conosco.activate.stage import make_test, replay
from conosco.collect.object_rules import speaks_of_objects
from conosco.collect.understand import Rejected, understand
from conosco.govern.gate import Gate
from conosco.model.command import (
    BeginImport,
    LinkIdentifiers,
    LiveFrom,
    ReplayDeliveries,
    ReplayQuarantined,
    RetractLink,
    RetryDelivery,
    TryDestination,
    UndoImport,
    read_command,
)
from conosco.model.definition import Destination
from conosco.model.delivery import Attempt
from conosco.model.event import Event
from conosco.model.outcome import Outcome, OutcomeKind, Reason
from conosco.model.problem import Refused
from conosco.model.record import MAPPED, Record, slice_of
from conosco.ports.log import Log, LogFull
from conosco.ports.state import Fenced, Key, State, StateFull
from conosco.ports.tables import (
    CELLS,
    CURSORS,
    IDENTIFIERS,
    LINK_PLACES,
    MAPPED_BY,
    META,
    OBJECT_PEOPLE,
    OBJECTS,
    OUTBOX_ENDED,
    PERSONS,
    QUARANTINE,
    TIMERS,
    TRAITS,
    LinkPlaceRow,
    MappedByRow,
    MetaRow,
    PersonRow,
    QuarantineRow,
    encode_row,
)
from conosco.ports.work import Work
from conosco.profile.known import Known
from conosco.profile.objects import keep_objects, object_keys
from conosco.profile.stage import fold, note_identifiers, regroup, release
from conosco.profile.view import PersonView
from conosco.resolve.resolution import Resolution
from conosco.resolve.stage import assert_link, identifier_keys, retract_link
from conosco.runtime.configuration import Configuration
from conosco.runtime.duplicates import Duplicates
from conosco.runtime.flow import FLOW, Ending, Step, Subject, ask_redated, settle_people
from conosco.runtime.imports.undone import UndoneImports
from conosco.runtime.meaning import Meaning, source_of_record
from conosco.runtime.source_activity import SourceActivity
from conosco.runtime.surroundings import Surroundings
from conosco.segment.stage import Cause, CauseKind, Ordinals, disarm, evaluate

# How many due timers are fetched at once; more are fetched when these have fired.
TIMERS_PAGE: Final = 5_000
# The steps of one event in so many are timed, and stand for the others: timing all would cost as much as a step.
TIMED_EVERY: Final = 16
COUNTERS: Final = ("accepted", "applied", "duplicates", "quarantined", "erased")
_COUNTED_AS: Final[dict[OutcomeKind, str]] = {
    "applied": "applied",
    "duplicate": "duplicates",
    "quarantined": "quarantined",
    "erased": "erased",
}
Address = tuple[int, int]


class StageFailed(Exception):
    """A step raised on an event: the whole micro-batch is dropped and run again, and the event is remembered."""

    def __init__(self, address: Address, stage: str) -> None:
        super().__init__(f"{stage} failed on the event at {address[0]}/{address[1]}")
        self.address = address
        self.stage = stage


class MicroBatch:
    """Applies records in order. Nothing is written until ``close``; dropping it leaves State as it was.

    ``poisoned`` maps addresses of events that failed too often to the stage that failed: they are quarantined.
    """

    def __init__(
        self,
        state: State,
        log: Log,
        duplicates: Duplicates,
        configuration: Configuration,
        secret: bytes,
        gate: Gate,
        poisoned: Mapping[Address, str],
        step_ns: dict[str, int],
        undone: UndoneImports,
    ) -> None:
        self._state = state
        self._work = Work(state)
        self._duplicates = duplicates
        self._around = Surroundings(self._work, log, duplicates, configuration, secret, Ordinals(), gate)
        self._meaning = Meaning(self._work.scan)
        self._poisoned = poisoned
        self._step_ns = step_ns
        self._undone = undone
        self._counts = dict.fromkeys(COUNTERS, 0)
        self._activity = SourceActivity()
        self._understood: dict[int, list[Event | Rejected]] = {}
        self._seen = 0
        # When the oldest ended delivery that is still kept ended.
        self._oldest_end: int | None = None
        self.events = 0
        # (source id, outcome) -> how many events.
        self.outcomes: dict[tuple[str, OutcomeKind], int] = {}

    def run(self, records: Sequence[Record]) -> None:
        """Apply records, firing the timers that fall due before and between them."""
        self._around.records = {record.position: record for record in records}
        self._prefetch(records)
        self._fetch_timers(records[-1].logged_at)
        self._oldest_end = next((int(key[0]) for key, _ in self._work.scan(OUTBOX_ENDED, (), None, 1)), None)
        for record in records:
            self._around.at(record.position, record.logged_at)
            self._fire_until(record.logged_at)
            self._around.at(record.position, record.logged_at)
            self._apply(record)
            self._oldest_end = oldest_end(self._work, self._oldest_end)
            # A definition may be applied again after a kill; what it lets go of must not depend on that.
            if self._oldest_end is not None and is_long_ago(self._oldest_end, record.logged_at) and record.kind != "definition":
                self._oldest_end = prune(self._work, record.logged_at)

    def close(self, sequence: int) -> int:
        """Write all changes into State's open transaction; returns the sequence of the newest feed row."""
        row: MetaRow = self._work.get(META, ("counters",)) or MetaRow(value={})
        row.value = {name: row.value.get(name, 0) + self._counts[name] for name in COUNTERS}
        self._work.put(META, ("counters",), row)
        self._activity.write(self._work)
        self._work.put(META, ("now",), MetaRow(value=self._around.now))
        if self._around.feed.write(self._state, sequence + 1, self._around.position):
            sequence += 1
            self._state.put_many(CURSORS, {("feed_sequence",): encode_row(MetaRow(value=sequence))})
        self._duplicates.write()
        self._work.flush()
        return sequence

    # Reading ahead: everything the events of the batch will ask for, table by table.

    def _prefetch(self, records: Sequence[Record]) -> None:
        events: list[Event] = []
        for record in records:
            if record.kind == "request":
                understood = self._understand(record)
                self._understood[record.position] = understood
                self.events += len(understood)
                events.extend(item for item in understood if isinstance(item, Event))
        if not events:
            return
        work = self._work
        identifiers = work.prefetch(IDENTIFIERS, {identifier for event in events for identifier in event.identifiers})
        people: set[Key] = set()
        described: set[Key] = set()
        more: set[Key] = set()
        objects: set[Key] = set()
        dealings: set[Key] = set()
        candidates = self._around.configuration.streams.candidates
        for event in events:
            home = identifiers[event.identifiers[0]]
            if home is None or event.type == "alias":
                # Only an event that brings something new is asked about more than its own identifiers.
                more.update(identifier_keys(event))
            elif event.type == "identify":
                described.add((home.person, home.number))
                people.add((home.person,))
            elif candidates(event):
                people.add((home.person,))
            if speaks_of_objects(event):
                keys = object_keys(self._around.read_mentions(event))
                objects.update(keys)
                if home is not None:
                    dealings.update((*key, home.number) for key in keys)
        work.prefetch(IDENTIFIERS, more)
        persons = work.prefetch(PERSONS, people)
        # All cells of these people: conditions are asked of the whole person, not of the home cell alone.
        cells = [(key[0], cell) for key in people if (person := persons[key]) is not None for cell in person.cells]
        work.prefetch(CELLS, cells)
        work.prefetch(TRAITS, described)
        if objects:
            work.prefetch(OBJECTS, objects)
            work.prefetch(OBJECT_PEOPLE, dealings)

    def _understand(self, record: Record) -> list[Event | Rejected]:
        configuration = self._around.configuration
        return understand(record, source_of_record(record, configuration), configuration.rules)

    # Records by kind.

    def _apply(self, record: Record) -> None:
        match record.kind:
            case "request":
                self._apply_request(record, self._understood.pop(record.position))
            case "delivery":
                self._apply_attempts(record)
            case "control":
                for body in record.slices:
                    if body is not None:
                        # Rules may have changed since it was asked; what they refuse now changes nothing.
                        with suppress(Refused):
                            self._apply_command(body)
            case "tick" | "definition" | "decision" | "erased":
                # A tick only moves time; definitions are applied by the worker between batches.
                return

    def _apply_request(self, record: Record, items: Sequence[Event | Rejected]) -> None:
        if None in record.slices[1:]:
            self._count_erased(record)
        kinds = [self._end(item) for item in items]
        self._counts["accepted"] += len(items)
        for kind in kinds:
            self._counts[_COUNTED_AS[kind]] += 1
        for kind in set(kinds):
            told = (record.source_id, kind)
            self.outcomes[told] = self.outcomes.get(told, 0) + kinds.count(kind)
        if items:
            self._activity.note(items[0].source_id, self._around.now, kinds)
        if len(kinds) != len(items):
            raise AssertionError(f"{len(items)} events went in and {len(kinds)} outcomes came out")

    def _count_erased(self, record: Record) -> None:
        """Events whose bytes are gone were accepted all the same: their person was erased, or their import taken back."""
        gone = [slot for slot, body in enumerate(record.slices[1:]) if body is None]
        undone = self._undone.is_of_one(record)
        self._counts["accepted"] += len(gone)
        self._counts["erased"] += len(gone)
        for slot in gone:
            lost = Rejected(
                position=record.position,
                slot=slot,
                message_id=f"{record.position}-{slot}",
                source_id=record.source_id,
                reason="import_undone" if undone else "erased_person",
            )
            self._around.feed.outcome(self._outcome(lost, "erased", lost.reason))

    def _end(self, item: Event | Rejected) -> OutcomeKind:
        if isinstance(item, Rejected):
            self._quarantine(item, item.reason, item.params, "collect", 1)
            return "quarantined"
        if self._poisoned:
            stage = self._poisoned.get((item.position, item.slot))
            if stage is not None:
                self._quarantine(item, "processing_failed", {}, stage, 3)
                return "quarantined"
        return self._run(Subject(item))

    def _run(self, subject: Subject) -> OutcomeKind:
        """Take one event through the flow."""
        event, around = subject.event, self._around
        name, ending = "", None
        self._seen += 1
        try:
            is_timed = self._seen % TIMED_EVERY == 0
            for name, step in FLOW:
                ending = self._time(name, step, subject) if is_timed else step(subject, around)
                if ending is not None:
                    break
            if ending is None:
                raise AssertionError("the last step of the flow must end the event")
        except (MemoryError, StateFull, LogFull, Fenced):
            # The doors' trouble and not the event's: the whole micro-batch is tried again later.
            raise
        except Exception as failure:  # the one place where any failure of a stage ends: it becomes a quarantined event
            raise StageFailed((event.position, event.slot), name) from failure
        kind, reason = ending
        if reason == "applied":
            around.feed.applied.append((event.position, event.slot))
        elif kind == "quarantined":
            self._quarantine(event, reason, {}, name, 1)
        else:
            around.feed.outcome(self._outcome(event, kind, reason))
        return kind

    def _time(self, name: str, step: Step, subject: Subject) -> Ending | None:
        begun = perf_counter_ns()
        ending = step(subject, self._around)
        self._step_ns[name] = self._step_ns.get(name, 0) + (perf_counter_ns() - begun) * TIMED_EVERY
        return ending

    def _outcome(self, item: Event | Rejected, kind: OutcomeKind, reason: Reason) -> Outcome:
        return Outcome(
            position=item.position,
            slot=item.slot,
            message_id=item.message_id,
            source_id=item.source_id,
            outcome=kind,
            reason=reason,
            decided_at=self._around.now,
        )

    def _quarantine(
        self, item: Event | Rejected, reason: Reason, params: dict[str, str | int], stage: str, attempts: int
    ) -> None:
        key = (item.position, item.slot)
        known: QuarantineRow | None = self._work.get(QUARANTINE, key)
        row = QuarantineRow(
            message_id=item.message_id,
            source_id=item.source_id,
            reason=reason,
            params=params,
            stage=stage,
            attempts=attempts + (known.attempts if known else 0),
            quarantined_at=self._around.now,
        )
        self._work.put(QUARANTINE, key, row)
        outcome = self._outcome(item, "quarantined", reason)
        self._around.feed.outcome(msgspec.structs.replace(outcome, params=params, attempts=row.attempts))

    def _apply_attempts(self, record: Record) -> None:
        for body in record.slices:
            if body is not None:
                rows = settle(self._work, msgspec.json.decode(body, type=Attempt), self._around.now)
                self._around.feed.add("deliveries", rows)

    def _apply_command(self, body: bytes) -> None:
        around, work = self._around, self._work
        rules = around.configuration.rules
        match read_command(body):
            case LinkIdentifiers(link_id=link_id, kind=kind, left=left, right=right, reason=reason):
                before = around.know((left, right))
                resolution = assert_link(work, kind, left, right, around.now, around.position, link_id, reason, rules)
                self._settle_resolution(resolution, before)
            case RetractLink(link_id=link_id):
                place: LinkPlaceRow | None = work.get(LINK_PLACES, (link_id,))
                before = around.know([(place.namespace, place.value)] if place else ())
                retracted = retract_link(work, link_id, around.position, rules)
                if retracted is not None:
                    self._settle_resolution(retracted, before)
            case ReplayQuarantined(addresses=addresses):
                for position, of_record in groupby(addresses, key=itemgetter(0)):
                    self._replay(position, [slot for _, slot in of_record])
            case RetryDelivery(delivery_id=delivery_id):
                around.feed.add("deliveries", retry(work, delivery_id, around.now))
            case TryDestination(destination=key):
                tested = self._destination(key)
                if tested is not None:
                    rows = make_test(work, tested, around.gate, around.secret, around.position, around.now)
                    around.feed.add("deliveries", rows)
            case ReplayDeliveries(destination=key, delivery_ids=delivery_ids):
                target = self._destination(key)
                if target is not None:
                    rows = replay(work, delivery_ids, target, around.gate, around.secret, around.position, around.now)
                    around.feed.add("deliveries", rows)
            case LiveFrom(position=position, rebuilt=rebuilt):
                # Where the exchange is made at this very record, everything before it may have been sent.
                around.feed.add("deliveries", park(work, around.position if rebuilt else position, around.now))
            case BeginImport() | UndoImport():
                # What they mean is done in the log: records that name the import, and their erasure.
                return

    def _destination(self, key: str) -> Destination | None:
        """The active destination of this key."""
        return next((made for made in self._around.configuration.destinations if made.key == key), None)

    def _settle_resolution(self, resolution: Resolution, known: Sequence[Known]) -> None:
        """What a manual link changed: people are regrouped, and their memberships follow."""
        around, work = self._around, self._work
        regrouping = resolution.regrouping
        before, after = (regrouping.before, regrouping.after) if regrouping else ({}, {})
        regrouped, gone = regroup(work, before, after, resolution.identifier_changes, around.secret)
        redated = note_identifiers(work, resolution.identifier_changes)
        around.note_identity(resolution, around.position)
        kind: CauseKind = "split" if len(after) > len(before) else "merge"
        cause = Cause(kind, around.position, around.now, around.now, (), True)
        around.publish(settle_people(regrouped, gone, (), (), around, cause))
        # With a link goes what it said about when an identifier was first seen.
        around.publish(ask_redated(redated, around, cause))
        numbers = [made.number for made in regrouped]
        around.forward_changes(known, numbers, {"cause": kind}, (around.position, 0), live=True)

    def _replay(self, position: int, slots: Sequence[int]) -> None:
        """Try quarantined events of one record again; each leaves quarantine only if it is applied or a duplicate.

        The record is read once: thousands of them may lie in it, and to read one of them takes as long as to read all.
        """
        records = self._around.log.read(position - 1, 1)
        if not records or records[0].position != position:
            return
        record = records[0]
        found = self._meaning.items(record, self._around.configuration)
        by_slot = {item.slot: item for item in found}
        is_mapped = bool(record.flags & MAPPED)
        told = Counter(slice_of(record, item.slot) for item in found) if is_mapped else Counter[int]()
        anew = self._understand(record) if is_mapped else []
        for slot in slots:
            item = by_slot.get(slot)
            if item is None or self._work.get(QUARANTINE, (position, slot)) is None:
                continue
            # A body of which something was applied keeps its meaning: what it said cannot be taken back.
            if is_mapped and told[slice_of(record, slot)] == 1 and self._map_anew(record, item, anew):
                continue
            self._try_again(item)

    def _try_again(self, item: Event | Rejected) -> None:
        address = (item.position, item.slot)
        if isinstance(item, Rejected) or address in self._poisoned:
            self._end(item)
            return
        kind = self._run(Subject(item, "applied_after_replay"))
        if kind != "quarantined":
            self._work.delete(QUARANTINE, address)
            self._counts["quarantined"] -= 1
            self._counts[_COUNTED_AS[kind]] += 1
            self._activity.move(item.source_id, "quarantined", kind)

    def _map_anew(self, record: Record, item: Event | Rejected, anew: Sequence[Event | Rejected]) -> bool:
        """Map a body that was quarantined whole by the present mappings; False if it is to be replayed as it was mapped.

        ``anew`` is what the present mappings make of the whole record.
        """
        index, work = slice_of(record, item.slot), self._work
        fresh = [other for other in anew if slice_of(record, other.slot) == index]
        events = [other for other in fresh if isinstance(other, Event)]
        if len(events) < len(fresh) or fresh == [item]:
            if isinstance(item, Rejected) and fresh:
                self._end(fresh[0])
            return isinstance(item, Rejected)
        source = source_of_record(record, self._around.configuration)
        work.put(MAPPED_BY, (record.position, index), MappedByRow(version=source.version))
        self._counts["quarantined"] -= 1
        self._counts["accepted"] += len(events) - 1
        kinds: list[OutcomeKind] = []
        for event in events:
            is_poisoned = (event.position, event.slot) in self._poisoned
            kind = self._end(event) if is_poisoned else self._run(Subject(event, "applied_after_replay"))
            kinds.append(kind)
            self._counts[_COUNTED_AS[kind]] += 1
            if kind != "quarantined":
                work.delete(QUARANTINE, (event.position, event.slot))
        self._activity.move(item.source_id, "quarantined", *kinds)
        return True

    # Time.

    def _fetch_timers(self, until: int) -> None:
        self._timers_until = until
        page = self._work.scan(TIMERS, (), (until + 1,), TIMERS_PAGE)
        self._around.timers = [(due, number) for (due, number), _ in page]
        heapify(self._around.timers)
        self._timers_left = len(page) == TIMERS_PAGE
        # A timer that is armed meanwhile must not overtake those that were not fetched yet.
        self._around.horizon = (page[-1][0][0], page[-1][0][1] + 1) if self._timers_left else (until + 1, 0)

    def _fire_until(self, moment: int) -> None:
        """Fire every timer that is due, earliest first, each at its own moment."""
        around = self._around
        while True:
            if not around.timers and self._timers_left:
                self._fetch_timers(self._timers_until)
            if not around.timers or around.timers[0][0] > moment:
                return
            due, number = heappop(around.timers)
            person: PersonRow | None = self._work.get(PERSONS, (number,))
            if person is not None and person.due == due:
                self._fire(due, number, person)

    def _fire(self, due: int, number: int, person: PersonRow) -> None:
        around, work = self._around, self._work
        around.at(around.position, due)
        disarm(work, number, person)
        for event_at, position, slot, cell in release(work, person, number, due):
            self._release(number, person, event_at, position, slot, cell)
        configuration = around.configuration
        cause = Cause("timer", around.position, due, due, (), True)
        view = PersonView(work, number, person)
        # From the moment on from which a person is known, what holds of nobody holds of it.
        asked = configuration.plans.all if view.born_at == due else configuration.plans.timed
        found = evaluate(work, number, person, view, asked, cause, around.ordinals)
        around.rearm_waiting(number, person)
        around.publish(found)
        around.watch(number, person)

    def _release(self, number: int, person: PersonRow, event_at: int, position: int, slot: int, cell: int) -> None:
        """The time of an event that lay ahead has come: fold it now."""
        around, work = self._around, self._work
        record = around.log.read(position - 1, 1)[0]
        items = self._meaning.items(record, around.configuration)
        event = next((item for item in items if item.slot == slot), None)
        if not isinstance(event, Event):
            return
        configuration = around.configuration
        before = around.know(event.identifiers)
        folded = fold(
            work,
            number,
            cell,
            event,
            configuration.streams.touching(event),
            configuration.window,
            configuration.plans.traits_read,
            around.now,
        )
        if speaks_of_objects(event):
            keep_objects(work, event, cell, around.mentions(event))
        cause = Cause("event", around.position, around.now, event_at, (event.message_id,), not event.historical)
        view = PersonView(work, number, person)
        # Its identifiers count as seen from now on, too.
        asked = configuration.plans.changed(view, folded.streams, folded.traits, True, event_at, around.now)
        around.publish(evaluate(work, number, person, view, asked, cause, around.ordinals))
        because = {"cause": "event", "message_ids": [event.message_id]}
        around.forward_changes(before, (number,), because, (position, slot), live=not event.historical)
