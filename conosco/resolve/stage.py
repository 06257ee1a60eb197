"""The resolve stage: whose is an event, and what does its evidence change about who is who.

The answer is always that of the partition over all evidence so far; only what an event touches is computed again.
"""

from typing import Final, Literal

from conosco.model.event import Event
from conosco.model.identifier import Identifier, IdentityRules, LinkKind
from conosco.model.moment import LATEST
from conosco.model.problem import refuse
from conosco.ports.state import Key
from conosco.ports.tables import COMPONENTS, HUB_LINKS, IDENTIFIERS, LINK_PLACES, IdentifierRow
from conosco.ports.work import Work
from conosco.resolve.resolution import IdentifierChange, LinkChange, Regrouping, Resolution
from conosco.resolve.revision import ANONYMOUS_ID, USER_ID, End, Revision, is_earlier

__all__ = [
    "IdentifierChange",
    "LinkChange",
    "Regrouping",
    "Resolution",
    "assert_link",
    "home_if_nothing_new",
    "identifier_keys",
    "resolve",
    "retract_link",
]

AssertedKind = Literal["asserted", "manual_same", "manual_different"]
_NOBODY: Final = 0


def resolve(work: Work, event: Event, rules: IdentityRules) -> Resolution:
    """Take an event's identifiers as evidence and say whose the event is.

    The home identifier is linked to each other one (observed). An alias links its previous id to its user id, asserted
    if its source may assert; the previous id is a user id if any event uses the value as one, else an anonymous id.
    Identifiers that the rules block are no evidence. Writes identity rows only; persons and cells are the profile
    stage's. Raises ValueError if no identifier is usable: such an event must have been quarantined before.
    """
    known = home_if_nothing_new(work, event)
    if known is not None:
        return Resolution(person=known.person)
    usable = list(dict.fromkeys(identifier for identifier in event.identifiers if not rules.is_blocked(identifier.value)))
    if not usable:
        raise ValueError(f"the event at {event.position}/{event.slot} has no usable identifier")
    revision = Revision(work, rules, event.position)
    at = event.event_at
    home = revision.sight(usable[0], at)
    ends = [home]
    for identifier in usable[1:]:
        other = revision.sight(identifier, at, home)
        # Between equals there is no direction; a fixed one makes the same evidence the same link.
        swapped = other.identifier.namespace == home.identifier.namespace and other.identifier < home.identifier
        left, right = (other, home) if swapped else (home, other)
        revision.link(left, right, "observed", at, event.message_id)
        ends.append(other)
    if event.type == "alias" and event.previous_id is not None and not rules.is_blocked(event.previous_id):
        user = next((end for end in ends if end.identifier.namespace == USER_ID), None)
        if user is not None:
            _link_previous(work, revision, event, event.previous_id, user)
    return revision.finish(home)


def identifier_keys(event: Event) -> list[Key]:
    """The keys of IDENTIFIERS that ``resolve`` will ask for: read those of a whole batch at once."""
    keys: list[Key] = [*event.identifiers]
    if event.previous_id is not None:
        keys += [(USER_ID, event.previous_id), (ANONYMOUS_ID, event.previous_id)]
    if event.user_id is not None:
        keys.append((ANONYMOUS_ID, event.user_id))
    return keys


def assert_link(
    work: Work,
    kind: AssertedKind,
    left: Identifier,
    right: Identifier,
    first_seen_at: int,
    position: int,
    link_id: str,
    evidence: str,
    rules: IdentityRules,
) -> Resolution:
    """A person (or a call that may assert) says that two identifiers are, or are not, one person.

    ``first_seen_at`` is in microseconds UTC. Asserting a link_id again changes nothing, even once it was retracted. The
    Resolution's person is the left identifier's. Raises Refused (blocked_identifier, same_identifier).
    """
    for identifier in (left, right):
        if rules.is_blocked(identifier.value):
            raise refuse("blocked_identifier", namespace=identifier.namespace)
    if left == right:
        raise refuse("same_identifier", namespace=left.namespace)
    revision = Revision(work, rules, position)
    if work.get(LINK_PLACES, (link_id,)) is not None:
        return Resolution(person=_person_of(work, left))
    # Such a link has no direction; a fixed one keeps what is told about it from depending on who was named first.
    first, second = sorted((left, right))
    one = revision.name(first, first_seen_at)
    other = revision.name(second, first_seen_at, one)
    revision.link(one, other, kind, first_seen_at, evidence, link_id=link_id)
    return revision.finish(one if first == left else other)


def retract_link(
    work: Work, which: str | tuple[Identifier, Identifier, LinkKind], position: int, rules: IdentityRules
) -> Resolution | None:
    """Take a link back, by its id or by its ends (in any order) and kind: persons are as if it had never been.

    It stays taken back: later evidence of the same ends and kind does not revive it, a new manual link may. The
    Resolution's person is that of one end. None if there is no such link; taking it back twice changes nothing.
    """
    revision = Revision(work, rules, position)
    if isinstance(which, str):
        place = work.get(LINK_PLACES, (which,))
        if place is None:
            return None
        component = work.get(COMPONENTS, (work.get(IDENTIFIERS, (place.namespace, place.value)).component,))
        link = next(link for link in component.links if link.link_id == which)
        texts = {member.number: Identifier(member.namespace, member.value) for member in component.members}
        left, right, kind, link_id = texts[link.left], texts[link.right], link.kind, which
    else:
        left, right, kind = which
        link_id = ""
    one, other = work.get(IDENTIFIERS, left), work.get(IDENTIFIERS, right)
    if one is None or other is None:
        return None
    end = End(left, one)
    return revision.finish(end) if revision.retract(end, End(right, other), kind, link_id) else None


def home_if_nothing_new(work: Work, event: Event) -> IdentifierRow | None:
    """The row of the home identifier, if the event adds no evidence at all and is somebody's; else None.

    This is the path of nearly every event: where it leads, ``resolve`` would change nothing.
    """
    if event.type == "alias":
        return None
    identifiers = event.identifiers
    at = event.event_at
    home: IdentifierRow | None = work.get(IDENTIFIERS, identifiers[0])
    if home is None or not home.person or at < home.sighted_at:
        return None
    for place in range(1, len(identifiers)):
        other = work.get(IDENTIFIERS, identifiers[place])
        if other is None or at < other.sighted_at:
            return None
        if other.partner == home.number and at > other.partnered_at:
            continue
        link = None
        if other.hub:
            row = work.get(HUB_LINKS, (other.number, home.number, other.number))
            link = None if row is None else row.link
        elif other.component == home.component:
            for link in work.get(COMPONENTS, (home.component,)).links:
                if link.right == other.number and link.left == home.number and link.kind == "observed" and not link.previous_id:
                    break
            else:
                link = None
        if link is None or is_earlier(link, at, event.message_id):
            return None
    return home


def _link_previous(work: Work, revision: Revision, event: Event, previous_id: str, user: End) -> None:
    row = work.get(IDENTIFIERS, (USER_ID, previous_id))
    is_user_id = row is not None and row.sighted_at != LATEST
    if is_user_id and previous_id == user.identifier.value:
        return
    previous = revision.name(Identifier(USER_ID if is_user_id else ANONYMOUS_ID, previous_id), event.event_at, user)
    kind: LinkKind = "asserted" if event.may_assert else "observed"
    revision.link(previous, user, kind, event.event_at, event.message_id, previous_id=previous_id)


def _person_of(work: Work, identifier: Identifier) -> int:
    row = work.get(IDENTIFIERS, identifier)
    return _NOBODY if row is None else int(row.person)
