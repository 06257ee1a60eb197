"""Webhooks in: bodies of any shape, taken as they come from systems that can be given a URL. As for tracking, an answer means
that they are stored durably; what they mean is asked later, by the worker.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from prometheus_client import CollectorRegistry, Counter

from conosco.collect.accept import BODY_BYTES_MAX
from conosco.collect.envelope import spell_envelope
from conosco.collect.hook import Bodies, take
from conosco.collect.mapped import WEBHOOK
from conosco.model.definition import Signature
from conosco.model.problem import Refused, refuse
from conosco.model.record import MAPPED, Draft, Envelope
from conosco.ports.log import LogFull
from conosco.web.committer import Committer, Overloaded, SourceOverloaded
from conosco.web.hook_signature import header_id, is_genuine
from conosco.web.tracking import key_hash
from conosco.web.tracking_inflate import Body, BodyTooLarge, BodyUnreadable

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# The address that RudderStack has, with the write key in the query or as the user of Basic authentication.
KEYED_PATH: Final = "/v1/webhook"
# The address for systems that can be given nothing but a URL: source key and write key follow.
URL_PATHS: Final = "/webhooks/"
FORM: Final = b"application/x-www-form-urlencoded"
BODY_ID_CHARACTERS: Final = 32
HEADER_ID_CHARACTERS_MAX: Final = 200
HELD_BYTES_MAX: Final = 64 << 20
READ_SECONDS_MAX: Final = 25.0
RETRY_AFTER_SECONDS: Final = 1
# Larger bodies are taken apart beside the loop, so that other requests need not wait for them.
INLINE_BYTES_MAX: Final = 256 << 10


class HookSource(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook source as this door needs it. ``each`` are the paths of the lists that its mappings go through."""

    source_id: str
    key: str
    enabled: bool
    signature: Signature | None = None
    each: tuple[tuple[str, ...] | None, ...] = ()


class HookStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of an answer: how many bodies were stored; ``code`` says why a request was refused."""

    success: bool
    stored: int = 0
    refused: int = 0
    code: str = ""


class HookMetrics:
    """What this door counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter("conosco_webhook_requests", "Webhook requests by HTTP status.", ["status"], registry=registry)
        self.bodies = Counter("conosco_webhook_bodies", "Bodies of webhooks that were stored.", registry=registry)
        self.refused = Counter("conosco_webhook_refused", "Webhook requests refused whole, by code.", ["code"], registry=registry)


class Disconnected(Exception):
    """The client went away before its request was whole."""


class Hooks:
    """The ASGI application for webhooks.

    ``sources`` finds a source by the hash of its write key, ``secret`` a secret by its name, ``hash_key`` keys the ids of
    bodies that came without one, ``clock`` gives microseconds UTC. Nothing personal is logged.
    """

    def __init__(
        self,
        *,
        sources: Callable[[], Mapping[str, HookSource]],
        secret: Callable[[str], bytes | None],
        hash_key: bytes,
        committer: Committer,
        clock: Callable[[], int],
        metrics: HookMetrics,
    ) -> None:
        self._sources = sources
        self._secret = secret
        self._hash_key = hash_key
        self._committer = committer
        self._clock = clock
        self._held_bytes = 0
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        received_at = self._clock()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        extra: tuple[tuple[bytes, bytes], ...] = ()
        try:
            source = self._find(scope, headers)
            if scope["method"] in ("GET", "HEAD"):
                # Several systems ask so whether the address exists before they send anything.
                status, answer = 200, HookStatus(success=True)
            elif scope["method"] != "POST":
                extra = ((b"allow", b"POST, GET, HEAD"),)
                raise refuse("method_not_allowed", status=405, method=scope["method"])
            else:
                status, answer = 200, await self._take(source, headers, receive, received_at)
        except Disconnected:
            return
        except Refused as refused:
            status, code = refused.status, refused.problems[0].code
            self._metrics.refused.labels(code).inc()
            answer = HookStatus(success=False, code=code)
            if status in {429, 503}:
                extra = ((b"retry-after", b"%d" % RETRY_AFTER_SECONDS),)
        self._metrics.requests.labels(status).inc()
        await _send(send, status, b"" if scope["method"] == "HEAD" else msgspec.json.encode(answer), extra)

    def _find(self, scope: Scope, headers: Mapping[bytes, bytes]) -> HookSource:
        """The source that the address names. A wrong key and a wrong name are told alike."""
        path: str = scope["path"].rstrip("/")
        wanted = ""
        if path == KEYED_PATH:
            query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
            write_key = (query.get("writeKey") or [""])[0] or _basic_user(headers)
        else:
            wanted, slash, write_key = path.removeprefix(URL_PATHS).partition("/")
            if not slash or "/" in write_key:
                raise refuse("unknown_path", status=404)
        source = self._sources().get(key_hash(write_key)) if write_key else None
        if source is None or (wanted and wanted != source.key):
            raise refuse("unknown_write_key", status=401)
        if not source.enabled:
            raise refuse("source_disabled", status=401)
        return source

    async def _take(self, source: HookSource, headers: Mapping[bytes, bytes], receive: Receive, received_at: int) -> HookStatus:
        body, held_bytes = await self._read(receive)
        try:
            self._check(source, headers, body, received_at)
            is_form = headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == FORM
            if len(body) <= INLINE_BYTES_MAX:
                bodies = take(body, is_form, source.each)
            else:
                bodies = await asyncio.to_thread(take, body, is_form, source.each)
        finally:
            self._held_bytes -= held_bytes
        if bodies.slices:
            await self._store(_draft(source, bodies, self._body_id(source, headers, body), received_at))
        elif bodies.refused_count:
            raise refuse("not_an_object", status=400)
        self._metrics.bodies.inc(len(bodies.slices))
        return HookStatus(success=True, stored=len(bodies.slices), refused=bodies.refused_count)

    def _check(self, source: HookSource, headers: Mapping[bytes, bytes], body: bytes, now: int) -> None:
        """Refuse a body that is not signed as its source declares; nothing of it is kept."""
        if source.signature is None:
            return
        secret = self._secret(source.signature.secret.secret)
        if secret is None:
            # Our trouble and not the sender's: it tries again, and nothing is lost once the secret is there.
            raise refuse("signature_secret_missing", status=503)
        if not is_genuine(source.signature, secret, headers, body, now):
            raise refuse("wrong_signature", status=401)

    def _body_id(self, source: HookSource, headers: Mapping[bytes, bytes], body: bytes) -> str:
        """The id by which the same body, sent again, is known again: the sender's own, else a keyed hash of the body."""
        given = header_id(headers)
        if given and len(given) <= HEADER_ID_CHARACTERS_MAX:
            return given
        told = given.encode() if given else source.source_id.encode() + b"\0" + body
        return hmac.new(self._hash_key, told, hashlib.sha256).hexdigest()[:BODY_ID_CHARACTERS]

    async def _read(self, receive: Receive) -> tuple[bytes, int]:
        """The inflated body, and how many bytes are now held for it."""
        body = Body(BODY_BYTES_MAX)
        held_bytes = 0
        try:
            async with asyncio.timeout(READ_SECONDS_MAX):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Disconnected
                    more = message.get("more_body", False)
                    body.feed(message.get("body", b""))
                    self._held_bytes += body.size - held_bytes
                    held_bytes = body.size
                    if self._held_bytes > HELD_BYTES_MAX:
                        raise refuse("overloaded", status=503)
            return body.finish(), held_bytes
        except BaseException as raised:
            self._held_bytes -= held_bytes
            if isinstance(raised, BodyTooLarge):
                raise refuse("body_too_large", status=413, limit=BODY_BYTES_MAX) from None
            if isinstance(raised, BodyUnreadable):
                raise refuse("invalid_gzip", status=400) from None
            if isinstance(raised, TimeoutError):
                raise refuse("body_timeout", status=408) from None
            raise

    async def _store(self, draft: Draft) -> None:
        """Append durably; our own trouble is never the sender's fault, so that it sends again."""
        try:
            await self._committer.commit(draft)
        except SourceOverloaded:
            raise refuse("source_overloaded", status=429) from None
        except Overloaded:
            raise refuse("overloaded", status=503) from None
        except LogFull:
            raise refuse("log_unavailable", status=503) from None


def is_hook(path: str) -> bool:
    """Whether a path is one of this door's."""
    return path.startswith(URL_PATHS) or path.rstrip("/") == KEYED_PATH


def _draft(source: HookSource, bodies: Bodies, body_id: str, received_at: int) -> Draft:
    envelope = Envelope(received_at=received_at, call=WEBHOOK, shared=msgspec.Raw(bodies.rest), body_id=body_id, each=bodies.each)
    return Draft(kind="request", source_id=source.source_id, flags=MAPPED, slices=(spell_envelope(envelope), *bodies.slices))


def _basic_user(headers: Mapping[bytes, bytes]) -> str:
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"basic":
        return ""
    try:
        return base64.b64decode(credentials.strip()).decode().partition(":")[0]
    except (binascii.Error, ValueError):
        return ""


async def _send(send: Send, status: int, body: bytes, extra: Iterable[tuple[bytes, bytes]]) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
