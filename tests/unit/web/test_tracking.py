"""Tracking over ASGI: paths, keys, bodies, limits, answers, and that 200 means durable."""

import asyncio
import base64
import gzip
import json
import threading
import zlib
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from conosco.collect.understand import understand
from conosco.engines.memory.log import MemoryLog
from conosco.model.definition import Source
from conosco.model.event import Event
from conosco.model.identifier import IdentityRules
from conosco.model.moment import parse_moment
from conosco.model.record import Draft, Envelope
from conosco.ports.log import Appended, LogFull
from conosco.web.committer import Committer, Overloaded, SourceOverloaded
from conosco.web.tracking import CALLS, Limits, Message, SourceEntry, SourceTable, Tracking, TrackingMetrics, key_hash

T = TypeVar("T")
NOW = parse_moment("2026-03-01T12:00:00Z") or 0
KEY = "wk-1"
TRACK = {"event": "Viewed", "userId": "ada", "messageId": "m-1"}


class Site:
    """A tracking application over a log in memory."""

    def __init__(self, log: MemoryLog | None = None, *, limits: Limits | None = None, **committer: Any) -> None:
        self.log = log or MemoryLog(lambda: NOW)
        self.registry = CollectorRegistry()
        self.table = SourceTable(
            by_key_hash={
                key_hash(KEY): SourceEntry("src_1", "server"),
                key_hash("off"): SourceEntry("src_2", "server", enabled=False),
            }
        )
        self.committer = Committer(self.log, **committer)
        self.app = Tracking(
            sources=lambda: self.table,
            committer=self.committer,
            limits=limits or Limits(),
            clock=lambda: NOW,
            metrics=TrackingMetrics(self.registry),
        )

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"conosco_tracking_{name}_total", labels) or 0.0

    def envelope(self, index: int = 0) -> Envelope:
        raw = self.log.read(0, 10)[index].slices[0]
        assert raw is not None
        return msgspec.json.decode(raw, type=Envelope)

    def events(self) -> list[Any]:
        source = Source(key="s", name="s", type="server", region="eu", id="src_1")
        return [item for record in self.log.read(0, 100) for item in understand(record, source, IdentityRules())]


class Reply:
    def __init__(self, messages: Sequence[Message]) -> None:
        start, *rest = messages
        self.status: int = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        self.body = b"".join(message.get("body", b"") for message in rest)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    site: Site,
    path: str = "/v1/batch",
    body: Any = b"",
    *,
    method: str = "POST",
    key: str | None = KEY,
    query: bytes = b"",
    headers: dict[str, str] | None = None,
    chunks: Iterable[bytes] | None = None,
    ending: str = "whole",
) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    pieces = list(chunks) if chunks is not None else [raw]
    sent = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if ending == "whole":
        sent[-1]["more_body"] = False
    elif ending == "disconnect":
        sent.append({"type": "http.disconnect"})
    messages: list[Message] = []

    async def receive() -> Message:
        if sent:
            return sent.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        messages.append(message)

    given = {"authorization": basic(key)} if key is not None else {}
    given.update(headers or {})
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()],
    }
    await site.app(scope, receive, send)
    return Reply(messages) if messages else Reply([{"status": 0, "headers": []}])


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"{key}:".encode()).decode()


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def reply_to(*arguments: Any, **options: Any) -> Reply:
    return run(ask(Site(), *arguments, **options))


def batch(*events: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"batch": [{"type": "track", **event} for event in events], **members}


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("path", CALLS)
def test_every_path_is_served(path: str, slash: str) -> None:
    site = Site()
    named = [{"type": "user_id", "value": "ada"}, {"type": "email", "value": "ada@example.com"}]
    body = {**TRACK, "groupId": "g", "previousId": "p", "mergeProperties": named}
    call = CALLS[path]
    reply = run(ask(site, path + slash, {"batch": [{"type": "track", **TRACK}]} if call == "" else body))
    assert (reply.status, reply.json) == (
        200,
        {"success": True, "events": [{"index": 0, "message_id": "m-1", "status": "stored", "code": None}]},
    )
    (event,) = site.events()
    assert isinstance(event, Event) and event.type == {"": "track", "merge": "identify"}.get(call, call)


def test_paths_are_those_of_the_protocol() -> None:
    names = "batch b import track t identify i page p screen s group g alias a".split()
    assert set(CALLS) == {f"/v1/{name}" for name in names} | {"/v1/merge", "/beacon/v1/batch"}


def test_other_paths_and_methods() -> None:
    assert reply_to("/v1/other").status == 404
    assert reply_to("/v1/").status == 404
    refused = reply_to(method="GET")
    assert (refused.status, refused.headers["allow"]) == (405, "POST, OPTIONS")


def test_the_key_may_come_in_three_ways() -> None:
    for options in (
        {"body": batch(TRACK)},
        {"body": batch(TRACK, writeKey=KEY), "key": None},
        {"body": batch(TRACK), "key": None, "query": b"x=1&writeKey=wk-1"},
        {"body": batch(TRACK, writeKey=KEY), "key": ""},
        {"body": batch(TRACK, writeKey=KEY), "key": None, "headers": {"authorization": "Bearer x"}},
        {"body": batch(TRACK, writeKey=KEY), "key": None, "headers": {"authorization": "Basic %%%"}},
    ):
        assert reply_to(**options).status == 200


@pytest.mark.parametrize(
    "options",
    [
        {"key": "wrong"},
        {"key": None},
        {"key": None, "query": b"writeKey="},
        {"key": None, "query": b"writeKey=wrong"},
        {"key": "wrong", "query": b"writeKey=wk-1"},
    ],
)
def test_an_unknown_key_stores_nothing(options: dict[str, Any]) -> None:
    site = Site()
    reply = run(ask(site, body=batch(TRACK, **({} if "query" in options else {"writeKey": "no"})), **options))
    told = {"success": False, "events": [], "code": "unknown_write_key", "message": "unknown write key"}
    assert (reply.status, reply.json) == (401, told)
    assert site.log.head().position == 0
    assert site.count("refused", code="unknown_write_key") == 1


def test_a_disabled_source_stores_nothing() -> None:
    site = Site()
    assert run(ask(site, body=batch(TRACK), key="off")).json["code"] == "source_disabled"
    assert site.log.head().position == 0


def test_the_key_is_nowhere_in_the_log() -> None:
    site = Site()
    run(ask(site, "/v1/t", {**TRACK, "writeKey": KEY}))
    run(ask(site, "/v1/b", batch({**TRACK, "writeKey": KEY}, writeKey=KEY)))
    assert KEY.encode() not in b"".join(part or b"" for record in site.log.read(0, 9) for part in record.slices)


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", "application/json;charset=UTF-8", ""]
)
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_the_body_is_told_by_its_bytes_not_by_its_labels(content_type: str, zipped: bool, encoding: str | None) -> None:
    raw = json.dumps(batch(TRACK)).encode()
    headers = {"content-type": content_type, **({"content-encoding": encoding} if encoding else {})}
    assert reply_to(body=gzip.compress(raw) if zipped else raw, headers=headers).status == 200


def test_a_body_may_come_in_any_pieces() -> None:
    raw = (
        gzip.compress(json.dumps(batch(TRACK)).encode()[:40]) + gzip.compress(json.dumps(batch(TRACK)).encode()[40:]) + b"\0" * 9
    )
    site = Site()
    for size in (1, 7, len(raw)):
        chunks = [raw[at : at + size] for at in range(0, len(raw), size)]
        assert run(ask(site, chunks=[b"", *chunks])).status == 200
    assert len(site.events()) == 3


@pytest.mark.parametrize("raw", [gzip.compress(b"{}" * 99)[:-4], b"\x1f\x8bnonsense", gzip.compress(b"{}") + b"more"])
def test_broken_gzip_is_refused(raw: bytes) -> None:
    reply = reply_to(body=raw)
    assert (reply.status, reply.json["code"]) == (400, "invalid_gzip")


def test_a_bomb_is_refused_without_being_inflated() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = packer.compress(bytes(200 << 20)) + packer.flush()
    site = Site()
    reply = run(ask(site, chunks=[bomb[at : at + 65_536] for at in range(0, len(bomb), 65_536)]))
    assert (reply.status, reply.json["code"]) == (413, "body_too_large")
    # The rest of the process may hold as much as before.
    assert run(ask(site, body=batch(TRACK))).status == 200


def test_limits_of_the_body() -> None:
    site = Site(limits=Limits(body_bytes_max=1_000))
    raw = json.dumps(batch(TRACK)).encode()
    assert run(ask(site, body=raw.ljust(1_000))).status == 200
    assert run(ask(site, body=raw.ljust(1_001))).status == 413
    assert run(ask(site, body=gzip.compress(raw.ljust(1_001)))).status == 413
    assert run(ask(site, chunks=[b" " * 400] * 20)).status == 413


def test_large_requests_are_taken() -> None:
    site = Site()
    events = [{**TRACK, "messageId": f"m-{n}", "properties": {"text": "x" * 1_000}} for n in range(5_000)]
    reply = run(ask(site, body=batch(*events)))
    assert (reply.status, len(reply.json["events"])) == (200, 5_000)
    assert len(site.events()) == 5_000


def test_a_body_that_does_not_end_is_given_up() -> None:
    site = Site(limits=Limits(read_seconds_max=0.01))
    assert run(ask(site, chunks=[b'{"batch"'], ending="never")).status == 408
    assert run(ask(site, body=batch(TRACK))).status == 200


def test_a_client_that_goes_away_gets_and_leaves_nothing() -> None:
    site = Site(limits=Limits(held_bytes_max=1_000))
    for _ in range(9):
        assert run(ask(site, chunks=[b'{"batch"' + b" " * 500], ending="disconnect")).status == 0
    assert site.log.head().position == 0
    assert run(ask(site, body=batch(TRACK))).status == 200


def test_too_much_being_read_asks_to_try_again() -> None:
    site = Site(limits=Limits(held_bytes_max=100))
    reply = run(ask(site, body=batch(TRACK, other="x" * 200)))
    assert (reply.status, reply.json["code"], reply.headers["retry-after"]) == (503, "overloaded", "1")
    assert run(ask(site, "/v1/track", TRACK)).status == 200


def test_a_mixed_batch_keeps_what_is_good_and_tells_the_rest() -> None:
    site = Site()
    reply = run(ask(site, body={"batch": [{"type": "track", **TRACK}, {"type": "track", "messageId": "m-2"}, 5]}))
    assert reply.status == 200
    assert reply.json == {
        "success": True,
        "events": [
            {"index": 0, "message_id": "m-1", "status": "stored", "code": None},
            {"index": 1, "message_id": "m-2", "status": "rejected", "code": "missing_field"},
            {"index": 2, "message_id": None, "status": "refused", "code": "not_an_object"},
        ],
    }
    assert len(site.events()) == 2
    assert [site.count("events", status=status) for status in ("stored", "rejected", "refused")] == [1, 1, 1]
    assert site.count("requests", status="200") == 1


def test_when_nothing_is_good_the_status_says_so_and_rejected_events_are_kept() -> None:
    site = Site()
    reply = run(ask(site, "/v1/track", {"userId": "ada"}))
    assert (reply.status, reply.json["success"], reply.json["events"][0]["status"]) == (400, False, "rejected")
    assert len(site.events()) == 1
    reply = run(ask(site, body={"batch": [1, "x"]}))
    assert (reply.status, [event["status"] for event in reply.json["events"]]) == (400, ["refused", "refused"])
    assert site.log.head().position == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"", "empty_body"), (b"{", "invalid_json"), (b'{"batch":[]}', "empty_batch"), (b"event=A", "invalid_json")],
)
def test_a_body_that_is_no_batch_is_refused_and_not_stored(body: bytes, code: str) -> None:
    site = Site()
    reply = run(ask(site, body=body))
    assert (reply.status, reply.json) == (400, {"success": False, "events": [], "code": code, "message": code.replace("_", " ")})
    assert site.log.head().position == 0


def test_what_stands_in_the_headers_is_kept() -> None:
    site = Site()
    headers = {
        "anonymousid": base64.b64encode(b"anon-1").decode(),
        "sentat": "2026-03-01T11:00:00Z",
        "idempotency-key": "order-5",
        "user-agent": "analytics-python/2.4.0 (ada@example.com)",
    }
    reply = run(ask(site, body=batch({"event": "A", "timestamp": "2026-03-01T11:00:00Z"}, context={"a": 1}), headers=headers))
    assert reply.json["events"][0]["message_id"] == "order-5-0"
    envelope = site.envelope()
    assert (envelope.received_at, envelope.client) == (NOW, "analytics-python/2.4.0")
    assert (envelope.header_anonymous_id, envelope.header_sent_at) == ("anon-1", "2026-03-01T11:00:00Z")
    (event,) = site.events()
    assert isinstance(event, Event)
    assert (event.home.value, event.event_at, event.context) == ("anon-1", NOW, b'{"a": 1}')


def test_preflight() -> None:
    asked = "authorization, content-type,anonymousid,sentat, X-Write-Key,x-retry-count,idempotency-key, x-other, x evil\r"
    reply = reply_to(
        method="OPTIONS",
        key=None,
        headers={
            "origin": "https://shop.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": asked,
        },
    )
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == "https://shop.example"
    assert reply.headers["access-control-allow-credentials"] == "true"
    assert reply.headers["access-control-max-age"] == "900"
    assert reply.headers["access-control-allow-methods"] == "POST, GET, OPTIONS"
    assert reply.headers["access-control-allow-headers"] == (
        "authorization, content-type, anonymousid, sentat, x-write-key, x-retry-count, idempotency-key, x-other"
    )
    assert "Origin" in reply.headers["vary"]


def test_answers_name_the_exact_origin_and_only_if_there_is_one() -> None:
    for options in ({"body": batch(TRACK)}, {"body": b"{"}, {"key": "wrong"}):
        reply = reply_to(headers={"origin": "null"}, **options)
        assert reply.headers["access-control-allow-origin"] == "null"
    assert "access-control-allow-origin" not in reply_to(body=batch(TRACK)).headers


class FailingLog(MemoryLog):
    def __init__(self, trouble: Exception) -> None:
        super().__init__(lambda: NOW)
        self.trouble: Exception | None = trouble

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        if self.trouble is not None:
            raise self.trouble
        return super().append(drafts)


def test_our_own_trouble_asks_to_try_again() -> None:
    log = FailingLog(LogFull("disk full"))
    site = Site(log)
    reply = run(ask(site, body=batch(TRACK)))
    assert (reply.status, reply.json["code"], reply.headers["retry-after"]) == (503, "log_unavailable", "1")
    assert site.count("events", status="stored") == 0
    log.trouble = None
    assert run(ask(site, body=batch(TRACK))).status == 200


def test_a_fault_of_the_log_reaches_the_request_and_the_committer_goes_on() -> None:
    log = FailingLog(ZeroDivisionError())
    site = Site(log)
    with pytest.raises(ZeroDivisionError):
        run(ask(site, body=batch(TRACK)))
    log.trouble = None
    assert run(ask(site, body=batch(TRACK))).status == 200


class SlowLog(MemoryLog):
    """Appends when told to, and remembers how many drafts each append had."""

    def __init__(self) -> None:
        super().__init__(lambda: NOW)
        self.go = threading.Event()
        self.sizes: list[int] = []

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        assert self.go.wait(10)
        self.sizes.append(len(drafts))
        return super().append(drafts)


def draft(source_id: str = "src_1", size: int = 10) -> Draft:
    return Draft(kind="request", source_id=source_id, slices=(bytes(size),))


async def started(committer: Committer, *drafts: Draft) -> list[asyncio.Task[Appended]]:
    tasks = [asyncio.create_task(committer.commit(one)) for one in drafts]
    await asyncio.sleep(0)
    return tasks


def test_an_answer_waits_until_the_append_is_durable() -> None:
    async def scenario() -> None:
        log = SlowLog()
        site = Site(log)
        asking = asyncio.create_task(ask(site, body=batch(TRACK)))
        await asyncio.sleep(0.05)
        assert not asking.done()
        log.go.set()
        assert (await asking).status == 200

    run(scenario())


def test_what_waits_is_appended_together_and_each_hears_of_its_own() -> None:
    async def scenario() -> None:
        log = SlowLog()
        committer = Committer(log)
        first = await started(committer, draft())
        await asyncio.sleep(0.05)
        rest = await started(committer, *(draft(size=n) for n in range(1, 20)))
        log.go.set()
        positions = [(await task).position for task in (*first, *rest)]
        assert positions == list(range(1, 21))
        assert log.sizes == [1, 19]
        assert [len(record.slices[0] or b"") for record in log.read(0, 99)][1:] == list(range(1, 20))

    run(scenario())


def test_pending_bytes_are_bounded_and_freed() -> None:
    async def scenario() -> None:
        log = SlowLog()
        committer = Committer(log, pending_bytes_max=100)
        tasks = await started(committer, draft("a", 40), draft("b", 40))
        with pytest.raises(SourceOverloaded):
            await committer.commit(draft("a", 20))
        with pytest.raises(Overloaded):
            await committer.commit(draft("c", 21))
        tasks += await started(committer, draft("c", 20))
        log.go.set()
        await asyncio.gather(*tasks)
        await committer.commit(draft("a", 100))
        assert log.head().position == 4

    run(scenario())


def test_one_source_over_its_share_is_told_so() -> None:
    async def scenario() -> None:
        log = SlowLog()
        site = Site(log, pending_bytes_max=1_000)
        asking = [asyncio.create_task(ask(site, body=batch({**TRACK, "properties": {"x": "y" * 300}}))) for _ in range(2)]
        await asyncio.sleep(0.05)
        reply = next(task.result() for task in asking if task.done())
        assert (reply.status, reply.json["code"], reply.headers["retry-after"]) == (429, "source_overloaded", "1")
        log.go.set()
        assert sorted([(await task).status for task in asking]) == [200, 429]

    run(scenario())


def test_closing_writes_what_waits_and_takes_no_more() -> None:
    async def scenario() -> None:
        log = SlowLog()
        site = Site(log)
        asking = [asyncio.create_task(ask(site, body=batch(TRACK))) for _ in range(5)]
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(site.app.close())
        await asyncio.sleep(0.05)
        late = await ask(site, body=batch(TRACK))
        assert (late.status, late.headers["retry-after"]) == (503, "1")
        log.go.set()
        await closing
        assert [(await task).status for task in asking] == [200] * 5
        assert log.head().position == 5
        large = batch({**TRACK, "properties": {"x": "y" * 300_000}})
        assert (await ask(site, body=large)).status == 503

    run(scenario())


def test_a_request_that_was_given_up_does_not_disturb_the_others() -> None:
    async def scenario() -> None:
        log = SlowLog()
        committer = Committer(log)
        gone, kept = await started(committer, draft(), draft())
        gone.cancel()
        await asyncio.sleep(0)
        log.go.set()
        assert (await kept).position == 2

    run(scenario())


# What is no call of an SDK -------------------------------------------------------------------------------------------


def test_a_rate_says_when_it_ends() -> None:
    site = Site(limits=Limits(contended_bytes_max=200_000))
    site.table.by_key_hash[key_hash("other")] = SourceEntry("src_3", "server")  # type: ignore[index]  # a dict in this test
    body = json.dumps(batch({**TRACK, "properties": {"text": "x" * 150_000}})).encode()

    async def work() -> Reply:
        await ask(site, body=batch(TRACK), key="other", headers={"content-length": "9"})
        headers = {"content-length": str(len(body)), "origin": "https://shop.example"}
        first = asyncio.create_task(ask(site, body=body, headers=headers, ending="never"))
        await asyncio.sleep(0)
        second = await ask(site, body=body, headers=headers)
        first.cancel()
        return second

    reply = run(work())
    assert (reply.status, reply.json["code"], reply.headers["retry-after"]) == (429, "source_overloaded", "1")
    assert reply.headers["x-ratelimit-reset"] == str(NOW // 1_000_000 + 1)
    assert "x-ratelimit-reset" in reply.headers["access-control-expose-headers"]


def test_a_pixel_stores_before_it_shows() -> None:
    site = Site()
    reply = run(ask(site, "/pixel/v1/track", method="GET", key=None, query=b"writeKey=wk-1&event=Opened&anonymousId=a"))
    assert (reply.status, reply.headers["content-type"], reply.headers["cache-control"]) == (200, "image/gif", "no-store")
    (event,) = site.events()
    assert (event.type, event.event, event.anonymous_id, event.event_at) == ("track", "Opened", "a", NOW)
    assert KEY.encode() not in b"".join(part or b"" for record in site.log.read(0, 9) for part in record.slices)


def test_a_pixel_tells_our_own_trouble() -> None:
    reply = run(ask(Site(FailingLog(LogFull("full"))), "/pixel/v1/page", method="GET", query=b"anonymousId=a"))
    assert (reply.status, reply.headers["retry-after"], reply.body[:3]) == (503, "1", b"GIF")
    assert reply.headers["x-conosco-code"] == "log_unavailable"


@pytest.mark.parametrize("path", ["/v1/pixel/track", "/pixel/v1/page"])
def test_a_pixel_is_only_asked_for(path: str) -> None:
    reply = reply_to(path, body=batch(TRACK))
    assert (reply.status, reply.headers["allow"], reply.body[:3]) == (405, "GET, OPTIONS", b"GIF")


@pytest.mark.parametrize(
    "path", ["/v1/projects/{}/settings", "/analytics.js/v1/{}/analytics.min.js", "/sourceConfig/?writeKey={}"]
)
def test_settings_need_a_key_that_is_known(path: str) -> None:
    for key, status in ((KEY, 200), ("wrong", 401)):
        place, _, query = path.format(key).partition("?")
        reply = reply_to(place, method="GET", key=None, query=query.encode(), headers={"host": "cdp.example"})
        assert reply.status == status
        assert ("cache-control" in reply.headers) == (status == 200)
    assert reply_to("/sourceConfig", method="POST").headers["allow"] == "GET, HEAD, OPTIONS"


def test_a_key_may_come_in_its_own_header() -> None:
    assert reply_to(body=batch(TRACK), key=None, headers={"x-write-key": KEY}).status == 200
    assert reply_to(body=batch(TRACK), key=None, headers={"x-write-key": f"{KEY}:secret"}).status == 200
    assert reply_to(body=batch(TRACK), key=None, headers={"x-write-key": "wrong"}).status == 401


def test_a_form_is_opened() -> None:
    site = Site()
    raw = json.dumps(TRACK).encode()
    for body in (b"data=" + base64.b64encode(raw), b"data=" + raw.replace(b" ", b"+")):
        assert run(ask(site, "/v1/track", body)).status == 200
    assert [event.message_id for event in site.events()] == ["m-1", "m-1"]
