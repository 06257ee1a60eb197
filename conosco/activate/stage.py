"""Activate: turns membership changes into deliveries in the outbox, and makes those that a person asks for.

It runs inside the State transaction and sends nothing; sending is the sender's work.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from conosco.activate.outbox import URGENT, DeliveryVersion, put_intent, read_intent, retry
from conosco.govern.gate import BUILT_IN_BASES, OPERATIONS, Gate
from conosco.model import ids
from conosco.model.definition import Basis, Destination
from conosco.model.delivery import Intent, MembershipChange
from conosco.model.moment import spell_moment
from conosco.ports.tables import OUTBOX, OutboxRow
from conosco.ports.work import Work

EVENTS: Final = ("segment.entered", "segment.exited")
TEST: Final = "test"


class _Planned(NamedTuple):
    """A delivery that a destination wants, before its id is known to be free."""

    change: MembershipChange
    destination: Destination
    delivery_id: str


def activate(
    work: Work,
    changes: Sequence[MembershipChange],
    destinations: Sequence[Destination],
    gate: Gate,
    secret: bytes,
    now: int,
    bases: Mapping[str, Basis] = BUILT_IN_BASES,
) -> list[DeliveryVersion]:
    """Put a delivery into the outbox for every live change and every active destination that wants it.

    ``now`` is the time of the record being applied, ``bases`` the legal basis of each purpose; a purpose that is not in
    it counts as resting on consent. What the gate denies is kept too, as denied with the reason as its code.
    """
    planned = [
        _Planned(change, destination, _delivery_id(secret, change, destination, 0))
        for change in changes
        if change.live
        for destination in destinations
        if wants(destination, change.type, change.segment, change.purpose)
    ]
    work.prefetch(OUTBOX, [(each.delivery_id,) for each in planned])
    versions = []
    for change, destination, first_id in planned:
        # A person may enter, leave and enter again within one record; each of these transitions is its own delivery.
        delivery_id, ordinal = first_id, 0
        while work.get(OUTBOX, (delivery_id,)) is not None:
            ordinal += 1
            delivery_id = _delivery_id(secret, change, destination, ordinal)
        verdict = gate.ask(change.purpose, bases.get(change.purpose, "consent"))
        intent = Intent(
            delivery_id=delivery_id,
            destination=destination.key,
            destination_version=destination.version,
            type=change.type,
            payload=_payload(change),
            position=change.position,
            created_at=now,
            permit=gate.permit(delivery_id, verdict) if verdict.allowed else None,
            profile_id=change.profile_id,
            segment=change.segment,
            identifiers=change.identifiers,
            purpose=change.purpose,
        )
        versions.append(put_intent(work, intent, verdict.reason, now))
    return versions


def make_test(work: Work, destination: Destination, gate: Gate, secret: bytes, position: int, now: int) -> list[DeliveryVersion]:
    """Put a delivery that says it is a test, and concerns nobody, before all others of a destination."""
    delivery_id = ids.derived("dlv", secret, destination.id, TEST, position)
    intent = Intent(
        delivery_id=delivery_id,
        destination=destination.key,
        destination_version=destination.version,
        type=TEST,
        payload={
            "type": TEST,
            "test": True,
            "destination": destination.key,
            "note": "This is a test from Conosco. It concerns nobody and needs no action.",
            "at": spell_moment(now),
            "position": position,
        },
        position=position,
        created_at=now,
        permit=gate.permit(delivery_id, gate.ask(OPERATIONS, "legitimate_interest")),
        purpose=OPERATIONS,
    )
    return [put_intent(work, intent, "", now, URGENT)]


def replay(
    work: Work,
    delivery_ids: Sequence[str],
    destination: Destination,
    gate: Gate,
    secret: bytes,
    position: int,
    now: int,
    bases: Mapping[str, Basis] = BUILT_IN_BASES,
) -> list[DeliveryVersion]:
    """Send deliveries again, because a person asked for it in the record at ``position``. The gate is asked anew.

    A delivered one goes out in a new round: under a new id, and saying which delivery it repeats. A dead or unknown one
    never arrived for all we know, so it is put back under its own id. One of another destination is made anew for this
    one, if this one wants it. All others are passed over; a delivery named twice is sent once.
    """
    work.prefetch(OUTBOX, [(delivery_id,) for delivery_id in delivery_ids])
    versions: list[DeliveryVersion] = []
    for delivery_id in dict.fromkeys(delivery_ids):
        row: OutboxRow | None = work.get(OUTBOX, (delivery_id,))
        if row is None:
            continue
        intent = read_intent(row)
        is_own = intent.destination == destination.key
        if is_own and row.state in ("dead", "unknown"):
            versions.extend(retry(work, delivery_id, now))
        elif intent.type != TEST and (
            row.state == "delivered" if is_own else wants(destination, intent.type, intent.segment, intent.purpose)
        ):
            versions.append(_put_again(work, intent, destination, gate, secret, position, now, bases))
    return versions


def _put_again(
    work: Work,
    intent: Intent,
    destination: Destination,
    gate: Gate,
    secret: bytes,
    position: int,
    now: int,
    bases: Mapping[str, Basis],
) -> DeliveryVersion:
    """A new round of a delivery. Its inputs stay frozen; only who may still be told is asked again."""
    delivery_id = ids.derived("dlv", secret, destination.id, intent.delivery_id, "replay", position)
    verdict = gate.ask(intent.purpose, bases.get(intent.purpose, "consent"))
    again = Intent(
        delivery_id=delivery_id,
        destination=destination.key,
        destination_version=destination.version,
        type=intent.type,
        payload=intent.payload,
        position=intent.position,
        created_at=now,
        permit=gate.permit(delivery_id, verdict) if verdict.allowed else None,
        profile_id=intent.profile_id,
        segment=intent.segment,
        identifiers=intent.identifiers,
        purpose=intent.purpose,
        body=intent.body,
        replay_of=intent.replay_of or intent.delivery_id,
    )
    return put_intent(work, again, verdict.reason, now)


def wants(destination: Destination, type_: str, segment: str, purpose: str) -> bool:
    """True if an active destination serves the segment's purpose and listens to this type and segment."""
    if destination.state != "active" or purpose not in destination.purposes:
        return False
    segments = destination.spec.get("segments", "all")
    return (
        type_ in EVENTS
        and type_ in destination.spec.get("events", EVENTS)
        and (segments == "all" or (isinstance(segments, list) and segment in segments))
    )


def _delivery_id(secret: bytes, change: MembershipChange, destination: Destination, ordinal: int) -> str:
    parts = (destination.id, change.segment, change.anchor, change.type, change.position)
    return ids.derived("dlv", secret, *parts, *((ordinal,) if ordinal else ()))


def _payload(change: MembershipChange) -> dict[str, Any]:
    return {
        "type": change.type,
        "segment": change.segment,
        "profile_id": change.profile_id,
        "identifiers": [{"namespace": namespace, "value": value} for namespace, value in change.identifiers],
        "at": spell_moment(change.at),
        "because": change.because,
        "position": change.position,
    }
