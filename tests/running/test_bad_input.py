"""Bad input against a running installation: each ends in a clear error or in quarantine, and nothing else is disturbed."""

import gzip
import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.running.installation import Installation, basic, is_settled, until
from tests.running.load import webhook
from tests.running.sink import Sink

# A good event is applied within a fraction of a second; the promise is two seconds on a machine that does nothing else.
GOOD_WITHIN_S = 10.0
NUMBERS = itertools.count(1)
PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code", "params", "pointer", "next", "request_id"}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for all cases: what one case leaves behind must not matter to the next."""
    with Installation(tmp_path_factory.mktemp("bad_input")) as installation:
        yield installation


@pytest.fixture(autouse=True)
def undisturbed(installation: Installation) -> Iterator[None]:
    """After each case everything adds up, and a good event goes through."""
    yield
    goes_through(installation)
    assert is_settled(installation.settled())


def goes_through(installation: Installation) -> None:
    """A good event is applied, and seen in its person's profile."""
    number = next(NUMBERS)
    user = f"good-{number}"
    answer = installation.track(batch({"type": "identify", "userId": user, "traits": {"number": number}}))
    assert answer.status == 200, answer

    def seen() -> bool:
        found = installation.api("GET", f"/api/profiles/user_id:{user}")
        return found.status == 200 and [trait["value"] for trait in found.json()["traits"]] == [number]

    until(seen, f"{user} is seen", GOOD_WITHIN_S)


def batch(*events: Any) -> bytes:
    """A body with these events."""
    return json.dumps({"batch": events}).encode()


def track(**members: Any) -> dict[str, Any]:
    """A good event, with some members replaced; None leaves one out."""
    event = {"type": "track", "event": "Probe", "userId": "prober", "messageId": f"probe-{next(NUMBERS)}", **members}
    return {name: value for name, value in event.items() if value is not None}


def outcome_of(installation: Installation, message_id: str) -> list[list[Any]]:
    """(outcome, reason) of every copy of a message."""
    installation.settled()
    return installation.sql("select outcome, reason from outcomes where message_id = ? order by position, slot", message_id)


# Bodies that are not stored -------------------------------------------------------------------------------------------

BOMB = gzip.compress(b'{"batch":[' + b" " * (64 << 20) + b"]}")
NOT_STORED: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "empty_body"),
    "blank": (b" \n\t ", 400, "empty_body"),
    "no JSON": (b"hello", 400, "invalid_json"),
    "cut short": (b'{"batch":[{"type":"track"', 400, "invalid_json"),
    "something behind": (batch(track()) + b"x", 400, "invalid_json"),
    "NaN": (b'{"batch":[{"type":"track","event":"E","userId":"u","properties":{"n":NaN}}]}', 400, "invalid_json"),
    "single quotes": (b"{'batch':[]}", 400, "invalid_json"),
    "no UTF-8": (b'{"batch":[{"type":"track","event":"\xff\xfe","userId":"u"}]}', 400, "invalid_json"),
    "UTF-16": (json.dumps({"batch": []}).encode("utf-16"), 400, "invalid_json"),
    "bare NUL": (b'{"batch":[\0]}', 400, "invalid_json"),
    "brackets without end": (b"[" * 100_000, 400, "invalid_json"),
    "an array": (b"[]", 400, "not_an_object"),
    "a number": (b"5", 400, "not_an_object"),
    "no batch": (b"{}", 400, "missing_batch"),
    "a batch that is none": (b'{"batch":{}}', 400, "missing_batch"),
    "empty batch": (b'{"batch":[]}', 400, "empty_batch"),
    "broken gzip": (b"\x1f\x8bnonsense", 400, "invalid_gzip"),
    "gzip cut short": (gzip.compress(batch(track()))[:-6], 400, "invalid_gzip"),
    "bomb": (BOMB, 413, "body_too_large"),
    "too large": (b'{"batch":[' + b" " * (10 << 20) + b"]}", 413, "body_too_large"),
    "too many events": (b'{"batch":[' + b"{}," * 10_000 + b"{}]}", 413, "too_many_events"),
}


@pytest.mark.parametrize("case", NOT_STORED)
def test_a_body_that_cannot_be_taken_is_refused_and_not_stored(installation: Installation, case: str) -> None:
    body, status, code = NOT_STORED[case]
    before = installation.settled()
    answer = installation.track(body)
    assert (answer.status, answer.json()) == (
        status,
        {"success": False, "events": [], "code": code, "message": code.replace("_", " ")},
    )
    assert installation.settled() == before


@pytest.mark.parametrize("key", ["", "wrong", "write-key-of-the-test", "' or 1=1 --", "\0", "k" * 5_000])
def test_a_wrong_key_stores_nothing(installation: Installation, key: str) -> None:
    before = installation.settled()
    answer = installation.ask("POST", "/v1/batch", batch(track()), basic(key))
    assert (answer.status, answer.json()["code"]) == (401, "unknown_write_key")
    assert installation.settled() == before


def test_no_key_and_unreadable_ones(installation: Installation) -> None:
    before = installation.settled()
    for headers in ({}, {"Authorization": "Basic"}, {"Authorization": "Basic %%%"}, {"Authorization": "Bearer x"}):
        answer = installation.ask("POST", "/v1/batch", batch(track()), headers)
        assert (answer.status, answer.json()["code"]) == (401, "unknown_write_key")
    assert installation.settled() == before


# Events that are kept aside -------------------------------------------------------------------------------------------

DEEP: Any = None
for _ in range(70):
    DEEP = [DEEP]
QUARANTINED: dict[str, tuple[dict[str, Any], str]] = {
    "no id": ({"userId": None}, "no_usable_identifier"),
    "empty id": ({"userId": ""}, "no_usable_identifier"),
    "a placeholder": ({"userId": "null"}, "no_usable_identifier"),
    "zeros": ({"userId": "0000-0000"}, "no_usable_identifier"),
    "anonymous": ({"userId": "anonymous", "anonymousId": "-1"}, "no_usable_identifier"),
    "an id that is an object": ({"userId": {"a": 1}}, "wrong_field_type"),
    "an id that is true": ({"userId": True}, "wrong_field_type"),
    "a long id": ({"userId": "u" * 1_025}, "too_large"),
    "no type": ({"type": None}, "missing_field"),
    "an unknown type": ({"type": "purchase"}, "unknown_type"),
    "no event": ({"event": None}, "missing_field"),
    "a long event": ({"event": "e" * 256}, "too_large"),
    "properties that are a list": ({"properties": [1]}, "wrong_field_type"),
    "a megabyte": ({"properties": {"text": "x" * (1 << 20)}}, "too_large"),
    "too deep": ({"properties": {"deep": DEEP}}, "too_deep"),
    "too many keys": ({"properties": {f"k{number}": 1 for number in range(2_001)}}, "too_many_keys"),
    "no time": ({"timestamp": "yesterday"}, "unreadable_time"),
    "a day that is not": ({"timestamp": "2026-02-30T00:00:00Z"}, "unreadable_time"),
    "a time before all": ({"timestamp": "-0044-03-15T00:00:00Z"}, "unreadable_time"),
    "a time after all": ({"timestamp": "10000-01-01T00:00:00Z"}, "unreadable_time"),
    "a lone surrogate": ({"userId": "\ud800"}, "unreadable_text"),
    "a lone surrogate in a value": ({"properties": {"text": "a\udfffb"}}, "unreadable_text"),
    "a lone surrogate in a key": ({"properties": {"\ud800": 1}}, "unreadable_text"),
}


@pytest.mark.parametrize("case", QUARANTINED)
def test_an_event_that_breaks_a_rule_is_kept_aside_and_the_others_go_on(installation: Installation, case: str) -> None:
    members, reason = QUARANTINED[case]
    bad, good = track(**members), track()
    before = installation.settled()
    answer = installation.track(batch(good, bad))
    assert answer.status == 200
    told = answer.json()["events"]
    assert [(each["message_id"], each["status"], each["code"]) for each in told] == [
        (good["messageId"], "stored", None),
        (bad["messageId"], "rejected", reason),
    ]
    after = installation.settled()
    assert {name: after[name] - before[name] for name in ("accepted", "applied", "quarantined", "warehoused")} == {
        "accepted": 2,
        "applied": 1,
        "quarantined": 1,
        "warehoused": 1,
    }
    assert outcome_of(installation, bad["messageId"]) == [["quarantined", reason]]
    kept = [each for each in installation.get("/api/quarantine?limit=10000")["items"] if each["message_id"] == bad["messageId"]]
    assert [each["reason"] for each in kept] == [reason]
    # Trying again changes nothing that was not mended, and forgets nothing.
    address = {"position": kept[0]["position"], "slot": kept[0]["slot"]}
    assert installation.post("/api/quarantine/replay", {"addresses": [address]})["count"] == 1
    assert installation.settled() | {"position": 0} == after | {"position": 0}
    alone = installation.track(batch(track(**members)))
    assert (alone.status, alone.json()["success"]) == (400, False)


def test_what_is_no_object_is_refused_and_counted_only(installation: Installation) -> None:
    before = installation.settled()
    answer = installation.track(batch(track(), 5, None, "text", [], True))
    assert [each["status"] for each in answer.json()["events"]] == ["stored"] + ["refused"] * 5
    assert installation.settled()["accepted"] == before["accepted"] + 1
    metrics = installation.ask("GET", "/metrics").body.decode()
    assert 'conosco_tracking_events_total{status="refused"} ' in metrics


def test_the_same_id_with_another_body_is_a_conflict(installation: Installation) -> None:
    first = track(properties={"n": 1})
    for event in (first, first, {**first, "properties": {"n": 2}}):
        assert installation.track(batch(event)).status == 200
    assert outcome_of(installation, first["messageId"]) == [
        ["applied", "applied"],
        ["duplicate", "same_message"],
        ["quarantined", "conflicting_duplicate"],
    ]


# Hostile text ---------------------------------------------------------------------------------------------------------

HOSTILE = {
    "NUL": "a\0b",
    "quotes": "'\"`\\",
    "SQL": "'; DROP TABLE events; --",
    "SQL comment": "/* x */ union select * from store.events --",
    "template": "{{7*7}}${7*7}<%= 7*7 %>#{7*7}{% raw %}",
    "formula": '=HYPERLINK("http://example.org","x")',
    "formula with a sign": "+1+cmd|' /C calc'!A0",
    "script": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "controls": "\x01\x08\x1b[2J\x7f\r\nSet-Cookie: a=b",
    "directions": "\u202eabc\u2066\u200f\ufeff",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈",
    "composed": "e\u0301 Å ﬁ ß İ",
    "path": "../../etc/passwd%00%2e%2e",
    "format": "%s%n%d {0} {0.__class__}",
    "astral": "\U0010ffff\U00010000",
    "long line": "x" * 900,
    "colons": "user_id:anonymous_id:%3A?a=b&c#d/",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_text_is_kept_as_it_is_everywhere(installation: Installation, case: str) -> None:
    text = HOSTILE[case]
    user = f"u {text}"
    message_id = f"m-{next(NUMBERS)} {text}"[:255]
    name = f"e {text}"[:255]
    events: list[dict[str, Any]] = [
        {"type": "identify", "userId": user, "messageId": message_id[:250] + "/1", "traits": {text: text, "list": [text]}},
        {
            "type": "track",
            "event": name,
            "userId": user,
            "messageId": message_id[:250] + "/2",
            "properties": {text: {text: text}},
        },
    ]
    answer = installation.track(batch(*events))
    assert [each["status"] for each in answer.json()["events"]] == ["stored", "stored"], answer
    installation.settled()
    assert [outcome_of(installation, event["messageId"]) for event in events] == [[["applied", "applied"]]] * 2
    profile = installation.get(f"/api/profiles/{reference('user_id', user)}")
    assert profile["identifiers"][0]["value"] == user
    assert {trait["name"]: trait["value"] for trait in profile["traits"]} == {text: text, "list": [text]}
    rows = installation.sql("select event, properties, user_id from events where message_id = ?", events[1]["messageId"])
    assert [(row[0], json.loads(row[1]), row[2]) for row in rows] == [(name, {text: {text: text}}, user)]
    traits = installation.sql("select name, value from traits where profile_id = ? order by name", profile["profile_id"])
    assert {row[0]: json.loads(row[1]) for row in traits} == {text: text, "list": [text]}
    timeline = installation.get(f"/api/profiles/{reference('user_id', user)}/timeline")["items"]
    assert {entry["event"] for entry in timeline} == {None, name}
    identity = installation.get(f"/api/profiles/{reference('user_id', user)}/identity")
    assert [found["value"] for found in identity["identifiers"]] == [user]


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_text_in_a_condition_is_a_value(installation: Installation, case: str) -> None:
    text = HOSTILE[case]
    name = f"c {text}"[:255]
    assert installation.track(batch(track(event=name, properties={"value": text}, userId=f"conditioned-{case}"))).status == 200
    installation.settled()
    where = {"kind": "did", "event": name, "where": [{"path": ["value"], "test": "is", "value": text, "case": True}]}
    answer = installation.api("POST", "/api/segments/preview", {"spec": {"language": 1, "where": where}})
    if case == "NUL":
        # What nobody can see in a screen is no part of a condition; the event has it all the same.
        assert (answer.status, answer.json()["code"]) == (422, "unreadable_text")
        return
    assert answer.status == 200, answer
    assert answer.json()["count"] == 1
    other = {**where, "event": name + "x"}
    assert installation.post("/api/segments/preview", {"spec": {"language": 1, "where": other}})["count"] == 0


def reference(namespace: str, value: str) -> str:
    """A person reference as a path segment, every byte encoded."""
    return "".join(f"%{byte:02X}" for byte in f"{namespace}:{value}".encode())


def test_hostile_text_goes_out_in_a_webhook_as_it_came(installation: Installation) -> None:
    with Sink() as sink:
        installation.post("/api/destinations", webhook("hostile", sink.url))
        where = {"kind": "did", "event": "Hostile"}
        spec = {"language": 1, "where": where}
        installation.post("/api/segments", {"key": "hostile", "name": "Hostile", "purpose": "operations", "spec": spec})
        users = {f"w {text}" for text in HOSTILE.values()}
        assert installation.track(batch(*(track(event="Hostile", userId=user) for user in sorted(users)))).status == 200
        until(lambda: len(sink.received()) >= len(users), "all have been told")
        told = [json.loads(received.body) for received in sink.received()]
        assert {body["identifiers"][0]["value"] for body in told} == users
        archived = webhook("hostile", sink.url) | {"state": "archived"}
        installation.put("/api/destinations/hostile", archived)


# Time -----------------------------------------------------------------------------------------------------------------


def spelled(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize("ahead", [timedelta(minutes=6), timedelta(days=2), timedelta(days=400)], ids=str)
def test_the_future_is_clamped_and_what_was_sent_is_kept(installation: Installation, ahead: timedelta) -> None:
    sent = spelled(datetime.now(UTC) + ahead)
    event = track(timestamp=sent)
    assert installation.track(batch(event)).json()["success"]
    check_clamped(installation, event["messageId"], sent)


@pytest.mark.parametrize("sent", ["9999-12-31T23:59:59.000Z", "2999-01-01T00:00:00.000Z"])
def test_the_far_future_is_clamped_too(installation: Installation, sent: str) -> None:
    event = track(timestamp=sent)
    assert installation.track(batch(event)).json()["success"]
    check_clamped(installation, event["messageId"], sent)


def check_clamped(installation: Installation, message_id: str, sent: str) -> None:
    assert outcome_of(installation, message_id) == [["applied", "applied"]]
    found = installation.sql("select event_at = logged_at, epoch_ms(original_at) from events where message_id = ?", message_id)
    expected = round(datetime.fromisoformat(sent).timestamp() * 1_000)
    assert found == [[True, expected]]


@pytest.mark.parametrize(
    "sent", ["2001-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000Z", "1900-05-05T00:00:00.000Z", "0001-01-01T00:00:00.000Z"]
)
def test_the_past_is_history_and_enters_no_destination(installation: Installation, sent: str) -> None:
    event = track(timestamp=sent, userId=f"ancient-{sent[:4]}")
    assert installation.track(batch(event)).json()["success"]
    assert outcome_of(installation, event["messageId"]) == [["applied", "applied"]]
    found = installation.sql("select historical, strftime(event_at, '%Y') from events where message_id = ?", event["messageId"])
    assert found == [[True, sent[:4].lstrip("0") if sent.startswith("0") else sent[:4]]] or found == [[True, sent[:4]]]
    assert installation.get(f"/api/profiles/user_id:ancient-{sent[:4]}")["first_seen_at"].startswith(sent[:4])


def test_a_client_whose_clock_is_wrong_is_corrected(installation: Installation) -> None:
    wrong = datetime.now(UTC) + timedelta(days=3)
    event = track(timestamp=spelled(wrong - timedelta(seconds=60)))
    body = json.dumps({"batch": [event], "sentAt": spelled(wrong)}).encode()
    assert installation.track(body).json()["success"]
    installation.settled()
    behind = installation.sql(
        "select epoch_ms(received_at) - epoch_ms(event_at) from events where message_id = ?", event["messageId"]
    )
    assert 55_000 <= behind[0][0] <= 65_000


# The management API ---------------------------------------------------------------------------------------------------

DEEP_CONDITION = b'{"spec":{"language":1,"where":%b{"kind":"did","event":"E"}%b}}'
NOT = b'{"kind":"not","of":'
MANAGED: dict[str, tuple[str, str, Any, int, str]] = {
    "no JSON": ("POST", "/api/segments", b"{", 400, "unreadable_body"),
    "no UTF-8": ("POST", "/api/segments", b'{"key":"\xff"}', 400, "unreadable_body"),
    "empty": ("POST", "/api/segments", b"", 422, "body_missing"),
    "an array": ("POST", "/api/segments", b"[]", 422, ""),
    "too large": ("POST", "/api/segments", b'{"key":"' + b"x" * (11 << 20) + b'"}', 413, "body_too_large"),
    "an unknown field": (
        "POST",
        "/api/purposes",
        {"key": "a", "name": "A", "basis": "consent", "chanels": []},
        422,
        "",
    ),
    "a hostile key": ("POST", "/api/purposes", {"key": "'; drop", "name": "A", "basis": "consent"}, 422, "bad_key"),
    "a bottomless condition": (
        "POST",
        "/api/segments/preview",
        DEEP_CONDITION % (NOT * 3_000, b"}" * 3_000),
        400,
        "unreadable_body",
    ),
    "a deep condition": ("POST", "/api/segments/preview", DEEP_CONDITION % (NOT * 300, b"}" * 300), 422, ""),
    "an endless number": ("POST", "/api/sql", b'{"sql":"select 1","params":[1e999]}', 400, "unreadable_body"),
    "writing by SQL": ("POST", "/api/sql", {"sql": "delete from events"}, 422, ""),
    "two questions": ("POST", "/api/sql", {"sql": "select 1; select 2"}, 422, ""),
    "a file by SQL": ("POST", "/api/sql", {"sql": "select * from read_csv('/etc/passwd')"}, 422, ""),
    "inner tables": ("POST", "/api/sql", {"sql": "select * from store.events"}, 422, ""),
    "SQL with NUL": ("POST", "/api/sql", {"sql": "select '\0'"}, 0, ""),
    "SQL with a surrogate": ("POST", "/api/sql", b'{"sql":"select \'\\ud800\'"}', 0, ""),
    "too few params": ("POST", "/api/sql", {"sql": "select ?", "params": []}, 422, ""),
    "a strange cursor": ("GET", "/api/segments?cursor=zz", None, 422, "bad_cursor"),
    "a limit of none": ("GET", "/api/segments?limit=0", None, 422, ""),
    "a strange limit": ("GET", "/api/segments?limit=many", None, 422, ""),
    "a strange moment": ("GET", "/api/profiles/user_id:prober?true_at=soon", None, 422, "bad_moment"),
    "a strange position": ("GET", "/api/profiles/user_id:prober?known_at=-5", None, 422, "bad_position"),
    "an endless moment": ("GET", "/api/profiles/user_id:prober?true_at=999999999999999999", None, 0, ""),
    "an unknown person": ("GET", "/api/profiles/user_id:nobody", None, 404, "not_found"),
    "no reference": ("GET", "/api/profiles/prober", None, 422, "bad_reference"),
    "a hostile reference": ("GET", "/api/profiles/user_id:%00%FF%2F..%2F", None, 404, ""),
    "a profile id that is none": ("GET", "/api/profiles/pro_'%20or%201=1", None, 404, ""),
    "an unknown segment": ("GET", "/api/segments/none/members", None, 404, "not_found"),
    "an unknown path": ("GET", "/api/none", None, 404, "no_such_path"),
    "a wrong method": ("DELETE", "/api/status", None, 405, "method_not_allowed"),
    "an unknown delivery": ("POST", "/api/deliveries/dlv_none/retry", None, 404, "not_found"),
}


@pytest.mark.parametrize("case", MANAGED)
def test_the_management_api_says_what_is_wrong(installation: Installation, case: str) -> None:
    method, path, body, status, code = MANAGED[case]
    installation.track(batch(track()))
    installation.settled()
    answer = installation.api(method, path, body, {"Content-Type": "application/json"})
    assert answer.status < 500, answer
    if answer.status == 200:
        assert status == 0, answer
        return
    assert status in (0, answer.status), answer
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(problem) >= PROBLEM_MEMBERS
    assert (problem["type"], problem["status"]) == (f"urn:conosco:error:{problem['code']}", answer.status)
    assert problem["code"] == (code or problem["code"]), problem
    assert "Traceback" not in answer.body.decode()
    assert problem["title"]
    assert problem["detail"]
