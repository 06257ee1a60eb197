"""Tracking: the Segment HTTP API as a bare ASGI application. It answers only after what it stored is durable.

Beside the calls of SDKs it takes pixels and beacons, and gives SDKs in browsers their settings and the tag.
"""

import asyncio
import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

import msgspec
from prometheus_client import CollectorRegistry, Counter

from conosco.collect.accept import BODY_BYTES_MAX, Accepted, accept
from conosco.collect.envelope import decode_anonymous_id, spell_envelope
from conosco.model.definition import SourceType
from conosco.model.identifier import IdentityRules
from conosco.model.problem import Refused, refuse
from conosco.model.record import Draft, Envelope
from conosco.ports.log import LogFull
from conosco.web.browser_settings import (
    SETTINGS_AGE_SECONDS,
    TAG_AGE_SECONDS,
    Wanted,
    load_tag,
    project_settings,
    source_config,
    wanted,
)
from conosco.web.committer import Committer, Overloaded, SourceOverloaded
from conosco.web.shares import CONTENDED_BYTES_MAX, Shares
from conosco.web.tracking_answers import JSON_TYPE, Answer, Headers, dressed, failure, patience, preflight
from conosco.web.tracking_bodies import DATA_PIXELS, GIF, QUERY_PIXELS, event_of_pixel, unwrap
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
    "/beacon/v1/batch": "",
    **dict.fromkeys(("/v1/track", "/v1/t"), "track"),
    **dict.fromkeys(("/v1/identify", "/v1/i"), "identify"),
    **dict.fromkeys(("/v1/page", "/v1/p"), "page"),
    **dict.fromkeys(("/v1/screen", "/v1/s"), "screen"),
    **dict.fromkeys(("/v1/group", "/v1/g"), "group"),
    **dict.fromkeys(("/v1/alias", "/v1/a"), "alias"),
    "/v1/merge": "merge",
}
# What belongs to tracking and not to the management API.
PREFIXES: Final = ("/v1/", "/pixel/", "/beacon/", "/analytics.js/", "/sourceConfig")
# Larger bodies are taken apart beside the loop, so that other requests need not wait for them.
INLINE_BYTES_MAX: Final = 256 << 10
# What a body counts for among the shares of sources if it does not say how large it is.
UNANNOUNCED_BYTES: Final = 256 << 10
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
    """``body_bytes_max`` inflated, a request; ``held_bytes_max`` being read, all requests together.

    ``contended_bytes_max`` is what sources that compete may have under way together (see shares.py).
    """

    body_bytes_max: int = BODY_BYTES_MAX
    held_bytes_max: int = 64 << 20
    # Less than what the connection itself allows a body (see slow_clients.py), so that a slow client hears why.
    read_seconds_max: float = 25.0
    contended_bytes_max: int = CONTENDED_BYTES_MAX


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


class Reply(NamedTuple):
    """What is sent back, without the headers that every answer has."""

    status: int
    body: bytes
    type: bytes = JSON_TYPE
    extra: Headers = ()


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
        self._shares = Shares(limits.contended_bytes_max, clock)
        self._tag = load_tag()
        self._beside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tracking")

    async def close(self) -> None:
        """Write what waits, and stop; requests that come later are asked to try again."""
        await self._committer.close()
        self._beside.shutdown()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        received_at = self._clock()
        path: str = scope["path"]
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if scope["method"] == "OPTIONS":
            await self._send(send, headers, Reply(204, b"", extra=preflight(headers)))
            return
        place = path[:-1] if path.endswith("/") else path
        try:
            if place in DATA_PIXELS or place in QUERY_PIXELS:
                reply = await self._show_pixel(scope, headers, place, received_at)
            else:
                reply = await self._answer(scope, headers, receive, place, received_at)
        except Disconnected:
            return
        except Refused as refused:
            answer = failure(self._count_refused(refused))
            extra = (*patience(refused.status, received_at), *_allowed(refused))
            reply = Reply(refused.status, msgspec.json.encode(answer), extra=extra)
        await self._send(send, headers, reply)

    async def _answer(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, place: str, received_at: int
    ) -> Reply:
        """Every answer that is no pixel. Raises Refused or Disconnected."""
        call = CALLS.get(place)
        if call is None:
            asked = wanted(place)
            if asked is None:
                raise refuse("unknown_path", status=404)
            if scope["method"] not in {"GET", "HEAD"}:
                raise refuse("method_not_allowed", status=405, allow="GET, HEAD, OPTIONS")
            return self._show_settings(scope, headers, asked)
        if scope["method"] != "POST":
            raise refuse("method_not_allowed", status=405, allow="POST, OPTIONS")
        try:
            status, answer = await self._take(scope, headers, receive, call, received_at)
        except SourceOverloaded:
            raise refuse("source_overloaded", status=429) from None
        return Reply(status, msgspec.json.encode(answer))

    async def _show_pixel(self, scope: Scope, headers: Mapping[bytes, bytes], place: str, received_at: int) -> Reply:
        """Store what a pixel's address says. The answer is an image whatever happens, so that no page shows a broken one."""
        extra: Headers = ((b"cache-control", b"no-store"),)
        try:
            if scope["method"] != "GET":
                raise refuse("method_not_allowed", status=405, allow="GET, OPTIONS")
            body = event_of_pixel(place, scope.get("query_string", b""))
            call = DATA_PIXELS.get(place) or QUERY_PIXELS[place]
            accepted = await self._accept(body, call, headers)
            source = _find(self._sources(), _header_key(headers) or accepted.write_key or _query_key(scope))
            status, answer = await self._keep(accepted, source, call, headers, received_at)
            code = next((event.code for event in answer.events if event.code), "")
        except Refused as refused:
            status, code = refused.status, self._count_refused(refused)
            extra += (*patience(status, received_at), *_allowed(refused))
        if code:
            extra += ((b"x-conosco-code", code.encode()),)
        return Reply(status, GIF, b"image/gif", extra)

    def _show_settings(self, scope: Scope, headers: Mapping[bytes, bytes], asked: Wanted) -> Reply:
        """The tag, or settings. Refuses ``unknown_write_key`` and ``source_disabled`` (401)."""
        write_key = asked.write_key or _header_key(headers) or _query_key(scope) or ""
        source = _find(self._sources(), write_key)
        if asked.kind == "source_config":
            # This SDK understands that its source is off.
            return Reply(200, source_config(write_key, source.source_id, source.enabled), extra=_kept_for(SETTINGS_AGE_SECONDS))
        if not source.enabled:
            raise refuse("source_disabled", status=401)
        if asked.kind == "project":
            settings = project_settings(write_key, scope.get("scheme", "http"), headers.get(b"host", b""))
            return Reply(200, settings, extra=_kept_for(SETTINGS_AGE_SECONDS))
        tag = self._tag
        extra = (*_kept_for(TAG_AGE_SECONDS), (b"etag", tag.etag), (b"vary", b"Accept-Encoding"))
        if headers.get(b"if-none-match") == tag.etag:
            return Reply(304, b"", b"text/javascript", extra)
        if b"gzip" in headers.get(b"accept-encoding", b""):
            return Reply(200, tag.packed, b"text/javascript; charset=utf-8", (*extra, (b"content-encoding", b"gzip")))
        return Reply(200, tag.plain, b"text/javascript; charset=utf-8", extra)

    async def _take(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, call: str, received_at: int
    ) -> tuple[int, Answer]:
        """Read, accept and store one request. Raises Refused or Disconnected."""
        write_key = _header_key(headers)
        if not write_key:
            accepted = await self._read_and_accept(receive, call, headers)
            source = _find(self._sources(), accepted.write_key or _query_key(scope))
            with self._shares.hold(source.source_id, sum(map(len, accepted.slices))):
                return await self._keep(accepted, source, call, headers, received_at)
        source = _find(self._sources(), write_key)
        # Before it is read: what a source sends beyond its share costs the others nothing more.
        with self._shares.hold(source.source_id, _content_length(headers)):
            accepted = await self._read_and_accept(receive, call, headers)
            return await self._keep(accepted, source, call, headers, received_at)

    async def _read_and_accept(self, receive: Receive, call: str, headers: Mapping[bytes, bytes]) -> Accepted:
        body, held_bytes = await self._read(receive)
        try:
            return await self._accept(unwrap(body), call, headers)
        finally:
            self._held_bytes -= held_bytes

    async def _keep(
        self, accepted: Accepted, source: SourceEntry, call: str, headers: Mapping[bytes, bytes], received_at: int
    ) -> tuple[int, Answer]:
        """Store what was accepted. Raises Refused."""
        if not source.enabled:
            raise refuse("source_disabled", status=401)
        if accepted.slices:
            await self._store(_draft(accepted, source, call, headers, received_at))
        self._metrics.count_events(accepted)
        if accepted.stored_count == 0:
            return 400, failure("nothing_stored", accepted.events)
        return 200, Answer(success=True, events=accepted.events)

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

    async def _accept(self, body: bytes, call: str, headers: Mapping[bytes, bytes]) -> Accepted:
        work = partial(
            accept,
            body,
            call,
            fresh_id=_fresh_id,
            rules=self._sources().rules,
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

    def _count_refused(self, refused: Refused) -> str:
        code = refused.problems[0].code
        self._metrics.refused.labels(code).inc()
        return code

    async def _send(self, send: Send, headers: Mapping[bytes, bytes], reply: Reply) -> None:
        self._metrics.count_answer(reply.status)
        dress = dressed(headers, reply.type, len(reply.body), reply.extra)
        await send({"type": "http.response.start", "status": reply.status, "headers": dress})
        await send({"type": "http.response.body", "body": reply.body})


async def _drain(receive: Receive, more: bool, bytes_max: int) -> None:
    """Pass over the rest of a body that is too large, so that the client hears the answer; not over more than as much again."""
    passed = 0
    while more and passed <= bytes_max:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        passed += len(message.get("body", b""))
        more = message.get("more_body", False)


def _allowed(refused: Refused) -> Headers:
    methods = refused.problems[0].params.get("allow")
    return ((b"allow", str(methods).encode()),) if methods else ()


def _kept_for(seconds: int) -> Headers:
    return ((b"cache-control", b"public, max-age=%d" % seconds),)


def _content_length(headers: Mapping[bytes, bytes]) -> int:
    """How large the body says it is; one that does not say counts as large."""
    text = headers.get(b"content-length", b"")
    return int(text) if text.isdigit() and len(text) < 10 else UNANNOUNCED_BYTES


def _header_key(headers: Mapping[bytes, bytes]) -> str:
    """The write key of a header: the user name of Basic, or X-Write-Key; empty if there is none."""
    return _basic_user(headers) or headers.get(b"x-write-key", b"").decode("latin-1").partition(":")[0]


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
