"""Who may come in: tokens, sessions, one-time links, and the limit on guesses."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.web.conftest import Client, Clock
from tests.unit.web.fake_office import ADMIN_TOKEN, FakeOffice

MakeClient = Callable[..., Client]
CLOSED = [
    ("GET", "/api/status"),
    ("POST", "/api/sql"),
    ("GET", "/api/profiles/email:anna%40example.com"),
    ("GET", "/api/segments"),
    ("POST", "/api/segments"),
    ("PUT", "/api/segments/loyal"),
    ("GET", "/api/quarantine"),
    ("GET", "/api/deliveries"),
    ("GET", "/api/jobs"),
    ("POST", "/api/session"),
    ("POST", "/api/decide"),
]
OPEN = ["/", "/static/page.js", "/api/session", "/api/openapi.json", "/health/live", "/health/ready"]


def sign_in(make_client: MakeClient) -> tuple[Client, str]:
    """A browser that came by the one-time link, and its token for writes."""
    browser = make_client(token=None)
    answer = browser("GET", "/sign-in?code=good-code")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    return browser, browser("GET", "/api/session").json()["csrf_token"]


@pytest.mark.parametrize(("method", "path"), CLOSED)
@pytest.mark.parametrize("token", [None, "wrong", ADMIN_TOKEN + "x", ADMIN_TOKEN[:-1]])
def test_closed_operations_refuse_without_the_token(make_client: MakeClient, method: str, path: str, token: str | None) -> None:
    answer = make_client(token=token)(method, path)
    assert answer.status_code == 401
    assert answer.json()["code"] == ("not_signed_in" if token is None else "wrong_token")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", OPEN)
def test_open_paths_answer_without_a_token(make_client: MakeClient, path: str) -> None:
    assert make_client(token=None)("GET", path).status_code == 200


def test_every_operation_is_closed_unless_listed_as_open(make_client: MakeClient, ask: Client) -> None:
    contract = ask("GET", "/api/openapi.json").json()
    stranger = make_client(token=None)
    asked = 0
    for path, operations in contract["paths"].items():
        for verb, operation in operations.items():
            is_open = operation.get("security") == []
            assert is_open == (verb == "get" and path in OPEN)
            if not is_open:
                assert stranger(verb.upper(), path.replace("{ref}", "any")).status_code == 401
                asked += 1
    assert asked > 35


def test_a_link_signs_in_once(make_client: MakeClient, office: FakeOffice) -> None:
    browser, _ = sign_in(make_client)
    assert browser("GET", "/api/status").status_code == 200
    second = make_client(token=None)("GET", "/sign-in?code=good-code")
    assert second.status_code == 401
    assert "set-cookie" not in second.headers
    assert second.headers["content-type"].startswith("text/html")
    assert len(office.access.sessions) == 1


def test_the_cookie_is_out_of_reach(make_client: MakeClient) -> None:
    cookie = make_client(token=None)("GET", "/sign-in?code=good-code").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "path=/" in cookie


@pytest.mark.parametrize("headers", [{}, {"X-CSRF-Token": "wrong"}, {"X-CSRF-Token": ""}])
def test_a_session_cannot_write_without_its_own_token(make_client: MakeClient, headers: dict[str, str]) -> None:
    browser, _ = sign_in(make_client)
    answer = browser("POST", "/api/quarantine/replay", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf_token_missing")


def test_a_session_writes_with_its_own_token(make_client: MakeClient, office: FakeOffice) -> None:
    browser, csrf = sign_in(make_client)
    assert browser("POST", "/api/quarantine/replay", headers={"X-CSRF-Token": csrf}).status_code == 200
    assert len(office.care.replays) == 1


def test_the_token_opens_a_session_and_signing_out_ends_it(make_client: MakeClient, ask: Client, office: FakeOffice) -> None:
    opened = ask("POST", "/api/session")
    assert opened.status_code == 201
    browser = make_client(token=None)
    secret = next(iter(office.access.sessions))
    cookies = {"Cookie": f"conosco_session={secret}"}
    assert browser("GET", "/api/session", headers=cookies).json()["signed_in"] is True
    csrf = {"X-CSRF-Token": opened.json()["csrf_token"]}
    assert browser("DELETE", "/api/session", headers=cookies | csrf).status_code == 200
    assert browser("GET", "/api/session", headers=cookies).json() == {"signed_in": False, "csrf_token": None}
    assert browser("GET", "/api/status", headers=cookies).status_code == 401


def test_wrong_guesses_must_wait(make_client: MakeClient, clock: Clock, office: FakeOffice) -> None:
    guesser = make_client(token="guess", address="203.0.113.7")
    statuses = [guesser("GET", "/api/status").status_code for _ in range(21)]
    assert statuses == [401] * 20 + [429]
    checks = office.access.token_checks
    stopped = guesser("GET", "/api/status")
    assert office.access.token_checks == checks, "a stopped guess must not be checked"
    assert stopped.json()["code"] == "too_many_attempts"
    assert stopped.headers["retry-after"] == str(stopped.json()["params"]["retry_s"])
    right = make_client(address="203.0.113.7")
    assert right("GET", "/api/status").status_code == 429, "else guessing would go on"
    clock.now_s += 61
    assert right("GET", "/api/status").status_code == 200


def test_guesses_of_one_address_do_not_stop_others(make_client: MakeClient) -> None:
    proven = make_client(address="203.0.113.17")
    assert proven("GET", "/api/status").status_code == 200
    guesser = make_client(token="guess", address="203.0.113.17")
    for _ in range(25):
        guesser("GET", "/api/status")
    assert guesser("GET", "/api/status").status_code == 429
    assert proven("GET", "/api/status").status_code == 200, "a token proven from this address stays good"
    assert make_client(address="203.0.113.18")("GET", "/api/status").status_code == 200


def test_codes_are_guessed_within_the_same_limit(make_client: MakeClient, office: FakeOffice) -> None:
    guesser = make_client(token=None)
    for number in range(20):
        assert guesser("GET", f"/sign-in?code={number}").status_code == 401
    assert guesser("GET", "/sign-in?code=good-code").status_code == 429
    assert office.access.codes == {"good-code"}


@pytest.mark.parametrize(
    ("address", "headers", "token", "status"),
    [
        ("127.0.0.1", {}, None, 200),
        ("::1", {}, None, 200),
        ("127.0.0.1", {"X-Forwarded-For": "203.0.113.7"}, None, 401),
        ("203.0.113.7", {}, None, 401),
        ("203.0.113.7", {}, ADMIN_TOKEN, 200),
    ],
)
def test_metrics_are_open_to_this_machine_only(
    make_client: MakeClient, address: str, headers: dict[str, str], token: str | None, status: int
) -> None:
    answer = make_client(address=address, token=token)("GET", "/metrics", headers=headers)
    assert answer.status_code == status
    if status == 200:
        assert "conosco_lag_seconds 0.02" in answer.text


def test_the_page_holds_no_data(make_client: MakeClient) -> None:
    text = make_client(token=None)("GET", "/").text
    assert "<form" in text
    for secret in ("12480", "12,480", "pro_0", "loyal"):
        assert secret not in text


def test_security_headers_are_everywhere(make_client: MakeClient, ask: Client, office: FakeOffice) -> None:
    office.progress.crash = ValueError("secret value")
    stranger = make_client(token=None)
    answers: list[Any] = [stranger("GET", path) for path in [*OPEN, "/nothing", "/api/status", "/static/none.js"]]
    answers += [ask("GET", "/api/status"), ask("DELETE", "/api/status"), ask("POST", "/api/sql", content=b"{")]
    assert {answer.status_code for answer in answers} == {200, 400, 401, 404, 405, 500}
    for answer in answers:
        assert answer.headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
        )
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-request-id"]
