"""The life of an event, in order: read this page first.

An event that was accepted lies in the log. The worker takes it through the steps of ``FLOW``; each step either passes it on
or says how its life ends. Stages know nothing of one another: what one leaves, the next finds on the Subject.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from conosco.collect.object_rules import speaks_of_objects
from conosco.collect.understand import canonical_body
from conosco.model.delivery import MembershipChange
from conosco.model.event import Event
from conosco.model.outcome import OutcomeKind, Reason
from conosco.ports.tables import IDENTIFIERS, PERSONS, MembershipRow, PersonRow
from conosco.profile.cells import split_address
from conosco.profile.known import Known
from conosco.profile.objects import keep_objects
from conosco.profile.stage import NOTHING, Folded, Regrouped, fold, note_identifiers, regroup
from conosco.profile.view import PersonView
from conosco.resolve.stage import home_if_nothing_new, resolve
from conosco.runtime.surroundings import Surroundings
from conosco.segment.stage import Cause, Evaluated, arm, carry_over, close_all, evaluate

NO_ONE: Final[Mapping[int, int]] = MappingProxyType({})


class Subject(msgspec.Struct):
    """An event on its way, and what the steps have made of it so far."""

    event: Event
    reason: Reason = "applied"
    regrouped: Sequence[Regrouped] = ()
    gone: Sequence[PersonRow] = ()
    # People who are known since another moment than before, which is given.
    redated: Mapping[int, int] = NO_ONE
    # Whether an identifier of it is new, has another person or was seen earlier than known.
    is_seen_anew: bool = False
    person: int = 0
    cell: int = 0
    folded: Folded = NOTHING
    changes: Sequence[MembershipChange] = ()
    versions: Sequence[MembershipRow] = ()
    # Its people as they were known before it, if a destination wants to be told what changes.
    before: Sequence[Known] = ()


class Ending(NamedTuple):
    """How an event's life ended: its Outcome without what the event itself says."""

    kind: OutcomeKind
    reason: Reason


APPLIED: Final = Ending("applied", "applied")
Step = Callable[[Subject, Surroundings], Ending | None]


def recognise(subject: Subject, around: Surroundings) -> Ending | None:
    """Has this message been applied before? Then it is a duplicate; with another body it is a conflict and kept aside."""
    event = subject.event
    address = around.duplicates.note(event, around.position)
    if address is None:
        return None
    first, second = around.body_at(*split_address(address)), around.body_at(event.position, event.slot)
    # A first body that was erased cannot conflict with anything.
    if first is None or second is None or first == second or canonical_body(first) == canonical_body(second):
        return Ending("duplicate", "same_message")
    return Ending("quarantined", "conflicting_duplicate")


def notice_profile(subject: Subject, around: Surroundings) -> Ending | None:
    """Whom does it concern, as known before it? Asked only if a destination wants to be told of profile changes."""
    if around.forwarding is not None:
        subject.before = around.know(subject.event.identifiers)
    return None


def resolve_identity(subject: Subject, around: Surroundings) -> Ending | None:
    """Whose event is it? Its identifiers are evidence, and may join people or (rarely) part them."""
    event, work = subject.event, around.work
    home = home_if_nothing_new(work, event)
    if home is not None:
        subject.person, subject.cell = home.person, home.number
        return None
    resolution = resolve(work, event, around.configuration.rules)
    if resolution.regrouping is not None:
        regrouping = resolution.regrouping
        subject.regrouped, subject.gone = regroup(
            work, regrouping.before, regrouping.after, resolution.identifier_changes, around.secret
        )
    if resolution.identifier_changes:
        subject.is_seen_anew = True
        subject.redated = note_identifiers(work, resolution.identifier_changes)
    around.note_identity(resolution, around.position)
    subject.person = resolution.person
    subject.cell = work.get(IDENTIFIERS, event.home).number
    return None


def fold_profile(subject: Subject, around: Surroundings) -> Ending | None:
    """What does it change in the profile? Streams that live conditions read, and traits with their provenance."""
    event, configuration = subject.event, around.configuration
    subject.folded = fold(
        around.work,
        subject.person,
        subject.cell,
        event,
        configuration.streams.touching(event),
        configuration.window,
        configuration.plans.traits_read,
        around.now,
    )
    if subject.folded.waits:
        person = around.work.get(PERSONS, (subject.person,))
        arm(around.work, subject.person, person, event.event_at)
        around.watch(subject.person, person)
    return None


def fold_objects(subject: Subject, around: Surroundings) -> Ending | None:
    """Which things does it speak of? Their state, and who deals with them. Most events speak of none."""
    event = subject.event
    # An event ahead of now speaks once its time has come.
    if speaks_of_objects(event) and not subject.folded.waits:
        keep_objects(around.work, event, subject.cell, around.mentions(event))
    return None


def evaluate_segments(subject: Subject, around: Surroundings) -> Ending | None:
    """Who enters or leaves a segment by it? Only segments that read what changed are asked."""
    event, folded, plans = subject.event, subject.folded, around.configuration.plans
    if not (folded.streams or folded.traits or subject.is_seen_anew or subject.regrouped or subject.gone):
        return None
    # A replayed event lies at an older position; what it changes is changed at this one.
    cause = Cause(
        "event", around.position, around.now, min(event.event_at, around.now), (event.message_id,), not event.historical
    )
    settled = {made.number for made in subject.regrouped}
    if subject.regrouped or subject.gone:
        found = settle_people(subject.regrouped, subject.gone, folded.streams, folded.traits, around, cause)
        subject.changes, subject.versions = found.changes, found.versions
    if subject.redated:
        settled |= subject.redated.keys()
        found = ask_redated(subject.redated, around, cause, subject.person, folded)
        subject.changes, subject.versions = [*subject.changes, *found.changes], [*subject.versions, *found.versions]
    if subject.person in settled:
        return None
    # An event may part or redate others without a change to the one whose it is.
    person = around.work.get(PERSONS, (subject.person,))
    view = PersonView(around.work, subject.person, person)
    asked = plans.changed(view, folded.streams, folded.traits, subject.is_seen_anew, cause.event_at, around.now)
    if asked or subject.is_seen_anew:
        found = evaluate(around.work, subject.person, person, view, asked, cause, around.ordinals)
        subject.changes, subject.versions = [*subject.changes, *found.changes], [*subject.versions, *found.versions]
        around.watch(subject.person, person)
    return None


def settle_people(
    regrouped: Sequence[Regrouped],
    gone: Sequence[PersonRow],
    streams: tuple[int, ...],
    traits: tuple[str, ...],
    around: Surroundings,
    cause: Cause,
) -> Evaluated:
    """Every person that a regrouping made inherits memberships; only what really changed is told."""
    work, plans = around.work, around.configuration.plans
    settled = Evaluated([], [version for person in gone for version in close_all(work, person, cause)])
    surviving = frozenset(work.get(PERSONS, (made.number,)).profile_id for made in regrouped)
    for made in regrouped:
        person = work.get(PERSONS, (made.number,))
        view = PersonView(work, made.number, person)
        found = carry_over(
            work,
            made.number,
            person,
            view,
            made.inherited,
            plans.by_number,
            plans.all if made.former_ids else plans.first(streams, traits),
            surviving,
            cause._replace(kind="merge") if len(made.former_ids) > 1 and cause.kind == "event" else cause,
            around.ordinals,
        )
        around.rearm_waiting(made.number, person)
        around.watch(made.number, person)
        settled.changes.extend(found.changes)
        settled.versions.extend(found.versions)
    return settled


def ask_redated(
    redated: Mapping[int, int], around: Surroundings, cause: Cause, whose: int = 0, folded: Folded = NOTHING
) -> Evaluated:
    """Ask people again who have been known since another moment than was thought: no stretch begins before it.

    ``whose`` is the person whose event it was, if one was, and ``folded`` what the event changed.
    """
    found = Evaluated([], [])
    for number, born_before in sorted(redated.items()):
        person = around.work.get(PERSONS, (number,))
        view = PersonView(around.work, number, person)
        plans = around.configuration.plans
        if cause.kind == "event" and view.born_at < born_before <= around.now:
            # Known for longer: what the event did not touch differs only where it has held ever since the person was known.
            told = folded if number == whose else NOTHING
            ever = [segment for segment, (entered_at, _, _) in person.memberships.items() if entered_at <= born_before]
            asked = plans.changed(view, told.streams, told.traits, True, cause.event_at, around.now, ever)
        else:
            asked = plans.all
        more = evaluate(around.work, number, person, view, asked, cause, around.ordinals, is_afresh=True)
        around.watch(number, person)
        found.changes.extend(more.changes)
        found.versions.extend(more.versions)
    return found


def activate_changes(subject: Subject, around: Surroundings) -> Ending | None:
    """Which destinations must be told? The gate is asked, and what it allows is put into the outbox."""
    if subject.versions or subject.changes:
        around.publish(Evaluated(list(subject.changes), list(subject.versions)))
    if around.forwarding is not None:
        event = subject.event
        around.forward_event(event, subject.person)
        numbers = {subject.person, *(made.number for made in subject.regrouped)}
        because = {"cause": "event", "message_ids": [event.message_id]}
        around.forward_changes(subject.before, numbers, because, (event.position, event.slot), live=not event.historical)
    return APPLIED if subject.reason == "applied" else Ending("applied", subject.reason)


FLOW: Final[tuple[tuple[str, Step], ...]] = (
    ("recognise", recognise),
    ("notice", notice_profile),
    ("resolve", resolve_identity),
    ("fold", fold_profile),
    ("objects", fold_objects),
    ("evaluate", evaluate_segments),
    ("activate", activate_changes),
)
