"""Signatures of webhooks: whether a body comes from whom it says. Pure, and in constant time where a secret is compared."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from conosco.model.definition import HmacSignature, Signature, StandardSignature
from conosco.model.moment import MINUTE, SECOND, parse_duration

# A secret of Standard Webhooks is spelled so, in base64 after the prefix.
SECRET_PREFIX: Final = "whsec_"
# Svix, from which the specification comes, sends the same headers by its own name.
_STANDARD_NAMES: Final = (b"webhook", b"svix")
SIGNATURES_MAX: Final = 20
_DIGITS_MAX: Final = 15


def is_genuine(signature: Signature, secret: bytes, headers: Mapping[bytes, bytes], body: bytes, now: int) -> bool:
    """Whether a body is signed as declared, with this secret, and not longer ago (or ahead) than is tolerated.

    ``headers`` have names in small letters; of a header that comes twice the last counts. ``now`` is microseconds UTC.
    """
    match signature:
        case StandardSignature():
            return _is_standard(signature, secret, headers, body, now)
        case HmacSignature():
            return _is_hmac(signature, secret, headers, body, now)


def header_id(headers: Mapping[bytes, bytes]) -> str:
    """The id that a sender gave its body in a header; empty if it gave none."""
    for name in (b"webhook-id", b"svix-id", b"idempotency-key"):
        value = headers.get(name)
        if value:
            return value.decode("latin-1")
    return ""


def _is_standard(signature: StandardSignature, secret: bytes, headers: Mapping[bytes, bytes], body: bytes, now: int) -> bool:
    name = next((name for name in _STANDARD_NAMES if name + b"-signature" in headers), b"")
    message_id, sent = headers.get(name + b"-id", b""), headers.get(name + b"-timestamp", b"")
    if not message_id or not _is_recent(sent, signature.tolerance, now):
        return False
    expected = hmac.digest(standard_key(secret), b"%b.%b.%b" % (message_id, sent, body), "sha256")
    is_one = False
    for given in headers.get(name + b"-signature", b"").split(b" ")[:SIGNATURES_MAX]:
        version, _, text = given.partition(b",")
        # Every one is compared, so that time tells nothing of which it was.
        is_one |= version == b"v1" and hmac.compare_digest(_from_base64(text), expected)
    return is_one


def standard_key(secret: bytes) -> bytes:
    """The key that a secret of Standard Webhooks stands for: base64 after ``whsec_``, else the secret as it is."""
    text = secret.removeprefix(SECRET_PREFIX.encode())
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True) if text != secret else secret
    except binascii.Error:
        return secret


def _is_hmac(signature: HmacSignature, secret: bytes, headers: Mapping[bytes, bytes], body: bytes, now: int) -> bool:
    given = headers.get(signature.header.lower().encode(), b"").strip()
    prefix = signature.prefix.encode()
    signed = body
    if signature.timestamp_header:
        sent = headers.get(signature.timestamp_header.lower().encode(), b"")
        if not _is_recent(sent, signature.tolerance, now):
            return False
        signed = b"%b.%b" % (sent, body)
    algorithm = hashlib.sha256 if signature.algorithm == "sha256" else hashlib.sha1
    expected = hmac.new(secret, signed, algorithm).digest()
    if not given.startswith(prefix):
        return False
    text = given[len(prefix) :]
    found = _from_hex(text) if signature.encoding == "hex" else _from_base64(text)
    return hmac.compare_digest(found, expected)


def _is_recent(sent: bytes, tolerance: str, now: int) -> bool:
    if not sent.isdigit() or len(sent) > _DIGITS_MAX:
        return False
    return abs(now - int(sent) * SECOND) <= (parse_duration(tolerance) or 5 * MINUTE)


def _from_base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return b""


def _from_hex(text: bytes) -> bytes:
    try:
        return binascii.unhexlify(text)
    except (binascii.Error, ValueError):
        return b""
