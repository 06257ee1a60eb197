"""Webhooks into a real installation: the how-to's own examples, signatures, quarantine and replay, and nothing lost or doubled."""

import base64
import hashlib
import hmac
import json
import os
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from tests.running.installation import ADMIN_TOKEN, Answer, Installation

HOW_TO = (Path(__file__).parents[2] / "docs" / "how-to" / "webhooks.md").read_text()
BLOCKS: dict[str, str] = dict(re.findall(r"^```(?:sh|json) (\S+)\n(.*?)^```", HOW_TO, re.DOTALL | re.MULTILINE))
STANDARD_SECRET = "whsec_" + base64.b64encode(b"a secret of the ticket system!!!").decode()
SHOP_SECRET = b"the secret that the shop shows"


class Hooked:
    """An installation whose sources are made as the how-to says."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self.installation = installation
        self._folder = folder
        for name, text in BLOCKS.items():
            if name.endswith(".json"):
                (folder / name).write_text(text)
        self.run("keep-secret")
        self.shop_key = self.run("create-shop")["write_key"]
        put(installation, "tickets_signature", STANDARD_SECRET)
        self.ticket_key = installation.post("/api/sources", json.loads(BLOCKS["tickets.json"]))["write_key"]

    def run(self, block: str) -> Any:
        """Run a command of the how-to as it stands there."""
        environment = {**os.environ, "API": self.installation.url, "TOKEN": ADMIN_TOKEN}
        ran = subprocess.run(
            ["sh", "-c", BLOCKS[block]],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
            cwd=self._folder,
            timeout=60,
        )
        assert ran.returncode == 0, (block, ran)
        return json.loads(ran.stdout)

    def shop(self, body: Any, secret: bytes = SHOP_SECRET, path: str = "") -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        signature = base64.b64encode(hmac.new(secret, raw, hashlib.sha256).digest()).decode()
        path = path or f"/webhooks/shop/{self.shop_key}"
        return self.installation.ask("POST", path, raw, {"X-Shop-Hmac-SHA256": signature, "Content-Type": "application/json"})

    def tickets(self, body: Any, message_id: str, age_s: int = 0) -> Answer:
        """Signed by the package that senders use."""
        raw = json.dumps(body)
        sent_at = datetime.fromtimestamp(datetime.now(UTC).timestamp() - age_s, UTC)
        headers = {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(sent_at.timestamp())),
            "webhook-signature": Webhook(STANDARD_SECRET).sign(message_id, sent_at, raw),
            "Content-Type": "application/json",
        }
        return self.installation.ask("POST", f"/v1/webhook?writeKey={self.ticket_key}", raw.encode(), headers)


def put(installation: Installation, name: str, secret: str) -> None:
    """Keep a secret."""
    assert installation.api("PUT", f"/api/secrets/{name}", {"value": secret}).status == 200


def made(installation: Installation, key: str, **spec: Any) -> str:
    """A webhook source without a signature; its write key."""
    body = {"key": key, "name": key, "type": "webhook", "region": "eu", "spec": spec}
    return str(installation.post("/api/sources", body)["write_key"])


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooked]:
    folder = tmp_path_factory.mktemp("webhooks")
    with Installation(folder) as installation:
        yield Hooked(installation, folder)


def rejections(preview: Any) -> list[dict[str, Any]]:
    """The problems that a preview tells."""
    return [event["problem"] for item in preview["items"] for event in item["events"] if event["problem"]]


def test_an_order_of_the_shop_is_an_event_and_a_profile(hooked: Hooked) -> None:
    installation = hooked.installation
    order = BLOCKS["order.json"].encode()
    assert hooked.shop(order).json() == {"success": True, "stored": 1}
    assert hooked.shop(order, path=f"/v1/webhook?writeKey={hooked.shop_key}").status == 200
    status = installation.settled()
    assert (status["applied"], status["duplicates"], status["quarantined"]) == (2, 2, 0)
    rows = installation.sql(
        "select event, user_id, event_at::text, properties::text from events where source_id in "
        "(select source_id from events) and type = 'track' and event like 'Order%'"
    )
    assert [(row[0], row[1]) for row in rows] == [("Order Completed", "115310627")]
    assert rows[0][2].startswith("2026-03-01 09:30:00")
    assert '"revenue":199.90' in rows[0][3].replace(" ", "")
    assert json.loads(rows[0][3])["products"][1] == {"product_id": "LAMP-1", "quantity": 2, "price": 25.0}
    profile = installation.get("/api/profiles/email:maria.rossi%40example.com")
    traits = {trait["name"]: trait["value"] for trait in profile["traits"]}
    assert traits == {"name": "Maria Rossi", "email": "maria.rossi@example.com", "newsletter": True}
    preview = hooked.run("preview")
    assert [event["event"]["type"] for event in preview["items"][0]["events"]] == ["track", "identify"]
    assert preview["items"][0]["body"]["total_price"] == "199.90"


def test_a_wrong_signature_is_refused_and_nothing_is_kept(hooked: Hooked) -> None:
    installation = hooked.installation
    before = installation.settled()
    answer = hooked.shop({"id": 1, "customer": {"id": 5}}, b"another secret")
    assert (answer.status, answer.json()["code"]) == (401, "wrong_signature")
    unsigned = installation.ask("POST", f"/webhooks/shop/{hooked.shop_key}", b"{}")
    assert unsigned.status == 401
    late = hooked.tickets(json.loads(BLOCKS["changes.json"]), "msg_old", age_s=3_600)
    assert (late.status, late.json()["code"]) == (401, "wrong_signature")
    assert installation.settled() == {**before, "lag_seconds": before["lag_seconds"]}
    metrics = installation.ask("GET", "/metrics").body.decode()
    assert re.search(r'conosco_webhook_refused_total\{code="wrong_signature"\} [3-9]', metrics)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/webhooks/shop/wrong", 401),
        ("/webhooks/tickets/{shop}", 401),
        ("/webhooks/shop", 404),
        ("/v1/webhook", 401),
        ("/v1/webhook?writeKey=", 401),
        ("/v1/track?writeKey={shop}", 401),
    ],
)
def test_addresses_that_are_none_store_nothing(hooked: Hooked, path: str, status: int) -> None:
    body = b'{"type":"track","event":"E","userId":"u"}'
    assert hooked.shop(body, path=path.format(shop=hooked.shop_key)).status == status


def test_an_address_can_be_asked_for(hooked: Hooked) -> None:
    for method in ("GET", "HEAD"):
        assert hooked.installation.ask(method, f"/webhooks/shop/{hooked.shop_key}").status == 200
    assert hooked.installation.ask("DELETE", f"/webhooks/shop/{hooked.shop_key}").status == 405


def test_a_list_of_tickets_is_an_event_each(hooked: Hooked) -> None:
    installation = hooked.installation
    before = installation.settled()
    changes = json.loads(BLOCKS["changes.json"])
    assert hooked.tickets(changes, "msg_1").json() == {"success": True, "stored": 2}
    # Sent again under another id: the mapping's own ids still tell that these are the same.
    assert hooked.tickets(changes, "msg_2").status == 200
    after = installation.settled()
    assert (after["applied"] - before["applied"], after["duplicates"] - before["duplicates"]) == (2, 2)
    rows = installation.sql(
        "select event, home_namespace, home_value, event_at::text, properties::text from events where event like 'Ticket%' order by event"
    )
    assert [row[:3] for row in rows] == [
        ["Ticket Opened", "email", "jan@example.pl"],
        ["Ticket Rated", "email", "ana@example.pt"],
    ]
    assert rows[0][3].startswith("2026-01-01 00:00:00")
    assert json.loads(rows[0][4]) == {"subject": "Paczka", "desk": "Support Warszawa"}


VISIT: dict[str, Any] = {
    "type": "track",
    "event": "Visit",
    "user_id": {"path": ["who"]},
    "properties": {"n": {"path": ["n"], "as": "integer"}},
}
WIDER: list[dict[str, Any]] = [
    {**VISIT, "properties": {"n": {"path": ["n"], "as": "text"}}},
    {
        "type": "identify",
        "user_id": {"path": ["who"]},
        "traits": {"visitor": True},
        "when": [{"path": ["who"], "test": "exists"}],
    },
]
VISITS: list[Any] = [
    {"kind": "visit", "who": "v1", "n": "1"},
    {"kind": "visit", "who": "v2", "n": "many"},
    {"kind": "other", "who": "v3", "n": 3},
    {"kind": "visit", "n": 4},
]


def test_what_does_not_map_waits_in_quarantine_and_is_mapped_anew(hooked: Hooked) -> None:
    installation = hooked.installation
    key = made(installation, "visits", mappings=[{**VISIT, "when": [{"path": ["kind"], "test": "is", "value": "visit"}]}])
    before = installation.settled()
    for body in VISITS:
        assert installation.ask("POST", f"/webhooks/visits/{key}", body).status == 200
    mixed = installation.ask("POST", f"/webhooks/visits/{key}", [VISITS[0], {"kind": "visit", "who": "v5"}, 5])
    assert mixed.json() == {"success": True, "stored": 2, "refused": 1}
    status = installation.settled()
    assert status["quarantined"] - before["quarantined"] == 3
    kept = installation.get("/api/quarantine?source=visits")["items"]
    assert [(item["reason"], item["params"].get("path")) for item in kept] == [
        ("mapping_cannot_read", "n"),
        ("no_mapping_applies", None),
        ("no_usable_identifier", "who"),
    ]
    told = rejections(installation.post("/api/sources/visits/preview", {}))
    assert {problem["title"] for problem in told} == {"A value cannot be read", "No mapping applies", "It points to nobody"}
    # Tried first, then put in force.
    tried = installation.post("/api/sources/visits/preview", {"mappings": WIDER, "body": VISITS[2]})
    assert [event["event"]["type"] for event in tried["items"][0]["events"]] == ["track", "identify"]
    spec = {"mappings": WIDER}
    installation.put("/api/sources/visits", {"key": "visits", "name": "visits", "type": "webhook", "region": "eu", "spec": spec})
    assert installation.post("/api/quarantine/replay", {"source": "visits"})["count"] == 3
    after = installation.settled()
    assert after["quarantined"] - before["quarantined"] == 1
    # Two bodies that were one outcome each are two events each now.
    assert (after["accepted"] - status["accepted"], after["applied"] - status["applied"]) == (2, 4)
    assert_meaning(installation, after["accepted"])


def assert_meaning(installation: Installation, accepted: int) -> None:
    """What was applied before keeps its meaning; what was mapped anew has the new one; every event has one outcome."""
    sql = "select user_id || ' ' || type from events where user_id in ('v1', 'v2', 'v3', 'v5') order by user_id, type desc"
    assert [row[0] for row in installation.sql(sql)] == [
        "v1 track",
        "v1 track",
        "v2 track",
        "v2 identify",
        "v3 track",
        "v3 identify",
        "v5 track",
    ]
    outcomes = installation.sql("select count(*) from outcomes")
    assert outcomes[0][0] == accepted
    live, rebuilt, code = installation.replay()
    assert (live, code) == (rebuilt, 0)


def test_forms_are_objects_of_their_fields(hooked: Hooked) -> None:
    installation = hooked.installation
    spec = {"type": "identify", "user_id": {"path": ["id"]}, "traits": {"rest": True}}
    key = made(installation, "forms", mappings=[spec])
    form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    body = b"id=form-1&nome=Andr%C3%A9&tag=a&tag=b&empty="
    assert installation.ask("POST", f"/webhooks/forms/{key}", body, form).status == 200
    assert installation.ask("POST", f"/webhooks/forms/{key}", b"id=%ff", form).status == 400
    installation.settled()
    traits = {trait["name"]: trait["value"] for trait in installation.get("/api/profiles/user_id:form-1")["traits"]}
    assert traits == {"nome": "André", "tag": ["a", "b"], "empty": ""}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"{", 400, "invalid_json"),
        (b"\xff{}", 400, "invalid_json"),
        (b"12", 400, "not_an_object"),
        (b"[]", 400, "empty_batch"),
        (b"[1]", 400, "not_an_object"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b"[" + b"{}," * 10_000 + b"{}]", 413, "too_many_events"),
    ],
)
def test_bodies_that_are_none_are_told_so(hooked: Hooked, body: bytes, status: int, code: str) -> None:
    answer = hooked.shop(body)
    assert (answer.status, answer.json()) == (status, {"success": False, "code": code})


def test_secrets_never_leave(hooked: Hooked) -> None:
    installation = hooked.installation
    source = installation.get("/api/sources/shop")
    assert source["spec"]["signature"]["secret"] == {"secret": "shop_signature"}
    assert len(source["spec"]["mappings"]) == 2
    everything = json.dumps([source, installation.get("/api/sources"), installation.get("/api/openapi.json")])
    assert SHOP_SECRET.decode() not in everything
    assert hooked.shop_key not in everything
    assert hooked.shop_key not in installation.journal_tail()


def test_a_wrong_definition_is_refused_with_every_place(hooked: Hooked) -> None:
    body = json.loads(BLOCKS["shop.json"]) | {"key": "wrong"}
    body["spec"]["signature"]["secret"] = {"secret": "installation"}
    body["spec"]["mappings"][0]["user_id"] = {"pth": ["a"]}
    answer = hooked.installation.api("POST", "/api/sources", body)
    found = [answer.json(), *answer.json()["problems"]]
    assert answer.status == 422
    assert [(problem["code"], problem["pointer"]) for problem in found] == [
        ("unknown_field", "/spec/mappings/0/user_id/pth"),
        ("unknown_secret", "/spec/signature/secret/secret"),
    ]
    assert found[0]["next"] == "Did you mean “path”?"
