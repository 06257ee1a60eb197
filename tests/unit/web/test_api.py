"""What each operation of the management API asks of the office and how it answers."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conosco.model.answer import AsOf
from conosco.model.identifier import Identifier
from conosco.model.moment import parse_moment
from conosco.ports.warehouse import QueryFailed
from tests.unit.web.conftest import Client
from tests.unit.web.fake_office import ANNA, FORMER, OTHER, SPLIT, FakeOffice

SPEC: dict[str, Any] = {"language": 1, "where": {"kind": "all", "of": []}}
SEGMENT: dict[str, Any] = {"key": "loyal", "name": {"en": "Loyal", "it": "Fedeli"}, "purpose": "marketing", "spec": SPEC}
DEFINITIONS: dict[str, dict[str, Any]] = {
    "segments": SEGMENT,
    "purposes": {"key": "service", "name": "Service", "basis": "contract", "channels": ["email"]},
    "sources": {"key": "web", "name": "Web", "type": "browser", "region": "eu", "spec": {"priority": 2}},
    "destinations": {
        "key": "crm",
        "name": "CRM",
        "purposes": ["marketing"],
        "region": "eu",
        "type": "webhook",
        "spec": {"url": "https://crm.example.com/in", "allow_private": False, "events": ["segment.entered"], "segments": "all"},
    },
    "attributes": {
        "key": "revenue_30d",
        "name": "Revenue",
        "spec": {"language": 1, "aggregate": "sum", "event": "Order Completed", "path": ["revenue"], "within": "30d"},
    },
}


def test_status(ask: Client) -> None:
    assert ask("GET", "/api/status").json() == {
        "accepted": 12_480,
        "applied": 12_300,
        "duplicates": 150,
        "quarantined": 30,
        "erased": 0,
        "warehoused": 12_300,
        "lag_seconds": 0.02,
        "position": 1_000,
    }


@pytest.mark.parametrize("plural", DEFINITIONS)
def test_a_definition_is_made_read_listed_and_replaced(ask: Client, plural: str) -> None:
    form = DEFINITIONS[plural]
    made = ask("POST", f"/api/{plural}", json=form)
    assert made.status_code == 201
    body = made.json()
    assert body["key"] == form["key"]
    assert body["version"] == body["position"]
    assert {name: body[name] for name in form} == form
    for ref in (body["id"], form["key"]):
        read = ask("GET", f"/api/{plural}/{ref}").json()
        assert {name: read[name] for name in ("key", "id", "version")} == {name: body[name] for name in ("key", "id", "version")}
        assert "position" not in read
    listed = ask("GET", f"/api/{plural}").json()
    assert form["key"] in [item["key"] for item in listed["items"]]
    assert listed["next"] is None
    replaced = ask("PUT", f"/api/{plural}/{body['id']}", json=form | {"name": "Renamed", "state": "archived"})
    assert replaced.status_code == 200
    assert replaced.json()["id"] == body["id"]
    assert replaced.json()["version"] > body["version"]
    assert ask("GET", f"/api/{plural}/{form['key']}").json()["state"] == "archived"


@pytest.mark.parametrize(("plural", "once"), [("sources", "write_key"), ("destinations", "secret")])
def test_secrets_are_told_once_and_hashes_never(ask: Client, plural: str, once: str) -> None:
    form = DEFINITIONS[plural]
    assert ask("POST", f"/api/{plural}", json=form).json()[once].endswith("_once")
    later = [
        ask("GET", f"/api/{plural}").text,
        ask("GET", f"/api/{plural}/{form['key']}").text,
        ask("PUT", f"/api/{plural}/{form['key']}", json=form).text,
    ]
    for text in later:
        assert once not in text
        assert "hash" not in text
        assert "secret" not in text


def test_a_write_that_is_not_applied_in_time_answers_202(ask: Client, office: FakeOffice) -> None:
    office.definitions.applied = False
    made = ask("POST", "/api/segments", json=SEGMENT)
    assert (made.status_code, made.json()["key"]) == (202, "loyal")
    assert ask("PUT", "/api/segments/loyal", json=SEGMENT).status_code == 202


def test_segments_show_size_and_sentence(ask: Client) -> None:
    ask("POST", "/api/segments", json=SEGMENT)
    for item in (ask("GET", "/api/segments").json()["items"][0], ask("GET", "/api/segments/loyal").json()):
        assert item["member_count"] == 2
        assert item["sentence"].startswith("did Order Completed")


def test_members_and_history_are_paged(ask: Client) -> None:
    ask("POST", "/api/segments", json=SEGMENT)
    first = ask("GET", "/api/segments/loyal/members?limit=1").json()
    assert [item["profile_id"] for item in first["items"]] == [ANNA]
    second = ask("GET", f"/api/segments/loyal/members?limit=1&cursor={first['next']}").json()
    assert second == {"items": [{"profile_id": OTHER, "entered_at": "2026-03-01T10:00:00Z", "because": {}}], "next": None}
    history = ask("GET", "/api/segments/loyal/history").json()["items"]
    assert [item["type"] for item in history] == ["segment.entered", "segment.exited"]
    assert len(ask("GET", "/api/movements").json()["items"]) == 2
    assert ask("GET", "/api/segments/none/members").json()["params"] == {"kind": "segment", "ref": "none"}


def test_a_preview_counts(ask: Client, office: FakeOffice) -> None:
    body = {"spec": SPEC, "true_at": "2026-03-01T00:00:00Z", "known_at": 17}
    answer = ask("POST", "/api/segments/preview", json=body)
    assert (answer.status_code, answer.json()) == (200, {"count": 2, "exact": True, "sample": [ANNA, OTHER], "as_of": 1_000})
    assert office.segments.previews == [AsOf(true_at=parse_moment("2026-03-01"), known_at=17)]


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        (ANNA, ANNA),
        (FORMER, FORMER),
        ("email:anna%40example.com", Identifier("email", "anna@example.com")),
        ("email%3Aanna@example.com", Identifier("email", "anna@example.com")),
        ("user_id:a%2Fb%20c%25%3F%23", Identifier("user_id", "a/b c%?#")),
    ],
)
@pytest.mark.parametrize(
    "part", ["", "/timeline", "/identity", "/memberships", "/explain?segment=loyal", "/consents", "/visits", "/objects"]
)
def test_a_person_is_found_by_every_reference(ask: Client, office: FakeOffice, ref: str, found: Any, part: str) -> None:
    answer = ask("GET", f"/api/profiles/{ref}{part}")
    assert answer.status_code == 200
    assert office.people.asked[0] == (found, AsOf())


@given(
    value=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), namespace=st.from_regex(r"[a-z_]{1,10}", fullmatch=True)
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_reaches_the_office_unchanged(ask: Client, office: FakeOffice, namespace: str, value: str) -> None:
    encoded = "".join(f"%{byte:02X}" for byte in f"{namespace}:{value}".encode())
    ask("GET", f"/api/profiles/{encoded}/identity")
    assert office.people.asked[-1][0] == Identifier(namespace, value)


def test_a_profile_keeps_exact_numbers_and_provenance(ask: Client) -> None:
    answer = ask("GET", f"/api/profiles/{ANNA}")
    assert b'"value":129.900001' in answer.content
    body = answer.json()
    assert body["also_known_as"] == [FORMER]
    assert body["traits"][0]["source_id"] == "src_web"
    assert body["as_of"] == 1_000


def test_visits_and_objects_have_the_promised_shape(ask: Client) -> None:
    (visit,) = ask("GET", f"/api/profiles/{ANNA}/visits").json()["items"]
    assert (visit["visit_id"], visit["duration_seconds"], visit["first_touch"], visit["browser"]) == (
        "vis_1",
        60,
        {"source": "news"},
        None,
    )
    answer = ask("GET", f"/api/profiles/{ANNA}/objects?kind=order")
    assert b'"total":19.90' in answer.content
    assert [role["role"] for role in answer.json()["items"][0]["roles"]] == ["buyer"]
    assert ask("GET", f"/api/profiles/{ANNA}/objects?kind=ticket").json() == {"items": [], "next": None}


@pytest.mark.parametrize(
    ("path", "status", "found"),
    [
        ("order/o-1", 200, ("order", "o-1")),
        ("product/a%2Fb%20c%25%3F%23", 200, ("product", "a/b c%?#")),
        ("order/none", 404, ("order", "none")),
        ("Order/o-1", 404, None),
    ],
)
def test_an_object_is_found_by_kind_and_id(ask: Client, office: FakeOffice, path: str, status: int, found: Any) -> None:
    answer = ask("GET", f"/api/objects/{path}")
    assert answer.status_code == status
    assert office.things.asked == ([found] if found else [])
    if status == 200:
        assert b'"total":19.90' in answer.content
        assert answer.json()["people"][0]["profile_id"] == ANNA
    else:
        assert answer.json()["code"] == "not_found"


def test_a_split_profile_answers_its_candidates(ask: Client) -> None:
    answer = ask("GET", f"/api/profiles/{SPLIT}")
    assert answer.status_code == 409
    assert (answer.json()["code"], answer.json()["candidates"]) == ("profile_was_split", [ANNA, OTHER])


def test_an_explanation_has_the_promised_shape(ask: Client) -> None:
    body = ask("GET", f"/api/profiles/{ANNA}/explain?segment=newcomers").json()
    assert set(body) == {"member", "conditions", "sentence", "as_of"}
    assert body["conditions"][1] == {
        "condition": "did Order Completed at least 2 times in the last 30 days",
        "value": 2,
        "met": False,
    }


@pytest.mark.parametrize(
    ("query", "as_of"),
    [
        ("true_at=2026-03-01T00:00:00Z", AsOf(true_at=parse_moment("2026-03-01"))),
        ("true_at=1772323200000000", AsOf(true_at=1_772_323_200_000_000)),
        ("known_at=17", AsOf(known_at=17)),
        ("known_at=1970-01-24T00:00:00Z&true_at=5", AsOf(true_at=5, known_at=1)),
        ("", AsOf()),
    ],
)
def test_as_of_is_read_in_each_spelling(ask: Client, office: FakeOffice, query: str, as_of: AsOf) -> None:
    assert ask("GET", f"/api/profiles/{ANNA}/timeline?{query}").status_code == 200
    assert office.people.asked[0][1] == as_of


@pytest.mark.parametrize(
    ("query", "code"),
    [("true_at=yesterday", "bad_moment"), ("known_at=yesterday", "bad_position"), ("known_at=-1", "bad_position")],
)
def test_as_of_that_cannot_be_read_is_refused(ask: Client, query: str, code: str) -> None:
    answer = ask("GET", f"/api/profiles/{ANNA}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, code)


@pytest.mark.parametrize(
    ("path", "waited"),
    [
        ("/api/status?after=50", (50, 2_000, "state")),
        ("/api/segments?after=50&wait_ms=7", (50, 7, "state")),
        (f"/api/profiles/{ANNA}?after=50", (50, 2_000, "state")),
        (f"/api/profiles/{ANNA}?after=50&known_at=50", (50, 2_000, "warehouse")),
    ],
)
def test_reads_wait_for_ones_own_write(ask: Client, office: FakeOffice, path: str, waited: tuple[int, int, str]) -> None:
    assert ask("GET", path).status_code == 200
    assert office.progress.waits == [waited]


def test_questions_wait_for_the_warehouse(ask: Client, office: FakeOffice) -> None:
    ask("POST", "/api/sql?after=9", json={"sql": "select 1"})
    ask("POST", "/api/segments/preview?after=9", json={"spec": SPEC})
    assert office.progress.waits == [(9, 2_000, "warehouse")] * 2


def test_a_write_that_is_not_there_in_time_is_a_problem(ask: Client) -> None:
    answer = ask("GET", "/api/status?after=99999&wait_ms=1")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "not_yet_applied", "1")


def test_sql_answers_arrays_and_exact_numbers(ask: Client) -> None:
    answer = ask("POST", "/api/sql", json={"sql": "select ?", "params": ["a", 1, None]})
    assert answer.status_code == 200
    assert answer.content == b'{"columns":["sql","exact","params"],"rows":[["select ?",0.1,["a",1,null]]],"as_of":1000}'


@pytest.mark.parametrize(
    ("code", "status"), [("busy", 503), ("warehouse_unavailable", 503), ("query_timeout", 504), ("too_many_rows", 422)]
)
def test_a_failed_question_is_a_problem(ask: Client, office: FakeOffice, code: str, status: int) -> None:
    office.questions.failure = QueryFailed(code, limit=5)
    answer = ask("POST", "/api/sql", json={"sql": "select 1"})
    assert (answer.status_code, answer.json()["code"], answer.json()["params"]) == (status, code, {"limit": 5})


def test_links_are_asserted_and_retracted(ask: Client, office: FakeOffice) -> None:
    left, right = {"namespace": "email", "value": "a@example.com"}, {"namespace": "user_id", "value": "7"}
    made = ask("POST", "/api/links", json={"kind": "manual_same", "left": left, "right": right})
    assert (made.status_code, made.json()) == (201, {"id": "lnk_1", "position": 1_001})
    assert office.people.links[0].right == Identifier("user_id", "7")
    assert ask("DELETE", "/api/links/lnk_1").json() == {"position": 1_002, "count": 1}
    assert office.people.retracted == ["lnk_1"]
    assert ask("DELETE", "/api/links/lnk_2").status_code == 404
    assert ask("POST", "/api/links", json={"kind": "manual_same", "left": left, "right": left}).json()["pointer"] == "/right"


def test_quarantine_is_listed_and_replayed(ask: Client, office: FakeOffice) -> None:
    assert ask("GET", "/api/quarantine").json()["items"][0]["reason"] == "missing_field"
    assert ask("GET", "/api/quarantine?reason=too_large").json()["items"] == []
    assert ask("POST", "/api/quarantine/replay").json() == {"position": 1_003, "count": 1}
    body = {"addresses": [{"position": 5, "slot": 1}], "message_ids": ["m9"], "reason": "missing_field"}
    assert ask("POST", "/api/quarantine/replay", json=body).status_code == 200
    everything, some = office.care.replays
    assert (everything.addresses, everything.message_ids, everything.reason) == ((), (), "")
    assert (some.addresses, some.message_ids, some.reason) == (((5, 1),), ("m9",), "missing_field")


def test_deliveries_are_listed_and_tried_again(ask: Client, office: FakeOffice) -> None:
    assert [item["state"] for item in ask("GET", "/api/deliveries").json()["items"]] == ["delivered", "dead", "denied"]
    assert [item["delivery_id"] for item in ask("GET", "/api/deliveries?state=dead").json()["items"]] == ["dlv_2"]
    retried = ask("POST", "/api/deliveries/dlv_2/retry")
    assert (retried.status_code, retried.json()["position"]) == (202, 1_004)
    assert office.care.retried == ["dlv_2"]
    assert ask("POST", "/api/deliveries/dlv_1/retry").status_code == 409
    assert ask("GET", "/api/jobs").json() == {"items": [], "next": None}


def test_deliveries_are_chosen_by_time(ask: Client, office: FakeOffice) -> None:
    assert ask("GET", "/api/deliveries?from=1970-01-01T00:00:01Z&to=1970-01-01T00:00:02Z").status_code == 200
    assert office.care.asked_range == (1_000_000, 2_000_000)
    assert ask("GET", "/api/deliveries?from=yesterday").json()["code"] == "bad_moment"


def test_a_destinations_health_is_told_in_numbers_and_words(ask: Client) -> None:
    health = ask("GET", "/api/destinations/crm/health", headers={"accept-language": "it"}).json()
    assert (health["breaker"], health["attempts"]["http_503"]) == ("open", 8)
    assert health["last_error"]["sentence"] == "L'altra parte ha risposto con HTTP 503."
    assert ask("GET", "/api/destinations/none/health").status_code == 404
    metrics = ask("GET", "/metrics").text
    assert 'conosco_delivery_attempts_total{code="http_503",destination="crm"} 8.0' in metrics
    assert 'conosco_destination_breaker{destination="crm"} 2.0' in metrics


def test_a_destination_is_tried_out(ask: Client, office: FakeOffice) -> None:
    answer = ask("POST", "/api/destinations/crm/test")
    assert (answer.status_code, answer.json()["sentence"]) == (200, "The other side answered with HTTP 204.")
    office.outgoing.result = msgspec.structs.replace(office.outgoing.result, attempts=0, state="pending", code="")
    assert ask("POST", "/api/destinations/crm/test?wait_ms=1").status_code == 202


def test_a_range_of_time_is_sent_again(ask: Client, office: FakeOffice) -> None:
    span = {"from": "1970-01-01T00:00:01Z", "to": "1970-01-01T00:00:02Z"}
    assert ask("POST", "/api/destinations/crm/replay", json={**span, "dry_run": True}).json()["count"] == 2
    assert ask("POST", "/api/destinations/crm/replay", json={**span, "states": ["dead"], "of": "old"}).status_code == 200
    counted, done = office.outgoing.replays
    assert (counted.since, counted.until, counted.dry_run, counted.states) == (
        1_000_000,
        2_000_000,
        True,
        ("delivered", "dead", "unknown"),
    )
    assert (done.of, done.states, done.dry_run) == ("old", ("dead",), False)
    assert ask("POST", "/api/destinations/crm/replay", json={**span, "from": "now"}).json()["pointer"] == "/from"
    assert ask("POST", "/api/destinations/crm/replay", json={**span, "states": ["pending"]}).status_code == 422


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/consents"),
        ("GET", "/api/journeys"),
        ("POST", "/api/journeys/welcome/publish"),
        ("POST", "/api/decide"),
        ("POST", "/api/privacy/requests"),
        ("GET", "/api/privacy/requests/r1"),
        ("GET", "/api/audit"),
        ("GET", "/api/segments/loyal/backtest"),
    ],
)
def test_what_is_not_built_says_so(ask: Client, method: str, path: str) -> None:
    answer = ask(method, path)
    assert (answer.status_code, answer.json()["code"]) == (501, "not_built_yet")


def test_health(ask: Client, office: FakeOffice) -> None:
    assert ask("GET", "/health/live").json() == {"status": "live"}
    assert ask("GET", "/health/ready").json() == {"ready": True, "checks": {"log": True, "state": True}, "wrong": {}}
    office.progress.ready = False
    assert ask("GET", "/health/ready").status_code == 503


def test_tracking_is_reached_with_nothing_in_between(make_client: Callable[..., Client], tracked: list[str]) -> None:
    answer = make_client(token=None)("POST", "/v1/batch", content=b"x")
    assert (answer.text, tracked) == ("tracked", ["/v1/batch"])
    assert "x-request-id" not in answer.headers


def test_the_contract_is_openapi_3_1_and_names_every_error_as_a_problem(ask: Client) -> None:
    contract = ask("GET", "/api/openapi.json").json()
    assert contract["openapi"].startswith("3.1")
    names = [operation["operationId"] for operations in contract["paths"].values() for operation in operations.values()]
    assert len(names) == len(set(names)) > 35
    schemas = contract["components"]["schemas"]
    for operations in contract["paths"].values():
        for operation in operations.values():
            assert "application/problem+json" in operation["responses"]["default"]["content"]
    text = msgspec.json.encode(contract).decode()
    referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred <= set(schemas)
    assert {"ProblemAnswer", "PageOfMember", "SegmentForm", "Profile"} <= set(schemas)
