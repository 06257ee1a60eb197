"""Load on an installation: people who buy, look around and come and go, sent until acknowledged, with a ledger of it all."""

import http.client
import json
import threading
from collections import Counter
from datetime import UTC, datetime
from random import Random
from types import TracebackType
from typing import Any, Self

from tests.running.installation import Installation

SENDERS = 2
PEOPLE_EACH = 40
EVENTS_PER_BATCH = 20
PAUSE_S = 0.03
REPEATED_SHARE = 0.1
STOP_S = 90.0

SEGMENTS: tuple[dict[str, Any], ...] = (
    {"key": "buyers", "where": {"kind": "did", "event": "Order Completed", "times": {"min": 2}}},
    {"key": "active", "where": {"kind": "trait", "path": ["status"], "test": "is", "value": "active"}},
    {"key": "lately", "where": {"kind": "did", "event": "Product Viewed", "within": "2s"}},
)
ORDERS = {"key": "orders", "name": "Orders", "spec": {"language": 1, "aggregate": "count", "event": "Order Completed"}}


def define(installation: Installation, sink_url: str) -> None:
    """Make the definitions that the load sets in motion: segments, a computed trait and a webhook for every transition."""
    for segment in SEGMENTS:
        spec = {"language": 1, "where": segment["where"]}
        installation.post("/api/segments", {"key": segment["key"], "name": segment["key"], "purpose": "operations", "spec": spec})
    installation.post("/api/attributes", ORDERS)
    installation.post("/api/destinations", webhook("sink", sink_url))


def webhook(key: str, url: str) -> dict[str, Any]:
    """The definition of a webhook on this machine."""
    spec = {"url": url, "allow_private": True, "events": ["segment.entered", "segment.exited"], "segments": "all"}
    return {"key": key, "name": key, "purposes": ["operations"], "region": "eu", "type": "webhook", "spec": spec}


class Ledger:
    """What was sent, by message id, and what was answered about it: ``stored`` or ``rejected``."""

    def __init__(self) -> None:
        self.sent: dict[str, dict[str, Any]] = {}
        self.acknowledged: dict[str, str] = {}

    def orders(self) -> Counter[str]:
        """Orders by user id, of all that was acknowledged."""
        return Counter(
            event["userId"] for event in self._stored() if event["type"] == "track" and event["event"] == "Order Completed"
        )

    def active(self) -> set[str]:
        """Users whose newest status says that they are active."""
        newest: dict[str, tuple[str, str]] = {}
        for event in self._stored():
            if event["type"] == "identify" and "status" in event["traits"]:
                seen = (event["timestamp"], event["traits"]["status"])
                newest[event["userId"]] = max(newest.get(event["userId"], seen), seen)
        return {user for user, (_, status) in newest.items() if status == "active"}

    def _stored(self) -> list[dict[str, Any]]:
        return [self.sent[message_id] for message_id, status in self.acknowledged.items() if status == "stored"]


class Load:
    """Sends batches from a few threads while it is entered. On leaving every batch that was begun is acknowledged."""

    def __init__(self, installation: Installation, seed: int) -> None:
        self.ledger = Ledger()
        self._installation = installation
        self._seed = seed
        self._ending = threading.Event()
        self._failures: list[str] = []
        self._threads = [threading.Thread(target=self._send, args=(number,), daemon=True) for number in range(SENDERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(STOP_S)
        if kind is None:
            assert not any(thread.is_alive() for thread in self._threads), "the load did not come to an end"
            assert not self._failures, self._failures

    def _send(self, number: int) -> None:
        chance = Random(f"{self._seed}/{number}")
        batch = 0
        while not self._ending.wait(PAUSE_S):
            batch += 1
            events = [_event(chance, f"{self._seed}-{number}", batch, index) for index in range(EVENTS_PER_BATCH)]
            self.ledger.sent.update({event["messageId"]: event for event in events})
            body = json.dumps({"batch": events}).encode()
            for _ in range(2 if chance.random() < REPEATED_SHARE else 1):
                self._until_acknowledged(body)

    def _until_acknowledged(self, body: bytes) -> None:
        """Send the same bytes until they are answered, as the clients' libraries do."""
        while True:
            try:
                answer = self._installation.track(body)
            except (OSError, http.client.HTTPException):
                threading.Event().wait(0.05)
                continue
            if answer.status == 200:
                for told in answer.json()["events"]:
                    self.ledger.acknowledged[told["message_id"]] = told["status"]
                return
            if answer.status not in (429, 503):
                self._failures.append(repr(answer))
                return
            threading.Event().wait(0.05)


def _event(chance: Random, sender: str, batch: int, index: int) -> dict[str, Any]:
    user = f"user-{sender}-{chance.randrange(PEOPLE_EACH)}"
    event: dict[str, Any] = {
        "messageId": f"message-{sender}-{batch}-{index}",
        "userId": user,
        "timestamp": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }
    kind = chance.random()
    if kind < 0.02:
        del event["userId"]
        return {**event, "type": "track", "event": "Nobody's"}
    if kind < 0.3:
        return {**event, "type": "track", "event": "Order Completed", "properties": {"revenue": batch + 0.1}}
    if kind < 0.6:
        return {**event, "type": "track", "event": "Product Viewed", "properties": {"sku": f"sku-{index}"}}
    if kind < 0.8:
        return {**event, "type": "identify", "traits": {"status": chance.choice(["active", "left"]), "seen": batch}}
    # A visitor with a device of its own, who turns out to be this person.
    return {**event, "type": "identify", "anonymousId": f"device-{user}-{chance.randrange(3)}", "traits": {"page": index}}
