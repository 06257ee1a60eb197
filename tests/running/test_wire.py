"""The wire as clients really use it, against a whole installation: traps that were measured with unmodified SDKs."""

import base64
import http.client
import json
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.running.installation import ADMIN_TOKEN, COMMAND, WRITE_KEY, Installation, basic


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for all tests here; none disturbs another's events."""
    with Installation(tmp_path_factory.mktemp("wire")) as installation:
        yield installation


def spelled(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def kept(installation: Installation, event: str, columns: str = "user_id, anonymous_id") -> list[list[Any]]:
    installation.settled()
    return installation.sql(f"select {columns} from events where event = ? order by position, slot", event)


def wrong_by_s(installation: Installation, event: str, expected: datetime) -> float:
    (found,) = kept(installation, event, "epoch_ms(event_at)")
    return abs(float(found[0]) / 1_000 - expected.timestamp())


# Ways in --------------------------------------------------------------------------------------------------------------


def test_all_ways_in_lead_to_one_log(installation: Installation) -> None:
    event = {"event": "Way In", "userId": "walker", "writeKey": WRITE_KEY}
    raw = json.dumps(event).encode()
    data = base64.b64encode(raw).decode()
    ways = [
        ("POST", "/v1/track", raw, {}),
        ("POST", "/v1/t", raw, {"Content-Type": "text/plain"}),
        ("POST", "/v1/batch", json.dumps({"batch": [event | {"type": "track"}], "writeKey": WRITE_KEY}).encode(), {}),
        ("POST", f"/beacon/v1/batch?writeKey={WRITE_KEY}", json.dumps({"batch": [event | {"type": "track"}]}).encode(), {}),
        ("POST", "/v1/track", b"data=" + quote(raw).encode(), {"Content-Type": "application/x-www-form-urlencoded"}),
        ("POST", "/v1/track", b"data=" + quote(data).encode(), {"Content-Type": "application/x-www-form-urlencoded"}),
        ("POST", "/v1/track", raw, {"X-Write-Key": WRITE_KEY}),
        ("GET", f"/v1/pixel/track?{urlencode({'data': data})}", None, {}),
        ("GET", f"/pixel/v1/track?{urlencode({'writeKey': WRITE_KEY, 'event': 'Way In', 'userId': 'walker'})}", None, {}),
    ]
    for method, path, body, headers in ways:
        assert installation.ask(method, path, body, headers).status == 200, path
    assert kept(installation, "Way In", "user_id") == [["walker"]] * len(ways)


@pytest.mark.parametrize(
    "path",
    ["/v1/pixel/track?data=e30", "/v1/pixel/track", "/pixel/v1/track?writeKey=no&event=E&userId=u", "/pixel/v1/page?a=1&a.b=2"],
)
def test_a_pixel_is_an_image_whatever_happens(installation: Installation, path: str) -> None:
    answer = installation.ask("GET", path)
    assert answer.headers["content-type"] == "image/gif" and answer.body.startswith(b"GIF89a")
    assert answer.status in (400, 401) and answer.headers["x-conosco-code"]


def test_pages_of_every_site_may_ask_and_hear_every_answer(installation: Installation) -> None:
    headers = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    paths = [
        "/sourceConfig/?writeKey=wrong",
        "/v1/projects/wrong/settings",
        "/analytics.js/v1/wrong/analytics.min.js",
        "/v1/pixel/track",
        "/pixel/v1/page",
        "/beacon/v1/batch",
        "/v1/nothing",
    ]
    for path in paths:
        asked = installation.ask("OPTIONS", path, None, headers)
        assert (asked.status, asked.headers["access-control-allow-headers"]) == (204, "authorization"), path
        assert int(asked.headers["access-control-max-age"]) >= 600
        answer = installation.ask("GET", path, None, {"Origin": "https://shop.example"})
        assert answer.status in (400, 401, 404, 405), path
        for told in (asked, answer):
            assert told.headers["access-control-allow-origin"] == "https://shop.example"
            assert told.headers["access-control-allow-credentials"] == "true"


def test_settings_of_both_sdks_and_the_tag(installation: Installation) -> None:
    settings = installation.ask("GET", f"/v1/projects/{WRITE_KEY}/settings").json()
    assert settings["integrations"]["Segment.io"]["apiHost"] == f"127.0.0.1:{installation.port}/v1"
    config = installation.ask("GET", "/sourceConfig/?p=npm&v=3", None, basic(WRITE_KEY)).json()
    assert config["source"]["enabled"] is True
    path = f"/analytics.js/v1/{WRITE_KEY}/analytics.min.js"
    tag = installation.ask("GET", path, None, {"Accept-Encoding": "gzip"})
    assert (tag.status, tag.headers["content-encoding"]) == (200, "gzip")
    assert "max-age=" in tag.headers["cache-control"]
    assert installation.ask("GET", path, None, {"If-None-Match": tag.headers["etag"]}).status == 304


def test_a_source_that_is_archived_is_refused_and_one_sdk_is_told_so(installation: Installation) -> None:
    form = {"key": "closing", "name": "Closing", "type": "browser", "region": "eu"}
    key = installation.post("/api/sources", form)["write_key"]
    installation.put("/api/sources/closing", form | {"state": "archived"})
    time.sleep(0.1)
    body = {"event": "Too Late", "userId": "u"}
    refused = installation.ask("POST", "/v1/track", body, basic(key))
    assert (refused.status, refused.json()["code"]) == (401, "source_disabled")
    assert installation.ask("GET", f"/v1/projects/{key}/settings").status == 401
    assert installation.ask("GET", "/sourceConfig/", None, basic(key)).json()["source"]["enabled"] is False


# What SDKs send -------------------------------------------------------------------------------------------------------


def test_an_empty_user_id_is_none(installation: Installation) -> None:
    # RudderStack's SDK for browsers, for every visitor who has not signed in.
    for visitor in ("visitor-1", "visitor-2"):
        event = {"type": "track", "event": "Looked Around", "userId": "", "anonymousId": visitor, "messageId": uuid.uuid4().hex}
        installation.track({"batch": [event], "sentAt": spelled(datetime.now(UTC))})
    assert kept(installation, "Looked Around") == [[None, "visitor-1"], [None, "visitor-2"]]
    profiles = {installation.get(f"/api/profiles/anonymous_id:{visitor}")["profile_id"] for visitor in ("visitor-1", "visitor-2")}
    assert len(profiles) == 2


def test_timestamp_wins_over_original_timestamp(installation: Installation) -> None:
    # RudderStack's SDK for Node: the historic moment in one, the moment of the call in the other.
    now = datetime.now(UTC)
    event = {"type": "track", "event": "Historic", "userId": "u", "originalTimestamp": spelled(now)}
    event["timestamp"] = "2024-05-06T07:08:09.000Z"
    installation.track({"batch": [event], "sentAt": spelled(now), "timestamp": spelled(now)})
    assert wrong_by_s(installation, "Historic", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)) < 1


def test_a_batch_s_own_timestamp_is_not_the_events(installation: Installation) -> None:
    event = {"type": "track", "event": "Now", "userId": "u"}
    installation.track({"batch": [event], "timestamp": "2020-01-01T00:00:00Z"})
    assert wrong_by_s(installation, "Now", datetime.now(UTC)) < 30


@pytest.mark.parametrize("place", ["event", "batch", "header"])
def test_a_wrong_clock_is_corrected_by_the_nearest_sent_at(installation: Installation, place: str) -> None:
    wrong = datetime.now(UTC) + timedelta(days=30)
    event = {
        "type": "track",
        "event": f"Skewed By {place}",
        "userId": "u",
        "originalTimestamp": spelled(wrong - timedelta(minutes=2)),
    }
    further = spelled(wrong + timedelta(days=9))
    body: dict[str, Any] = {"batch": [event]}
    headers = {"SentAt": spelled(wrong) if place == "header" else further}
    if place != "header":
        body["sentAt"] = spelled(wrong) if place == "batch" else further
    if place == "event":
        event["sentAt"] = spelled(wrong)
    installation.track(body, headers=headers)
    assert wrong_by_s(installation, f"Skewed By {place}", datetime.now(UTC) - timedelta(minutes=2)) < 30


def test_without_sent_at_nothing_is_shifted(installation: Installation) -> None:
    # Customer.io's SDK for Node sends none.
    moment = datetime.now(UTC) - timedelta(minutes=50)
    installation.track({"batch": [{"type": "track", "event": "Unsent", "userId": "u", "timestamp": spelled(moment)}]})
    assert wrong_by_s(installation, "Unsent", moment) < 0.01


def test_the_header_names_who_is_named_nowhere_else(installation: Installation) -> None:
    headers = {"AnonymousId": base64.b64encode(b"from-the-header").decode()}
    installation.track({"batch": [{"type": "track", "event": "Named Above"}]}, headers=headers)
    assert kept(installation, "Named Above", "home_namespace, home_value") == [["anonymous_id", "from-the-header"]]


def test_a_batch_s_context_lies_under_the_event_s(installation: Installation) -> None:
    event = {"type": "track", "event": "In Context", "userId": "u", "context": {"locale": "it"}}
    installation.track({"batch": [event], "context": {"locale": "en", "ip": "203.0.113.9"}, "integrations": {"All": False}})
    (found,) = kept(installation, "In Context", "context")
    assert json.loads(found[0]) == {"locale": "it", "ip": "203.0.113.9"}


@pytest.mark.parametrize("first", ["alias", "events"])
def test_an_alias_joins_both_whichever_comes_first(installation: Installation, first: str) -> None:
    old, new = f"old-{first}", f"new-{first}"
    alias = {"type": "alias", "previousId": old, "userId": new}
    events = [
        {"type": "track", "event": "E", "anonymousId": old, "messageId": uuid.uuid4().hex},
        {"type": "track", "event": "E", "userId": new, "messageId": uuid.uuid4().hex},
    ]
    for event in [alias, *events] if first == "alias" else [*events, alias]:
        assert installation.track({"batch": [event]}).status == 200
    installation.settled()
    assert len({installation.get(f"/api/profiles/{ref}")["profile_id"] for ref in (f"anonymous_id:{old}", f"user_id:{new}")}) == 1


def test_a_merge_joins_the_two_that_it_names(installation: Installation) -> None:
    ids = [("user_id", "merged-user"), ("email", "merged@example.com"), ("anonymous_id", "merged-visitor")]
    for left, right in ((0, 1), (0, 2)):
        named = [{"type": ids[index][0], "value": ids[index][1]} for index in (left, right)]
        assert installation.track({"mergeProperties": named}, "/v1/merge").status == 200
    installation.settled()
    assert len({installation.get(f"/api/profiles/{quote(':'.join(each))}")["profile_id"] for each in ids}) == 1


# Slow clients ---------------------------------------------------------------------------------------------------------


def test_half_open_connections_are_closed_and_the_others_do_not_wait(installation: Installation) -> None:
    half = [socket.create_connection(("127.0.0.1", installation.port)) for _ in range(400)]
    try:
        for connection in half:
            connection.sendall(b"POST /v1/batch HTTP/1.1\r\nhost: x\r\nx-slow: ")
        assert installation.track({"batch": [{"type": "track", "event": "Meanwhile", "userId": "u"}]}).status == 200
        for connection in half:
            connection.settimeout(30)
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
    finally:
        for connection in half:
            connection.close()


def test_a_client_that_sends_what_is_refused_is_still_answered(installation: Installation) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", installation.port, timeout=30)
    for _ in range(2):
        connection.request("POST", "/v1/batch", b"x" * 3_000_000, basic("wrong"))
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (401, "unknown_write_key")
    connection.close()


# Sources --------------------------------------------------------------------------------------------------------------


def test_a_source_tells_what_it_has_brought(installation: Installation) -> None:
    key = installation.post("/api/sources", {"key": "till", "name": "Till", "type": "server", "region": "eu"})["write_key"]
    silent = installation.get("/api/sources/till")
    assert (silent["first_event_at"], silent["last_event_at"], silent["counts"]["accepted"]) == (None, None, 0)
    sale = {"type": "track", "event": "Sale", "userId": "u", "messageId": uuid.uuid4().hex}
    for body in ([sale], [sale, {"type": "track", "userId": "u"}]):
        installation.ask("POST", "/v1/batch", {"batch": body}, basic(key))
    installation.settled()
    told = installation.get("/api/sources/till")
    assert told["counts"] == {"accepted": 3, "applied": 1, "duplicates": 1, "quarantined": 1, "erased": 0}
    assert told["first_event_at"] < told["last_event_at"]


def test_the_command_line_shows_what_to_copy(installation: Installation) -> None:
    def source(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, "source", *words, "--url", installation.url, "--data", str(installation.data)]
        return subprocess.run(command, check=False, capture_output=True, text=True, env=installation.environment, timeout=60)

    made = source("create", "corner_shop", "--name", "Corner shop")
    assert made.returncode == 0 and "analytics.load(" in made.stdout
    assert "corner_shop" in source("list").stdout
    assert "No event has come yet." in source("show", "corner_shop").stdout
    first = source("show", "default")
    assert WRITE_KEY in first.stdout and ADMIN_TOKEN not in first.stdout
    curl = first.stdout[first.stdout.index("curl -u") :].split("\n\n")[0]
    assert json.loads(subprocess.run(["/bin/bash", "-c", curl], check=True, capture_output=True, timeout=60).stdout)["success"]
    installation.settled()
    assert "First event " in source("show", "default").stdout
    unknown = source("show", "nowhere")
    assert unknown.returncode == 1 and "nowhere" in unknown.stderr


def test_everything_here_is_derived_again_the_same(installation: Installation) -> None:
    installation.settled()
    live, rebuilt, code = installation.replay()
    assert (live, code) == (rebuilt, 0)
