"""How tracking answers: the body, and the headers that let pages of every site send events and hear what became of them."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from conosco.collect.accept import EventStatus

Headers = tuple[tuple[bytes, bytes], ...]

METHODS: Final = b"POST, GET, OPTIONS"
PREFLIGHT_AGE_SECONDS: Final = 900
RETRY_AFTER_SECONDS: Final = 1
# A browser asks for the headers that the page's SDK wants to send, known or not: none of them gives any right here.
ASKED_HEADERS_MAX: Final = 32
_HEADER_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}\Z")
JSON_TYPE: Final = b"application/json"


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of an answer; ``code`` and ``message`` say why nothing of the request is stored. See ``failure``."""

    success: bool
    events: tuple[EventStatus, ...]
    code: str = ""
    message: str = ""


def failure(code: str, events: tuple[EventStatus, ...] = ()) -> Answer:
    """The body of an answer that is no success.

    It always has both: RudderStack's SDK for Python takes a JSON body that lacks one of them for trouble that may pass, and
    sends for many minutes again what can never be taken.
    """
    return Answer(success=False, events=events, code=code, message=code.replace("_", " "))


def preflight(headers: Mapping[bytes, bytes]) -> Headers:
    """What answers an OPTIONS request."""
    if b"access-control-request-method" not in headers:
        return ((b"allow", METHODS),)
    asked = headers.get(b"access-control-request-headers", b"").decode("latin-1").lower().split(",", ASKED_HEADERS_MAX)
    allowed = [name for name in map(str.strip, asked[:ASKED_HEADERS_MAX]) if _HEADER_NAME.match(name)]
    return (
        (b"access-control-allow-methods", METHODS),
        (b"access-control-allow-headers", ", ".join(allowed).encode()),
        (b"access-control-max-age", b"%d" % PREFLIGHT_AGE_SECONDS),
    )


def patience(status: int, now: int) -> Headers:
    """When to try again, for an answer that asks for it; ``now`` in microseconds. Where a rate is the reason, twice."""
    if status not in {429, 503}:
        return ()
    retry_after = (b"retry-after", b"%d" % RETRY_AFTER_SECONDS)
    if status == 503:
        return (retry_after,)
    # Seconds since 1970, rounded up, as SDKs read it.
    return (retry_after, (b"x-ratelimit-reset", b"%d" % (-(-now // 1_000_000) + RETRY_AFTER_SECONDS)))


def dressed(
    headers: Mapping[bytes, bytes], body_type: bytes, body_bytes: int, extra: Iterable[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """The headers of an answer to a request with these headers."""
    out = [
        (b"content-type", body_type),
        (b"content-length", b"%d" % body_bytes),
        (b"x-content-type-options", b"nosniff"),
        *extra,
    ]
    origin = headers.get(b"origin")
    if origin is not None:
        # The exact origin, never a star: SDKs that send cookies need it.
        out += [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", b"retry-after, x-ratelimit-reset, x-conosco-code"),
            # The tag is fetched by pages of other sites, some of which take only what says that it may be.
            (b"cross-origin-resource-policy", b"cross-origin"),
        ]
    out.append((b"vary", b"Origin"))
    return out
