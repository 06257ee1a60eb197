"""The life of an event, in order: read this page first.

An event that was accepted lies in the log. The worker takes it through the steps of ``FLOW``; each step either passes it on
or ends its life with an Outcome. Stages know nothing of one another: what one leaves, the next finds on the Subject.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from conosco.model.delivery import MembershipChange
from conosco.model.event import Event
from conosco.model.outcome import Outcome, Reason
from conosco.ports.tables import IDENTIFIERS, PERSONS, MembershipRow, PersonRow
from conosco.profile.stage import Folded, Regrouped, fold, note_identifiers, regroup
from conosco.profile.view import PersonView
from conosco.resolve.resolution import Resolution
from conosco.resolve.stage import resolve
from conosco.runtime.duplicates import dedup_key, recognise_message
from conosco.runtime.surroundings import Surroundings
from conosco.segment.stage import Cause, Evaluated, arm, carry_over, close_all, evaluate


class Subject(msgspec.Struct):
    """An event on its way, and what the steps have made of it so far."""

    event: Event
    reason: Reason = "applied"
    resolution: Resolution | None = None
    regrouped: list[Regrouped] = []
    gone: list[PersonRow] = []
    redated: frozenset[int] = frozenset()
    person: int = 0
    cell: int = 0
    folded: Folded = Folded()
    changes: list[MembershipChange] = []
    versions: list[MembershipRow] = []


Step = Callable[[Subject, Surroundings], Outcome | None]


def recognise(subject: Subject, around: Surroundings) -> Outcome | None:
    """Has this message been applied before? Then it is a duplicate; with another body it is a conflict and kept aside."""
    event = subject.event
    key = around.dedup_keys.get((event.position, event.slot)) or dedup_key(around.secret, event.source_id, event.message_id)
    match recognise_message(around.work, around.log, key, event):
        case "new":
            return None
        case "same":
            return around.outcome(subject.event, "duplicate", "same_message")
        case "conflict":
            return around.outcome(subject.event, "quarantined", "conflicting_duplicate")


def resolve_identity(subject: Subject, around: Surroundings) -> Outcome | None:
    """Whose event is it? Its identifiers are evidence, and may join people or (rarely) part them."""
    event, work = subject.event, around.work
    resolution = subject.resolution = resolve(work, event, around.configuration.rules)
    if resolution.regrouping is not None:
        regrouping = resolution.regrouping
        subject.regrouped, subject.gone = regroup(
            work, regrouping.before, regrouping.after, resolution.identifier_changes, around.secret
        )
    if resolution.identifier_changes:
        subject.redated = note_identifiers(work, resolution.identifier_changes)
    around.note_identity(resolution, around.position)
    subject.person = resolution.person
    subject.cell = work.get(IDENTIFIERS, event.home).number
    return None


def fold_profile(subject: Subject, around: Surroundings) -> Outcome | None:
    """What does it change in the profile? Streams that live conditions read, and traits with their provenance."""
    event, configuration = subject.event, around.configuration
    touched = configuration.streams.touching(event)
    subject.folded = fold(around.work, subject.person, subject.cell, event, touched, configuration.window, around.now)
    if subject.folded.waits:
        arm(around.work, subject.person, around.work.get(PERSONS, (subject.person,)), event.event_at)
    return None


def evaluate_segments(subject: Subject, around: Surroundings) -> Outcome | None:
    """Who enters or leaves a segment by it? Only segments that read what changed are asked."""
    event, resolution = subject.event, subject.resolution
    assert resolution is not None
    # A replayed event lies at an older position; what it changes is changed at this one.
    cause = Cause(
        "event", around.position, around.now, min(event.event_at, around.now), (event.message_id,), not event.historical
    )
    folded, plans = subject.folded, around.configuration.plans
    settled = {made.number for made in subject.regrouped}
    if subject.regrouped or subject.gone:
        found = settle_people(subject.regrouped, subject.gone, folded.streams, folded.traits, around, cause)
        subject.changes, subject.versions = found.changes, found.versions
    if subject.redated:
        settled |= subject.redated
        found = ask_redated(subject.redated, around, cause)
        subject.changes, subject.versions = [*subject.changes, *found.changes], [*subject.versions, *found.versions]
    if subject.person in settled:
        return None
    # An event may part or redate others without a change to the one whose it is.
    seen_anew = bool(resolution.identifier_changes)
    if folded.streams or folded.traits or seen_anew:
        person = around.work.get(PERSONS, (subject.person,))
        view = PersonView(around.work, subject.person, person)
        asked = plans.changed(view, folded.streams, folded.traits, seen_anew, cause.event_at, around.now)
        found = evaluate(around.work, subject.person, person, view, asked, cause, around.ordinals)
        subject.changes, subject.versions = [*subject.changes, *found.changes], [*subject.versions, *found.versions]
    around.watch(subject.person)
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
        around.watch(made.number)
        settled.changes.extend(found.changes)
        settled.versions.extend(found.versions)
    return settled


def ask_redated(redated: Iterable[int], around: Surroundings, cause: Cause) -> Evaluated:
    """Ask people again who have been known since another moment than was thought: no stretch begins before it."""
    found = Evaluated([], [])
    for number in sorted(redated):
        person = around.work.get(PERSONS, (number,))
        view = PersonView(around.work, number, person)
        plans = around.configuration.plans.all
        more = evaluate(around.work, number, person, view, plans, cause, around.ordinals, is_afresh=True)
        around.watch(number)
        found.changes.extend(more.changes)
        found.versions.extend(more.versions)
    return found


def activate_changes(subject: Subject, around: Surroundings) -> Outcome | None:
    """Which destinations must be told? The gate is asked, and what it allows is put into the outbox."""
    if subject.versions or subject.changes:
        around.publish(Evaluated(subject.changes, subject.versions))
    return around.outcome(subject.event, "applied", subject.reason)


FLOW: Final[tuple[tuple[str, Step], ...]] = (
    ("recognise", recognise),
    ("resolve", resolve_identity),
    ("fold", fold_profile),
    ("evaluate", evaluate_segments),
    ("activate", activate_changes),
)
