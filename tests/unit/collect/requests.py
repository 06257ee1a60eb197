"""Bodies and records for the tests of collect."""

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec

from conosco.collect.accept import Accepted, accept
from conosco.collect.envelope import spell_envelope
from conosco.collect.understand import Rejected, understand
from conosco.model.definition import Source, SourceSpec
from conosco.model.event import Event
from conosco.model.identifier import IdentityRules
from conosco.model.moment import parse_moment
from conosco.model.record import Envelope, Record

RULES = IdentityRules()
NOON = "2026-03-01T12:00:00.000Z"


def moment(text: str) -> int:
    found = parse_moment(text)
    assert found is not None
    return found


def counted_ids() -> Callable[[], str]:
    numbers = count()
    return lambda: f"made-{next(numbers)}"


def track(**fields: Any) -> dict[str, Any]:
    event = {"type": "track", "event": "Viewed", "userId": "ada", "messageId": "m-1", **fields}
    return {name: value for name, value in event.items() if value is not ...}


def take(body: Any, call: str = "", **options: Any) -> Accepted:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return accept(raw, call, fresh_id=counted_ids(), rules=options.pop("rules", RULES), **options)


def take_batch(*events: Any, **members: Any) -> Accepted:
    return take({"batch": events, **members})


def record_of(
    accepted: Accepted, *, call: str = "", received_at: str = NOON, logged_at: str | None = None, flags: int = 0, **more: Any
) -> Record:
    envelope = Envelope(
        received_at=moment(received_at),
        call=call,
        sent_at=accepted.sent_at,
        message_ids=accepted.message_ids,
        shared=msgspec.Raw(accepted.shared),
        **more,
    )
    slices = (spell_envelope(envelope), *accepted.slices)
    return Record(
        position=7,
        kind="request",
        schema=1,
        logged_at=moment(logged_at or received_at),
        source_id="src_1",
        flags=flags,
        hashes=b"",
        chain=b"",
        salts=(b"",) * len(slices),
        slices=slices,
    )


def source(**fields: Any) -> Source:
    spec = SourceSpec(**{name: fields.pop(name) for name in ("max_event_age", "priority") if name in fields})
    return Source(**{"key": "shop", "name": "Shop", "type": "server", "region": "eu", "id": "src_1", "spec": spec, **fields})


def read(record: Record, of: Source | None = None, rules: IdentityRules = RULES) -> list[Event | Rejected]:
    return understand(record, of or source(), rules)


def event_of(body: dict[str, Any], *, members: dict[str, Any] | None = None, of: Source | None = None, **record: Any) -> Event:
    """The one event of a batch, as understood."""
    (event,) = read(record_of(take_batch(body, **(members or {})), **record), of)
    assert isinstance(event, Event), event
    return event
