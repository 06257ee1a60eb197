"""What carries an event besides a plain JSON body: forms that hold JSON, and the addresses of pixels. All pure."""

import base64
import binascii
import re
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from conosco.model.problem import refuse

# Segment's pixel carries a whole event in ``data``; RudderStack's spells it out in the query.
DATA_PIXELS: Final[dict[str, str]] = {
    f"/v1/pixel/{kind}": kind for kind in ("track", "identify", "page", "screen", "group", "alias")
}
QUERY_PIXELS: Final[dict[str, str]] = {"/pixel/v1/track": "track", "/pixel/v1/page": "page"}
# An address longer than this is no pixel's: browsers and proxies cut them far below.
QUERY_BYTES_MAX: Final = 32 << 10
MEMBERS_MAX: Final = 200
LEVELS_MAX: Final = 8
GIF: Final = base64.b64decode(b"R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")

_DATA: Final = b"data="
_ESCAPED_BRACE: Final = b"%7b"
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]+={0,2}\Z")
_BEGINS_JSON: Final = b"{["
_OBJECTS: Final = frozenset({"properties", "traits", "context", "integrations"})


def unwrap(body: bytes) -> bytes:
    """The JSON inside a form, known by the bytes and not by the label; every other body as it is.

    Taken are ``data=`` with JSON or base64 of JSON, and JSON that was percent-encoded whole. The result is never longer.
    """
    if body[:5].lower() == _DATA:
        inside = unquote_to_bytes(body[len(_DATA) :].partition(b"&")[0].replace(b"+", b" "))
        return inside if inside.lstrip()[:1] in _BEGINS_JSON else _from_base64(inside, b"invalid")
    if body[:3].lower() == _ESCAPED_BRACE:
        return unquote_to_bytes(body.rstrip(b"\r\n=").replace(b"+", b" "))
    return body


def event_of_pixel(path: str, query: bytes) -> bytes:
    """The event that a pixel's address spells, as JSON. Refuses ``invalid_pixel`` (400)."""
    if len(query) > QUERY_BYTES_MAX:
        raise refuse("invalid_pixel", status=400)
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=MEMBERS_MAX)
    except ValueError:
        raise refuse("invalid_pixel", status=400) from None
    if path in DATA_PIXELS:
        data = dict(pairs).get("data", "").encode("utf-8", "replace")
        raw = data if data.lstrip()[:1] == b"{" else _from_base64(data, b"")
        if not raw:
            raise refuse("invalid_pixel", status=400)
        return raw
    return msgspec.json.encode(_spelled_out(pairs))


def _from_base64(data: bytes, otherwise: bytes) -> bytes:
    """Base64 of either alphabet, with or without padding; a plus sign may have become a space on the way."""
    data = data.strip().replace(b" ", b"+")
    if not _BASE64.match(data):
        return otherwise
    data = data.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4))
    except binascii.Error:
        return otherwise


def _spelled_out(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """An event from the members of a query: ``properties.color=red`` lies inside, objects may be given as JSON.

    Refuses ``invalid_pixel`` (400) for names that contradict each other or lie too deep.
    """
    event: dict[str, Any] = {}
    for name, text in pairs:
        *outer, last = name.split(".")
        if len(outer) > LEVELS_MAX:
            raise refuse("invalid_pixel", status=400)
        inside = event
        for part in outer:
            inside = inside.setdefault(part, {})
            if not isinstance(inside, dict):
                raise refuse("invalid_pixel", status=400)
        inside[last] = _value(text) if not outer and name in _OBJECTS else text
    return event


def _value(text: str) -> Any:
    if not text:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        # Not an object: the rules for events say so better than this place could.
        return text
