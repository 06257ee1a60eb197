"""One good request of each kind, on an installation that has something of everything: what hostile requests are made from."""

import json
from typing import Any

from tests.running.installation import WRITE_KEY, Installation
from tests.running.load import webhook

DID = {"kind": "did", "event": "Order Completed", "times": {"min": 1}, "within": "30d"}
SEQUENCE = {
    "kind": "sequence",
    "steps": [
        {"event": "Cart Viewed"},
        {"event": "Order Completed", "where": [{"path": ["total"], "test": "more_than", "value": 5}]},
    ],
    "within": "2d",
    "same": ["cart_id"],
    "without": {"event": "Order Cancelled", "until": "window"},
}
WHERE = {
    "kind": "all",
    "of": [
        DID,
        SEQUENCE,
        {"kind": "not", "of": {"kind": "trait", "path": ["city", "name"], "test": "contains", "value": "a"}},
        {"kind": "trait", "path": ["n"], "test": "between", "value": [1, 5.5]},
        {"kind": "trait", "path": ["since"], "test": "within_last", "value": "30d"},
        {"kind": "attribute", "key": "orders", "test": "at_least", "value": 1},
        {"kind": "trait", "path": ["email"], "test": "matches", "value": "@example\\."},
        {"kind": "trait", "path": ["n"], "test": "in", "value": [1, "two"]},
        {"kind": "segment", "key": "buyers"},
        {"kind": "identifier", "namespace": "email"},
    ],
}
MAPPING: dict[str, Any] = {
    "each": ["changes"],
    "when": [{"path": ["item", "kind"], "test": "in", "value": ["opened", "solved"]}],
    "type": "track",
    "event": {"path": ["item", "kind"], "map": {"opened": "Ticket Opened", "*": "Ticket Changed"}},
    "user_id": {"path": ["item", "user"], "as": "text"},
    "message_id": {"template": "ticket-{item.ticket}-{item.kind}"},
    "timestamp": {"path": ["item", "at"], "as": "moment", "format": "seconds"},
    "properties": {"rest": True, "desk": {"path": ["desk", "name"]}},
    "context": {"traits": {"object": {"email": {"path": ["item", "email"], "as": "email"}}}},
    "objects": [{"kind": "ticket", "object_id": {"path": ["item", "ticket"]}, "state": {"status": {"path": ["item", "kind"]}}}],
}
TICKETS = {
    "changes": [{"kind": "opened", "ticket": 7, "user": "u-7", "at": 1_780_000_000, "email": "a@example.org"}],
    "desk": {"name": "d"},
}
ROWS_MAPPING = [
    {
        "type": "track",
        "event": "Imported",
        "user_id": {"path": ["customer"], "as": "text"},
        "timestamp": {"path": ["day"]},
        "properties": {"rest": True},
    }
]
FORMAT = {"kind": "csv", "delimiter": ";", "encoding": "utf-8"}
EVENT: dict[str, Any] = {
    "type": "track",
    "event": "Order Completed",
    "userId": "u-1",
    "anonymousId": "a-1",
    "messageId": "good-1",
    "timestamp": "2026-03-01T09:30:00.000Z",
    "sentAt": "2026-03-01T09:30:01.000Z",
    "properties": {
        "total": 9.5,
        "order_id": "o-1",
        "cart_id": "c-1",
        "products": [{"product_id": "p-1", "price": 9.5, "quantity": 1}],
    },
    "context": {
        "page": {"url": "https://shop.example/?utm_source=a", "referrer": "https://example.org/", "path": "/", "title": "T"},
        "campaign": {"name": "c", "source": "s"},
        "userAgent": "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0",
        "device": {"id": "d-1", "type": "ios"},
        "traits": {"email": "u-1@example.org", "phone": "+39 06 1234 5678"},
        "ip": "192.0.2.7",
        "timezone": "Europe/Rome",
    },
    "integrations": {"All": True},
    "objects": [{"kind": "contract", "object_id": "c-77", "role": "owner", "state": {"value": 12}}],
}
IDENTIFY: dict[str, Any] = {
    "type": "identify",
    "userId": "u-1",
    "anonymousId": "a-1",
    "messageId": "good-2",
    "traits": {"email": "u-1@example.org", "n": 3, "city": {"name": "Roma"}, "since": "2026-03-01", "list": [1, "two", None]},
}
CALLS: dict[str, Any] = {
    "/v1/batch": {"batch": [EVENT, IDENTIFY], "sentAt": "2026-03-01T09:30:01.000Z", "context": {"library": {"name": "x"}}},
    "/v1/track": EVENT,
    "/v1/identify": IDENTIFY,
    "/v1/page": {**EVENT, "type": "page", "name": "Home", "category": "c"},
    "/v1/screen": {**EVENT, "type": "screen", "name": "Home"},
    "/v1/group": {"groupId": "g-1", "userId": "u-1", "traits": {"name": "G", "employees": 5}},
    "/v1/alias": {"previousId": "a-1", "userId": "u-1"},
    "/v1/merge": {"mergeProperties": [{"type": "user_id", "value": "u-1"}, {"type": "email", "value": "u-1@example.org"}]},
    "/v1/import": {"batch": [IDENTIFY]},
    "/beacon/v1/batch": {"batch": [EVENT]},
}


class Stock:
    """What was made, and where good requests go: ``managed`` are (method, path, body), ``read`` paths of GET."""

    def __init__(self, installation: Installation) -> None:
        post = installation.post
        post("/api/attributes", ATTRIBUTE)
        post("/api/segments", SEGMENT)
        self.hook_key: str = post("/api/sources", HOOK_SOURCE)["write_key"]
        # Nobody listens there: what is sent is tried again and again, which is none of this test's business.
        post("/api/destinations", webhook("out", "http://127.0.0.1:9/"))
        assert installation.api("PUT", "/api/secrets/tickets", {"value": "a secret of the tests"}).status == 200
        for path, body in CALLS.items():
            assert installation.track(json.dumps(body).encode(), path).status == 200, path
        assert (
            installation.track({"batch": [EVENT, {**EVENT, "messageId": "bad", "userId": "", "anonymousId": ""}]}).status == 200
        )
        sent = installation.ask("POST", f"/webhooks/tickets/{self.hook_key}", json.dumps(TICKETS).encode())
        assert sent.status == 200, sent
        upload = installation.api("POST", "/api/uploads?name=rows.csv", b"customer;day\nc-1;2024-03-01\nc-2;2024-03-02\n")
        self.upload: str = upload.json()["upload"]
        asked = {
            "upload": self.upload,
            "source": "default",
            "mapping": ROWS_MAPPING,
            "basis": "contract",
            "note": "rows",
            "format": FORMAT,
            "key": ["customer"],
        }
        preview = {name: value for name, value in asked.items() if name not in ("basis", "note")}
        started = installation.api("POST", "/api/imports", {**asked, "format": {}})
        assert started.status == 202, started
        installation.settled()
        person = installation.get("/api/profiles/user_id:u-1")
        links = installation.get("/api/profiles/user_id:u-1/identity")["links"]
        self.references = {
            "purposes": "operations",
            "sources": "tickets",
            "destinations": "out",
            "attributes": "orders",
            "segments": "buyers",
            "profiles": "user_id:u-1",
            "objects": "o-1",
            "links": links[0]["link_id"],
            "imports": started.json()["import_id"],
            "secrets": "tickets",
        }
        self.profile_id: str = person["profile_id"]
        self._list_requests(asked, preview)

    def _list_requests(self, asked: dict[str, Any], preview: dict[str, Any]) -> None:
        """Where good requests go."""
        self.managed = (
            ("POST", "/api/sql", {"sql": "select message_id, event from events where user_id = ? limit 5", "params": ["u-1"]}),
            ("POST", "/api/segments/preview", {"spec": {"language": 1, "where": WHERE}}),
            ("PUT", "/api/segments/buyers", {**SEGMENT, "spec": {"language": 1, "where": DID}}),
            ("POST", "/api/segments", {**SEGMENT, "key": "more"}),
            ("PUT", "/api/attributes/orders", ATTRIBUTE),
            ("PUT", "/api/sources/tickets", HOOK_SOURCE),
            ("POST", "/api/sources/tickets/preview", {"bodies": [TICKETS], "mappings": [MAPPING]}),
            ("PUT", "/api/destinations/out", webhook("out", "http://127.0.0.1:9/")),
            ("POST", "/api/destinations/out/replay", {"from": "2026-01-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}),
            (
                "PUT",
                "/api/purposes/marketing",
                {"key": "marketing", "name": {"en": "M", "it": "M"}, "basis": "consent", "channels": []},
            ),
            ("POST", "/api/links", LINK),
            ("POST", "/api/quarantine/replay", {"addresses": [{"position": 12, "slot": 0}]}),
            ("PUT", "/api/secrets/tickets", {"value": "a secret of the tests"}),
            ("POST", "/api/imports/preview?wait_ms=50", preview),
            ("POST", "/api/imports", asked),
        )
        people = f"/api/profiles/{self.profile_id}"
        self.read = (
            *(
                f"{people}{part}"
                for part in ("", "/timeline", "/identity", "/memberships", "/explain", "/consents", "/visits", "/objects")
            ),
            *(f"/api/{kind}" for kind in (*self.references, "quarantine", "deliveries", "jobs", "movements", "status")),
            *(f"/api/{kind}/{key}" for kind, key in self.references.items()),
            "/api/profiles/email:u-1@example.org/timeline",
            "/api/objects/order/o-1",
            "/api/segments/buyers/members",
            "/api/segments/buyers/history",
            "/api/destinations/out/health",
            f"/api/imports/{self.references['imports']}/rejected",
            "/health/ready",
            "/metrics",
            "/",
            "/v1/projects/key/settings",
            "/sourceConfig",
            "/analytics.js/v1/key/analytics.min.js",
        )
        self.hooks = (f"/webhooks/tickets/{self.hook_key}", f"/v1/webhook?writeKey={self.hook_key}")
        self.pixel = f"/pixel/v1/track?writeKey={WRITE_KEY}"


ATTRIBUTE = {
    "key": "orders",
    "name": "Orders",
    "spec": {"language": 1, "aggregate": "sum", "event": "Order Completed", "path": ["total"], "within": "90d"},
}
SEGMENT = {"key": "buyers", "name": "Buyers", "purpose": "operations", "spec": {"language": 1, "where": DID}}
HOOK_SOURCE = {"key": "tickets", "name": "Tickets", "type": "webhook", "region": "eu", "spec": {"mappings": [MAPPING]}}
LINK = {
    "kind": "manual_same",
    "left": {"namespace": "user_id", "value": "u-1"},
    "right": {"namespace": "email", "value": "other@example.org"},
    "evidence": "said so",
}
