"""What surrounds an event on its way: the micro-batch's Work, the configuration in force, now, and what is collected."""

from collections.abc import Iterable, Sequence
from heapq import heappush
from typing import Any

from conosco.activate.forward import Forwarding
from conosco.activate.stage import activate
from conosco.collect.object_rules import mentions_of
from conosco.collect.objects import Mention
from conosco.govern.gate import Gate
from conosco.model.event import Event
from conosco.model.record import Record, slice_of
from conosco.ports.log import Log
from conosco.ports.state import Key
from conosco.ports.tables import IDENTIFIERS, PERSONS, PersonRow
from conosco.ports.work import Work
from conosco.profile.known import Known, changes, know
from conosco.profile.stage import next_waiting
from conosco.resolve.resolution import Resolution
from conosco.runtime.configuration import Configuration
from conosco.runtime.duplicates import Duplicates
from conosco.runtime.feed import Feed
from conosco.segment.stage import Evaluated, Ordinals, arm


class Surroundings:
    """One per micro-batch. ``now`` is the logged_at of the record (or the due moment of the timer) being applied."""

    def __init__(
        self,
        work: Work,
        log: Log,
        duplicates: Duplicates,
        configuration: Configuration,
        secret: bytes,
        ordinals: Ordinals,
        gate: Gate,
    ) -> None:
        self.work = work
        self.log = log
        self.duplicates = duplicates
        self.configuration = configuration
        self.secret = secret
        self.ordinals = ordinals
        self.gate = gate
        self.feed = Feed()
        self.forwarding = Forwarding(work, configuration.forwarders, gate, secret) if configuration.forwarders else None
        self.position = 0
        self.now = 0
        # Timers that fall due within this micro-batch: (due, person), all that there are below the horizon.
        self.horizon = (0, 0)
        self.timers: list[tuple[int, int]] = []
        # The records of this micro-batch by position: what repeats itself mostly does so at once.
        self.records: dict[int, Record] = {}
        self._identifier_ordinal = 0
        # What the events of this micro-batch say of objects, by their addresses: read ahead, and not read again.
        self._mentions: dict[tuple[int, int], Sequence[Mention]] = {}

    def at(self, position: int, now: int) -> None:
        """Turn to the next record."""
        if position != self.position:
            self._identifier_ordinal = 0
        self.position, self.now = position, now

    def body_at(self, position: int, slot: int) -> bytes | None:
        """An event's bytes as received; None if they were erased or pruned."""
        record = self.records.get(position)
        if record is None:
            found = self.log.read(position - 1, 1)
            if not found or found[0].position != position:
                return None
            record = found[0]
        index = slice_of(record, slot)
        return record.slices[index] if index < len(record.slices) else None

    def read_mentions(self, event: Event) -> Sequence[Mention]:
        """What an event says of objects, remembered for ``mentions``."""
        found = mentions_of(event)
        if found:
            self._mentions[event.position, event.slot] = found
        return found

    def mentions(self, event: Event) -> Sequence[Mention]:
        """What an event says of objects."""
        return self._mentions.pop((event.position, event.slot), None) or mentions_of(event)

    def watch(self, number: int, person: PersonRow) -> None:
        """Notice a timer that a step armed, if it falls due within this micro-batch."""
        if person.due and (person.due, number) < self.horizon:
            heappush(self.timers, (person.due, number))

    def rearm_waiting(self, number: int, person: PersonRow) -> None:
        """Arm the timer of a regrouped person for the events that wait in its cells."""
        due = next_waiting(self.work, person, number)
        if due is not None:
            arm(self.work, number, person, due)

    def note_identity(self, resolution: Resolution, position: int) -> None:
        """Tell the warehouse which profile each changed identifier now belongs to, and what became of links."""
        versions: list[dict[str, Any]] = []
        told: set[int] = set()
        for number in sorted(resolution.regrouping.after) if resolution.regrouping else ():
            person: PersonRow = self.work.get(PERSONS, (number,))
            told.update(person.cells)
            for namespace, value, first_seen_at in person.identifiers:
                versions.append(self._identifier_version(namespace, value, person.profile_id, first_seen_at, position))
        for namespace, value, number, owner, first_seen_at in resolution.identifier_changes:
            if number not in told:
                # Nobody's: no evidence stands for it any more.
                profile_id = self.work.get(PERSONS, (owner,)).profile_id if owner else ""
                versions.append(self._identifier_version(namespace, value, profile_id, first_seen_at, position))
        if versions:
            self.feed.add("identifiers", versions)
        if resolution.link_changes:
            self.feed.add("links", [{**change.as_row(), "changed_position": position} for change in resolution.link_changes])

    def _identifier_version(
        self, namespace: str, value: str, profile_id: str, first_seen_at: int, position: int
    ) -> dict[str, Any]:
        self._identifier_ordinal += 1
        return {
            "namespace": namespace,
            "value": value,
            "profile_id": profile_id,
            "first_seen_at": first_seen_at,
            "position": position,
            "ordinal": self._identifier_ordinal,
        }

    def publish(self, found: Evaluated) -> None:
        """Record membership versions, and hand the changes to the activate stage."""
        if found.versions:
            self.feed.memberships(found.versions, self.position)
        if found.changes:
            rows = activate(self.work, found.changes, self.configuration.destinations, self.gate, self.secret, self.now)
            self.feed.add("deliveries", rows)

    def know(self, identifiers: Iterable[Key]) -> list[Known]:
        """What is known of the people behind these identifiers, if anybody wants to be told what changes."""
        if self.forwarding is None or not self.forwarding.watches_profiles:
            return []
        rows = [self.work.get(IDENTIFIERS, identifier) for identifier in identifiers]
        return know(self.work, sorted({row.person for row in rows if row is not None and row.person}), self.now)

    def forward_changes(
        self, before: Sequence[Known], numbers: Iterable[int], because: dict[str, Any], cause: tuple[int, int], *, live: bool
    ) -> None:
        """Tell whom wants it how these people differ from what was known before."""
        if self.forwarding is not None and self.forwarding.watches_profiles:
            for change in changes(before, self.work, numbers, because, self.position, self.now, live=live):
                self.feed.add("deliveries", self.forwarding.profile(change, self.now, cause))

    def forward_event(self, event: Event, number: int) -> None:
        """Pass an event on to whom wants it."""
        if self.forwarding is not None:
            rows = self.forwarding.event(event, self.work.get(PERSONS, (number,)), self.now)
            if rows:
                self.feed.add("deliveries", rows)
