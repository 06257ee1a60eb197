"""The outside contract as clients, scripts and checks rely on it, spoken to with nothing but plain HTTP."""

import json
import re
import socket
import stat
import subprocess
from typing import Any
from urllib.parse import quote

import pytest
from standardwebhooks import Webhook

from tests.running.installation import (
    ADMIN_TOKEN,
    COMMAND,
    ROLES,
    WRITE_KEY,
    Answer,
    basic,
    is_settled,
    until,
)
from tests.running.load import webhook
from tests.running.shop import CONDITION, EMAIL, Shop, segment

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z\Z")
COLUMNS = {
    "events": "position slot message_id source_id type event home_namespace home_value profile_id event_at logged_at received_at "
    "sent_at original_at historical user_id anonymous_id group_id properties traits context schema",
    "profiles": "profile_id",
    "identifiers": "profile_id namespace value",
    "links": "kind",
    "traits": "profile_id name value",
    "memberships": "profile_id segment entered_at exited_at because",
    "consents": "profile_id purpose status",
    "enrollments": "profile_id",
    "decisions": "profile_id",
    "deliveries": "delivery_id destination state",
    "outcomes": "message_id outcome reason",
    "visits": "visit_id profile_id device_namespace device_value started_at ended_at duration_seconds events pages entry_page exit_page",
    "objects": "kind object_id state first_seen_at last_seen_at changed_at",
    "object_history": "kind object_id name value previous changed_at",
    "object_people": "kind object_id profile_id role first_at last_at",
}


# The server ------------------------------------------------------------------------------------------------


def test_serve_says_where_it_is_ready(shop: Shop) -> None:
    assert shop.installation.said() == f"ready {shop.installation.url}\n"
    assert set(shop.installation.pids()) == set(ROLES)


def test_secrets_and_data_are_readable_by_the_owner_only(shop: Shop) -> None:
    data = shop.installation.data
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in data.rglob("*") if path.is_file() or path.is_socket()}
    assert modes
    assert set(modes.values()) == {0o600}, modes
    for path in modes:
        if path.is_file() and path.name != "admin-token":
            assert ADMIN_TOKEN.encode() not in path.read_bytes(), path


def test_only_this_machine_is_served_by_default(shop: Shop) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", shop.installation.port), timeout=2)


def test_a_second_server_on_the_folder_is_refused(shop: Shop) -> None:
    ran = subprocess.run(
        [*COMMAND, "serve", "--data", str(shop.installation.data), "--port", str(shop.installation.port + 1)],
        check=False,
        capture_output=True,
        text=True,
        env=shop.installation.environment,
        timeout=60,
    )
    assert ran.returncode == 1
    assert "in use" in ran.stderr
    assert "Traceback" not in ran.stderr


# Tracking -------------------------------------------------------------------------------------------------------------

PATHS: dict[str, tuple[dict[str, Any], str, str]] = {
    "track": ({"event": "Path"}, "/v1/track", "/v1/t"),
    "identify": ({"traits": {}}, "/v1/identify", "/v1/i"),
    "page": ({"name": "Path"}, "/v1/page", "/v1/p"),
    "screen": ({"name": "Path"}, "/v1/screen", "/v1/s"),
    "group": ({"groupId": "g"}, "/v1/group", "/v1/g"),
    "alias": ({"previousId": "path-before"}, "/v1/alias", "/v1/a"),
}


@pytest.mark.parametrize("call", PATHS)
def test_long_and_short_paths_take_one_event(shop: Shop, call: str) -> None:
    members, *paths = PATHS[call]
    for path in paths:
        message_id = f"path{path}"
        answer = shop.installation.track({**members, "userId": f"path-{call}", "messageId": message_id}, path)
        assert (answer.status, answer.json()) == (
            200,
            {"success": True, "events": [{"index": 0, "message_id": message_id, "status": "stored", "code": None}]},
        )
    shop.installation.settled()
    found = shop.installation.sql("select distinct type from events where user_id = ?", f"path-{call}")
    assert found == [[call]]


def test_batches_and_where_the_key_may_stand(shop: Shop) -> None:
    for number, path in enumerate(("/v1/batch", "/v1/b", "/v1/import")):
        event = {"type": "track", "event": "Batch", "userId": "batcher", "messageId": f"batch-{number}"}
        assert shop.installation.track({"batch": [event]}, path).status == 200
        assert shop.installation.ask("POST", path, {"batch": [event], "writeKey": WRITE_KEY}).status == 200
        assert shop.installation.ask("POST", f"{path}?writeKey={WRITE_KEY}", {"batch": [event]}).status == 200
        assert shop.installation.ask("POST", path, {"batch": [event]}).status == 401
    shop.installation.settled()
    assert shop.installation.sql(
        "select outcome, count(*) from outcomes where message_id like 'batch-%' group by all order by 1"
    ) == [
        ["applied", 3],
        ["duplicate", 6],
    ]


def test_a_batch_is_200_if_one_event_is_stored_else_400(shop: Shop) -> None:
    good = {"type": "track", "event": "Mixed", "userId": "mixer", "messageId": "mixed-1"}
    mixed = shop.installation.track({"batch": [good, {"type": "track", "event": "Mixed", "messageId": "mixed-2"}, 7]})
    assert mixed.status == 200
    assert [(told["index"], told["status"]) for told in mixed.json()["events"]] == [
        (0, "stored"),
        (1, "rejected"),
        (2, "refused"),
    ]
    none = shop.installation.track({"batch": [{"type": "track", "event": "Mixed"}, 7]})
    assert (none.status, none.json()["success"]) == (400, False)


# Status, health, questions --------------------------------------------------------------------------------------------


def test_the_status_and_its_shape(shop: Shop) -> None:
    status = shop.installation.settled()
    assert list(status) == [
        "accepted",
        "applied",
        "duplicates",
        "quarantined",
        "erased",
        "warehoused",
        "lag_seconds",
        "position",
    ]
    assert is_settled(status)
    assert all(isinstance(value, int) for name, value in status.items() if name != "lag_seconds")
    assert isinstance(status["lag_seconds"], int | float)


def test_health_and_metrics_are_open(shop: Shop) -> None:
    assert shop.installation.ask("GET", "/health/live").status == 200
    ready = shop.installation.ask("GET", "/health/ready")
    assert (ready.status, ready.json()["ready"]) == (200, True)
    metrics = shop.installation.ask("GET", "/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    values = dict(line.rsplit(" ", 1) for line in metrics.body.decode().splitlines() if not line.startswith("#"))
    assert float(values["conosco_events_accepted_total"]) == shop.installation.status()["accepted"]


@pytest.mark.parametrize("table", COLUMNS)
def test_promised_tables_and_columns(shop: Shop, table: str) -> None:
    columns = COLUMNS[table].split()
    answer = shop.installation.post("/api/sql", {"sql": f"select {', '.join(columns)} from {table} limit 3", "params": []})
    assert set(answer) == {"columns", "rows", "as_of"}
    assert answer["columns"] == columns
    assert isinstance(answer["as_of"], int)
    assert all(isinstance(row, list) for row in answer["rows"])
    if table == "events":
        whole = shop.installation.post("/api/sql", {"sql": "select * from events limit 1", "params": []})
        assert whole["columns"] == [*columns, "automated"]


def test_sql_takes_parameters_and_only_reads(shop: Shop) -> None:
    assert shop.installation.sql("select ? + 1, ?, ?", 1, "a'b", None) == [[2, "a'b", None]]
    traits = dict(shop.installation.sql("select name, value from traits where profile_id = ?", shop.profile_id))
    assert {name: json.loads(value) for name, value in traits.items()} == {
        "email": EMAIL,
        "name": "Anna",
        "points": 12345678901234567890,
        "rate": 0.1,
        "tags": ["a", None, {"b": True}],
    }
    known = shop.installation.sql("select namespace, value from identifiers where profile_id = ? order by 1", shop.profile_id)
    assert known == [["anonymous_id", "anna-phone"], ["email", EMAIL], ["user_id", "anna"]]
    outcomes = shop.installation.sql("select distinct outcome from outcomes")
    assert {row[0] for row in outcomes} <= {"applied", "duplicate", "quarantined", "erased"}
    stays = shop.installation.sql("select segment, exited_at from memberships where profile_id = ?", shop.profile_id)
    assert stays == [["buyers", None]]
    for sql in (
        "delete from events",
        "create table t (a int)",
        "attach 'x'",
        "select * from read_text('/etc/hostname')",
        "copy events to 'x'",
    ):
        assert shop.installation.api("POST", "/api/sql", {"sql": sql, "params": []}).status == 422


def test_reading_what_was_just_written(shop: Shop) -> None:
    written = shop.installation.post(
        "/api/purposes", {"key": "surveys", "name": "Surveys", "basis": "consent", "channels": ["email"]}
    )
    position = written["position"]
    listed = shop.installation.get(f"/api/purposes?after={position}&wait_ms=2000")["items"]
    assert "surveys" in {item["key"] for item in listed}
    sql = shop.installation.api("POST", f"/api/sql?after={position}&wait_ms=5000", {"sql": "select 1", "params": []})
    assert sql.json()["as_of"] >= position
    late = shop.installation.api("GET", f"/api/status?after={position + 10_000}&wait_ms=50")
    assert (late.status, late.json()["code"]) == (503, "not_yet_applied")


# Definitions ----------------------------------------------------------------------------------------------------------


def test_two_purposes_exist_from_the_start(shop: Shop) -> None:
    bases = {item["key"]: item["basis"] for item in shop.installation.get("/api/purposes")["items"]}
    assert (bases["operations"], bases["marketing"]) == ("legitimate_interest", "consent")


def test_segments_are_made_read_replaced_and_listed(shop: Shop) -> None:
    api = shop.installation
    names = {"en": "Newcomers", "it": "Nuovi", "pl": "Nowi", "pt": "Novos"}
    made = api.post("/api/segments", segment("newcomers", {"kind": "did", "event": "Joined"}, name=names))
    assert {"key", "id", "version", "position"} <= set(made)
    assert (made["key"], made["name"], made["version"]) == ("newcomers", names, made["position"])
    assert made["id"].startswith("seg_")
    for ref in (made["id"], "newcomers"):
        assert api.get(f"/api/segments/{ref}")["spec"] == made["spec"]
    replaced = api.put(f"/api/segments/{made['id']}", segment("newcomers", {"kind": "did", "event": "Signed Up"}))
    assert (replaced["id"], replaced["version"] > made["version"]) == (made["id"], True)
    listed = api.get("/api/segments")
    assert set(listed) == {"items", "next"}
    assert {"buyers", "newcomers"} <= {item["key"] for item in listed["items"]}
    page = api.get("/api/segments?limit=1")
    rest = api.get(f"/api/segments?limit=1000&cursor={quote(page['next'])}")
    assert [item["key"] for item in page["items"] + rest["items"]] == [item["key"] for item in listed["items"]]
    taken = api.api("POST", "/api/segments", segment("newcomers", CONDITION))
    assert (taken.status, taken.json()["code"]) == (409, "key_taken")
    archived = api.put("/api/segments/newcomers", segment("newcomers", CONDITION, state="archived"))
    assert archived["state"] == "archived"


def test_members_history_and_preview_of_a_segment(shop: Shop) -> None:
    api = shop.installation
    for ref in ("buyers", shop.segment["id"]):
        members = api.get(f"/api/segments/{ref}/members")
        assert set(members) == {"items", "next"}
        assert [set(item) for item in members["items"]] == [{"profile_id", "entered_at", "because"}]
        assert members["items"][0]["profile_id"] == shop.profile_id
        assert MOMENT.match(members["items"][0]["entered_at"])
        history = api.get(f"/api/segments/{ref}/history")
        assert set(history) == {"items", "next"}
        assert [(item["type"], item["profile_id"]) for item in history["items"]] == [("segment.entered", shop.profile_id)]
        assert history["items"][0]["at"] == members["items"][0]["entered_at"]
    preview = api.post("/api/segments/preview", {"spec": shop.segment["spec"]})
    assert set(preview) == {"count", "exact", "sample", "as_of"}
    assert (preview["count"], preview["exact"], preview["sample"]) == (1, True, [shop.profile_id])
    then = api.post("/api/segments/preview", {"spec": shop.segment["spec"], "true_at": "2020-01-01T00:00:00Z"})
    assert then["count"] == 0
    unknown = api.post("/api/segments/preview", {"spec": shop.segment["spec"], "known_at": shop.segment["position"]})
    assert unknown["count"] == 0


def test_attributes_are_computed_for_profiles_and_sql(shop: Shop) -> None:
    api = shop.installation
    spec = {"language": 1, "aggregate": "sum", "event": "Order Completed", "path": ["revenue"]}
    made = api.post("/api/attributes", {"key": "revenue_total", "name": "Revenue", "spec": spec})
    assert {"key", "id", "version", "position"} <= set(made)
    traits = {trait["name"]: trait for trait in api.get("/api/profiles/user_id:anna")["traits"]}
    assert (traits["revenue_total"]["value"], traits["revenue_total"]["kind"]) == (12.5, "computed")
    until(
        lambda: (
            api.sql("select value from traits where name = 'revenue_total' and profile_id = ?", shop.profile_id) == [["12.5"]]
        ),
        "SQL knows the trait",
    )
    api.put("/api/attributes/revenue_total", {"key": "revenue_total", "name": "Revenue", "spec": spec, "state": "archived"})


def test_a_source_tells_its_write_key_once_and_browsers_assert_nothing(shop: Shop) -> None:
    api = shop.installation
    made = api.post("/api/sources", {"key": "web", "name": "Web", "type": "browser", "region": "eu"})
    assert made["id"].startswith("src_")
    assert "write_key" not in api.get("/api/sources/web")
    assert made["write_key"] not in json.dumps(api.get("/api/sources"))
    events = [
        {"type": "track", "event": "Seen", "userId": "carla", "messageId": "web-1"},
        {"type": "track", "event": "Seen", "userId": "dora", "messageId": "web-2"},
        {"type": "alias", "previousId": "carla", "userId": "dora", "messageId": "web-3"},
    ]
    until(lambda: api.ask("POST", "/v1/batch", {"batch": events}, basic(made["write_key"])).status == 200, "the key is known")
    api.settled()
    carla, dora = (api.get(f"/api/profiles/user_id:{user}")["profile_id"] for user in ("carla", "dora"))
    assert carla != dora
    assert api.track({"batch": [{**events[2], "messageId": "server-3"}]}).status == 200
    api.settled()
    carla, dora = (api.get(f"/api/profiles/user_id:{user}")["profile_id"] for user in ("carla", "dora"))
    assert carla == dora


def test_a_destination_tells_its_secret_once_and_signs_with_it(shop: Shop) -> None:
    made = shop.destination
    assert made["id"].startswith("dst_")
    assert made["secret"].startswith("whsec_")
    assert "secret" not in shop.installation.get("/api/destinations/crm")
    assert made["secret"] not in json.dumps(shop.installation.get("/api/destinations"))
    received = shop.sink.received()[0]
    told = Webhook(made["secret"]).verify(received.body, received.headers)
    assert received.headers["content-type"] == "application/json"
    assert received.webhook_id.startswith("dlv_")
    assert set(told) == {"type", "segment", "profile_id", "identifiers", "at", "because", "position"}
    assert (told["type"], told["segment"], told["profile_id"]) == ("segment.entered", "buyers", shop.profile_id)
    assert {(each["namespace"], each["value"]) for each in told["identifiers"]} == {
        ("user_id", "anna"),
        ("anonymous_id", "anna-phone"),
        ("email", EMAIL),
    }
    assert all(set(each) == {"namespace", "value"} for each in told["identifiers"])
    assert MOMENT.match(told["at"])
    assert isinstance(told["position"], int)
    assert set(told["because"]["message_ids"]) <= {"c-2", "c-3", "c-4"}
    deliveries = shop.installation.get("/api/deliveries?destination=crm")["items"]
    assert [(item["delivery_id"], item["state"]) for item in deliveries] == [(received.webhook_id, "delivered")]
    again = shop.installation.api("POST", f"/api/deliveries/{received.webhook_id}/retry")
    assert (again.status, again.json()["code"]) == (409, "not_retryable")


def test_a_private_address_needs_both_permissions(shop: Shop) -> None:
    private = webhook("unasked", shop.sink.url)
    del private["spec"]["allow_private"]
    shop.installation.post("/api/destinations", private)
    shop.track(
        [{"type": "track", "event": "Order Completed", "userId": "emma", "messageId": f"emma-{number}"} for number in (1, 2)]
    )

    def dead() -> bool:
        items = shop.installation.get("/api/deliveries?destination=unasked")["items"]
        return [(item["state"], item["code"]) for item in items] == [("dead", "refused_address")]

    until(dead, "the address is refused")
    dlv = shop.installation.get("/api/deliveries?destination=unasked")["items"][0]["delivery_id"]
    shop.installation.put("/api/destinations/unasked", webhook("unasked", shop.sink.url))
    assert shop.installation.api("POST", f"/api/deliveries/{dlv}/retry").status == 200
    until(lambda: dlv in {received.webhook_id for received in shop.sink.received()}, "the delivery is made after all")
    shop.installation.put("/api/destinations/unasked", webhook("unasked", shop.sink.url) | {"state": "archived"})
    # Leave the segment as it was for the other questions.
    emma = shop.installation.get("/api/profiles/user_id:emma")["profile_id"]
    assert emma in {item["profile_id"] for item in shop.installation.get("/api/segments/buyers/members")["items"]}


def test_quarantined_events_are_listed_and_can_be_tried_again(shop: Shop) -> None:
    kept = [each for each in shop.installation.get("/api/quarantine")["items"] if each["message_id"] == "c-5"]
    assert [each["reason"] for each in kept] == ["no_usable_identifier"]
    only = shop.installation.get("/api/quarantine?reason=unknown_type")
    assert all(each["reason"] == "unknown_type" for each in only["items"])
    replayed = shop.installation.post("/api/quarantine/replay", {"message_ids": ["c-5"]})
    assert set(replayed) == {"position", "count"}
    assert replayed["count"] == 1
    again = [
        each
        for each in shop.installation.get(f"/api/quarantine?after={replayed['position']}")["items"]
        if each["message_id"] == "c-5"
    ]
    assert [each["reason"] for each in again] == ["no_usable_identifier"]


# Errors and access ----------------------------------------------------------------------------------------------------


def test_errors_are_problem_details_in_the_reader_s_language(shop: Shop) -> None:
    told: dict[str, Answer] = {
        language: shop.installation.api("GET", "/api/segments/none", None, {"Accept-Language": language})
        for language in ("en", "it", "pl", "pt", "de;q=1, it;q=0.5")
    }
    for answer in told.values():
        problem = answer.json()
        assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
        assert set(problem) == {"type", "title", "status", "detail", "code", "params", "pointer", "next", "request_id"}
        assert (problem["type"], problem["code"], problem["status"]) == ("urn:conosco:error:not_found", "not_found", 404)
        assert problem["params"] == {"kind": "segment", "ref": "none"}
        assert problem["request_id"] == answer.headers["x-request-id"]
    assert len({told[language].json()["title"] for language in ("en", "it", "pl", "pt")}) == 4
    assert told["de;q=1, it;q=0.5"].json()["title"] == told["it"].json()["title"]
    wrong = segment("wrong", {"kind": "did", "evnt": "X"})
    problem = shop.installation.api("POST", "/api/segments", wrong).json()
    assert problem["pointer"].startswith("/spec/where")


def test_the_contract_is_published_and_everything_else_is_closed(shop: Shop) -> None:
    answer = shop.installation.ask("GET", "/api/openapi.json")
    if answer.status == 401:
        answer = shop.installation.api("GET", "/api/openapi.json")
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    assert document["security"]
    public = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method not in ("get", "post", "put", "delete", "patch"):
                continue
            real = re.sub(r"\{\w+\}", "anna", path)
            open_answer = shop.installation.ask(method.upper(), real, b"{}" if method in ("post", "put") else None)
            if operation.get("security") == []:
                public.add(path)
                assert open_answer.status not in (401, 403), (method, path)
            else:
                assert open_answer.status == 401, (method, path, open_answer)
                assert open_answer.json()["code"] == "not_signed_in"
    assert {"/health/live", "/health/ready"} <= public
    wrong = shop.installation.ask("GET", "/api/status", None, {"Authorization": "Bearer wrong"})
    assert (wrong.status, wrong.json()["code"]) == (401, "wrong_token")
    promised = (
        "/api/status /api/sql /api/segments /api/segments/preview /api/attributes /api/sources /api/destinations /api/purposes "
        "/api/quarantine /api/quarantine/replay /api/jobs"
    )
    assert set(promised.split()) <= set(document["paths"])


def test_the_page_is_there_and_shows_nothing_of_anybody(shop: Shop) -> None:
    page = shop.installation.ask("GET", "/")
    assert (page.status, page.headers["content-type"].split(";")[0]) == (200, "text/html")
    assert "content-security-policy" in page.headers
    text = page.body.decode()
    for secret in (EMAIL, "Anna", "buyers", shop.profile_id, ADMIN_TOKEN, WRITE_KEY):
        assert secret not in text
    for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', text):
        assert shop.installation.ask("GET", path).status == 200
