"""The webhook door over ASGI: what is kept and how, and what its own trouble answers."""

import asyncio
import gzip
import json
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from conosco.engines.memory.log import MemoryLog
from conosco.model.answer import BodyPreview, EventPreview
from conosco.model.definition import HmacSignature, SecretName
from conosco.model.problem import Problem
from conosco.model.record import MAPPED, Envelope
from conosco.ports.log import Appended, LogFull
from conosco.web import hooks as hooks_module
from conosco.web.committer import Committer
from conosco.web.hooks import HookMetrics, Hooks, HookSource, Message, is_hook
from conosco.web.tracking import key_hash
from tests.unit.web.conftest import Client
from tests.unit.web.fake_office import FakeOffice

NOW = 1_772_366_400_000_000
SIGNATURE = HmacSignature(secret=SecretName(secret="s"), header="X-Sig")


class FullLog(MemoryLog):
    """A log on a disk that is full."""

    def append(self, drafts: Any) -> list[Appended]:
        raise LogFull


class Site:
    """The door over a log in memory."""

    def __init__(self, log: MemoryLog | None = None) -> None:
        self.log = log or MemoryLog(lambda: NOW)
        self.registry = CollectorRegistry()
        self.sources = {
            key_hash("wk"): HookSource(source_id="src_1", key="shop", enabled=True, each=(("list",),)),
            key_hash("off"): HookSource(source_id="src_2", key="off", enabled=False),
            key_hash("signed"): HookSource(source_id="src_3", key="signed", enabled=True, signature=SIGNATURE),
        }
        self.committer = Committer(self.log)
        self.app = Hooks(
            sources=lambda: self.sources,
            secret=lambda name: None,
            hash_key=b"k" * 32,
            committer=self.committer,
            clock=lambda: NOW,
            metrics=HookMetrics(self.registry),
        )

    def ask(
        self, path: str = "/webhooks/shop/wk", body: Any = b"{}", query: bytes = b"", ending: str = "", **headers: str
    ) -> tuple[int, Any]:
        """Send a body in two pieces; (status, answer), or (0, None) where nothing is answered."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent: list[Message] = [{"type": "http.request", "body": raw[:3], "more_body": True}]
        if ending != "stalled":
            last: Message = {"type": "http.request", "body": raw[3:], "more_body": False}
            sent.append({"type": "http.disconnect"} if ending == "gone" else last)
        messages: list[Message] = []

        async def receive() -> Message:
            if not sent:
                await asyncio.Event().wait()
            return sent.pop(0)

        async def send(message: Message) -> None:
            messages.append(message)

        told = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": query, "headers": told}

        async def run() -> None:
            await self.app(scope, receive, send)

        asyncio.run(run())
        if not messages:
            return 0, None
        return messages[0]["status"], json.loads(messages[1]["body"])

    def kept(self) -> list[tuple[str, Envelope, tuple[bytes | None, ...]]]:
        """(source, envelope, bodies) of what lies in the log."""
        records = self.log.read(0, 100)
        assert all(record.flags == MAPPED for record in records)
        return [
            (record.source_id, msgspec.json.decode(record.slices[0] or b"", type=Envelope), record.slices[1:])
            for record in records
        ]


def test_a_body_is_kept_as_it_came() -> None:
    site = Site()
    assert site.ask(body=b'{ "a" : 1.00 }') == (200, {"success": True, "stored": 1})
    ((source_id, envelope, bodies),) = site.kept()
    assert (source_id, bodies, envelope.call, envelope.received_at, envelope.each) == (
        "src_1",
        (b'{ "a" : 1.00 }',),
        "webhook",
        NOW,
        (),
    )


def test_a_list_is_kept_element_by_element_and_gzip_is_unpacked() -> None:
    site = Site()
    assert site.ask(body=gzip.compress(b'{"id":1,"list":[{"a":1},{"b":2}]}'))[0] == 200
    ((_, envelope, bodies),) = site.kept()
    assert (bodies, bytes(envelope.shared), envelope.each) == ((b'{"a":1}', b'{"b":2}'), b'{"id":1,"list":[]}', ("list",))


def test_the_same_body_has_the_same_id_and_the_senders_own_comes_first() -> None:
    site = Site()
    site.ask(body=b'{"a":1}')
    site.ask(body=b'{"a":1}')
    site.ask(body=b'{"a":1}', webhook_id="msg_1")
    site.ask(body=b'{"a":1}', idempotency_key="x" * 300)
    ids = [envelope.body_id for _, envelope, _ in site.kept()]
    assert ids[0] == ids[1]
    assert ids[2] == "msg_1"
    assert len(ids[3]) == len(ids[0]) == 32
    # Nobody who guesses a body can confirm the guess without the installation's key.
    other = Site()
    other.app._hash_key = b"other"
    other.ask(body=b'{"a":1}')
    assert other.kept()[0][1].body_id != ids[0]


def test_the_write_key_is_taken_from_query_path_or_user() -> None:
    site = Site()
    assert site.ask("/v1/webhook", query=b"writeKey=wk")[0] == 200
    assert site.ask("/v1/webhook/", authorization="Basic d2s6")[0] == 200
    assert site.ask("/v1/webhook", authorization="Basic ###")[0] == 401
    assert site.ask("/webhooks/shop/wk/")[0] == 200
    assert site.ask("/webhooks/shop/wk/more")[0] == 404
    assert site.ask("/webhooks/off/off") == (401, {"success": False, "code": "source_disabled"})
    assert len(site.kept()) == 3


def test_a_secret_that_is_missing_is_our_trouble() -> None:
    site = Site()
    assert site.ask("/webhooks/signed/signed") == (503, {"success": False, "code": "signature_secret_missing"})
    assert site.kept() == []


def test_what_cannot_be_written_is_asked_for_again() -> None:
    site = Site(FullLog(lambda: NOW))
    assert site.ask() == (503, {"success": False, "code": "log_unavailable"})
    asyncio.run(site.committer.close())
    assert site.ask() == (503, {"success": False, "code": "overloaded"})


def test_memory_is_bounded_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    monkeypatch.setattr(hooks_module, "HELD_BYTES_MAX", 10)
    assert site.ask(body=b'{"a":"0123456789"}') == (503, {"success": False, "code": "overloaded"})
    assert site.ask(body=b"{}")[0] == 200
    assert site.ask(body=b"{}", ending="gone") == (0, None)
    monkeypatch.setattr(hooks_module, "READ_SECONDS_MAX", 0.01)
    assert site.ask(body=b"{}", ending="stalled") == (408, {"success": False, "code": "body_timeout"})
    assert site.ask(body=b"\x1f\x8bnot gzip") == (400, {"success": False, "code": "invalid_gzip"})
    monkeypatch.setattr(hooks_module, "BODY_BYTES_MAX", 4)
    assert site.ask(body=b'{"a":1}') == (413, {"success": False, "code": "body_too_large"})
    assert site.app._held_bytes == 0


def test_large_bodies_are_taken_apart_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    monkeypatch.setattr(hooks_module, "INLINE_BYTES_MAX", 4)
    assert site.ask(body=b'{"list":[1,2,3]}') == (200, {"success": True, "stored": 3})


def test_what_is_refused_is_counted() -> None:
    site = Site()
    site.ask("/webhooks/shop/wrong")
    site.ask(body=b"[1,{}]")
    assert site.registry.get_sample_value("conosco_webhook_refused_total", {"code": "unknown_write_key"}) == 1
    assert site.registry.get_sample_value("conosco_webhook_requests_total", {"status": "401"}) == 1
    assert site.registry.get_sample_value("conosco_webhook_bodies_total") == 1


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/v1/webhook", True), ("/v1/webhook/", True), ("/webhooks/a/b", True), ("/v1/webhooks", False), ("/api/sources", False)],
)
def test_addresses_of_the_door(path: str, expected: bool) -> None:
    assert is_hook(path) is expected


def test_previews_are_told_in_the_readers_language(ask: Client, office: FakeOffice) -> None:
    problem = Problem(code="mapping_cannot_read", params={"mapping": 1, "field": "properties/n", "path": "n"})
    made = EventPreview(event=None, message_id="m", problem=problem)
    office.hooks.previews = [
        BodyPreview(position=7, received_at="2026-03-01T12:00:00Z", body={"n": "x"}, around=None, events=[made])
    ]
    answer = ask("POST", "/api/sources/shop/preview", json={"last": 3}, headers={"Accept-Language": "it"})
    assert office.hooks.asked == [("shop", None, 3, None)]
    told = answer.json()["items"][0]["events"][0]["problem"]
    assert (told["code"], told["title"]) == ("mapping_cannot_read", "Un valore non si può leggere")
    assert "n" in told["detail"]
    assert ask("POST", "/api/sources/shop/preview").status_code == 200
    assert ask("POST", "/api/sources/shop/preview", json={"lst": 3}).json()["params"]["nearest"] == "last"


def test_a_secret_is_kept_and_not_told(ask: Client, office: FakeOffice) -> None:
    answer = ask("PUT", "/api/secrets/shop", json={"value": "hidden"})
    assert (answer.status_code, answer.json(), office.hooks.secrets) == (200, {"name": "shop"}, {"shop": "hidden"})
