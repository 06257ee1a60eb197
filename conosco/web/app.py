"""The one ASGI application of the front: tracking goes straight to its own application, all else to the management API."""

import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import unquote

from conosco.web.hooks import is_hook
from conosco.web.journal import Note, keep_silent
from conosco.web.reading import CARRIED
from conosco.web.tracking import PREFIXES

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9_-]{8,64}\Z")
_PROFILES: Final = b"/api/profiles/"
_OBJECTS: Final = b"/api/objects/"


def create_app(
    api: Any, tracking: Any, clock_ns: Callable[[], int] = time.monotonic_ns, note: Note = keep_silent, hooks: Any = None
) -> Application:
    """Join the API and tracking (both ASGI applications). What begins like tracking's addresses is tracking's, with nothing in between.

    ``hooks`` takes the bodies of webhooks. Every other answer carries the security headers and ``x-request-id``. Writes and whatever was refused are noted by their
    route; reads that went well are not, because every open page makes several a second. Lifespan events go to the API.
    """

    # Without it its addresses are like any other that nobody knows.
    to_hooks = hooks or api

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if is_hook(scope["path"]):
                await to_hooks(scope, receive, send)
            elif scope["path"].startswith(PREFIXES):
                await tracking(scope, receive, send)
            else:
                await _answer(api, scope, receive, send, clock_ns, note)
        else:
            await api(scope, receive, send)

    return app


async def _answer(api: Application, scope: Scope, receive: Receive, send: Send, clock_ns: Callable[[], int], note: Note) -> None:
    """Let the API answer, with a request id, the headers and a note."""
    started_ns = clock_ns()
    request_id = _request_id(scope)
    scope.setdefault("state", {})["request_id"] = request_id
    _carry_reference(scope)

    async def send_dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name.lower() for name, _ in message.get("headers", ())}
            message["headers"] = [
                *message.get("headers", ()),
                *(header for header in _HEADERS if header[0] not in own),
                *(() if b"cache-control" in own else ((b"cache-control", b"no-store"),)),
                (b"x-request-id", request_id.encode()),
            ]
            if message["status"] >= 400 or scope["method"] not in ("GET", "HEAD"):
                facts = {
                    "request_id": request_id,
                    "method": scope["method"],
                    "route": scope.get("path_template", ""),
                    "status": message["status"],
                    "duration_us": (clock_ns() - started_ns) // 1_000,
                }
                note("answered", facts)
        await send(message)

    await api(scope, receive, send_dressed)


def _request_id(scope: Scope) -> str:
    """The id that a proxy gave the request, if it is a plain word, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.match(value):
            return str(value.decode())
    return secrets.token_hex(8)


def _carry_reference(scope: Scope) -> None:
    """Write the reference to a person or an object in the path in hexadecimal.

    A reference may hold any character, also an encoded slash or percent sign, which routers decode too early.
    """
    raw = scope.get("raw_path")
    if not raw or not raw.startswith((_PROFILES, _OBJECTS)):
        return
    if raw.startswith(_OBJECTS):
        kind, slash, reference = raw.removeprefix(_OBJECTS).partition(b"/")
        before, slash, rest = _OBJECTS + kind + slash, b"", b""
    else:
        before = _PROFILES
        reference, slash, rest = raw.removeprefix(_PROFILES).partition(b"/")
    if reference:
        text = unquote(reference.decode("ascii", "replace"), errors="replace")
        carried = before + CARRIED.encode() + text.encode().hex().encode() + slash + rest
        scope["path"] = carried.decode("ascii", "replace")
        scope["raw_path"] = carried
