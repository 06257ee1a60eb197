"""Destinations as their owners live with them: tried out, watched, and sent again to, over plain HTTP."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.running.installation import Installation, free_port, kill, until
from tests.running.sink import Sink


def moment(minutes: int) -> str:
    """A moment so many minutes from now."""
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


def a_webhook(key: str, url: str, **spec: Any) -> dict[str, Any]:
    return {
        "key": key,
        "name": key,
        "purposes": ["operations"],
        "region": "eu",
        "type": "webhook",
        "spec": {"url": url, "allow_private": True, **spec},
    }


def buyers(installation: Installation) -> None:
    """A segment of those who ordered."""
    where = {"kind": "did", "event": "Order Completed"}
    segment = {"key": "buyers", "name": "Buyers", "purpose": "operations", "spec": {"language": 1, "where": where}}
    installation.post("/api/segments", segment)


def order(installation: Installation, *users: str) -> None:
    """These users order, now."""
    events = [
        {"type": "track", "event": "Order Completed", "userId": user, "messageId": f"m-{user}", "properties": {"total": 9.5}}
        for user in users
    ]
    assert installation.track({"batch": events}).status == 200


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("destinations")
    files = folder / "out"
    files.mkdir()
    with Installation(folder, {"CONOSCO_FILES": str(files)}) as made:
        buyers(made)
        yield made


def test_a_destination_is_tried_out_watched_and_sent_to_again(installation: Installation) -> None:
    with Sink() as sink, Sink() as later:
        assert installation.post("/api/destinations", a_webhook("crm", sink.url))["key"] == "crm"
        tested = installation.post("/api/destinations/crm/test", None)
        assert (tested["state"], tested["sentence"]) == ("delivered", "The other side answered with HTTP 200.")
        assert b'"test":true' in sink.received()[0].body
        order(installation, "ada", "bob", "eve")
        until(lambda: len(sink.received()) == 4, "three deliveries and a test")
        until(lambda: installation.get("/api/destinations/crm/health")["deliveries"]["delivered"] == 4, "they are counted")
        health = installation.get("/api/destinations/crm/health")
        assert (health["breaker"], health["attempts"], health["last_error"]) == ("closed", {"http_200": 4}, None)
        assert 0 < health["latency"]["p50_ms"] <= health["latency"]["p99_ms"]
        position = installation.settled()["position"]
        span = {"from": moment(-10), "to": moment(10)}
        after = f"?after={position}&wait_ms=20000"
        counted = installation.post(f"/api/destinations/crm/replay{after}", {**span, "dry_run": True})
        assert (counted["count"], counted["states"]) == (3, {"delivered": 3})
        assert len(sink.received()) == 4
        done = installation.post(f"/api/destinations/crm/replay{after}", span)
        assert done["count"] == 3
        until(lambda: len(sink.received()) == 7, "they are sent again")
        first, again = sink.received()[1:4], sink.received()[4:]
        assert {each.headers["conosco-replay-of"] for each in again} == {each.webhook_id for each in first}
        assert {each.webhook_id for each in again}.isdisjoint(each.webhook_id for each in first)
        # A new destination is given what it missed.
        installation.post("/api/destinations", a_webhook("later", later.url))
        installation.post(f"/api/destinations/later/replay{after}", {**span, "of": "crm"})
        until(lambda: len(later.received()) == 3, "the new one has them too")
        listed = installation.get(f"/api/deliveries?destination=crm&from={moment(-10)}&to={moment(10)}{after.replace('?', '&')}")
        assert len(listed["items"]) >= 4
        assert installation.get(f"/api/deliveries?destination=crm&to={moment(-10)}")["items"] == []
    early = installation.api("POST", "/api/destinations/crm/replay", {"from": moment(-60 * 24 * 40), "to": moment(0)})
    assert (early.status, early.json()["code"]) == (422, "replay_reaches_back")


def test_a_dead_destination_says_so_in_words_and_is_left_alone(installation: Installation) -> None:
    installation.post("/api/destinations", a_webhook("dead", f"http://127.0.0.1:{free_port()}/"))
    tested = installation.post("/api/destinations/dead/test", None)
    assert (tested["state"], tested["code"]) == ("pending", "connect_failed")
    order(installation, *(f"user-{number}" for number in range(20)))

    def is_left_alone() -> bool:
        return bool(installation.get("/api/destinations/dead/health")["breaker"] != "closed")

    until(is_left_alone, "the breaker opens")
    health = installation.get("/api/destinations/dead/health")
    assert health["last_error"]["sentence"] == "No connection could be made, or it broke off."
    assert health["deliveries"]["pending"] == 21
    assert health["oldest_pending_at"]
    assert 'conosco_destination_breaker{destination="dead"}' in installation.ask("GET", "/metrics").body.decode()


# A lease of a sender that was killed runs out after half a minute only.
@pytest.mark.deep
def test_files_hold_each_delivery_once_however_often_everything_is_killed(tmp_path: Path) -> None:
    files = tmp_path / "out"
    files.mkdir()
    spec = {"folder": "buyers", "batch": {"events": 7, "bytes": 100_000, "wait_ms": 20}}
    lake = {**a_webhook("lake", ""), "type": "files", "spec": spec}
    with Installation(tmp_path, {"CONOSCO_FILES": str(files)}) as installation:
        buyers(installation)
        made = installation.post("/api/destinations", lake)
        assert "secret" not in made
        for number in range(4):
            order(installation, *(f"user-{number}-{each}" for each in range(60)))
            until(lambda: any(files.rglob("*.jsonl")), "something is written")
            until(lambda: "sender" in installation.pids(), "the sender is back")
            kill(installation.pids()["sender"])
        installation.settled()

        def delivered() -> bool:
            return bool(installation.get("/api/destinations/lake/health")["deliveries"]["delivered"] == 240)

        until(delivered, "everything is written", 120)
        lines = [json.loads(line) for path in files.rglob("*.jsonl") for line in path.read_bytes().splitlines()]
        assert len(lines) == len({line["delivery_id"] for line in lines}) == 240
        assert {line["body"]["identifiers"][0]["value"] for line in lines} == {
            f"user-{number}-{each}" for number in range(4) for each in range(60)
        }
        live, rebuilt, code = installation.replay()
        assert (live, code) == (rebuilt, 0)


def test_without_the_administrators_word_no_file_is_written(tmp_path: Path) -> None:
    with Installation(tmp_path) as installation:
        answer = installation.api(
            "POST", "/api/destinations", {**a_webhook("lake", ""), "type": "files", "spec": {"folder": "x"}}
        )
        assert (answer.status, answer.json()["code"]) == (422, "files_not_allowed")


def test_events_and_profile_changes_are_forwarded_as_they_happen(installation: Installation) -> None:
    wanted = {
        "events": ["event", "profile.changed"],
        "purpose": "operations",
        "fields": ["plan"],
        "filter": {"events": ["Forwarded"], "where": [{"path": ["total"], "test": "at_least", "value": 5}]},
    }
    mapping = {"object": {"what": {"path": ["event", "event"]}, "total": {"path": ["event", "properties", "total"]}}}
    with Sink() as raw, Sink() as mapped, Sink() as denied:
        installation.post("/api/destinations", a_webhook("raw", raw.url, **wanted))
        short = {**wanted, "events": ["event"], "mapping": mapping, "batch": {"events": 10, "wait_ms": 10}}
        installation.post("/api/destinations", a_webhook("mapped", mapped.url, **short))
        for_ads = {**a_webhook("ads", denied.url, **{**wanted, "purpose": "marketing"}), "purposes": ["marketing"]}
        installation.post("/api/destinations", for_ads)
        batch = [
            {"type": "identify", "userId": "fay", "messageId": "f-1", "traits": {"plan": "gold", "secret": "never told"}},
            {"type": "track", "event": "Forwarded", "userId": "fay", "messageId": "f-2", "properties": {"total": 9.10}},
            {"type": "track", "event": "Forwarded", "userId": "fay", "messageId": "f-3", "properties": {"total": 1}},
            {"type": "track", "event": "Other", "userId": "fay", "messageId": "f-4", "properties": {"total": 9}},
            {
                "type": "track",
                "event": "Forwarded",
                "userId": "fay",
                "messageId": "f-5",
                "properties": {"total": 9},
                "timestamp": "2020-01-01T00:00:00Z",
            },
            {"type": "identify", "userId": "fay", "messageId": "f-6", "traits": {"plan": "gold"}},
            {"type": "identify", "userId": "fay", "anonymousId": "fay-phone", "messageId": "f-7", "traits": {}},
        ]
        assert installation.track({"batch": batch}).status == 200
        installation.settled()
        until(lambda: len(raw.received()) >= 3 and bool(mapped.received()), "they are forwarded")
        bodies = [json.loads(each.body) for each in raw.received()]
        events = [body for body in bodies if body["type"] == "event"]
        assert [event["event"]["message_id"] for event in events] == ["f-2"]
        assert b'"properties":{"total": 9.1}' in next(each.body for each in raw.received() if b'"type":"event"' in each.body)
        changes = {body["because"]["message_ids"][0]: body for body in bodies if body["type"] == "profile.changed"}
        assert set(changes) == {"f-1", "f-7"}
        assert changes["f-1"]["traits"] == ["plan", "secret"]
        assert changes["f-1"]["values"] == {"plan": {"old": None, "new": "gold"}}
        assert changes["f-7"]["identifiers_added"] == [{"namespace": "anonymous_id", "value": "fay-phone"}]
        assert all(b"never told" not in each.body for each in raw.received())
        (short_one,) = json.loads(mapped.received()[0].body)["deliveries"]
        assert short_one["body"] == {"what": "Forwarded", "total": 9.1}
        health = installation.get("/api/destinations/ads/health")
        assert (health["deliveries"]["denied"], health["attempts"]) == (3, {"consent_unknown": 3})
        assert denied.received() == []


def test_what_cannot_be_forwarded_is_refused_with_its_place(installation: Installation) -> None:
    spec = {"events": ["event"], "filter": {"sources": ["nowhere"], "where": [{"path": ["a"], "test": "is_like", "value": 1}]}}
    answer = installation.api("POST", "/api/destinations", a_webhook("odd", "https://crm.example", **spec))
    problems = [answer.json(), *answer.json()["problems"]]
    assert [(each["code"], each["pointer"]) for each in problems] == [
        ("forwarding_needs_purpose", "/spec/purpose"),
        ("unknown_test", "/spec/filter/where/0/test"),
        ("unknown_source", "/spec/filter/sources/0"),
    ]
    spec = {"events": ["event"], "purpose": "marketing", "mapping": {"paths": []}}
    answer = installation.api("POST", "/api/destinations", a_webhook("odd", "https://crm.example", **spec))
    assert answer.json()["code"] == "purpose_not_served"
    assert answer.json()["problems"][0]["pointer"].startswith("/spec/mapping")


def test_a_rebuild_finds_the_same_outbox_and_tallies(installation: Installation) -> None:
    installation.settled()

    def same() -> bool:
        live, rebuilt, _ = installation.replay()
        return live == rebuilt

    until(same, "the digests are equal")
