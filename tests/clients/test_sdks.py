"""Unmodified SDKs, all their calls, through every fault: what they sent is there exactly once, as it was said and when it was."""

import json
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.browser.chromium import Chromium
from tests.clients.arrival import assert_exactly_once, assert_people, assert_says, assert_when, duplicates, events_of
from tests.clients.browsing import BROWSERS, Page, Site, missing_browser, start_pages
from tests.clients.calls import PEOPLE_A_ROUND, rounds
from tests.clients.fault_proxy import FaultProxy
from tests.clients.sending import BEHIND_S, HERE, SERVERS, Client, Program, missing, start_programs
from tests.running.installation import Installation

ROUNDS = 30
# The first test waits for all clients; on a machine with much to do they need minutes.
pytestmark = pytest.mark.timeout(400)
# This one takes a wrong key for trouble that may pass.
PATIENT = {"customerio-node"}
SLOW = timedelta(seconds=BEHIND_S)


class Run(NamedTuple):
    """All clients at the end, and how much the status grew by what they sent."""

    installation: Installation
    proxy: FaultProxy
    programs: Mapping[tuple[str, bool], Program]
    pages: Mapping[tuple[str, bool], Page]
    grown: Mapping[str, int]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Every client at the same time, because they spend most of it waiting to send again."""
    folder = tmp_path_factory.mktemp("clients")
    with ExitStack() as stack:
        installation = stack.enter_context(Installation(folder))
        proxy = stack.enter_context(FaultProxy(installation.port))
        before = installation.settled()
        programs = start_programs(installation, proxy, folder, ROUNDS)
        pages: Mapping[tuple[str, bool], Page] = {}
        if not missing_browser():
            chromium = Chromium(folder / "browser")
            stack.callback(chromium.close)
            pages = start_pages(installation, proxy, chromium, stack.enter_context(Site()), ROUNDS)
        for client in (*programs.values(), *pages.values()):
            client.wait()
        after = installation.settled()
        grown = {name: after[name] - before[name] for name in ("accepted", "applied", "duplicates", "quarantined")}
        yield Run(installation, proxy, programs, pages, grown)


def program_of(run: Run, name: str, faulty: bool) -> Program:
    """An SDK for servers that has sent everything; skips if it cannot run here."""
    if reason := missing(name):
        pytest.skip(reason)
    program = run.programs[name, faulty]
    assert program.problem == ""
    return program


def page_of(run: Run, name: str, faulty: bool) -> Page:
    """A page whose SDK has sent everything; skips if there is no browser here."""
    if reason := missing_browser():
        pytest.skip(reason)
    page = run.pages[name, faulty]
    assert page.problem == ""
    return page


@pytest.mark.parametrize("name", SERVERS)
def test_everything_arrives_once_through_every_fault(run: Run, name: str) -> None:
    program = program_of(run, name, True)
    assert sorted(program.lane.done) == sorted(chain(*program.plan))
    assert_exactly_once(run.installation, program, [call["messageId"] for call in program.calls])
    requests = program.lane.requests
    assert {request.fields[b"content-type"].decode() for request in requests} == {SERVERS[name].content_type}
    assert {request.body[:2] == b"\x1f\x8b" for request in requests} == {SERVERS[name].packed}
    same, other = copies(program)
    assert same >= 20
    assert other == 0


@pytest.mark.parametrize("name", SERVERS)
def test_what_arrives_is_what_was_said_and_when(run: Run, name: str) -> None:
    program = program_of(run, name, True)
    found = events_of(run.installation, program.source_id)
    for call in program.calls:
        assert_says(found[call["messageId"]], call)
        assert_when(found[call["messageId"]], call, program, timedelta())
    assert_people(run.installation, program, ROUNDS * PEOPLE_A_ROUND, ROUNDS)


@pytest.mark.parametrize("name", SERVERS)
def test_a_slow_clock_is_corrected_where_it_shows(run: Run, name: str) -> None:
    program = program_of(run, name, False)
    found = events_of(run.installation, program.source_id)
    assert len(found) == len(program.calls)
    for call in program.calls:
        assert_when(found[call["messageId"]], call, program, SLOW, corrected=SERVERS[name].tells_clock)


@pytest.mark.browser
@pytest.mark.parametrize("name", BROWSERS)
def test_everything_of_a_page_arrives_once_through_every_fault(run: Run, name: str) -> None:
    page, sdk = page_of(run, name, True), BROWSERS[name]
    assert {request.path for request in page.lane.requests} == set(sdk.paths.split())
    assert {request.fields[b"content-type"].decode() for request in page.lane.requests} == {sdk.content_type}
    assert sorted(page.lane.done) == sorted(chain(*page.plan))
    by_itself = page.lane.stored.keys() - set(page.message_ids)
    assert [page.lane.stored[message_id][0]["type"] for message_id in by_itself] == ["page"] * sdk.own_pages
    assert_exactly_once(run.installation, page, [*page.message_ids, *by_itself])


@pytest.mark.browser
@pytest.mark.parametrize("name", BROWSERS)
@pytest.mark.parametrize("behind", [timedelta(), SLOW], ids=["right clock", "slow clock"])
def test_what_arrives_of_a_page_is_what_was_said_and_when(run: Run, name: str, behind: timedelta) -> None:
    page = page_of(run, name, not behind)
    found = events_of(run.installation, page.source_id)
    for message_id, call in zip(page.message_ids, page.calls, strict=True):
        sent = page.lane.stored[message_id][0]
        # Who it is, the SDK says; what was done and when, the page.
        ids = {"messageId": message_id, "userId": sent["userId"], "anonymousId": sent["anonymousId"]}
        assert_says(found[message_id], {**call, **ids})
        assert_when(found[message_id], call, page, behind)
    assert_people(run.installation, page, 1, 1)


@pytest.mark.browser
def test_rudder_js_names_nobody_by_an_empty_id_and_repeats_the_anonymous_id_in_a_header(run: Run) -> None:
    for faulty in (True, False):
        page = page_of(run, "rudder-js", faulty)
        found = events_of(run.installation, page.source_id)
        unknown = [copies[0] for copies in page.lane.stored.values() if copies[0]["userId"] == ""]
        assert len(unknown) > 1
        assert {found[event["messageId"]]["user_id"] for event in unknown} == {None}
        headers = {b64decode(request.fields[b"anonymousid"]).decode() for request in page.lane.requests}
        assert headers == {event["anonymous_id"] for event in found.values()}
        assert not any("timestamp" in copies[0] for copies in page.lane.stored.values())


def test_the_status_counts_every_copy(run: Run) -> None:
    clients = (*run.programs.values(), *run.pages.values())
    messages = sum(len(client.lane.stored) for client in clients)
    same, other = (sum(counts) for counts in zip(*map(copies, clients), strict=True))
    expected = {"accepted": messages + same + other, "applied": messages, "duplicates": same, "quarantined": other}
    assert dict(run.grown) == expected


def copies(client: Client) -> tuple[int, int]:
    """How many further copies of messages a client sent that say the same as the first, and how many that do not."""
    told = [duplicates(copies) for copies in client.lane.stored.values()]
    return sum(same for same, _ in told), sum(other for _, other in told)


def test_a_wrong_key_is_told_and_stores_nothing(run: Run, tmp_path: Path) -> None:
    before = run.installation.settled()["accepted"]
    programs: list[Program] = []
    for name in SERVERS:
        if not missing(name) and name not in PATIENT:
            calls = rounds("wrong", 1, number_ids=False)
            programs.append(Program(run.installation, run.proxy, f"wrong_{len(programs)}", "server", calls, ()))
            programs[-1].write_key = "wrong"
            programs[-1].start(name, tmp_path, 0)
    for program in programs:
        program.wait()
        assert "401" in program.problem
        assert not program.lane.stored
    assert run.installation.settled()["accepted"] == before


def test_the_lock_file_names_no_registry() -> None:
    packages = json.loads((HERE / "node" / "package-lock.json").read_text())["packages"]
    assert len(packages) > 2
    assert not [name for name, package in packages.items() if "resolved" in package]
