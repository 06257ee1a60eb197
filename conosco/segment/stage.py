"""The segment stage: who enters, who leaves, since when and why; and the timer at which time alone may change that."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec

from conosco.model.delivery import MembershipChange
from conosco.ports.tables import MEMBERS, MEMBERSHIPS, PERSONS, TIMERS, FlagRow, MembershipRow, PersonRow
from conosco.ports.work import Work
from conosco.rules.evaluate import View
from conosco.segment.plans import SegmentPlan

_encode: Final = msgspec.json.Encoder().encode
CauseKind = Literal["event", "timer", "merge", "split", "definition"]


class Cause(NamedTuple):
    """What makes the stage look at a person: at which log position, at which now, and on account of which event.

    ``event_at`` is the event's time (now, if there is none). ``live`` False: changes are recorded and never delivered.
    """

    kind: CauseKind
    position: int
    now: int
    event_at: int
    message_ids: tuple[str, ...]
    live: bool
    backfill: bool = False


class Evaluated(NamedTuple):
    """What came of it: changes for the activate stage, and versions of membership rows for the warehouse."""

    changes: list[MembershipChange]
    versions: list[MembershipRow]


class Ordinals:
    """Numbers the membership rows that one log position opens, so that their keys are unique and reproducible."""

    def __init__(self, first: int = 0) -> None:
        self._first = first
        self._position = -1
        self._next = first

    def take(self, position: int) -> int:
        """The next ordinal of this position."""
        if position != self._position:
            self._position, self._next = position, self._first
        self._next += 1
        return self._next - 1


def evaluate(
    work: Work,
    number: int,
    person: PersonRow,
    view: View,
    plans: Sequence[SegmentPlan],
    cause: Cause,
    ordinals: Ordinals,
    is_afresh: bool = False,
) -> Evaluated:
    """Bring the person's memberships in these segments up to date, and arm the timer for what time may change.

    ``is_afresh`` if the person was regrouped or redated: then what it had may not hold, and its timer may be gone.
    """
    evaluated = Evaluated([], [])
    teller = _Teller(person, cause, evaluated.changes)
    # Of someone who is only known from events that lie ahead nothing holds yet; the timer then tells when it does.
    is_born = view.born_at <= cause.now
    due: int | None = None if is_born else view.born_at
    for made in plans:
        held = person.memberships.get(made.number)
        if not is_afresh and held is not None and made.plan.monotone and cause.kind == "event" and cause.event_at >= held[0]:
            # More events cannot end it and this one is too new to have begun it: only the window's end moved away.
            continue
        holds = is_born and made.plan.holds(view, cause.now)
        if holds and held is None:
            _enter(work, number, person, view, made, cause, ordinals, evaluated, teller)
        elif held is not None and not holds:
            _exit(work, number, person, view, made, cause, evaluated, teller)
        elif held is not None:
            _correct(work, person, view, made, cause, evaluated)
        # Time alone never makes a monotone condition true, so only one that holds needs a timer.
        if made.plan.timed and (holds or not made.plan.monotone):
            next_change = made.plan.next_change(view, cause.now)
            if next_change is not None and (due is None or next_change < due):
                due = next_change
    if evaluated.versions or evaluated.changes:
        work.put(PERSONS, (number,), person)
    if due is not None:
        arm(work, number, person, due)
    return evaluated


def arm(work: Work, number: int, person: PersonRow, due: int) -> None:
    """Move the person's timer to ``due`` if that is earlier; one that fires too early is armed again then."""
    if person.due and person.due <= due:
        return
    if person.due:
        work.delete(TIMERS, (person.due, number))
    person.due = due
    work.put(TIMERS, (due, number), FlagRow())
    work.put(PERSONS, (number,), person)


def disarm(work: Work, number: int, person: PersonRow) -> None:
    """Take the person's timer away, as when it fires."""
    if person.due:
        work.delete(TIMERS, (person.due, number))
        person.due = 0
        work.put(PERSONS, (number,), person)


def expel(work: Work, number: int, person: PersonRow, segments: Sequence[int], cause: Cause) -> list[MembershipRow]:
    """End a person's memberships in segments that are no longer live; nobody is told, for nothing happened to the person."""
    evaluated = Evaluated([], [])
    because: dict[str, Any] = {"cause": cause.kind, "message_ids": [], "conditions": []}
    for segment in segments:
        held = person.memberships.pop(segment, None)
        if held is not None:
            _close(work, person.profile_id, held[1], held[2], cause.now, because, evaluated)
            work.delete(MEMBERS, (segment, number))
            work.put(PERSONS, (number,), person)
    return evaluated.versions


def close_all(work: Work, person: PersonRow, cause: Cause) -> list[MembershipRow]:
    """End every membership of a person who is no more; the person's own row is gone already."""
    evaluated = Evaluated([], [])
    because: dict[str, Any] = {"cause": cause.kind, "message_ids": list(cause.message_ids), "conditions": []}
    for _, (_, position, ordinal) in sorted(person.memberships.items()):
        _close(work, person.profile_id, position, ordinal, cause.now, because, evaluated)
    return evaluated.versions


def _because(made: SegmentPlan, view: View, cause: Cause, holding: bool) -> dict[str, Any]:
    because: dict[str, Any] = {
        "cause": cause.kind,
        "message_ids": list(cause.message_ids),
        "conditions": made.conditions(view, cause.now, holding),
    }
    if cause.backfill:
        because["backfill"] = True
    return because


class _Teller:
    """Spells changes of one person; what they all say of the person is made with the first."""

    __slots__ = ("_anchor", "_cause", "_changes", "_identifiers", "_person")

    def __init__(self, person: PersonRow, cause: Cause, changes: list[MembershipChange]) -> None:
        self._person = person
        self._cause = cause
        self._changes = changes
        self._anchor = ""
        self._identifiers: tuple[tuple[str, str], ...] = ()

    def tell(
        self, type_: Literal["segment.entered", "segment.exited"], made: SegmentPlan, at: int, because: dict[str, Any]
    ) -> None:
        person, cause = self._person, self._cause
        if not self._changes:
            self._anchor = ":".join(person.anchor)
            self._identifiers = tuple([(namespace, value) for namespace, value, _ in person.identifiers])
        self._changes.append(
            MembershipChange(
                type=type_,
                segment=made.key,
                purpose=made.purpose,
                profile_id=person.profile_id,
                anchor=self._anchor,
                identifiers=self._identifiers,
                at=at,
                because=because,
                position=cause.position,
                live=cause.live,
            )
        )


def _enter(
    work: Work,
    number: int,
    person: PersonRow,
    view: View,
    made: SegmentPlan,
    cause: Cause,
    ordinals: Ordinals,
    evaluated: Evaluated,
    teller: _Teller,
) -> None:
    by_event = cause.kind == "event"
    at = made.plan.begun_by(view, cause.event_at, cause.now) if by_event else made.plan.held_since(view, cause.now)
    because = _because(made, view, cause, holding=True)
    row = MembershipRow(
        segment=made.key,
        profile_id=person.profile_id,
        entered_at=at,
        exited_at=None,
        because=_encode(because),
        position=cause.position,
        backfill=cause.backfill,
    )
    _open(work, number, person, made.number, row, ordinals, evaluated)
    teller.tell("segment.entered", made, at, because)


def _open(
    work: Work,
    number: int,
    person: PersonRow,
    segment: int,
    row: MembershipRow,
    ordinals: Ordinals,
    evaluated: Evaluated,
) -> None:
    row.ordinal = ordinals.take(row.position)
    person.memberships[segment] = (row.entered_at, row.position, row.ordinal)
    work.put(MEMBERSHIPS, (person.profile_id, row.position, row.ordinal), row)
    work.put(MEMBERS, (segment, number), FlagRow())
    evaluated.versions.append(row)


def _exit(
    work: Work,
    number: int,
    person: PersonRow,
    view: View,
    made: SegmentPlan,
    cause: Cause,
    evaluated: Evaluated,
    teller: _Teller,
) -> None:
    entered_at, position, ordinal = person.memberships.pop(made.number)
    at = max(entered_at, made.plan.held_since(view, cause.now, truth=False))
    because = _because(made, view, cause, holding=False)
    _close(work, person.profile_id, position, ordinal, at, because, evaluated)
    work.delete(MEMBERS, (made.number, number))
    teller.tell("segment.exited", made, at, because)


def _close(
    work: Work,
    profile_id: str,
    position: int,
    ordinal: int,
    at: int,
    because: Mapping[str, Any],
    evaluated: Evaluated,
) -> None:
    key = (profile_id, position, ordinal)
    row: MembershipRow = work.get(MEMBERSHIPS, key)
    if row.exited_at is not None:
        return
    row.exited_at = max(at, row.entered_at)
    row.exit_because = _encode(because)
    work.put(MEMBERSHIPS, key, row)
    evaluated.versions.append(msgspec.structs.replace(row))


def _correct(work: Work, person: PersonRow, view: View, made: SegmentPlan, cause: Cause, evaluated: Evaluated) -> None:
    """Still in; but a late event may have shown that it has held for longer, or for less long, than was known."""
    entered_at, position, ordinal = person.memberships[made.number]
    if cause.kind == "timer":
        return
    since = made.plan.held_since(view, cause.now)
    if since == entered_at:
        return
    key = (person.profile_id, position, ordinal)
    row: MembershipRow = work.get(MEMBERSHIPS, key)
    row.entered_at = since
    person.memberships[made.number] = (since, position, ordinal)
    work.put(MEMBERSHIPS, key, row)
    evaluated.versions.append(msgspec.structs.replace(row))


def carry_over(
    work: Work,
    number: int,
    person: PersonRow,
    view: View,
    inherited: Mapping[int, Sequence[tuple[str, int, int, int]]],
    plans: Mapping[int, SegmentPlan],
    checked: Sequence[SegmentPlan],
    surviving: frozenset[str],
    cause: Cause,
    ordinals: Ordinals,
) -> Evaluated:
    """Settle the memberships of a regrouped person: what still holds goes on under the new profile id without a word,
    only what really began or ended is a change. ``checked`` are the segments to ask again, ``surviving`` the profile ids that live on after this regrouping.
    """
    evaluated = Evaluated([], [])
    moved = {"cause": cause.kind, "message_ids": list(cause.message_ids), "conditions": [], "profile_id": person.profile_id}
    for segment, stays in sorted(inherited.items()):
        made = plans.get(segment)
        since = min(entered_at for _, entered_at, _, _ in stays)
        own = next((stay for stay in stays if stay[0] == person.profile_id), None)
        for profile_id, _, position, ordinal in stays:
            if profile_id not in surviving:
                _close(work, profile_id, position, ordinal, cause.now, moved, evaluated)
        if made is None:
            continue
        if own is not None and _is_open(work, own):
            person.memberships[segment] = (own[1], own[2], own[3])
            work.put(MEMBERS, (segment, number), FlagRow())
        else:
            row = MembershipRow(
                segment=made.key,
                profile_id=person.profile_id,
                entered_at=since,
                exited_at=None,
                because=_carried(work, stays),
                position=cause.position,
                backfill=cause.backfill,
            )
            _open(work, number, person, segment, row, ordinals, evaluated)
    work.put(PERSONS, (number,), person)
    more = evaluate(work, number, person, view, checked, cause, ordinals, is_afresh=True)
    return Evaluated(evaluated.changes + more.changes, evaluated.versions + more.versions)


def _carried(work: Work, stays: Sequence[tuple[str, int, int, int]]) -> bytes:
    """Why the person got in, long before the profile id changed: the reasons of the earliest stay, and where it was."""
    profile_id, _, position, ordinal = min(stays, key=lambda stay: (stay[1], stay[0]))
    row: MembershipRow = work.get(MEMBERSHIPS, (profile_id, position, ordinal))
    return _encode({**msgspec.json.decode(row.because), "moved_from": profile_id})


def _is_open(work: Work, stay: tuple[str, int, int, int]) -> bool:
    row = work.get(MEMBERSHIPS, (stay[0], stay[2], stay[3]))
    return row is not None and row.exited_at is None
