"""Hostile requests to every route of the API and of tracking: none may end in a fault of ours.

Two ways: what the published description allows and forbids (schemathesis), and good requests that were spoiled, which come
much deeper. Afterwards the installation must be as sound as before.
"""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlencode, urlsplit

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from tests.running.good_requests import CALLS, TICKETS, Stock
from tests.running.hostile import METHODS, Request, hostile_value, spelled, spoiled, spoiled_path, spoiled_query
from tests.running.installation import ADMIN_TOKEN, WRITE_KEY, Installation, basic, is_settled

TOKEN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
SPOILED = 300
SPOILED_DEEP = 5_000
# Schemathesis counts by operation, and there are some sixty of them.
DESCRIBED_EACH = 2
DESCRIBED_EACH_DEEP = 90
# What an orderly "not now" looks like; 504 is a question to the warehouse that took too long.
NOT_NOW = (503, 504)


class Target:
    """An installation on one connection, which notes what was answered."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.stock = Stock(installation)
        self.roles = installation.pids()
        self.faults: list[tuple[Request, int, bytes]] = []
        self.statuses: dict[int, int] = {}
        self._connection = self._connect()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.installation.port, timeout=60)

    def send(self, request: Request) -> None:
        """Send a request; every answer that is a fault of ours is kept."""
        for attempt in range(2):
            try:
                # ``request`` would refuse what a hostile client may well send.
                self._connection.putrequest(request.method, request.path, skip_accept_encoding=True)
                for name, value in request.headers.items():
                    self._connection.putheader(name, value.encode("latin-1", "replace"))
                if request.body is not None:
                    self._connection.putheader("Content-Length", str(len(request.body)))
                self._connection.endheaders(request.body)
                answer = self._connection.getresponse()
                body = answer.read()
                break
            except (OSError, http.client.HTTPException):
                # The server may close a connection that it has answered on; a new one it must answer.
                self._connection.close()
                self._connection = self._connect()
                if attempt:
                    raise
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        if answer.status >= 500 and answer.status not in NOT_NOW:
            self.faults.append((request, answer.status, body))

    def check(self) -> None:
        """Nothing of ours failed, nobody died, and what was taken in is applied and can be derived again."""
        assert not self.faults, f"{len(self.faults)} faults of {self.statuses}; the first: {self.faults[:3]}"
        journal = [json.loads(line) for line in self.installation.journal().splitlines() if line.startswith("{")]
        assert not [line for line in journal if line["event"] == "crashed"]
        assert self.installation.pids() == self.roles
        assert is_settled(self.installation.settled())
        failed = "select message_id, params from outcomes where reason = 'processing_failed'"
        assert self.installation.sql(failed) == []
        live, rebuilt, code = self.installation.replay()
        assert (live, code) == (rebuilt, 0)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One installation for the short tests."""
    with Installation(tmp_path_factory.mktemp("fuzz")) as installation:
        yield Target(installation)


def spoiled_request(chance: Random, stock: Stock) -> Request:
    """A good request with something hostile in it."""
    kind = chance.random()
    if kind < 0.45:
        method, path, good = chance.choice(stock.managed)
        body, headers = spelled(chance, spoiled(chance, good))
        place, _, query = path.partition("?")
        if chance.random() < 0.2:
            return Request(method, spoiled_path(chance, place, lambda: spoiled_query(chance)), body, {**TOKEN, **headers})
        return Request(method, place + (f"?{query}" if query else ""), body, {**TOKEN, **headers})
    if kind < 0.65:
        path = chance.choice(stock.read)
        return Request(
            "GET", spoiled_path(chance, path, lambda: spoiled_query(chance)), None, {**TOKEN, "Accept-Language": _tongue(chance)}
        )
    if kind < 0.9:
        path, good = chance.choice(list(CALLS.items()))
        body, headers = spelled(chance, spoiled(chance, good))
        return Request("POST", path, body, {**basic(WRITE_KEY), **headers, **_browser(chance)})
    if kind < 0.95:
        body, headers = spelled(chance, spoiled(chance, TICKETS))
        return Request("POST", chance.choice(stock.hooks), body, {**headers, **_browser(chance)})
    if kind < 0.97:
        members = {
            f"{chance.choice(('properties.a', 'traits', 'event', 'userId', 'a.b.c', ''))}": str(hostile_value(chance))[:900]
            for _ in range(3)
        }
        query = urlencode({"event": "E", "userId": "u-1", **members}, errors="surrogatepass")
        return Request("GET", f"{stock.pixel}&{query}", None, _browser(chance))
    path = chance.choice((*stock.read, *CALLS, *(path for _, path, _ in stock.managed)))
    return Request(chance.choice(METHODS), path, chance.choice((None, b"{}", b"", b"[]")), TOKEN)


def _tongue(chance: Random) -> str:
    return chance.choice(("it", "pl;q=0.5, pt", "*", ";;;q=x", "en;q=9999999999999999999", "\xff", ""))


def _browser(chance: Random) -> dict[str, str]:
    """Headers that tracking reads."""
    if chance.random() < 0.7:
        return {}
    hostile = chance.choice(("\xff\xfe", "x" * 5_000, "Mozilla/5.0 (", "null", "http://[::1", "-1", "a, b;q=z"))
    names = (
        "User-Agent",
        "Origin",
        "Referer",
        "X-Forwarded-For",
        "AnonymousId",
        "Idempotency-Key",
        "X-Request-Id",
        "Authorization",
    )
    return {chance.choice(names): hostile}


def fuzz(target: Target, seed: str, count: int) -> None:
    chance = Random(seed)
    for _ in range(count):
        target.send(spoiled_request(chance, target.stock))


def fuzz_as_described(target: Target, each: int) -> int:
    """Requests that the published description suggests, so many for each operation; how many were sent."""
    schema = schemathesis.openapi.from_dict(target.installation.get("/api/openapi.json"))
    sent = 0
    for number, found in enumerate(schema.get_all_operations()):
        assert isinstance(found, Ok), found
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @hypothesis.seed(number)
            @hypothesis.settings(
                max_examples=each,
                deadline=None,
                database=None,
                derandomize=False,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def send(case: schemathesis.Case[Any]) -> None:
                nonlocal sent
                target.send(_as_request(case, target))
                sent += 1

            try:
                send()
            except hypothesis.errors.Unsatisfiable:
                # What has no parameters and no body cannot be called wrongly.
                continue
    return sent


def _as_request(case: schemathesis.Case[Any], target: Target) -> Request:
    """A generated case; half of them are about something that exists."""
    if case.path_parameters and "ref" in case.path_parameters and len(str(case.path_parameters["ref"])) % 2:
        case.path_parameters["ref"] = target.stock.references.get(case.path.split("/")[2], "none")
    if case.query and ("after" in case.query or str(case.query.get("wait_ms", "")).isdigit()):
        case.query["wait_ms"] = 20
    sent = case.as_transport_kwargs(base_url=target.installation.url)
    parts = urlsplit(str(sent["url"]))
    query = urlencode(sent.get("params") or {}, doseq=True, errors="surrogatepass")
    headers: dict[str, str] = {**TOKEN}
    body: bytes | None = None
    if "json" in sent:
        body = json.dumps(sent["json"]).encode()
        headers["Content-Type"] = "application/json"
    elif sent.get("data") is not None:
        data: Any = sent["data"]
        body = data if isinstance(data, bytes) else str(data).encode("utf-8", "surrogatepass")
        headers["Content-Type"] = str(sent["headers"].get("Content-Type", "application/json"))
    return Request(case.method.upper(), (parts.path or "/") + (f"?{query}" if query else ""), body, headers)


def test_spoiled_requests_are_no_fault_of_ours(target: Target) -> None:
    fuzz(target, "spoiled", SPOILED)
    target.check()


@pytest.mark.timeout(300)
def test_described_requests_are_no_fault_of_ours(target: Target) -> None:
    assert fuzz_as_described(target, DESCRIBED_EACH) >= 200
    target.check()


@pytest.mark.deep
@pytest.mark.timeout(3_600)
def test_five_thousand_hostile_requests_of_each_kind(folder: Path) -> None:
    with Installation(folder) as installation:
        target = Target(installation)
        fuzz(target, "deep", SPOILED_DEEP)
        assert fuzz_as_described(target, DESCRIBED_EACH_DEEP) >= 5_000
        target.check()
        print(f"answers by status: {sorted(target.statuses.items())}")
