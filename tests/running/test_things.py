"""Visits, objects and automated traffic on a running installation: said in events, asked over the API and in SQL, now and then."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.running.installation import Installation
from tests.running.shop import segment

IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.2 "
    "Mobile/15E148 Safari/604.1"
)
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
SHOP = "https://shop.example"
DAY = "2026-03-01T"


def on_page(path: str, agent: str = IPHONE) -> dict[str, Any]:
    return {"userAgent": agent, "page": {"url": f"{SHOP}{path}"}}


EVENTS: list[dict[str, Any]] = [
    {
        "type": "page",
        "name": "Home",
        "anonymousId": "phone",
        "messageId": "t-1",
        "timestamp": f"{DAY}10:00:00Z",
        "properties": {"url": f"{SHOP}/?utm_source=news&utm_medium=email&gclid=abc", "referrer": "https://mail.example/"},
        "context": {"userAgent": IPHONE, "location": {"country": "IT"}},
    },
    {
        "type": "track",
        "event": "Product Viewed",
        "anonymousId": "phone",
        "messageId": "t-2",
        "timestamp": f"{DAY}10:05:00Z",
        "properties": {"product_id": "p/1", "name": "Lamp", "price": 19.90},
        "context": on_page("/lamp?x=1"),
    },
    {
        "type": "track",
        "event": "Order Completed",
        "anonymousId": "phone",
        "userId": "tina",
        "messageId": "t-3",
        "timestamp": f"{DAY}10:20:00Z",
        "properties": {"order_id": "o1", "total": 19.90, "products": [{"product_id": "p/1", "name": "Lamp", "quantity": 1}]},
        "context": on_page("/thanks"),
    },
    {
        "type": "track",
        "event": "Product Viewed",
        "anonymousId": "robot",
        "messageId": "t-4",
        "timestamp": f"{DAY}10:05:00Z",
        "properties": {"product_id": "p/1"},
        "context": on_page("/lamp", GOOGLEBOT),
    },
    {
        "type": "track",
        "event": "Contract Signed",
        "userId": "tina",
        "messageId": "t-5",
        "timestamp": f"{DAY}12:00:00Z",
        "objects": [{"kind": "contract", "object_id": 77, "role": "owner", "state": {"value": 12345678901234567890}}],
    },
    {"type": "track", "event": "Contract Signed", "userId": "tina", "messageId": "t-6", "objects": [{"kind": "Contract"}]},
]
REFUND = {
    "type": "track",
    "event": "Order Refunded",
    "userId": "tina",
    "messageId": "t-7",
    "timestamp": "2026-03-03T10:00:00Z",
    "properties": {"order_id": "o1", "total": 5},
}
# It comes late, and joins nothing; then the one between joins both.
LATE = [
    {"type": "page", "anonymousId": "phone", "messageId": "t-8", "timestamp": f"{DAY}11:10:00Z", "context": on_page("/late")},
    {"type": "page", "anonymousId": "phone", "messageId": "t-9", "timestamp": f"{DAY}10:45:00Z", "context": on_page("/between")},
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation to which everything has been told but what comes late."""
    with Installation(tmp_path_factory.mktemp("things")) as installation:
        viewed = {"kind": "did", "event": "Product Viewed"}
        installation.post("/api/segments", segment("viewers", viewed))
        installation.post("/api/segments", segment("visitors", {**viewed, "automated": True}))
        assert installation.track({"batch": EVENTS}).status == 200
        installation.settled()
        assert installation.track({"batch": [REFUND]}).status == 200
        installation.settled()
        yield installation


def test_programs_are_marked_and_left_out(running: Installation) -> None:
    assert running.sql("select message_id from events where automated") == [["t-4"]]
    assert running.sql("select count(*) from visits where device_value = 'robot'") == [[0]]
    members = {key: len(running.get(f"/api/segments/{key}/members")["items"]) for key in ("viewers", "visitors")}
    assert members == {"viewers": 1, "visitors": 2}
    for key, automated in (("viewers", False), ("visitors", True)):
        spec = {"language": 1, "where": {"kind": "did", "event": "Product Viewed", "automated": automated}}
        assert running.post("/api/segments/preview", {"spec": spec})["count"] == members[key]
    assert running.sql("select count(*) from object_people where role = 'viewer'") == [[1]]


def test_objects_of_a_person(running: Installation) -> None:
    items = running.get("/api/profiles/user_id:tina/objects")["items"]
    assert [(each["kind"], each["object_id"], [role["role"] for role in each["roles"]]) for each in items] == [
        ("contract", "77", ["owner"]),
        ("order", "o1", ["buyer"]),
        ("product", "p/1", ["buyer", "viewer"]),
    ]
    first = running.get("/api/profiles/user_id:tina/objects?limit=1")
    second = running.get(f"/api/profiles/user_id:tina/objects?limit=5&cursor={first['next']}")
    assert [*first["items"], *second["items"]] == items
    assert running.get("/api/profiles/user_id:tina/objects?kind=order")["items"] == items[1:2]
    before = running.get(f"/api/profiles/user_id:tina/objects?true_at={DAY}11:00:00Z")["items"]
    assert [(each["kind"], each["state"].get("status")) for each in before] == [("order", "completed"), ("product", None)]
    assert before[1] == items[2]


def test_an_object_with_its_state_history_and_people(running: Installation) -> None:
    order = running.get("/api/objects/order/o1")
    assert order["state"]["status"] == "refunded"
    assert (order["state"]["total"], order["state"]["refunded"]) == (19.9, 5)
    assert [(each["name"], each["message_id"]) for each in order["properties"] if each["name"] in ("status", "total")] == [
        ("status", "t-7"),
        ("total", "t-3"),
    ]
    profile_id = running.get("/api/profiles/user_id:tina")["profile_id"]
    assert [(each["profile_id"], each["role"]) for each in order["people"]] == [(profile_id, "buyer")]
    assert [each["value"] for each in order["history"] if each["name"] == "status"] == ["refunded", "completed"]
    position = running.sql("select position from events where message_id = 't-5'")[0][0]
    then = running.get(f"/api/objects/order/o1?known_at={position}")
    assert (then["state"]["status"], then["as_of"]) == ("completed", position)
    now = running.get(f"/api/objects/order/o1?true_at={quote(order['last_seen_at'])}")
    assert {**now, "as_of": 0} == {**order, "as_of": 0}
    assert running.get("/api/objects/product/p%2F1")["state"]["name"] == "Lamp"
    assert b"12345678901234567890" in running.api("GET", "/api/objects/contract/77").body
    assert running.api("GET", "/api/objects/order/none").status == 404
    assert running.sql("select kind, object_id from objects order by all") == [
        ["contract", "77"],
        ["order", "o1"],
        ["product", "p/1"],
    ]


def test_an_event_with_a_wrong_object_waits_in_quarantine(running: Installation) -> None:
    (kept,) = running.get("/api/quarantine")["items"]
    assert (kept["message_id"], kept["reason"], kept["params"]) == ("t-6", "wrong_field_type", {"field": "objects/0/kind"})


def test_visits_grow_together_by_late_events(running: Installation) -> None:
    (visit,) = running.get("/api/profiles/user_id:tina/visits")["items"]
    assert (visit["started_at"], visit["ended_at"], visit["duration_seconds"]) == (f"{DAY}10:00:00Z", f"{DAY}10:20:00Z", 1_200)
    assert (visit["events"], visit["pages"], visit["entry_page"], visit["exit_page"]) == (3, 1, f"{SHOP}/", f"{SHOP}/thanks")
    assert (visit["utm_source"], visit["utm_medium"], visit["click_id"], visit["country"]) == ("news", "email", "gclid", "IT")
    assert (visit["browser"], visit["os"], visit["device"]) == ("Mobile Safari", "iOS", "mobile")
    position = running.status()["position"]
    running.track({"batch": LATE[:1]})
    running.settled()
    assert [each["events"] for each in running.get("/api/profiles/user_id:tina/visits")["items"]] == [1, 3]
    running.track({"batch": LATE[1:]})
    running.settled()
    (joined,) = running.get("/api/profiles/user_id:tina/visits")["items"]
    assert (joined["visit_id"], joined["events"], joined["exit_page"]) == (visit["visit_id"], 5, f"{SHOP}/late")
    assert running.get(f"/api/profiles/user_id:tina/visits?known_at={position}")["items"] == [visit]
    (then,) = running.get(f"/api/profiles/user_id:tina/visits?true_at={DAY}10:06:00Z")["items"]
    assert (then["visit_id"], then["events"], then["exit_page"]) == (visit["visit_id"], 2, f"{SHOP}/lamp")
    assert running.sql("select visit_id, events from visits") == [[visit["visit_id"], 5]]


def test_a_replay_finds_the_same(running: Installation) -> None:
    live, rebuilt, code = running.replay()
    assert (live, code) == (rebuilt, 0)
