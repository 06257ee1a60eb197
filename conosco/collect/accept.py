"""Accepting a request: from an inflated body to the slices that the log keeps and a status for each event."""

import hashlib
from collections.abc import Callable, Iterable
from itertools import islice, repeat
from typing import Final, Literal, NamedTuple

import msgspec

from conosco.collect.envelope import Shared, judge, read_shared
from conosco.collect.identifiers import Usable
from conosco.collect.split import Malformed, check_document, cut_members, elements, members, read_text
from conosco.collect.wire import MESSAGE_ID_CHARACTERS_MAX, NO_BYTES, Fault, Usual, as_id, is_plainly_valid, own_message_id
from conosco.model.identifier import IdentityRules
from conosco.model.outcome import Reason
from conosco.model.problem import refuse

BODY_BYTES_MAX: Final = 10 << 20
EVENTS_MAX: Final = 10_000
# Reasons for which a whole body is refused; nothing of it is stored.
BODY_CODES: Final = (
    "empty_body",
    "invalid_json",
    "not_an_object",
    "missing_batch",
    "empty_batch",
    "too_many_events",
    "body_too_large",
)

Status = Literal["stored", "rejected", "refused"]

_WRITE_KEY: Final = frozenset({"writeKey"})
_BOM: Final = b"\xef\xbb\xbf"
_OBJECT: Final = ord("{")
_ARRAY: Final = ord("[")
# The fast decoder makes an object of each element and member: bodies larger than this get it only if they have few.
_FAST_BYTES_MAX: Final = 1 << 20
_FAST_COMMA_BYTES: Final = 24
# What the splitter looks into one by one: more than any honest body has, and few enough to be passed in a second.
_CONTAINERS_MAX: Final = 250_000


class EventStatus(msgspec.Struct, frozen=True, gc=False):
    """What the answer says of one event. ``code`` is the rule it broke; whether it is a duplicate is told by its Outcome."""

    index: int
    message_id: str | None
    status: Status
    code: Reason | None = None


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A body taken apart. ``slices`` are the events to store, in order of slot: refused elements have none.

    ``shared`` are the batch's own members without the write key, ``message_ids`` the ids given to slots that had none,
    ``stored_count`` how many events obey all rules.
    """

    slices: tuple[bytes, ...]
    events: tuple[EventStatus, ...]
    message_ids: dict[int, str]
    shared: bytes
    stored_count: int
    sent_at: str | None
    write_key: str | None


class _Taken(NamedTuple):
    """``usuals`` stands beside ``raws``, None for those that must be judged the longer way."""

    raws: Iterable[bytes]
    usuals: Iterable[Usual | None]
    shared: bytes
    sent_at: str | None
    write_key: str | None


class _Batch(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """The members that clients are known to send; a body with others takes the longer way."""

    batch: list[msgspec.Raw]
    write_key: msgspec.Raw = NO_BYTES
    sent_at: msgspec.Raw = NO_BYTES
    timestamp: msgspec.Raw = NO_BYTES
    context: msgspec.Raw = NO_BYTES
    integrations: msgspec.Raw = NO_BYTES


class _UsualBatch(msgspec.Struct):
    batch: list[Usual]


class _Single(msgspec.Struct, rename="camel"):
    write_key: msgspec.Raw = NO_BYTES


_BATCH: Final = msgspec.json.Decoder(_Batch)
_USUAL_BATCH: Final = msgspec.json.Decoder(_UsualBatch)
_SINGLE: Final = msgspec.json.Decoder(_Single)
_BY_NAME: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def accept(
    body: bytes,
    call: str,
    *,
    fresh_id: Callable[[], str],
    rules: IdentityRules,
    idempotency_key: str | None = None,
    header_anonymous_id: str | None = None,
) -> Accepted:
    """Take a body apart. ``call`` is the type that the path names, or empty for a batch.

    Raises Refused with one of BODY_CODES if the body as a whole cannot be taken; ``status`` is the HTTP status.
    """
    if len(body) > BODY_BYTES_MAX:
        raise refuse("body_too_large", status=413, limit=BODY_BYTES_MAX)
    body = body.removeprefix(_BOM)
    if not body.strip():
        raise refuse("empty_body", status=400)
    _check_text(body)
    taken = _take_single(body) if call else _take_batch(body)
    shared, usable = read_shared(taken.shared), Usable(rules)
    prefix = _id_prefix(idempotency_key)
    slices: list[bytes] = []
    events: list[EventStatus] = []
    message_ids: dict[int, str] = {}
    stored_count = 0
    for index, (raw, usual) in enumerate(zip(taken.raws, taken.usuals, strict=False)):
        if usual is not None and _is_plainly_good(raw, usual, call, shared, usable):
            message_id = as_id(usual.message_id)
            if message_id is None:
                message_id = message_ids[len(slices)] = fresh_id() if prefix is None else f"{prefix}-{index}"
            events.append(EventStatus(index, message_id, "stored"))
            stored_count += 1
            slices.append(raw)
            continue
        if raw[0] != _OBJECT:
            events.append(EventStatus(index, None, "refused", "not_an_object"))
            continue
        verdict = judge(raw, call, shared, usable, header_anonymous_id)
        if b"writeKey" in raw if isinstance(verdict, Fault) else verdict.wire.write_key is not NO_BYTES:
            # Judged again without the key, because that is what the worker will see.
            raw = _without_write_key(raw)  # noqa: PLW2901  # only the cut form may be used from here on
            verdict = judge(raw, call, shared, usable, header_anonymous_id)
        message_id = own_message_id(raw) if isinstance(verdict, Fault) else as_id(verdict.wire.message_id)
        if message_id is None:
            message_id = fresh_id() if prefix is None else f"{prefix}-{index}"
            message_ids[len(slices)] = message_id
        if isinstance(verdict, Fault):
            events.append(EventStatus(index, message_id, "rejected", verdict.reason))
        else:
            events.append(EventStatus(index, message_id, "stored"))
            stored_count += 1
        slices.append(raw)
    if not events:
        raise refuse("empty_batch", status=400)
    return Accepted(
        slices=tuple(slices),
        events=tuple(events),
        message_ids=message_ids,
        shared=taken.shared,
        stored_count=stored_count,
        sent_at=taken.sent_at,
        write_key=taken.write_key,
    )


def _is_plainly_good(raw: bytes, usual: Usual, call: str, shared: Shared | Fault, usable: Usable) -> bool:
    """True only if ``judge`` would find no fault; what an alias needs is left to it."""
    return (
        usable.knows_home(usual.user_id, usual.anonymous_id) and shared.__class__ is Shared and is_plainly_valid(raw, usual, call)
    )


def _without_write_key(raw: bytes) -> bytes:
    if len(raw) <= _FAST_BYTES_MAX:
        try:
            others = _BY_NAME.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            pass
        else:
            others.pop("writeKey", None)
            return msgspec.json.encode(others)
    return cut_members(raw, 0, _WRITE_KEY)


def _check_text(body: bytes) -> None:
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            raise refuse("invalid_json", status=400) from None


def _id_prefix(idempotency_key: str | None) -> str | None:
    if not idempotency_key:
        return None
    # Room for the index of the last event; a longer key is represented by its hash.
    if len(idempotency_key) + 1 + len(str(EVENTS_MAX)) > MESSAGE_ID_CHARACTERS_MAX:
        return hashlib.sha256(idempotency_key.encode("utf-8", "surrogatepass")).hexdigest()
    return idempotency_key


def _take_single(body: bytes) -> _Taken:
    """The body of a call for one event is that event."""
    try:
        write_key = bytes(_SINGLE.decode(body).write_key)
    except (msgspec.DecodeError, RecursionError):
        start, end = _document(body)
        write_key = b""
        if body[start] == _OBJECT:
            for member in members(body, start):
                if member.name == "writeKey":
                    write_key = body[member.value_start : member.end]
        body = body[start:end]
    body = body.strip(b" \t\n\r")
    return _Taken((body,), repeat(None), b"{}", None, read_text(write_key))


def _take_batch(body: bytes) -> _Taken:
    if len(body) > _FAST_BYTES_MAX and body.count(b",") > len(body) // _FAST_COMMA_BYTES:
        return _take_batch_by_hand(body)
    try:
        batch = _BATCH.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return _take_batch_by_hand(body)
    _check_count(len(batch.batch))
    members_present = (
        ("sentAt", batch.sent_at),
        ("timestamp", batch.timestamp),
        ("context", batch.context),
        ("integrations", batch.integrations),
    )
    return _Taken(
        map(bytes, batch.batch),
        _read_usual(body),
        msgspec.json.encode({name: value for name, value in members_present if value is not NO_BYTES}),
        read_text(bytes(batch.sent_at)),
        read_text(bytes(batch.write_key)),
    )


def _read_usual(body: bytes) -> Iterable[Usual | None]:
    """All events of a batch at once; if one of them is unusual, none."""
    try:
        return _USUAL_BATCH.decode(body).batch
    except (msgspec.DecodeError, RecursionError):
        return repeat(None)


def _take_batch_by_hand(body: bytes) -> _Taken:
    start, _ = _document(body)
    if body[start] != _OBJECT:
        raise refuse("not_an_object", status=400)
    values: dict[str | None, bytes] = {}
    shared: list[bytes] = []
    batch_start = start
    for member in members(body, start):
        if member.name == "batch":
            batch_start = member.value_start
        elif member.name != "writeKey":
            shared.append(body[member.start : member.end])
        if member.name in {"writeKey", "sentAt"}:
            values[member.name] = body[member.value_start : member.end]
    if body[batch_start] != _ARRAY:
        raise refuse("missing_batch", status=400)
    raws = list(islice(elements(body, batch_start), EVENTS_MAX + 1))
    _check_count(len(raws))
    return _Taken(
        raws,
        repeat(None),
        b"{" + b",".join(shared) + b"}",
        read_text(values.get("sentAt", b"")),
        read_text(values.get("writeKey", b"")),
    )


def _document(body: bytes) -> tuple[int, int]:
    if body.count(b"{") + body.count(b"[") > _CONTAINERS_MAX:
        raise refuse("body_too_large", status=413, limit=BODY_BYTES_MAX)
    try:
        return check_document(body)
    except Malformed:
        raise refuse("invalid_json", status=400) from None


def _check_count(count: int) -> None:
    if count > EVENTS_MAX:
        raise refuse("too_many_events", status=413, limit=EVENTS_MAX)
