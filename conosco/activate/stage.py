"""Activate: turns membership changes into deliveries in the outbox, and settles what became of each attempt.

It runs inside the State transaction and sends nothing; sending is the sender's work.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypedDict

import msgspec

from conosco.govern.gate import BUILT_IN_BASES, Gate
from conosco.model import ids
from conosco.model.definition import Basis, Destination
from conosco.model.delivery import Attempt, AttemptResult, DeliveryState, Intent, MembershipChange
from conosco.model.moment import spell_moment
from conosco.model.record import Draft
from conosco.ports.state import Key
from conosco.ports.tables import OUTBOX, OUTBOX_DUE, FlagRow, OutboxRow
from conosco.ports.work import Work

EVENTS: Final = ("segment.entered", "segment.exited")

_STATE_AFTER: Final[Mapping[AttemptResult, DeliveryState]] = {
    "delivered": "delivered",
    "retry": "pending",
    "dead": "dead",
    "unknown": "unknown",
}
_INTENT: Final = msgspec.msgpack.Decoder(Intent)
_ENCODER: Final = msgspec.msgpack.Encoder()
_PAGE: Final = 1_000


class DeliveryVersion(TypedDict):
    """A delivery as it is from now on: one row of the change feed. Times are microseconds UTC."""

    delivery_id: str
    destination: str
    profile_id: str
    segment: str
    type: str
    state: str
    attempts: int
    code: str
    created_at: int
    updated_at: int


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
        if _wants(destination, change)
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
        )
        row = OutboxRow(intent=_ENCODER.encode(intent), state="denied", attempts=0, due_at=0, code=verdict.reason, updated_at=now)
        if verdict.allowed:
            row.state, row.due_at, row.code = "pending", now, ""
            work.put(OUTBOX_DUE, (now, delivery_id), FlagRow())
        work.put(OUTBOX, (delivery_id,), row)
        versions.append(_version(intent, row))
    return versions


def settle(work: Work, attempt: Attempt, now: int) -> list[DeliveryVersion]:
    """Apply the result of an attempt, as read from a ``delivery`` record.

    Idempotent: an attempt that is not newer than what is known changes nothing, except that news of success is always
    taken. Delivered and denied are final; a success after cancelling is still recorded, for it happened.
    """
    row: OutboxRow | None = work.get(OUTBOX, (attempt.delivery_id,))
    if row is None or row.state in ("delivered", "denied"):
        return []
    if attempt.result != "delivered" and (attempt.attempt <= row.attempts or row.state == "cancelled"):
        return []
    row.attempts = max(row.attempts, attempt.attempt)
    return [_move(work, attempt.delivery_id, row, _STATE_AFTER[attempt.result], attempt.due_at, attempt.code, now)]


def retry(work: Work, delivery_id: str, now: int) -> list[DeliveryVersion]:
    """Put a dead or unknown delivery back, due at once; its count of attempts goes on. Others stay as they are."""
    row: OutboxRow | None = work.get(OUTBOX, (delivery_id,))
    if row is None or row.state not in ("dead", "unknown"):
        return []
    return [_move(work, delivery_id, row, "pending", now, "retry_asked", now)]


def park(work: Work, position: int, now: int) -> list[DeliveryVersion]:
    """Set aside, as unknown, every pending delivery decided at or before ``position``: it may have been sent already.

    For a State that was rebuilt and takes over; ``retry`` releases them one by one.
    """
    versions = []
    start: Key = ()
    while page := work.scan(OUTBOX_DUE, start, None, _PAGE):
        work.prefetch(OUTBOX, [(delivery_id,) for (_, delivery_id), _ in page])
        for (_, delivery_id), _ in page:
            row: OutboxRow = work.get(OUTBOX, (delivery_id,))
            if read_intent(row).position <= position:
                versions.append(_move(work, delivery_id, row, "unknown", 0, "parked", now))
        due, last = page[-1][0]
        start = (due, last + "\x00")
    return versions


def attempts_draft(attempts: Sequence[Attempt]) -> Draft:
    """One log record for the results of several attempts: a slice each."""
    return Draft(kind="delivery", slices=tuple(msgspec.json.encode(attempt) for attempt in attempts))


def read_intent(row: OutboxRow) -> Intent:
    """The intent that an outbox row keeps."""
    return _INTENT.decode(row.intent)


def _wants(destination: Destination, change: MembershipChange) -> bool:
    """True if an active destination serves the segment's purpose and listens to this type and segment."""
    if destination.state != "active" or change.purpose not in destination.purposes:
        return False
    segments = destination.spec.get("segments", "all")
    return change.type in destination.spec.get("events", EVENTS) and (
        segments == "all" or (isinstance(segments, list) and change.segment in segments)
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


def _move(
    work: Work, delivery_id: str, row: OutboxRow, state: DeliveryState, due_at: int, code: str, now: int
) -> DeliveryVersion:
    """Set a delivery's state and keep the index of due deliveries in step: only what is pending is in it."""
    if row.state == "pending":
        work.delete(OUTBOX_DUE, (row.due_at, delivery_id))
    row.state, row.code, row.updated_at = state, code, now
    row.due_at = due_at if state == "pending" else 0
    if state == "pending":
        work.put(OUTBOX_DUE, (due_at, delivery_id), FlagRow())
    work.put(OUTBOX, (delivery_id,), row)
    return _version(read_intent(row), row)


def _version(intent: Intent, row: OutboxRow) -> DeliveryVersion:
    return DeliveryVersion(
        delivery_id=intent.delivery_id,
        destination=intent.destination,
        profile_id=intent.payload["profile_id"],
        segment=intent.payload["segment"],
        type=intent.type,
        state=row.state,
        attempts=row.attempts,
        code=row.code,
        created_at=intent.created_at,
        updated_at=row.updated_at,
    )
