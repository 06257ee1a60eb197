"""The webhook connector: its settings, its body, its signature, and what each answer means."""

import asyncio
import base64
import ipaddress
import time
from typing import Any

import msgspec
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from conosco.connectors.destinations import webhook
from conosco.connectors.outbound import Context, Outbound
from conosco.govern.gate import Gate
from conosco.model.delivery import AttemptResult, Intent, Parcel
from conosco.model.problem import Refused
from tests.unit.connectors.receiver import Answering, Received, receiving, saying, status

GATE = Gate(b"installation secret of 32 bytes.")
SECRET = webhook.spell_secret(bytes(range(32)))
PAYLOAD: dict[str, Any] = {
    "type": "segment.entered",
    "segment": "große_käufer",
    "profile_id": "pro_1",
    "identifiers": [{"namespace": "email", "value": "zoë@example.com"}],
    "at": "2026-01-01T00:00:00Z",
    "because": {"cause": "event", "message_ids": ["m1"]},
    "position": 12,
}


def an_intent() -> Intent:
    return Intent(
        delivery_id="dlv_1",
        destination="crm",
        destination_version=1,
        type="segment.entered",
        payload=PAYLOAD,
        position=12,
        created_at=1,
        permit=GATE.permit("dlv_1", GATE.ask("operations", "legitimate_interest")),
    )


def a_parcel() -> Parcel:
    return Parcel(id="dlv_1", intents=(an_intent(),))


async def deliveries(answering: Answering | None, times: int = 1, secret: str = SECRET) -> tuple[list[Any], list[Received]]:
    # The verifying library compares with the time of day, so the tests cannot choose their own.
    now = time.time_ns() // 1_000
    async with receiving(answering) as receiver:
        outbound = Outbound(allow_private_networks=[ipaddress.ip_network("127.0.0.0/8")])
        settings = webhook.read_settings({"url": receiver.url, "allow_private": True})
        context = Context(outbound=outbound, now=now)
        results = [await webhook.deliver(a_parcel(), settings, secret.encode(), context) for _ in range(times)]
        await outbound.close()
        return results, receiver.requests


def test_the_receiver_can_verify_what_it_gets_with_the_standard_library_for_it() -> None:
    results, (request,) = asyncio.run(deliveries(None))
    assert results == [("delivered", "http_200", 0)]
    assert request.path == "/hook"
    assert request.headers["webhook-id"] == "dlv_1"
    assert request.headers["content-type"] == "application/json"
    assert Webhook(SECRET).verify(request.body, request.headers) == PAYLOAD
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body.replace(b"12", b"13"), request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body, request.headers | {"webhook-id": "dlv_2"})
    with pytest.raises(WebhookVerificationError):
        Webhook(webhook.spell_secret(bytes(32))).verify(request.body, request.headers)


def test_every_attempt_sends_the_same_id_and_the_same_bytes() -> None:
    results, requests = asyncio.run(deliveries(status(500), times=3))
    assert results == [("retry", "http_500", 0)] * 3
    assert len({request.body for request in requests}) == 1
    assert {request.headers["webhook-id"] for request in requests} == {"dlv_1"}
    # An intent that was kept and read back gives the same bytes as the fresh one.
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(an_intent()), type=Intent)
    assert webhook.to_payload(Parcel(id=kept.delivery_id, intents=(kept,))) == requests[0].body


@pytest.mark.parametrize(
    ("code", "result"),
    [
        (200, "delivered"),
        (201, "delivered"),
        (204, "delivered"),
        (301, "retry"),
        (400, "dead"),
        (401, "retry"),
        (404, "retry"),
        (408, "retry"),
        (409, "retry"),
        (410, "retry"),
        (422, "dead"),
        (425, "retry"),
        (429, "retry"),
        (500, "retry"),
        (503, "retry"),
    ],
)
def test_each_status_has_its_result(code: int, result: AttemptResult) -> None:
    assert asyncio.run(deliveries(status(code)))[0] == [(result, f"http_{code}", 0)]


def test_a_success_with_an_endless_answer_is_a_success() -> None:
    said = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000
    assert asyncio.run(deliveries(saying(said)))[0] == [("delivered", "http_200", 0)]


def test_failures_before_any_status_have_their_results() -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            closed = receiver.url
        outbound = Outbound(allow_private_networks=[ipaddress.ip_network("127.0.0.0/8")])
        context = Context(outbound=outbound, now=1)
        for spec, expected in (
            ({"url": closed, "allow_private": True}, ("retry", "connect_failed", 0)),
            ({"url": closed}, ("dead", "refused_address", 0)),
        ):
            settings = webhook.read_settings(spec)
            assert await webhook.deliver(a_parcel(), settings, SECRET.encode(), context) == expected
        await outbound.close()

    asyncio.run(scene())


def test_a_secret_that_cannot_be_read_sends_nothing() -> None:
    results, requests = asyncio.run(deliveries(None, secret="whsec_not base64!"))
    assert (results, requests) == ([("retry", "secret_unreadable", 0)], [])


def test_settings_have_their_defaults() -> None:
    settings = webhook.read_settings({"url": "https://crm.example/hook"})
    assert (settings.allow_private, settings.segments) == (False, "all")
    assert settings.events == ("segment.entered", "segment.exited")
    chosen = webhook.read_settings({"url": "https://crm.example", "segments": ["a", "b"], "events": ["segment.exited"]})
    assert (chosen.segments, chosen.events) == (("a", "b"), ("segment.exited",))


@pytest.mark.parametrize(
    ("spec", "pointer", "sentence"),
    [
        ({}, "/spec", "missing required field `url`"),
        ({"url": 5}, "/spec/url", "Expected `str`"),
        ({"url": "crm.example"}, "/spec/url", "starts with https://"),
        ({"url": "https://me:word@crm.example"}, "/spec/url", "no user name"),
        ({"url": "https://crm.example", "allow_private": "yes"}, "/spec/allow_private", "Expected `bool`"),
        ({"url": "https://crm.example", "events": ["segment.moved"]}, "/spec/events/0", "segment.moved"),
        ({"url": "https://crm.example", "segments": "some"}, "/spec/segments", "some"),
        ({"url": "https://crm.example", "segments": ["a", 1]}, "/spec/segments/1", "Expected `str`"),
        ({"url": "https://crm.example", "retries": 3}, "/spec", "unknown field `retries`"),
    ],
)
def test_wrong_settings_are_refused_with_place_and_reason(spec: dict[str, Any], pointer: str, sentence: str) -> None:
    with pytest.raises(Refused) as caught:
        webhook.read_settings(spec)
    (problem,) = caught.value.problems
    assert (problem.code, problem.pointer) == ("spec_invalid", pointer)
    assert sentence in str(problem.params["reason"])


def test_a_secret_is_spelled_as_receivers_expect_it() -> None:
    assert base64.b64decode(SECRET.removeprefix("whsec_")) == bytes(range(32))
    for size in (23, 65):
        with pytest.raises(ValueError, match="24 to 64"):
            webhook.spell_secret(bytes(size))
