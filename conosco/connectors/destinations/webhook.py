"""Webhooks: JSON by POST to a URL, signed as Standard Webhooks says. The delivery's id lets the receiver drop repetitions."""

import base64
import binascii
import hashlib
import hmac
from typing import Any, Final, Literal

import msgspec

from conosco.connectors.outbound import Answer, Context, parse_url
from conosco.model.delivery import AttemptResult, Intent
from conosco.model.moment import SECOND
from conosco.model.problem import refuse

type: Final = "webhook"
title: Final = "Webhook"

SECRET_PREFIX: Final = "whsec_"
# Refusals that say "later" rather than "no".
_AGAIN: Final = frozenset({408, 409, 425, 429})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``allow_private``: the URL may lie in a network that the administrator has opened. ``segments``: their keys, or all."""

    url: str
    allow_private: bool = False
    events: tuple[Literal["segment.entered", "segment.exited"], ...] = ("segment.entered", "segment.exited")
    segments: Literal["all"] | tuple[str, ...] = "all"

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for a URL that cannot be used."""
        parse_url(self.url)


def read_settings(spec: dict[str, Any]) -> Settings:
    """Check a destination's spec. Raises Refused: ``spec_invalid`` with the field's pointer and a sentence."""
    try:
        return msgspec.convert(spec, Settings)
    except msgspec.ValidationError as error:
        sentence, _, path = str(error).partition(" - at `$")
        # What the URL breaks is told by the struct as a whole, which has no path.
        pointer = path.rstrip("`").replace("[", ".").replace("]", "").replace(".", "/")
        about_url = not pointer and isinstance(error.__cause__, ValueError)
        raise refuse("spec_invalid", pointer="/spec" + ("/url" if about_url else pointer), reason=sentence) from None


def spell_secret(key: bytes) -> str:
    """Spell a signing key (24 to 64 random bytes) as receivers expect it: ``whsec_`` and base64."""
    if not 24 <= len(key) <= 64:
        raise ValueError(f"a signing key has 24 to 64 bytes, not {len(key)}")
    return SECRET_PREFIX + base64.b64encode(key).decode("ascii")


def to_payload(intent: Intent) -> bytes:
    """The body: the same bytes for the same intent, however often it is sent."""
    return msgspec.json.encode(intent.payload)


def sign(secret: bytes, delivery_id: str, timestamp_s: int, body: bytes) -> str:
    """The signature of a body, as in Standard Webhooks. Raises ValueError for a secret that is not base64."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX.encode()), validate=True)
    mac = hmac.digest(key, b"%b.%d.%b" % (delivery_id.encode(), timestamp_s, body), hashlib.sha256)
    return "v1," + base64.b64encode(mac).decode("ascii")


async def deliver(intent: Intent, settings: Settings, secret: bytes, context: Context) -> tuple[AttemptResult, str]:
    """Send once; what came of it and its code: http_STATUS, one of outbound's failures, or secret_unreadable."""
    body = to_payload(intent)
    timestamp_s = context.now // SECOND
    try:
        signature = sign(secret, intent.delivery_id, timestamp_s, body)
    except binascii.Error:
        return "retry", "secret_unreadable"
    headers = {
        "content-type": "application/json",
        "user-agent": "Conosco",
        "webhook-id": intent.delivery_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": signature,
    }
    answer = await context.outbound.post(settings.url, headers, body, allow_private=settings.allow_private)
    return _result(answer)


def _result(answer: Answer) -> tuple[AttemptResult, str]:
    """A status decides, even if the rest of the answer was too large or too slow: the receiver has spoken."""
    status = answer.status
    if status:
        code = f"http_{status}"
        if 200 <= status < 300:
            return "delivered", code
        return ("dead" if 400 <= status < 500 and status not in _AGAIN else "retry"), code
    failure = answer.failure or "connect_failed"
    return ("dead" if failure == "refused_address" else "retry"), failure
