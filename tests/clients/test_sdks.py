"""Unmodified SDKs, all their calls, through every fault: what they sent is there exactly once, as it was said and when it was."""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import chain
from typing import NamedTuple

import pytest

from tests.clients.arrival import assert_exactly_once, assert_people, assert_says, assert_when, events_of
from tests.clients.fault_proxy import FaultProxy
from tests.clients.sending import BEHIND_S, HERE, SERVERS, Sending, missing, start_all
from tests.running.installation import Installation

ROUNDS = 30


class Run(NamedTuple):
    """All clients at the end, and how much the status grew by what they sent."""

    installation: Installation
    sendings: Mapping[tuple[str, bool], Sending]
    grown: Mapping[str, int]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Every client at the same time, because they spend most of it waiting to send again."""
    folder = tmp_path_factory.mktemp("clients")
    with Installation(folder) as installation, FaultProxy(installation.port) as proxy:
        before = installation.settled()
        sendings = start_all(installation, proxy, folder, ROUNDS)
        for sending in sendings.values():
            sending.wait()
        after = installation.settled()
        yield Run(
            installation,
            sendings,
            {name: after[name] - before[name] for name in ("accepted", "applied", "duplicates", "quarantined")},
        )


def sending_of(run: Run, name: str, faulty: bool) -> Sending:
    """A client that has sent everything; skips if it cannot run here."""
    if reason := missing(name):
        pytest.skip(reason)
    sending = run.sendings[name, faulty]
    assert sending.problem == ""
    return sending


@pytest.mark.parametrize("name", SERVERS)
def test_everything_arrives_once_through_every_fault(run: Run, name: str) -> None:
    sending = sending_of(run, name, True)
    assert sorted(sending.lane.done) == sorted(chain(*sending.plan))
    assert_exactly_once(run.installation, sending.source_id, sending.lane, [call["messageId"] for call in sending.calls])
    assert sending.lane.stored.total() > len(sending.calls)


@pytest.mark.parametrize("name", SERVERS)
def test_what_arrives_is_what_was_said_and_when(run: Run, name: str) -> None:
    sending = sending_of(run, name, True)
    found = events_of(run.installation, sending.source_id)
    for call in sending.calls:
        assert_says(found[call["messageId"]], call)
        assert_when(found[call["messageId"]], call, (sending.started_at, sending.ended_at), timedelta())
    assert_people(run.installation, sending.source_id, ROUNDS)


@pytest.mark.parametrize("name", SERVERS)
def test_a_slow_clock_is_corrected_where_it_shows(run: Run, name: str) -> None:
    sending = sending_of(run, name, False)
    behind = timedelta(seconds=BEHIND_S)
    found = events_of(run.installation, sending.source_id)
    assert len(found) == len(sending.calls)
    for call in sending.calls:
        if SERVERS[name].tells_clock:
            assert_when(found[call["messageId"]], call, (sending.started_at, sending.ended_at), behind)
        else:
            told = (sending.started_at - behind, sending.ended_at - behind)
            assert_when(found[call["messageId"]], call, told, timedelta())


def test_the_status_counts_every_copy(run: Run) -> None:
    stored = [sending.lane.stored for sending in run.sendings.values()]
    copies, messages = sum(counter.total() for counter in stored), sum(map(len, stored))
    assert dict(run.grown) == {"accepted": copies, "applied": messages, "duplicates": copies - messages, "quarantined": 0}


def test_the_lock_file_names_no_registry() -> None:
    packages = json.loads((HERE / "node" / "package-lock.json").read_text())["packages"]
    assert len(packages) > 2
    assert not [name for name, package in packages.items() if "resolved" in package]
