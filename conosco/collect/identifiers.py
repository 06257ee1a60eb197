"""Which identifiers an event carries: normalised, without those that identify nobody, strongest first."""

import re
from typing import Final

import msgspec

from conosco.collect.wire import EMPTY, NO_BYTES, Fault, Read, as_id
from conosco.model.identifier import Identifier, IdentityRules

# The longest address that mail can carry (RFC 3696, erratum 1690); no telephone number has more digits than 15.
EMAIL_CHARACTERS_MAX: Final = 320
PHONE_DIGITS_MIN: Final = 5
PHONE_DIGITS_MAX: Final = 20

_EMAIL: Final = re.compile(r"[^\s@]+@[^\s@]+\Z")
_NOT_DIGITS: Final = re.compile(r"[^0-9]+")


class _ContactPoints(msgspec.Struct, gc=False):
    email: msgspec.Raw = NO_BYTES
    phone: msgspec.Raw = NO_BYTES


class _WithTraits(msgspec.Struct, gc=False):
    traits: msgspec.Raw = NO_BYTES


_CONTACT_POINTS: Final = msgspec.json.Decoder(_ContactPoints)
_WITH_TRAITS: Final = msgspec.json.Decoder(_WithTraits)
_new_tuple: Final = tuple.__new__
_SCALAR: Final = msgspec.json.Decoder(str | int | None)


class Usable:
    """The identity rules as needed for each event: the order of namespaces and a quick look at blocked values."""

    def __init__(self, rules: IdentityRules) -> None:
        self._rules = rules
        self._order = tuple(rule.namespace for rule in rules.namespaces)
        self._ids = tuple(namespace for namespace in self._order if namespace in {"user_id", "anonymous_id"})
        self._takes_user_id = "user_id" in self._ids
        self._takes_anonymous_id = "anonymous_id" in self._ids
        self._blocked_characters_max = max((len(value) for value in rules.blocked), default=0)

    def is_usable(self, value: str | None) -> bool:
        """True if the value points to somebody."""
        if not value:
            return False
        # A longer text without white space at its ends, zero or dash in front cannot be one of the blocked ones.
        if len(value) > self._blocked_characters_max and value[0] > "0" and value[-1] > " " and value.isascii():
            return True
        return not self._rules.is_blocked(value)

    def knows_home(self, user_id: str | int | None, anonymous_id: str | int | None) -> bool:
        """True if an event with these ids of its own surely has a usable identifier."""
        return (self._takes_anonymous_id and self.is_usable(as_id(anonymous_id))) or (
            self._takes_user_id and self.is_usable(as_id(user_id))
        )

    def identifiers(self, read: Read, context: bytes, header_anonymous_id: str | None) -> tuple[Identifier, ...] | Fault:
        """The usable identifiers, strongest first, so that the first is home.

        The anonymous id of the request's header is taken only where the event itself identifies nobody.
        """
        wire = read.wire
        user_id, anonymous_id = as_id(wire.user_id), as_id(wire.anonymous_id)
        if read.type == "alias":
            for field, value in (("previousId", as_id(wire.previous_id)), ("userId", user_id)):
                if not self.is_usable(value):
                    return Fault(reason="no_usable_identifier", params={"field": field})
        found: list[Identifier] = []
        # A group's traits tell of the group; those in the context are the person's in every call. Without a backslash
        # no key can be spelled otherwise than "traits".
        in_traits = read.traits is not EMPTY and read.type != "group"
        in_context = context is not EMPTY and (context.find(b'"traits"') >= 0 or context.find(b"\\") >= 0)
        if in_traits or in_context:
            context_traits = bytes(traits_of(context)) if in_context else EMPTY
            found = self._with_contact_points(user_id, anonymous_id, read.traits if in_traits else EMPTY, context_traits)
        else:
            for namespace in self._ids:
                value = user_id if namespace == "user_id" else anonymous_id
                if value is not None and self.is_usable(value):
                    # As ``Identifier(...)`` does, in half the time.
                    found.append(_new_tuple(Identifier, (namespace, value)))
        if read.type == "alias":
            # The id to which the alias leads is home, whatever the order of namespaces.
            home = Identifier("user_id", user_id or "")
            return (home, *(identifier for identifier in found if identifier != home))
        if not found and "anonymous_id" in self._order and self.is_usable(header_anonymous_id):
            found.append(Identifier("anonymous_id", header_anonymous_id or ""))
        return tuple(found) if found else Fault(reason="no_usable_identifier")

    def _with_contact_points(
        self, user_id: str | None, anonymous_id: str | None, traits: bytes, context_traits: bytes
    ) -> list[Identifier]:
        emails: list[str] = []
        phones: list[str] = []
        _read_contact_points(traits, emails, phones)
        _read_contact_points(context_traits, emails, phones)
        values: dict[str, list[str]] = {
            "user_id": [user_id] if user_id else [],
            "anonymous_id": [anonymous_id] if anonymous_id else [],
            "email": emails,
            "phone": phones,
        }
        return [
            Identifier(namespace, value)
            for namespace in self._order
            for value in values.get(namespace, ())
            if self.is_usable(value)
        ]


def traits_of(context: bytes) -> msgspec.Raw:
    """What a context, an object, says under ``traits``, whatever that is; NO_BYTES where it says nothing."""
    return _WITH_TRAITS.decode(context).traits


def _read_contact_points(traits: bytes, emails: list[str], phones: list[str]) -> None:
    if traits is EMPTY or traits[:1] != b"{":
        return
    contact_points = _CONTACT_POINTS.decode(traits)
    for raw, values, normalise in ((contact_points.email, emails, email_of), (contact_points.phone, phones, phone_of)):
        if raw is not NO_BYTES:
            value = normalise(bytes(raw))
            if value is not None and value not in values:
                values.append(value)


def email_of(raw: bytes) -> str | None:
    """An e-mail address from its JSON value: trimmed, in lower case; None if it is none."""
    if raw[:1] != b'"':
        return None
    text = msgspec.json.decode(raw, type=str).strip().lower()
    return text if len(text) <= EMAIL_CHARACTERS_MAX and _EMAIL.match(text) else None


def phone_of(raw: bytes) -> str | None:
    """A telephone number from its JSON value: its digits, with a plus in front if it is international; None if it is none."""
    try:
        value = _SCALAR.decode(raw)
    except msgspec.ValidationError:
        return None
    text = str(value or "").strip()
    digits = _NOT_DIGITS.sub("", text)
    international = "+" in text.partition(digits[:1])[0] if digits else False
    if digits.startswith("00") and not international:
        international, digits = True, digits[2:]
    if not PHONE_DIGITS_MIN <= len(digits) <= PHONE_DIGITS_MAX:
        return None
    return "+" + digits if international else digits
