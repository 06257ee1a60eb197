"""The profile stage: fold an event into its home cell, and re-key cells when identity regroups people."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from conosco.model import ids
from conosco.model.event import Event
from conosco.model.identifier import Identifier
from conosco.ports.tables import CELLS, MEMBERS, PERSONS, PROFILES, TIMERS, TRAITS, CellRow, PersonRow, ProfileRow, TraitRow
from conosco.ports.work import Work
from conosco.profile.cells import address_of, fold_observations, insert_row, observe, tell
from conosco.profile.view import born_at
from conosco.rules.evaluate import Extra, Observation
from conosco.rules.streams import StreamPlan, value_of


class Folded(msgspec.Struct, frozen=True):
    """What an event changed: numbers of streams and names of traits. ``waits`` if its time has not come yet."""

    streams: tuple[int, ...] = ()
    traits: tuple[str, ...] = ()
    waits: bool = False


NOTHING: Final = Folded()


class Regrouped(msgspec.Struct, frozen=True):
    """A person as it is after a regrouping: the memberships it inherits and the profile ids it had before."""

    number: int
    # Segment number -> [(profile id, entered_at, position, ordinal)] of every former person that was in it.
    inherited: Mapping[int, Sequence[tuple[str, int, int, int]]]
    former_ids: tuple[str, ...]


def fold(
    work: Work,
    person: int,
    cell: int,
    event: Event,
    touched: Sequence[StreamPlan],
    window: Callable[[int], int],
    traits_read: Container[str],
    now: int,
) -> Folded:
    """Fold an event into its home cell. An event ahead of now waits in the cell until its time comes.

    ``window`` gives the longest window that any condition puts on a stream, by its number; ``traits_read`` are the traits
    that any condition reads.
    """
    key = (person, cell)
    if event.event_at > now:
        row = work.get(CELLS, key) or CellRow()
        row.pending.append((event.event_at, event.position, event.slot))
        work.put(CELLS, key, row)
        return Folded(waits=True)
    if touched:
        row = work.get(CELLS, key) or CellRow()
        address = address_of(event.position, event.slot)
        for plan in touched:
            extra = None
            if plan.stream.value is not None:
                extra = Extra(value_of(plan.stream, event), event.source_id, event.message_id)
            insert_row(row, plan.number, event.event_at, address, extra, now - window(plan.number))
        work.put(CELLS, key, row)
    if event.type == "identify" and event.traits != b"{}":
        return Folded(tuple([plan.number for plan in touched]), observe_traits(work, key, event, traits_read))
    return Folded(tuple([plan.number for plan in touched])) if touched else NOTHING


_TRAITS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def observe_traits(work: Work, key: tuple[int, int], event: Event, traits_read: Container[str]) -> tuple[str, ...]:
    """Keep the traits that an identify event carries, each with its provenance; the cell repeats those of ``traits_read``.

    Returns those of ``traits_read`` of which the person's value may have changed, now or at any moment before.
    """
    row = work.get(TRAITS, key) or TraitRow()
    cell = work.get(CELLS, key) or CellRow()
    changed: list[str] = []
    is_new = False
    for name, value in _TRAITS.decode(event.traits).items():
        seen = Observation(event.source_priority, event.event_at, event.source_id, event.message_id, bytes(value))
        is_read = name in traits_read
        says_more = is_read and not _only_repeats(work, key, row, name, seen)
        if observe(row, name, seen):
            is_new = True
            if is_read:
                tell(cell, row, name)
            else:
                # It may have been read before, and be read again later: what the cell repeats must not grow stale.
                cell.told.pop(name, None)
            if says_more:
                changed.append(name)
    if is_new:
        cell.is_described = True
        work.put(TRAITS, key, row)
        work.put(CELLS, key, cell)
    return tuple(changed)


def _only_repeats(work: Work, key: tuple[int, int], row: TraitRow, name: str, seen: Observation) -> bool:
    """Whether an observation, not kept yet, is newer than all others of the person and says what the winning one says."""
    person: PersonRow = work.get(PERSONS, key[:1])
    others = [other for cell in person.cells if cell != key[1] and (other := work.get(TRAITS, (key[0], cell))) is not None]
    known = fold_observations([row, *others], name)
    if not known:
        return False
    winning = max(known)
    return winning.value == seen.value and winning < seen and all(other.event_at <= seen.event_at for other in known)


def release(work: Work, person: PersonRow, number: int, now: int) -> list[tuple[int, int, int, int]]:
    """Take the waiting events whose time has come: (event_at, position, slot, cell), in the order of their times."""
    due: list[tuple[int, int, int, int]] = []
    for cell in person.cells:
        row = work.get(CELLS, (number, cell))
        if row is None or not row.pending or min(row.pending)[0] > now:
            continue
        due.extend((*waiting, cell) for waiting in row.pending if waiting[0] <= now)
        row.pending = [waiting for waiting in row.pending if waiting[0] > now]
        work.put(CELLS, (number, cell), row)
    return sorted(due)


def next_waiting(work: Work, person: PersonRow, number: int) -> int | None:
    """When the earliest waiting event of a person comes due."""
    times = [
        waiting[0] for cell in person.cells if (row := work.get(CELLS, (number, cell))) is not None for waiting in row.pending
    ]
    return min(times, default=None)


def profile_id_of(secret: bytes, anchor: Identifier, erasures: int = 0) -> str:
    """A person's profile id: stable for its anchor, not guessable without the installation secret."""
    return ids.derived("pro", secret, anchor.namespace, anchor.value, erasures)


def note_identifiers(work: Work, changes: Iterable[tuple[str, str, int, int, int]]) -> dict[int, int]:
    """Correct first_seen_at of identifiers whose person stayed: (namespace, value, number, person, first_seen_at).

    Returns the people who are known since another moment by that, and since when they were known before.
    """
    born_before: dict[int, int] = {}
    for namespace, value, number, person, first_seen_at in changes:
        row = work.get(PERSONS, (person,))
        # Person 0: no evidence stands for the identifier any more, so there is no row to correct.
        if row is not None and number in row.cells:
            index = row.cells.index(number)
            if row.identifiers[index][2] != first_seen_at:
                born_before.setdefault(person, born_at(row))
                row.identifiers[index] = (namespace, value, first_seen_at)
                work.put(PERSONS, (person,), row)
    return {person: before for person, before in born_before.items() if born_at(work.get(PERSONS, (person,))) != before}


def regroup(
    work: Work,
    before: Mapping[int, Sequence[int]],
    after: Mapping[int, Sequence[int]],
    changes: Iterable[tuple[str, str, int, int, int]],
    secret: bytes,
) -> tuple[list[Regrouped], list[PersonRow]]:
    """Re-key the cells of regrouped people and write their new rows; nothing is folded or re-read.

    Memberships are handed to every person that took over a cell: the segment stage then decides what really changed.
    Second come the people who are no more, because no evidence stands for any of their identifiers.
    """
    known = {number: (namespace, value, first_seen_at) for namespace, value, number, _, first_seen_at in changes}
    rows: dict[int, tuple[CellRow | None, TraitRow | None]] = {}
    owners: dict[int, tuple[int, PersonRow]] = {}
    for number in before:
        person = work.get(PERSONS, (number,))
        if person is None:
            continue
        for index, cell in enumerate(person.cells):
            known.setdefault(cell, person.identifiers[index])
            key = (number, cell)
            rows[cell] = (work.get(CELLS, key), work.get(TRAITS, key))
            owners[cell] = (number, person)
            work.delete(CELLS, key)
            work.delete(TRAITS, key)
        for segment in person.memberships:
            work.delete(MEMBERS, (segment, number))
        if person.due:
            work.delete(TIMERS, (person.due, number))
        work.delete(PERSONS, (number,))
    staying = {cell for members in after.values() for cell in members}
    gone = {number: person for number, person in owners.values() if staying.isdisjoint(person.cells)}
    regrouped = [_settle(work, number, members, known, rows, owners, secret) for number, members in sorted(after.items())]
    return regrouped, [person for _, person in sorted(gone.items())]


def _settle(
    work: Work,
    number: int,
    members: Sequence[int],
    known: Mapping[int, tuple[str, str, int]],
    rows: Mapping[int, tuple[CellRow | None, TraitRow | None]],
    owners: Mapping[int, tuple[int, PersonRow]],
    secret: bytes,
) -> Regrouped:
    cells = sorted(members)
    namespace, value, _ = known[number]
    profile_id = profile_id_of(secret, Identifier(namespace, value))
    person = PersonRow(profile_id=profile_id, anchor=(namespace, value), cells=cells, identifiers=[known[cell] for cell in cells])
    for cell in cells:
        row, traits = rows.get(cell, (None, None))
        if row is not None:
            work.put(CELLS, (number, cell), row)
        if traits is not None:
            work.put(TRAITS, (number, cell), traits)
    work.put(PERSONS, (number,), person)
    if work.get(PROFILES, (profile_id,)) is None:
        work.put(PROFILES, (profile_id,), ProfileRow(anchor=number, namespace=namespace, value=value))
    previous = {owners[cell][0]: owners[cell][1] for cell in cells if cell in owners}
    inherited: dict[int, list[tuple[str, int, int, int]]] = {}
    for _, former in sorted(previous.items()):
        profile = work.get(PROFILES, (former.profile_id,))
        profile.members = sorted({*profile.members, *((name, text) for name, text, _ in former.identifiers)})
        work.put(PROFILES, (former.profile_id,), profile)
        for segment, (entered_at, position, ordinal) in former.memberships.items():
            inherited.setdefault(segment, []).append((former.profile_id, entered_at, position, ordinal))
    return Regrouped(number, inherited, tuple(former.profile_id for _, former in sorted(previous.items())))
