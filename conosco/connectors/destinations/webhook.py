"""Webhooks: JSON by POST to a URL, signed as Standard Webhooks says. The delivery's id lets the receiver drop repetitions."""

import base64
import binascii
import hashlib
import hmac
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from conosco.connectors.outbound import Answer, Context, parse_url
from conosco.connectors.settings import BatchSpec, convert_settings
from conosco.model.delivery import BatchLimits, Intent, Parcel, Reply
from conosco.model.moment import SECOND
from conosco.rules.interest import Interest

type: Final = "webhook"
title: Final = "Webhook"
is_idempotent: Final = True
writes_files: Final = False

SECRET_PREFIX: Final = "whsec_"
# Refusals of one body: it would be refused again. Everything else says "later", or that the address or the key is wrong,
# which is mended at the destination while deliveries wait.
_NEVER: Final = frozenset({400, 406, 411, 412, 413, 414, 415, 416, 417, 418, 422, 431, 451})
_PAUSES: Final = frozenset({429, 503})


class Settings(Interest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``allow_private``: the URL may lie in a network that the administrator has opened. ``batch``: how many go out in one request."""

    url: str
    allow_private: bool = False
    batch: BatchSpec | None = None

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for a URL that cannot be used."""
        parse_url(self.url)


def read_settings(spec: dict[str, Any]) -> Settings:
    """Check a destination's spec. Raises Refused: ``spec_invalid`` with the field's pointer and a sentence."""
    return convert_settings(spec, Settings, "url")


def batch_limits(settings: Settings) -> BatchLimits | None:
    """How deliveries are put together; None if each goes out alone."""
    return settings.batch.limits() if settings.batch else None


def spell_secret(key: bytes) -> str:
    """Spell a signing key (24 to 64 random bytes) as receivers expect it: ``whsec_`` and base64."""
    if not 24 <= len(key) <= 64:
        raise ValueError(f"a signing key has 24 to 64 bytes, not {len(key)}")
    return SECRET_PREFIX + base64.b64encode(key).decode("ascii")


def to_payload(parcel: Parcel, *, is_batch: bool = False) -> bytes:
    """The body: the same bytes for the same parcel, however often it is sent. A replay says what it repeats."""
    if not is_batch:
        return _body(parcel.intents[0])
    parts = [msgspec.json.encode(intent.delivery_id) + b',"body":' + _body(intent) for intent in parcel.intents]
    deliveries = b",".join(b'{"delivery_id":' + part + b"}" for part in parts)
    return b'{"batch_id":' + msgspec.json.encode(parcel.id) + b',"deliveries":[' + deliveries + b"]}"


def _body(intent: Intent) -> bytes:
    if intent.body:
        return intent.body
    return msgspec.json.encode({**intent.payload, "replay_of": intent.replay_of} if intent.replay_of else intent.payload)


def sign(secret: bytes, delivery_id: str, timestamp_s: int, body: bytes) -> str:
    """The signature of a body, as in Standard Webhooks. Raises ValueError for a secret that is not base64."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX.encode()), validate=True)
    mac = hmac.digest(key, b"%b.%d.%b" % (delivery_id.encode(), timestamp_s, body), hashlib.sha256)
    return "v1," + base64.b64encode(mac).decode("ascii")


async def deliver(parcel: Parcel, settings: Settings, secret: bytes, context: Context) -> Reply:
    """Send once; what came of it and its code: http_STATUS, one of outbound's failures, or secret_unreadable."""
    body = to_payload(parcel, is_batch=settings.batch is not None)
    timestamp_s = context.now // SECOND
    try:
        signature = sign(secret, parcel.id, timestamp_s, body)
    except binascii.Error:
        return Reply("retry", "secret_unreadable")
    headers = {
        "content-type": "application/json",
        "user-agent": "Conosco",
        "webhook-id": parcel.id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": signature,
    }
    replayed = parcel.intents[0].replay_of
    if replayed and settings.batch is None:
        headers["conosco-replay-of"] = replayed
    answer = await context.outbound.post(settings.url, headers, body, allow_private=settings.allow_private)
    return _reply(answer, context.now)


def _reply(answer: Answer, now: int) -> Reply:
    """A status decides, even if the rest of the answer was too large or too slow: the receiver has spoken."""
    status = answer.status
    if status:
        code = f"http_{status}"
        if 200 <= status < 300:
            return Reply("delivered", code)
        return Reply("dead" if status in _NEVER else "retry", code, pause_us(answer.retry_after, now) if status in _PAUSES else 0)
    failure = answer.failure or "connect_failed"
    return Reply("dead" if failure == "refused_address" else "retry", failure)


def pause_us(retry_after: str, now: int) -> int:
    """The pause that a Retry-After asks for, in seconds or until a date; 0 if there is none or it cannot be read."""
    if retry_after.isascii() and retry_after.isdecimal():
        return min(int(retry_after), 10**6) * SECOND
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0
    return max(0, int(until.replace(tzinfo=until.tzinfo or UTC).timestamp()) * SECOND - now)
