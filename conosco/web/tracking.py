"""Tracking: the Segment HTTP API as a bare ASGI application. It answers only after what it stored is durable."""

import asyncio
import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from prometheus_client import CollectorRegistry, Counter

from conosco.collect.accept import BODY_BYTES_MAX, Accepted, EventStatus, accept
from conosco.collect.envelope import decode_anonymous_id, spell_envelope
from conosco.model.definition import SourceType
from conosco.model.identifier import IdentityRules
from conosco.model.problem import Refused, refuse
from conosco.model.record import Draft, Envelope
from conosco.ports.log import LogFull
from conosco.web.committer import Committer, Overloaded, SourceOverloaded
from conosco.web.tracking_inflate import Body, BodyTooLarge, BodyUnreadable

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Path -> the type that it stands for, empty where each event names its own.
CALLS: Final[dict[str, str]] = {
    "/v1/batch": "",
    "/v1/b": "",
    "/v1/import": "",
    **dict.fromkeys(("/v1/track", "/v1/t"), "track"),
    **dict.fromkeys(("/v1/identify", "/v1/i"), "identify"),
    **dict.fromkeys(("/v1/page", "/v1/p"), "page"),
    **dict.fromkeys(("/v1/screen", "/v1/s"), "screen"),
    **dict.fromkeys(("/v1/group", "/v1/g"), "group"),
    **dict.fromkeys(("/v1/alias", "/v1/a"), "alias"),
}
METHODS: Final = b"POST, GET, OPTIONS"
ALLOWED_HEADERS: Final = frozenset(
    {"authorization", "content-type", "anonymousid", "sentat", "x-write-key", "x-retry-count", "idempotency-key"}
)
PREFLIGHT_AGE_SECONDS: Final = 900
RETRY_AFTER_SECONDS: Final = 1
# Larger bodies are taken apart beside the loop, so that other requests need not wait for them.
INLINE_BYTES_MAX: Final = 256 << 10
_CLIENT: Final = re.compile(rb"[A-Za-z0-9._@/-]{1,64}")


class SourceEntry(msgspec.Struct, frozen=True):
    """A source as tracking needs it."""

    source_id: str
    type: SourceType
    enabled: bool = True


class SourceTable(msgspec.Struct, frozen=True, kw_only=True):
    """The sources by the hash of their write key (see ``key_hash``), and the identity rules in force."""

    by_key_hash: Mapping[str, SourceEntry]
    rules: IdentityRules = IdentityRules()


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """``body_bytes_max`` inflated, a request; ``held_bytes_max`` being read, all requests together."""

    body_bytes_max: int = BODY_BYTES_MAX
    held_bytes_max: int = 64 << 20
    read_seconds_max: float = 30.0


class TrackingMetrics:
    """What tracking counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter("conosco_tracking_requests", "Tracking requests by HTTP status.", ["status"], registry=registry)
        self.events = Counter("conosco_tracking_events", "Events received, by what was answered.", ["status"], registry=registry)
        self.refused = Counter("conosco_tracking_refused", "Requests refused whole, by code.", ["code"], registry=registry)
        # Finding a counter by its labels takes longer than counting.
        self._stored, self._rejected, self._refused = map(self.events.labels, ("stored", "rejected", "refused"))
        self._answers: dict[int, Counter] = {}

    def count_answer(self, status: int) -> None:
        """Count a request by the status of its answer."""
        counter = self._answers.get(status)
        if counter is None:
            counter = self._answers[status] = self.requests.labels(status)
        counter.inc()

    def count_events(self, accepted: Accepted) -> None:
        """Count the events of one answer by status."""
        stored, kept, received = accepted.stored_count, len(accepted.slices), len(accepted.events)
        self._stored.inc(stored)
        if kept > stored:
            self._rejected.inc(kept - stored)
        if received > kept:
            self._refused.inc(received - kept)


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of an answer; ``code`` says why a request was refused whole."""

    success: bool
    events: tuple[EventStatus, ...]
    code: str = ""


class Disconnected(Exception):
    """The client went away before its request was whole."""


def key_hash(write_key: str) -> str:
    """The form in which write keys are kept and looked up."""
    return hashlib.sha256(write_key.encode("utf-8", "surrogatepass")).hexdigest()


class Tracking:
    """The ASGI application for ``/v1/*``. Nothing personal is logged; ``clock`` gives microseconds UTC."""

    def __init__(
        self,
        *,
        sources: Callable[[], SourceTable],
        committer: Committer,
        limits: Limits,
        clock: Callable[[], int],
        metrics: TrackingMetrics,
    ) -> None:
        self._sources = sources
        self._committer = committer
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._held_bytes = 0
        self._beside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tracking")

    async def close(self) -> None:
        """Write what waits, and stop; requests that come later are asked to try again."""
        await self._committer.close()
        self._beside.shutdown()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        received_at = self._clock()
        path: str = scope["path"]
        call = CALLS.get(path[:-1] if path.endswith("/") else path)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        method = scope["method"]
        if method == "OPTIONS":
            await self._send(send, headers, 204, None, _preflight(headers))
            return
        extra: tuple[tuple[bytes, bytes], ...] = ()
        try:
            if call is None:
                raise refuse("unknown_path", status=404)
            if method != "POST":
                extra = ((b"allow", b"POST, OPTIONS"),)
                raise refuse("method_not_allowed", status=405)
            status, answer = await self._take(scope, headers, receive, call, received_at)
        except Disconnected:
            return
        except Refused as refused:
            # An answer that asks for patience says for how long.
            status, code = refused.status, refused.problems[0].code
            self._metrics.refused.labels(code).inc()
            answer = Answer(success=False, events=(), code=code)
            if status in {429, 503}:
                extra = ((b"retry-after", b"%d" % RETRY_AFTER_SECONDS),)
        await self._send(send, headers, status, answer, extra)

    async def _take(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, call: str, received_at: int
    ) -> tuple[int, Answer]:
        """Read, accept and store one request. Raises Refused or Disconnected."""
        table = self._sources()
        write_key = _basic_user(headers) or None
        source = _find(table, write_key) if write_key else None
        body, held_bytes = await self._read(receive)
        try:
            accepted = await self._accept(body, call, headers, table.rules)
        finally:
            self._held_bytes -= held_bytes
        if source is None:
            source = _find(table, accepted.write_key or _query_key(scope))
        if not source.enabled:
            raise refuse("source_disabled", status=401)
        if accepted.slices:
            await self._store(_draft(accepted, source, call, headers, received_at))
        self._metrics.count_events(accepted)
        stored = accepted.stored_count > 0
        return 200 if stored else 400, Answer(success=stored, events=accepted.events)

    async def _read(self, receive: Receive) -> tuple[bytes, int]:
        """The inflated body, and how many bytes are now held for it."""
        body = Body(self._limits.body_bytes_max)
        held_bytes = 0
        try:
            async with asyncio.timeout(self._limits.read_seconds_max):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Disconnected
                    more = message.get("more_body", False)
                    try:
                        body.feed(message.get("body", b""))
                    except BodyTooLarge:
                        await _drain(receive, more, self._limits.body_bytes_max)
                        raise refuse("body_too_large", status=413, limit=self._limits.body_bytes_max) from None
                    self._held_bytes += body.size - held_bytes
                    held_bytes = body.size
                    if self._held_bytes > self._limits.held_bytes_max:
                        raise refuse("overloaded", status=503)
            return body.finish(), held_bytes
        except BaseException as raised:
            self._held_bytes -= held_bytes
            if isinstance(raised, BodyUnreadable):
                raise refuse("invalid_gzip", status=400) from None
            if isinstance(raised, TimeoutError):
                raise refuse("body_timeout", status=408) from None
            raise

    async def _accept(self, body: bytes, call: str, headers: Mapping[bytes, bytes], rules: IdentityRules) -> Accepted:
        work = partial(
            accept,
            body,
            call,
            fresh_id=_fresh_id,
            rules=rules,
            idempotency_key=_text(headers.get(b"idempotency-key")),
            header_anonymous_id=_anonymous_id(headers),
        )
        if len(body) <= INLINE_BYTES_MAX:
            return work()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._beside, work)
        except RuntimeError:
            # The pool takes no more work: the process is stopping.
            raise refuse("overloaded", status=503) from None

    async def _store(self, draft: Draft) -> None:
        """Append durably; our own trouble is never the client's fault, so that it sends again."""
        try:
            await self._committer.commit(draft)
        except SourceOverloaded:
            raise refuse("source_overloaded", status=429) from None
        except Overloaded:
            raise refuse("overloaded", status=503) from None
        except LogFull:
            raise refuse("log_unavailable", status=503) from None

    async def _send(
        self,
        send: Send,
        headers: Mapping[bytes, bytes],
        status: int,
        answer: Answer | None,
        extra: Iterable[tuple[bytes, bytes]],
    ) -> None:
        self._metrics.count_answer(status)
        body = b"" if answer is None else msgspec.json.encode(answer)
        out = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-content-type-options", b"nosniff"),
            *extra,
        ]
        origin = headers.get(b"origin")
        if origin is not None:
            # The exact origin, never a star: SDKs that send cookies need it.
            out += [
                (b"access-control-allow-origin", origin),
                (b"access-control-allow-credentials", b"true"),
                (b"access-control-expose-headers", b"retry-after"),
                (b"vary", b"Origin"),
            ]
        await send({"type": "http.response.start", "status": status, "headers": out})
        await send({"type": "http.response.body", "body": body})


async def _drain(receive: Receive, more: bool, bytes_max: int) -> None:
    """Pass over the rest of a body that is too large, so that the client hears the answer; not over more than as much again."""
    passed = 0
    while more and passed <= bytes_max:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        passed += len(message.get("body", b""))
        more = message.get("more_body", False)


def _preflight(headers: Mapping[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    if b"access-control-request-method" not in headers:
        return ((b"allow", METHODS),)
    asked = headers.get(b"access-control-request-headers", b"").decode("latin-1").lower().split(",")
    allowed = [name for name in map(str.strip, asked) if name in ALLOWED_HEADERS]
    return (
        (b"access-control-allow-methods", METHODS),
        (b"access-control-allow-headers", ", ".join(allowed).encode()),
        (b"access-control-max-age", b"%d" % PREFLIGHT_AGE_SECONDS),
    )


def _find(table: SourceTable, write_key: str | None) -> SourceEntry:
    source = table.by_key_hash.get(key_hash(write_key)) if write_key else None
    if source is None:
        raise refuse("unknown_write_key", status=401)
    return source


def _basic_user(headers: Mapping[bytes, bytes]) -> str:
    """The user name of Basic authentication, which is where SDKs put the write key; empty if there is none."""
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"basic":
        return ""
    try:
        return base64.b64decode(credentials.strip()).decode().partition(":")[0]
    except (binascii.Error, ValueError):
        return ""


def _query_key(scope: Scope) -> str | None:
    """The write key of a beacon, which can set no headers."""
    query: bytes = scope.get("query_string", b"")
    return parse_qs(query.decode("latin-1")).get("writeKey", [None])[0] if query else None


def _draft(accepted: Accepted, source: SourceEntry, call: str, headers: Mapping[bytes, bytes], received_at: int) -> Draft:
    # The first word of the user agent is the program; the rest of a browser's may tell of the person.
    client = _CLIENT.match(headers.get(b"user-agent", b""))
    envelope = Envelope(
        received_at=received_at,
        call=call,
        sent_at=accepted.sent_at,
        header_sent_at=_text(headers.get(b"sentat")),
        header_anonymous_id=_anonymous_id(headers),
        message_ids=accepted.message_ids,
        shared=msgspec.Raw(accepted.shared),
        client=client[0].decode() if client else "",
    )
    return Draft(kind="request", source_id=source.source_id, slices=(spell_envelope(envelope), *accepted.slices))


def _anonymous_id(headers: Mapping[bytes, bytes]) -> str | None:
    text = _text(headers.get(b"anonymousid"))
    return decode_anonymous_id(text) if text else None


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value else None


def _fresh_id() -> str:
    return secrets.token_hex(16)
