"""Objects on the wire: the member ``objects`` of an event, its shape and its limits."""

from typing import Final, NamedTuple

import msgspec

from conosco.model.definition import KEY
from conosco.model.outcome import Reason

OBJECTS_MAX: Final = 100
OBJECT_ID_CHARACTERS_MAX: Final = 255
# Of one object: properties in one event, and kept of all events; the first names in order of the alphabet stay.
PROPERTIES_MAX: Final = 128
PROPERTY_CHARACTERS_MAX: Final = 255
# Of one value as JSON.
VALUE_BYTES_MAX: Final = 16_384
# The role of a person who has to do with an object in a way that the event does not name.
RELATED: Final = "related"

NO_OBJECTS: Final = b""
_NO_BYTES: Final = msgspec.Raw(b"")


class Mention(NamedTuple):
    """What one event says of one object: the roles in which its person deals with it, and properties with their JSON values."""

    kind: str
    object_id: str
    roles: tuple[str, ...]
    state: dict[str, bytes]


class _Object(msgspec.Struct, gc=False):
    kind: msgspec.Raw = _NO_BYTES
    object_id: msgspec.Raw = _NO_BYTES
    role: msgspec.Raw = _NO_BYTES
    state: msgspec.Raw = _NO_BYTES


Fault = tuple[Reason, dict[str, str | int]]
_LIST: Final = msgspec.json.Decoder(list[_Object])
_RAW_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_STATE: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ID: Final = msgspec.json.Decoder(str | int)


def fault_in_objects(raw: bytes) -> Fault | None:
    """The first rule that a member ``objects`` breaks, with the place in its parameters; null is no objects."""
    try:
        read_objects(raw)
    except _Broken as broken:
        return broken.fault
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "unreadable_text", {"field": "objects"}
    return None


def read_objects(raw: bytes) -> list[Mention]:
    """The mentions of a member ``objects`` that has no fault."""
    if raw in (b"null", NO_OBJECTS):
        return []
    if raw[:1] != b"[":
        raise _Broken("wrong_field_type", "objects")
    try:
        items = _LIST.decode(raw)
    except msgspec.ValidationError:
        odd = next(index for index, item in enumerate(_RAW_LIST.decode(raw)) if bytes(item)[:1] != b"{")
        raise _Broken("wrong_field_type", f"objects/{odd}") from None
    if len(items) > OBJECTS_MAX:
        raise _Broken("too_large", "objects", OBJECTS_MAX)
    return [_mention(item, f"objects/{index}") for index, item in enumerate(items)]


class _Broken(Exception):
    def __init__(self, reason: Reason, field: str, limit: int = 0) -> None:
        super().__init__(reason)
        self.fault: Fault = (reason, {"field": field, "limit": limit} if limit else {"field": field})


def _mention(item: _Object, place: str) -> Mention:
    kind = _key(bytes(item.kind), f"{place}/kind")
    object_id = id_of(bytes(item.object_id))
    if object_id is None:
        absent = bytes(item.object_id) in (b"", b"null", b'""')
        raise _Broken("missing_field" if absent else "wrong_field_type", f"{place}/object_id")
    if len(object_id) > OBJECT_ID_CHARACTERS_MAX:
        raise _Broken("too_large", f"{place}/object_id", OBJECT_ID_CHARACTERS_MAX)
    role = bytes(item.role)
    roles = (RELATED,) if not role else () if role == b"null" else (_key(role, f"{place}/role"),)
    return Mention(kind, object_id, roles, _state(bytes(item.state), f"{place}/state"))


def _key(raw: bytes, place: str) -> str:
    if raw in (b"", b"null", b'""'):
        raise _Broken("missing_field", place)
    text = msgspec.json.decode(raw, type=str) if raw[:1] == b'"' else ""
    if KEY.match(text) is None:
        raise _Broken("wrong_field_type", place)
    return text


def id_of(raw: bytes) -> str | None:
    """An object's id from its JSON value: a text or a whole number; None for what is none."""
    try:
        found = _ID.decode(raw) if raw else ""
    except msgspec.ValidationError:
        return None
    return str(found) or None


def _state(raw: bytes, place: str) -> dict[str, bytes]:
    if raw in (b"", b"null"):
        return {}
    if raw[:1] != b"{":
        raise _Broken("wrong_field_type", place)
    members = _STATE.decode(raw)
    if len(members) > PROPERTIES_MAX:
        raise _Broken("too_large", place, PROPERTIES_MAX)
    state: dict[str, bytes] = {}
    for name, value in members.items():
        if len(name) > PROPERTY_CHARACTERS_MAX:
            raise _Broken("too_large", place, PROPERTY_CHARACTERS_MAX)
        state[name] = bytes(value)
        if len(state[name]) > VALUE_BYTES_MAX:
            raise _Broken("too_large", f"{place}/{name}", VALUE_BYTES_MAX)
    return state
