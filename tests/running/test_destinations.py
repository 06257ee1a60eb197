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
