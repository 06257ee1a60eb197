"""Deliveries: what is to be sent, what became of each attempt, and the gate's verdict that allowed it."""

from typing import Any, Literal, NamedTuple

import msgspec

DeliveryState = Literal["pending", "delivered", "dead", "denied", "unknown", "cancelled"]
AttemptResult = Literal["delivered", "retry", "dead", "unknown"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The gate's answer. ``consent_position`` is the log position of the consent record that decided, 0 for none."""

    allowed: bool
    reason: str
    purpose: str
    consent_position: int = 0


class Permit(msgspec.Struct, frozen=True, kw_only=True):
    """Made by the gate only; ``mac`` covers the other fields and is checked by the sender."""

    delivery_id: str
    purpose: str
    consent_position: int
    mac: bytes


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery to be made, with its inputs frozen at the moment of decision. ``permit`` is None if the gate denied it.

    ``body`` is the JSON to be sent where it was made then; empty, it is made of ``payload``. ``identifiers`` are those of
    the person it concerns (none for a test). ``replay_of`` is the delivery that this one sends again, in a new round.
    """

    delivery_id: str
    destination: str
    destination_version: int
    type: str
    payload: dict[str, Any]
    position: int
    created_at: int
    permit: Permit | None = None
    profile_id: str = ""
    segment: str = ""
    identifiers: tuple[tuple[str, str], ...] = ()
    purpose: str = ""
    body: bytes = b""
    replay_of: str = ""


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """What goes out in one attempt: one intent under its own id, or several under the id of their batch.

    A batch keeps its id, its intents and their order through every attempt, so that ``id`` is the idempotency key.
    """

    id: str
    intents: tuple[Intent, ...]


class BatchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much goes out together: at most so many deliveries and bytes, and none waits longer than this for others."""

    events: int = 1
    bytes: int = 1_000_000
    wait_us: int = 0


class Reply(NamedTuple):
    """What came of an attempt: a result, a closed word for it, and for how long the other side asked to be left alone."""

    result: "AttemptResult"
    code: str
    wait_us: int = 0


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one attempt, appended to the log by the sender (or a person's command to try again).

    ``due_at`` is when to try again (retry only); ``code`` is a closed word such as http_500, timeout, refused_address.
    """

    delivery_id: str
    attempt: int
    result: AttemptResult
    code: str
    at: int
    latency_us: int = 0
    due_at: int = 0


class ProfileChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a person changed: identifiers, and traits with their values (JSON) before and after, None for none.

    ``former_ids`` are the profiles that this one has taken in. ``live`` is False for what history brought about.
    """

    profile_id: str
    anchor: str
    identifiers: tuple[tuple[str, str], ...]
    added: tuple[tuple[str, str], ...]
    removed: tuple[tuple[str, str], ...]
    traits: dict[str, tuple[bytes | None, bytes | None]]
    former_ids: tuple[str, ...]
    because: dict[str, Any]
    position: int
    live: bool


class MembershipChange(msgspec.Struct, frozen=True, kw_only=True):
    """A person entered or left a segment. ``at`` is valid time; ``because`` names message ids and conditions, no values.

    ``live`` is False for what history, backfill or replay brought about: it is recorded and never delivered.
    """

    type: Literal["segment.entered", "segment.exited"]
    segment: str
    purpose: str
    profile_id: str
    anchor: str
    identifiers: tuple[tuple[str, str], ...]
    at: int
    because: dict[str, Any]
    position: int
    live: bool
