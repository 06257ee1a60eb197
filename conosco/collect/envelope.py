"""The envelope of a request, slice 0 of its record: written when it is accepted, read when it is understood."""

import base64
import binascii
from typing import Final

import msgspec

from conosco.collect.identifiers import Usable
from conosco.collect.wire import (
    EMPTY,
    NO_BYTES,
    TEXT_CHARACTERS_MAX,
    Fault,
    Read,
    breaks_limits,
    object_bytes,
    read_event,
)
from conosco.model.identifier import Identifier
from conosco.model.record import Envelope


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch says once for all of its events; empty objects where it says nothing."""

    context: bytes = EMPTY
    integrations: bytes = EMPTY


class Examined(msgspec.Struct, frozen=True, gc=False):
    """An event that breaks no rule, with what it shares with its batch merged in."""

    read: Read
    context: bytes
    integrations: bytes
    identifiers: tuple[Identifier, ...]


class _SharedWire(msgspec.Struct):
    context: msgspec.Raw = NO_BYTES
    integrations: msgspec.Raw = NO_BYTES


_SHARED: Final = msgspec.json.Decoder(_SharedWire)
_ENVELOPE: Final = msgspec.json.Decoder(Envelope)
_BY_NAME: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_shared(raw: bytes) -> Shared | Fault:
    """Read the batch's own members. A fault there is every event's fault, for none can be told without them."""
    if raw == EMPTY:
        return Shared()
    fault = breaks_limits(raw)
    if fault is not None:
        return fault
    try:
        wire = _SHARED.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Fault(reason="unreadable_text")
    context, integrations = object_bytes(wire.context), object_bytes(wire.integrations)
    if context is None or integrations is None:
        return Fault(reason="wrong_field_type", params={"field": "context" if context is None else "integrations"})
    return Shared(context=context, integrations=integrations)


def examine(raw: bytes, call: str, shared: Shared | Fault, usable: Usable, header_anonymous_id: str | None) -> Examined | Fault:
    """Judge one event: the whole of the rules, the same for the front, which answers, and for the worker, which decides."""
    read = read_event(raw, call)
    if isinstance(read, Fault):
        return read
    if isinstance(shared, Fault):
        return shared
    context, integrations = read.context, read.integrations
    if shared.context is not EMPTY:
        context = merge(shared.context, context)
    if shared.integrations is not EMPTY:
        integrations = merge(shared.integrations, integrations)
    identifiers = usable.identifiers(read, context, header_anonymous_id)
    if isinstance(identifiers, Fault):
        return identifiers
    return Examined(read, context, integrations, identifiers)


def judge(raw: bytes, call: str, shared: Shared | Fault, usable: Usable, header_anonymous_id: str | None) -> Read | Fault:
    """The verdict of ``examine`` without its fruits, for the front, which needs only to answer."""
    read = read_event(raw, call)
    if isinstance(read, Fault):
        return read
    if isinstance(shared, Fault):
        return shared
    if read.type != "alias" and usable.knows_home(read.wire.user_id, read.wire.anonymous_id):
        return read
    examined = examine(raw, call, shared, usable, header_anonymous_id)
    return examined if isinstance(examined, Fault) else examined.read


def merge(shared: bytes, own: bytes) -> bytes:
    """The batch's object with the event's laid over it, member by member; the bytes of each value stay as they are."""
    if own is EMPTY:
        return shared
    return msgspec.json.encode({**_BY_NAME.decode(shared), **_BY_NAME.decode(own)})


def spell_envelope(envelope: Envelope) -> bytes:
    """Encode slice 0. Members that cannot be read as they are go in as one text, so that the envelope always can."""
    shared = bytes(envelope.shared)
    if isinstance(read_shared(shared), Fault):
        wrapped = msgspec.json.encode(shared.decode())
        envelope = msgspec.structs.replace(envelope, shared=msgspec.Raw(wrapped))
    return msgspec.json.encode(envelope)


def read_envelope(raw: bytes) -> tuple[Envelope, Shared | Fault]:
    """Decode slice 0, with what the batch shares."""
    envelope = _ENVELOPE.decode(raw)
    shared = bytes(envelope.shared)
    if shared[:1] == b'"':
        shared = msgspec.json.decode(shared, type=str).encode()
    return envelope, read_shared(shared)


def decode_anonymous_id(header: str) -> str | None:
    """The anonymous id of the ``AnonymousId`` header, which is base64 of UTF-8; None if it is not."""
    try:
        text = base64.b64decode(header, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return text if 0 < len(text) <= TEXT_CHARACTERS_MAX else None
