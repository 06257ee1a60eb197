"""Understanding a record: from what was received to Events, with their times corrected and their identifiers in order."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from conosco.collect.automated import is_automated
from conosco.collect.envelope import Examined, Shared, examine, read_envelope
from conosco.collect.identifiers import Usable, traits_of
from conosco.collect.mapped import Told, map_record, named
from conosco.collect.wire import EMPTY, NO_BYTES, Fault, as_id, as_text, breaks_limits, object_bytes, own_message_id
from conosco.model.definition import Source
from conosco.model.event import Event, read_json
from conosco.model.identifier import IdentityRules
from conosco.model.moment import EARLIEST, HOUR, LATEST, MINUTE, SECOND, parse_duration, parse_moment
from conosco.model.outcome import Reason
from conosco.model.record import IMPORTED, MAPPED, Envelope, Record

# Below this the difference of two clocks is the network's delay, and shifting by it would reorder events.
SKEW_MIN: Final = 5 * SECOND
AHEAD_MAX: Final = 5 * MINUTE


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """An event that breaks a rule; its bytes stay in the log at (position, slot)."""

    position: int
    slot: int
    message_id: str
    source_id: str
    reason: Reason
    params: dict[str, str | int] = {}


class _Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """The times of a record that its events share."""

    received_at: int
    logged_at: int
    sent_at: int | None
    event_age_max: int
    imported: bool


def understand(
    record: Record, source: Source, rules: IdentityRules, source_of: Callable[[int], Source] | None = None
) -> list[Event | Rejected]:
    """The events of a request, in order of slot; erased ones are left out. Other kinds of records have none.

    A function of its arguments alone. Times are microseconds. Bodies of a webhook are read by the mappings of ``source``, or
    of what ``source_of`` gives for the index of a slice.
    """
    if record.kind != "request" or not record.slices:
        return []
    raw = record.slices[0]
    # Without its envelope, which may be erased as well, a record is still read, with the time at which it was logged.
    envelope, shared = read_envelope(raw or b'{"received_at":%d}' % record.logged_at)
    usable = Usable(rules)
    clocks = _Clocks(
        received_at=envelope.received_at,
        logged_at=record.logged_at,
        sent_at=_first_moment(envelope.sent_at, envelope.header_sent_at),
        event_age_max=parse_duration(source.spec.max_event_age) or HOUR,
        imported=bool(record.flags & IMPORTED),
    )
    found: list[Event | Rejected] = []
    if record.flags & MAPPED:
        for of, told in map_record(record, envelope, source_of or (lambda _: source)):
            found += _mapped(record, of, told, usable, clocks)
        return found
    for slot, body in enumerate(record.slices[1:]):
        if body is None:
            continue
        examined = examine(body, envelope.call, shared, usable, envelope.header_anonymous_id)
        if isinstance(examined, Fault):
            found.append(
                Rejected(
                    position=record.position,
                    slot=slot,
                    message_id=own_message_id(body) or _given_id(record, envelope, slot),
                    source_id=record.source_id,
                    reason=examined.reason,
                    params=examined.params,
                )
            )
        else:
            message_id = as_id(examined.read.wire.message_id) or _given_id(record, envelope, slot)
            found.append(_event(record, source, slot, message_id, examined, clocks))
    return found


def _mapped(record: Record, source: Source, told: Sequence[Told], usable: Usable, clocks: _Clocks) -> Sequence[Event | Rejected]:
    """What mappings made of one body is judged like any event. If one of its events breaks a rule, the body is rejected whole."""
    events: list[Event | Rejected] = []
    for each in told:
        examined = each.event if isinstance(each.event, Fault) else examine(each.event, "", Shared(), usable, None)
        if isinstance(examined, Fault):
            fault = examined if isinstance(each.event, Fault) else named(examined, each)
            return [
                Rejected(
                    position=record.position,
                    slot=told[0].slot,
                    message_id=each.message_id,
                    source_id=record.source_id,
                    reason=fault.reason,
                    params=fault.params,
                )
            ]
        events.append(_event(record, source, each.slot, each.message_id, examined, clocks))
    return events


def _given_id(record: Record, envelope: Envelope, slot: int) -> str:
    return envelope.message_ids.get(slot) or f"{record.position}-{slot}"


def _first_moment(*texts: str | None) -> int | None:
    """The first that can be read: of when something was sent, an unreadable word says nothing about the event."""
    for text in texts:
        moment = parse_moment(text) if text else None
        if moment is not None:
            return moment
    return None


def _event(record: Record, source: Source, slot: int, message_id: str, examined: Examined, clocks: _Clocks) -> Event:
    read = examined.read
    wire = read.wire
    sent_at = clocks.sent_at
    if wire.sent_at is not NO_BYTES:
        own = _first_moment(as_text(wire.sent_at))
        sent_at = sent_at if own is None else own
    original_at = read.original_at
    event_at = clocks.received_at if original_at is None else original_at
    if sent_at is not None and original_at is not None:
        skew = clocks.received_at - sent_at
        if not -SKEW_MIN < skew < SKEW_MIN:
            event_at = min(max(event_at + skew, EARLIEST), LATEST)
    historical = clocks.imported or clocks.logged_at - event_at > clocks.event_age_max
    if event_at - clocks.logged_at > AHEAD_MAX:
        event_at = clocks.logged_at
    return Event(
        record.position,
        slot,
        message_id,
        record.source_id,
        read.type,
        examined.identifiers,
        event_at,
        clocks.received_at,
        clocks.logged_at,
        read.event,
        None if wire.user_id is None else as_id(wire.user_id),
        None if wire.anonymous_id is None else as_id(wire.anonymous_id),
        None if wire.group_id is None else as_id(wire.group_id),
        None if wire.previous_id is None else as_id(wire.previous_id),
        original_at,
        sent_at,
        historical,
        source.type == "server",
        source.spec.priority,
        read.properties,
        _traits(examined),
        examined.context,
        examined.integrations,
        is_automated(read.event, examined.context, read.properties),
        read.objects,
    )


def _traits(examined: Examined) -> bytes:
    """What an event says of the person: RudderStack's clients tell the traits of an identify in its context alone."""
    traits = examined.read.traits
    if traits is EMPTY and examined.read.type == "identify" and examined.context is not EMPTY:
        return object_bytes(traits_of(examined.context)) or EMPTY
    return traits


# What tells of the transport of an event and not of what happened; clients change it when they send again.
_TRANSPORT: Final = ("sentAt", "receivedAt", "_metadata", "writeKey")
_CANONICAL: Final = msgspec.json.Encoder(order="deterministic", decimal_format="number")
_SHORT_WHOLE: Final = 10**40


def canonical_body(raw: bytes) -> bytes:
    """Bytes that are equal for two events that say the same: order of members, spaces and spellings do not count.

    ``sentAt``, ``receivedAt``, ``_metadata`` and the write key are left out. What cannot be read stands for itself.
    """
    if breaks_limits(raw) is not None:
        return raw
    try:
        value = read_json(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return raw
    if isinstance(value, dict):
        for name in _TRANSPORT:
            value.pop(name, None)
    return _CANONICAL.encode(_with_plain_numbers(value))


def _with_plain_numbers(value: Any) -> Any:
    """The same value with equal numbers spelled equally: 1.0 as 1, 1e2 as 100."""
    match value:
        case dict():
            return {name: _with_plain_numbers(inner) for name, inner in value.items()}
        case list():
            return [_with_plain_numbers(inner) for inner in value]
        case Decimal():
            return _plain_number(value)
        case int() if not -_SHORT_WHOLE < value < _SHORT_WHOLE:
            return _plain_number(Decimal(value))
        case _:
            return value


def _plain_number(value: Decimal) -> int | Decimal:
    # By hand, because decimal arithmetic rounds to the digits of its context.
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return value
    text = "".join(map(str, digits)).lstrip("0")
    significant = text.rstrip("0")
    exponent += len(text) - len(significant)
    if not significant:
        return 0
    whole = exponent >= 0 and len(significant) + exponent <= len(str(_SHORT_WHOLE)) - 1
    number = f"{'-' if sign else ''}{significant}e{exponent}"
    return int(Decimal(number)) if whole else Decimal(number)
