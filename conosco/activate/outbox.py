"""The outbox: where deliveries wait and are accounted for. Every change of one goes through here, inside the State transaction.

Only what is pending lies in the index of due deliveries, by destination. What ended well, or was denied, leaves State
``KEPT_US`` later: its id cannot be made again, for it names a position that the log has passed, and the warehouse keeps it.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypedDict

import msgspec

from conosco.model.delivery import Attempt, AttemptResult, DeliveryState, Intent
from conosco.model.moment import DAY
from conosco.model.record import Draft
from conosco.ports.state import Key
from conosco.ports.tables import OUTBOX, OUTBOX_DUE, OUTBOX_ENDED, TALLIES, EndedRow, FlagRow, OutboxRow, TallyRow
from conosco.ports.work import Work

KEPT_US: Final = 30 * DAY
# Due before everything else, and looked for even while a destination is left alone: what a person waits for.
URGENT: Final = 0
LATENCIES_KEPT: Final = 256
CODES_KEPT: Final = 100
OTHER_CODE: Final = "other"

_STATE_AFTER: Final[Mapping[AttemptResult, DeliveryState]] = {
    "delivered": "delivered",
    "retry": "pending",
    "dead": "dead",
    "unknown": "unknown",
}
# What nothing but time follows. Dead and unknown deliveries stay until a person has decided about them.
_ENDED: Final = frozenset({"delivered", "denied", "cancelled"})
_INTENT: Final = msgspec.msgpack.Decoder(Intent)
_ENCODER: Final = msgspec.msgpack.Encoder()
_PAGE: Final = 1_000
_ENDED_PAGE: Final = 50


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


def put_intent(work: Work, intent: Intent, reason: str, now: int, due_at: int | None = None) -> DeliveryVersion:
    """Put a delivery into the outbox: pending and due at ``due_at`` (now), or denied for ``reason`` if it has no permit."""
    row = OutboxRow(intent=_ENCODER.encode(intent), state="denied", attempts=0, due_at=0, code=reason, updated_at=now)
    if intent.permit is not None:
        row.state, row.due_at, row.code = "pending", now if due_at is None else due_at, ""
        work.put(OUTBOX_DUE, (intent.destination, row.due_at, intent.delivery_id), FlagRow())
    work.put(OUTBOX, (intent.delivery_id,), row)
    _count(work, intent.destination, "", row.state)
    if row.state == "denied":
        _note_end(work, intent.delivery_id, now)
    return _version(intent, row)


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
    intent = read_intent(row)
    _tell(work, intent.destination, attempt)
    return [_move(work, intent, row, _STATE_AFTER[attempt.result], attempt.due_at, attempt.code, now)]


def retry(work: Work, delivery_id: str, now: int) -> list[DeliveryVersion]:
    """Put a dead or unknown delivery back, due at once; its count of attempts goes on. Others stay as they are."""
    row: OutboxRow | None = work.get(OUTBOX, (delivery_id,))
    if row is None or row.state not in ("dead", "unknown"):
        return []
    return [_move(work, read_intent(row), row, "pending", now, "retry_asked", now)]


def park(work: Work, position: int, now: int) -> list[DeliveryVersion]:
    """Set aside, as unknown, every pending delivery decided at or before ``position``: it may have been sent already.

    For a State that was rebuilt and takes over; ``retry`` releases them one by one.
    """
    versions = []
    start: Key = ()
    while page := work.scan(OUTBOX_DUE, start, None, _PAGE):
        work.prefetch(OUTBOX, [(delivery_id,) for (_, _, delivery_id), _ in page])
        for (_, _, delivery_id), _ in page:
            row: OutboxRow = work.get(OUTBOX, (delivery_id,))
            intent = read_intent(row)
            if intent.position <= position:
                versions.append(_move(work, intent, row, "unknown", 0, "parked", now))
        destination, due, last = page[-1][0]
        start = (destination, due, last + "\x00")
    return versions


def prune(work: Work, now: int) -> int | None:
    """Let go of what ended ``KEPT_US`` before now, a bounded number of moments at a time; when the oldest left ended, if any.

    Asked at every record, so that what is let go of depends on the log alone.
    """
    ended = work.scan(OUTBOX_ENDED, (), None, _ENDED_PAGE + 1)
    for (ended_at,), ids in ended[:_ENDED_PAGE]:
        if not is_long_ago(ended_at, now):
            return int(ended_at)
        for delivery_id in ids.delivery_ids:
            work.delete(OUTBOX, (delivery_id,))
        work.delete(OUTBOX_ENDED, (ended_at,))
    return int(ended[-1][0][0]) if len(ended) > _ENDED_PAGE else None


def is_long_ago(ended_at: int, now: int) -> bool:
    """Whether what ended then leaves State now."""
    return ended_at + KEPT_US <= now


def oldest_end(work: Work, known: int | None) -> int | None:
    """When the oldest delivery that will leave State ended, once this Work may have brought the first."""
    if known is not None:
        return known
    return min((key[0] for key in work.touched(OUTBOX_ENDED) if work.get(OUTBOX_ENDED, key) is not None), default=None)


def count_passed_over(work: Work, destination: str, reason: str, state: str = "") -> None:
    """Count what is not forwarded and not kept one by one, by the reason, and by the state that it would have had."""
    tally = _tally(work, destination)
    if state:
        tally.states[state] = tally.states.get(state, 0) + 1
    tally.codes[reason] = tally.codes.get(reason, 0) + 1
    work.put(TALLIES, (destination,), tally)


def attempts_draft(attempts: Sequence[Attempt]) -> Draft:
    """One log record for the results of several attempts: a slice each."""
    return Draft(kind="delivery", slices=tuple(msgspec.json.encode(attempt) for attempt in attempts))


def read_intent(row: OutboxRow) -> Intent:
    """The intent that an outbox row keeps."""
    return _INTENT.decode(row.intent)


def _move(work: Work, intent: Intent, row: OutboxRow, state: DeliveryState, due_at: int, code: str, now: int) -> DeliveryVersion:
    """Set a delivery's state and keep the index of due deliveries in step: only what is pending is in it."""
    destination, delivery_id = intent.destination, intent.delivery_id
    if row.state == "pending":
        work.delete(OUTBOX_DUE, (destination, row.due_at, delivery_id))
    if row.state != state:
        _count(work, destination, row.state, state)
        if state in _ENDED:
            _note_end(work, delivery_id, now)
    row.state, row.code, row.updated_at = state, code, now
    row.due_at = due_at if state == "pending" else 0
    if state == "pending":
        work.put(OUTBOX_DUE, (destination, due_at, delivery_id), FlagRow())
    work.put(OUTBOX, (delivery_id,), row)
    return _version(intent, row)


def _note_end(work: Work, delivery_id: str, now: int) -> None:
    ended = work.get(OUTBOX_ENDED, (now,)) or EndedRow(delivery_ids=[])
    ended.delivery_ids.append(delivery_id)
    work.put(OUTBOX_ENDED, (now,), ended)


def _tally(work: Work, destination: str) -> TallyRow:
    return work.get(TALLIES, (destination,)) or TallyRow(states={}, codes={}, latencies_us=[])


def _count(work: Work, destination: str, before: str, after: str) -> None:
    tally = _tally(work, destination)
    if before:
        tally.states[before] = tally.states.get(before, 0) - 1
    tally.states[after] = tally.states.get(after, 0) + 1
    work.put(TALLIES, (destination,), tally)


def _tell(work: Work, destination: str, attempt: Attempt) -> None:
    """Take an attempt into its destination's tally."""
    tally = _tally(work, destination)
    code = attempt.code if attempt.code in tally.codes or len(tally.codes) < CODES_KEPT else OTHER_CODE
    tally.codes[code] = tally.codes.get(code, 0) + 1
    if attempt.result == "delivered":
        tally.delivered_at = attempt.at
        tally.latencies_us.append(attempt.latency_us)
        del tally.latencies_us[:-LATENCIES_KEPT]
    else:
        tally.failed_at, tally.failed_code = attempt.at, attempt.code
    work.put(TALLIES, (destination,), tally)


def _version(intent: Intent, row: OutboxRow) -> DeliveryVersion:
    return DeliveryVersion(
        delivery_id=intent.delivery_id,
        destination=intent.destination,
        profile_id=intent.profile_id,
        segment=intent.segment,
        type=intent.type,
        state=row.state,
        attempts=row.attempts,
        code=row.code,
        created_at=intent.created_at,
        updated_at=row.updated_at,
    )
