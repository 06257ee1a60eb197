"""The Event: one thing that happened, as understood from the bytes that were received."""

import re
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple

import msgspec

from conosco.model.identifier import Identifier

EventType = Literal["track", "identify", "page", "screen", "group", "alias"]


class Address(NamedTuple):
    """Where an event lies in the log."""

    position: int
    slot: int


class Event(msgspec.Struct, frozen=True):
    """An accepted event. Times are microseconds UTC; ``event_at`` is corrected and clamped, ``original_at`` as sent.

    ``identifiers`` are the usable ones, strongest first, so the first is the home identifier.
    ``properties``, ``traits`` and ``context`` are the customer's own JSON, untouched, and so is ``objects``, a list, empty
    bytes where the event has none. ``automated`` if a program made it and not a person.

    Not for keywords only, unlike its peers: a call with more than 15 keywords goes through a dictionary, which costs more
    than all the rest of making an event.
    """

    position: int
    slot: int
    message_id: str
    source_id: str
    type: EventType
    identifiers: tuple[Identifier, ...]
    event_at: int
    received_at: int
    logged_at: int
    event: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    group_id: str | None = None
    previous_id: str | None = None
    original_at: int | None = None
    sent_at: int | None = None
    historical: bool = False
    may_assert: bool = False
    source_priority: int = 0
    properties: bytes = b"{}"
    traits: bytes = b"{}"
    context: bytes = b"{}"
    integrations: bytes = b"{}"
    automated: bool = False
    objects: bytes = b""

    @property
    def home(self) -> Identifier:
        """The one identifier whose cell keeps this event."""
        return self.identifiers[0]

    @property
    def order(self) -> tuple[int, str, str]:
        """The total order of events, which uses nothing of their arrival."""
        return (self.event_at, self.source_id, self.message_id)


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        # An exponent beyond what any decimal holds: nothing, or too much for every evaluator.
        return Decimal(0) if "-" in text[1:] else Decimal("Infinity")


_EXACT: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=_decimal)
# Strings and numbers, each as a whole, so that nothing is looked at twice; group 1 is what makes a number not whole.
_STRING_OR_NUMBER = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?[0-9]++([.eE][0-9eE+-]*+)?+')
# The longest whole number that the decoder takes.
_WHOLE_DIGITS_MAX = 4_300


def _lengthen(found: re.Match[bytes]) -> bytes:
    text = found[0]
    return text + b".0" if len(text) > _WHOLE_DIGITS_MAX and text[0] != ord('"') and not found[1] else text


def read_json(raw: bytes) -> Any:
    """Decode the customer's JSON with its numbers as sent: whole ones as int, others as Decimal, never float.

    Numbers of any size are read, whole ones beyond 4,300 digits as Decimal. Raises msgspec.DecodeError.
    """
    try:
        return _EXACT.decode(raw)
    except msgspec.ValidationError:
        return _EXACT.decode(_STRING_OR_NUMBER.sub(_lengthen, raw))
