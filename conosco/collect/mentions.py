"""Whom a body mentions, even one that breaks a rule: so that what was kept about a person is found when it must be."""

from typing import Any, Final

import msgspec

from conosco.collect.identifiers import email_of, phone_of
from conosco.model.identifier import Identifier

_IDS: Final = (("userId", "user_id"), ("previousId", "user_id"), ("previousId", "anonymous_id"), ("anonymousId", "anonymous_id"))
_CONTACT_POINTS: Final = (("email", email_of), ("phone", phone_of))


def mentioned(body: bytes) -> list[Identifier]:
    """Every identifier that can be made out in an event's bytes, read leniently; none where they are no JSON object."""
    try:
        event = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    if not isinstance(event, dict):
        return []
    found = [Identifier(namespace, str(event[name])) for name, namespace in _IDS if _is_id(event.get(name))]
    context = event.get("context")
    for holder in (event, context if isinstance(context, dict) else {}):
        traits = holder.get("traits")
        if isinstance(traits, dict):
            for name, normalise in _CONTACT_POINTS:
                value = normalise(msgspec.json.encode(traits[name])) if _is_id(traits.get(name)) else None
                if value:
                    found.append(Identifier(name, value))
    return list(dict.fromkeys(found))


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""
