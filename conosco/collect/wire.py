"""An event on the wire: its shape, its limits, and the one set of rules by which the front and the worker judge it.

Judging uses nothing but the bytes and what stands beside them in the envelope, so both always agree.
"""

import re
from typing import Annotated, Final, get_args

import msgspec

from conosco.collect.objects import fault_in_objects
from conosco.collect.split import Malformed, members, read_text
from conosco.model.event import EventType
from conosco.model.moment import parse_moment
from conosco.model.outcome import Reason

EVENT_BYTES_MAX: Final = 1 << 20
DEPTH_MAX: Final = 64
KEYS_MAX: Final = 2_000
NAME_CHARACTERS_MAX: Final = 255
MESSAGE_ID_CHARACTERS_MAX: Final = 255
# Identifiers and titles of pages: longer ones are seen in the wild than names that people give.
TEXT_CHARACTERS_MAX: Final = 1_024

EVENT_TYPES: Final[frozenset[str]] = frozenset(get_args(EventType))
NO_BYTES: Final = msgspec.Raw(b"")
EMPTY: Final = b"{}"

_Id = Annotated[str, msgspec.Meta(max_length=TEXT_CHARACTERS_MAX)] | int | None


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """The rule that an event breaks."""

    reason: Reason
    params: dict[str, str | int] = {}


class Wire(msgspec.Struct, rename="camel", gc=False):
    """The members of an event that the product reads; all others stay in the bytes as received.

    Members that are read only sometimes stay raw, so that an odd value there harms nothing.
    """

    type: str | None = None
    event: Annotated[str, msgspec.Meta(max_length=NAME_CHARACTERS_MAX)] | None = None
    message_id: Annotated[str, msgspec.Meta(max_length=MESSAGE_ID_CHARACTERS_MAX)] | int | None = None
    user_id: _Id = None
    anonymous_id: _Id = None
    group_id: _Id = None
    previous_id: _Id = None
    timestamp: str | None = None
    original_timestamp: msgspec.Raw = NO_BYTES
    sent_at: msgspec.Raw = NO_BYTES
    write_key: msgspec.Raw = NO_BYTES
    name: msgspec.Raw = NO_BYTES
    properties: msgspec.Raw = NO_BYTES
    traits: msgspec.Raw = NO_BYTES
    context: msgspec.Raw = NO_BYTES
    integrations: msgspec.Raw = NO_BYTES
    objects: msgspec.Raw = NO_BYTES


class _Object(msgspec.Struct, gc=False):
    """Any object: its members are passed over."""


class Usual(msgspec.Struct, rename="camel", gc=False):
    """What the verdict on a usual event depends on, without its fruits. Narrower than ``Wire``: see ``is_plainly_valid``."""

    type: str | None = None
    event: Annotated[str, msgspec.Meta(max_length=NAME_CHARACTERS_MAX)] | None = None
    message_id: Annotated[str, msgspec.Meta(max_length=MESSAGE_ID_CHARACTERS_MAX)] | int | None = None
    user_id: _Id = None
    anonymous_id: _Id = None
    group_id: _Id = None
    previous_id: _Id = None
    timestamp: str | None = None
    write_key: msgspec.UnsetType | None = msgspec.UNSET
    name: Annotated[str, msgspec.Meta(max_length=TEXT_CHARACTERS_MAX)] | None = None
    properties: _Object | None = None
    traits: _Object | None = None
    context: _Object | None = None
    integrations: _Object | None = None
    objects: msgspec.UnsetType | None = msgspec.UNSET


class Read(msgspec.Struct, frozen=True, gc=False):
    """An event that obeys the rules of form. ``original_at`` is the event time as sent, None if there is none."""

    wire: Wire
    type: EventType
    event: str | None
    original_at: int | None
    properties: bytes
    traits: bytes
    context: bytes
    integrations: bytes
    objects: bytes = b""


class _Merged(msgspec.Struct):
    type: str
    value: str | int | None


class _Merge(msgspec.Struct, rename="camel"):
    merge_properties: list[_Merged] = []


class _OnlyMessageId(msgspec.Struct, rename="camel"):
    message_id: msgspec.Raw = NO_BYTES


_WIRE: Final = msgspec.json.Decoder(Wire)
_MERGE: Final = msgspec.json.Decoder(_Merge)
# A merge names exactly so many identifiers, of these types.
_MERGED: Final = 2
_MERGE_TYPES: Final = {
    "user_id": "user_id",
    "userId": "user_id",
    "anonymous_id": "anonymous_id",
    "anonymousId": "anonymous_id",
    "email": "email",
    "mobile": "phone",
    "phone": "phone",
}
_ONLY_MESSAGE_ID: Final = msgspec.json.Decoder(_OnlyMessageId)
_BY_NAME: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

_WITHOUT_REQUIRED_MEMBERS: Final = frozenset({"identify", "page", "screen"})
_TEXT: Final = frozenset(b'"n')
_TEXT_OR_WHOLE: Final = frozenset(b'"n-0123456789')
# Which first bytes the value of a member may have ("n" begins null) and how long it may be, in the order in which
# faults are told.
_EXPECTED: Final[tuple[tuple[str, frozenset[int], int], ...]] = (
    ("type", _TEXT, EVENT_BYTES_MAX),
    ("event", _TEXT, NAME_CHARACTERS_MAX),
    ("messageId", _TEXT_OR_WHOLE, MESSAGE_ID_CHARACTERS_MAX),
    ("userId", _TEXT_OR_WHOLE, TEXT_CHARACTERS_MAX),
    ("anonymousId", _TEXT_OR_WHOLE, TEXT_CHARACTERS_MAX),
    ("groupId", _TEXT_OR_WHOLE, TEXT_CHARACTERS_MAX),
    ("previousId", _TEXT_OR_WHOLE, TEXT_CHARACTERS_MAX),
    ("timestamp", _TEXT, EVENT_BYTES_MAX),
)
_WHOLE: Final = re.compile(rb"-?[0-9]+\Z")
_STRINGS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
# Every string is matched, so that none is looked into; those before a colon are keys.
_KEYS: Final = re.compile(_STRINGS.pattern + rb"([ \t\n\r]*+:)?+", re.DOTALL)
_NOT_BRACKETS: Final = bytes(code for code in range(256) if code not in b"[]{}")
_OBJECT: Final = ord("{")
_QUOTE: Final = ord('"')
_ONE_BRACKET: Final = bytes.maketrans(b"{}", b"[]")
# The shortest member is ``"":0,``: below this size an event cannot hold too many.
_BYTES_WITHOUT_TOO_MANY_KEYS: Final = 5 * KEYS_MAX


def breaks_limits(raw: bytes) -> Fault | None:
    """Check size, nesting and number of keys of a JSON value; the cheap bounds spare nearly every event the exact count."""
    if len(raw) > EVENT_BYTES_MAX:
        return Fault(reason="too_large", params={"bytes": len(raw), "limit": EVENT_BYTES_MAX})
    opened = raw.count(b"{")
    # Finding none is several times quicker than counting none, and most events have no list.
    if raw.find(b"[") >= 0:
        opened += raw.count(b"[")
    if opened > DEPTH_MAX and _is_too_deep(raw):
        return Fault(reason="too_deep", params={"limit": DEPTH_MAX})
    if len(raw) >= _BYTES_WITHOUT_TOO_MANY_KEYS and raw.count(b":") > KEYS_MAX:
        keys = sum(map(bool, _KEYS.findall(raw)))
        if keys > KEYS_MAX:
            return Fault(reason="too_many_keys", params={"keys": keys, "limit": KEYS_MAX})
    return None


def _is_too_deep(raw: bytes) -> bool:
    # Brackets alone, all of one kind; each round peels the innermost pairs, so the rounds count the depth.
    brackets = _STRINGS.sub(b"", raw).translate(_ONE_BRACKET, _NOT_BRACKETS)
    for _ in range(DEPTH_MAX):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return True


def is_plainly_valid(raw: bytes, usual: Usual, call: str) -> bool:
    """True only if ``read_event`` finds no fault and no write key in this event; False says nothing.

    It costs half as much, and nearly every event passes.
    """
    kind = call or usual.type
    if kind == "track":
        if not usual.event:
            return False
    elif kind not in _WITHOUT_REQUIRED_MEMBERS:
        return False
    if usual.write_key is not msgspec.UNSET or not usual.timestamp:
        return False
    return parse_moment(usual.timestamp) is not None and breaks_limits(raw) is None


def read_event(raw: bytes, call: str) -> Read | Fault:
    """Judge the form of one event, a JSON object. ``call`` is the type that the path names, empty if the event names its own."""
    fault = breaks_limits(raw)
    if fault is not None:
        return fault
    try:
        wire = _WIRE.decode(raw)
    except msgspec.ValidationError:
        return _unexpected(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Fault(reason="unreadable_text")
    kind = call or wire.type
    if kind == "merge":
        merged = _read_merge(raw, wire)
        if isinstance(merged, Fault):
            return merged
        wire, kind = merged, merged.type
    if kind not in EVENT_TYPES:
        if not kind:
            return _missing("type")
        return Fault(reason="unknown_type", params={"type": kind[:NAME_CHARACTERS_MAX]})
    name: str | None = None
    if kind == "track":
        name = wire.event
        if not name:
            return _missing("event")
    elif kind in {"page", "screen"}:
        name = as_text(wire.name) or None
        if name is not None and len(name) > TEXT_CHARACTERS_MAX:
            return Fault(reason="too_large", params={"field": "name", "limit": TEXT_CHARACTERS_MAX})
    elif kind == "group" and as_id(wire.group_id) is None:
        return _missing("groupId")
    elif kind == "alias":
        for field, value in (("previousId", wire.previous_id), ("userId", wire.user_id)):
            if as_id(value) is None:
                return _missing(field)
    # A batch's own timestamp is only the moment of sending; of the event's two, ``timestamp`` is the one that is meant.
    text = wire.timestamp
    if not text and wire.original_timestamp is not NO_BYTES:
        text = as_text(wire.original_timestamp)
        if text is None and bytes(wire.original_timestamp) != b"null":
            return Fault(reason="unreadable_time", params={"field": "originalTimestamp"})
    original_at: int | None = None
    if text:
        original_at = parse_moment(text)
        if original_at is None:
            return Fault(reason="unreadable_time", params={"field": "timestamp" if wire.timestamp else "originalTimestamp"})
    # No event has all of them, and not to call saves more than the call itself does.
    properties = EMPTY if wire.properties is NO_BYTES else object_bytes(wire.properties)
    traits = EMPTY if wire.traits is NO_BYTES else object_bytes(wire.traits)
    context = EMPTY if wire.context is NO_BYTES else object_bytes(wire.context)
    integrations = EMPTY if wire.integrations is NO_BYTES else object_bytes(wire.integrations)
    if properties is None or traits is None or context is None or integrations is None:
        fields = {"properties": properties, "traits": traits, "context": context, "integrations": integrations}
        odd = next(field for field, value in fields.items() if value is None)
        return Fault(reason="wrong_field_type", params={"field": odd})
    if wire.objects is NO_BYTES:
        return Read(wire, kind, name, original_at, properties, traits, context, integrations)  # type: ignore[arg-type]  # in EVENT_TYPES
    objects = bytes(wire.objects)
    broken = fault_in_objects(objects)
    if broken is not None:
        return Fault(reason=broken[0], params=broken[1])
    return Read(wire, kind, name, original_at, properties, traits, context, integrations, objects)  # type: ignore[arg-type]  # in EVENT_TYPES


def _read_merge(raw: bytes, wire: Wire) -> Wire | Fault:
    """RudderStack's merge names two identifiers of one person: an alias if both are ids, else an identify with both.

    So it joins what an alias or an identify would join, by the same rules.
    """
    try:
        named = _MERGE.decode(raw).merge_properties
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Fault(reason="wrong_field_type", params={"field": "mergeProperties"})
    if len(named) != _MERGED:
        return _missing("mergeProperties")
    found: dict[str, list[str]] = {"user_id": [], "anonymous_id": [], "email": [], "phone": []}
    for each in named:
        namespace = _MERGE_TYPES.get(each.type)
        value = as_id(each.value)
        if namespace is None or value is None:
            return Fault(reason="wrong_field_type", params={"field": "mergeProperties"})
        found[namespace].append(value)
    user_ids, anonymous_ids = found["user_id"], found["anonymous_id"]
    no_ids = {"user_id": None, "anonymous_id": None, "previous_id": None, "group_id": None, "name": NO_BYTES}
    wire = msgspec.structs.replace(wire, properties=NO_BYTES, traits=NO_BYTES, **no_ids)
    if user_ids and len(user_ids) + len(anonymous_ids) == _MERGED:
        return msgspec.structs.replace(wire, type="alias", user_id=user_ids[0], previous_id=(user_ids[1:] + anonymous_ids)[0])
    if len(anonymous_ids) == _MERGED:
        # An alias leads to a user id; between two visitors there is none.
        return Fault(reason="no_usable_identifier", params={"field": "mergeProperties"})
    traits, further = ({name: value for name in ("email", "phone") for value in found[name][at : at + 1]} for at in (0, 1))
    return msgspec.structs.replace(
        wire,
        type="identify",
        user_id=user_ids[0] if user_ids else None,
        anonymous_id=anonymous_ids[0] if anonymous_ids else None,
        traits=msgspec.Raw(msgspec.json.encode(traits)),
        context=msgspec.Raw(msgspec.json.encode({"traits": further})) if further else NO_BYTES,
    )


def _missing(field: str) -> Fault:
    return Fault(reason="missing_field", params={"field": field})


def object_bytes(value: msgspec.Raw) -> bytes | None:
    """A member's bytes, an empty object where it is absent or null; None if it is something else than an object."""
    if value is NO_BYTES:
        return EMPTY
    raw = bytes(value)
    if raw[0] == _OBJECT:
        return raw if len(raw) > len(EMPTY) else EMPTY
    return EMPTY if raw == b"null" else None


def _unexpected(raw: bytes) -> Fault:
    """Say which member the decoder did not take."""
    try:
        values = _BY_NAME.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Fault(reason="unreadable_text")
    for field, first_bytes, limit in _EXPECTED:
        value = bytes(values.get(field, b"null"))
        is_text = value[0] == _QUOTE
        if value[0] not in first_bytes or not (is_text or value == b"null" or _WHOLE.match(value)):
            return Fault(reason="unreadable_time" if field == "timestamp" else "wrong_field_type", params={"field": field})
        if len(read_text(value) or "") > limit if is_text else len(value) > limit:
            return Fault(reason="too_large", params={"field": field, "limit": limit})
    return Fault(reason="wrong_field_type")


def as_text(raw: msgspec.Raw | bytes) -> str | None:
    """The text of a JSON string; None for every other value."""
    return read_text(bytes(raw)) if raw is not NO_BYTES else None


def as_id(value: str | int | None) -> str | None:
    """An id as text; null and the empty text are no id."""
    return str(value) if value.__class__ is int else value or None  # type: ignore[return-value]  # only str and None are left


def own_message_id(raw: bytes) -> str | None:
    """The message id of an event whatever else is wrong with it; None if it has none that can be used."""
    found: bytes = b""
    try:
        found = bytes(_ONLY_MESSAGE_ID.decode(raw).message_id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if len(raw) > EVENT_BYTES_MAX:
            # Too large to be searched by hand for what it hides.
            return None
        try:
            for member in members(raw, 0):
                if member.name == "messageId":
                    found = raw[member.value_start : member.end]
        except Malformed:
            return None
    if _WHOLE.match(found):
        text: str | None = found.decode()
    else:
        text = read_text(found)
    return text if text and len(text) <= MESSAGE_ID_CHARACTERS_MAX else None
