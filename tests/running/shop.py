"""A small shop on an installation, set up over HTTP: what the questions of the outside contract are asked about."""

from typing import Any

from tests.running.installation import Installation, until
from tests.running.load import webhook
from tests.running.sink import Sink

CONDITION: dict[str, Any] = {"kind": "did", "event": "Order Completed", "times": {"min": 2}}
EMAIL = "anna+shop/1@example.org"


class Shop:
    """An installation with a person who ordered twice, and the webhook that told of it."""

    def __init__(self, installation: Installation, sink: Sink) -> None:
        self.installation = installation
        self.sink = sink
        self.segment = installation.post("/api/segments", segment("buyers", CONDITION))
        self.destination = installation.post("/api/destinations", webhook("crm", sink.url))
        self.sent: list[dict[str, Any]] = [
            {"type": "page", "name": "Home", "anonymousId": "anna-phone", "messageId": "c-1"},
            {"type": "track", "event": "Order Completed", "userId": "anna", "properties": {"revenue": 12.5}, "messageId": "c-2"},
        ]
        self.track(self.sent)
        before = [installation.get(f"/api/profiles/{ref}")["profile_id"] for ref in ("anonymous_id:anna-phone", "user_id:anna")]
        traits = {"email": EMAIL, "name": "Anna", "points": 12345678901234567890, "rate": 0.10, "tags": ["a", None, {"b": True}]}
        self.track(
            [
                {"type": "identify", "userId": "anna", "anonymousId": "anna-phone", "traits": traits, "messageId": "c-3"},
                {"type": "track", "event": "Order Completed", "userId": "anna", "messageId": "c-4"},
                {"type": "track", "event": "Order Completed", "messageId": "c-5"},
                {"type": "track", "event": "Order Completed", "userId": "berta", "messageId": "c-6"},
            ]
        )
        self.profile_id: str = installation.get("/api/profiles/user_id:anna")["profile_id"]
        self.former = [each for each in before if each != self.profile_id]
        until(lambda: len(sink.received()) == 1, "the webhook is sent")

    def track(self, events: list[dict[str, Any]]) -> None:
        """Send events and wait until everything has seen them."""
        assert self.installation.track({"batch": events}).status == 200
        self.installation.settled()


def segment(key: str, where: dict[str, Any], **members: Any) -> dict[str, Any]:
    """The definition of a segment."""
    return {"key": key, "name": key.title(), "purpose": "operations", "spec": {"language": 1, "where": where}, **members}
