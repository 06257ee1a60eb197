"""A flood of duplicates: ten copies of everything, in any order, across a restart and more than a week, count once."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.running.installation import Installation, basic
from tests.running.test_clock import Clock

COPIES = 10
PER_BATCH = 500
DAY_S = 86_400
# Long after the last copy that a client would send, and after what is kept ready for a quick answer.
DAYS_LATER = 8


def flood(installation: Installation, clock: Clock, events: int) -> None:
    """Send ten copies of so many events: at once, after a restart, and eight days later."""
    chance = Random(f"flood/{events}")
    spec = {"language": 1, "aggregate": "count", "event": "Bought"}
    installation.post("/api/attributes", {"key": "bought", "name": "Bought", "spec": spec})
    other_key = installation.post("/api/sources", {"key": "other", "name": "Other", "type": "server", "region": "eu"})[
        "write_key"
    ]
    people = max(20, events // 50)
    copies = [number for number in range(events) for _ in range(COPIES)]
    chance.shuffle(copies)
    part = len(copies) // 3
    for turn in range(3):
        send(installation, copies[turn * part : (turn + 1) * part if turn < 2 else None], people)
        if turn == 0:
            assert installation.stop() == 0
            installation.start()
        if turn == 1:
            clock.set(DAYS_LATER * DAY_S)
    # The same ids from another source are other events.
    twins = list(range(0, events, 10))
    send(installation, twins * 2, people, basic(other_key))
    status = installation.settled(600.0)
    applied = events + len(twins)
    assert (status["applied"], status["duplicates"], status["quarantined"]) == (
        applied,
        events * (COPIES - 1) + len(twins),
        0,
    )
    rows = "select count(*), count(distinct (source_id, message_id)), count(distinct message_id) from events"
    assert installation.sql(rows) == [[applied, applied, events]]
    bought = installation.sql("select name, sum(cast(value as bigint)), count(*) from traits group by name")
    assert bought == [["bought", applied, people]]
    live, rebuilt, code = installation.replay()
    assert (live, code) == (rebuilt, 0)


def send(installation: Installation, numbers: list[int], people: int, headers: dict[str, str] | None = None) -> None:
    for start in range(0, len(numbers), PER_BATCH):
        batch = [event(number, people) for number in numbers[start : start + PER_BATCH]]
        answer = installation.track({"batch": batch}, headers=headers)
        assert answer.status == 200, answer


def event(number: int, people: int) -> dict[str, Any]:
    # Its moment is its own, so that a copy is the same event however late it comes.
    moment = f"2026-03-{number % 28 + 1:02d}T12:00:00.000Z"
    person = f"u-{number % people}"
    return {"type": "track", "event": "Bought", "userId": person, "messageId": f"m-{number}", "timestamp": moment}


@pytest.fixture
def clock(folder: Path) -> Clock:
    """A clock that can be set."""
    return Clock(folder)


def test_ten_copies_of_everything_count_once(folder: Path, clock: Clock) -> None:
    with Installation(folder, clock.environment) as installation:
        flood(installation, clock, 600)


@pytest.mark.deep
@pytest.mark.timeout(3_600)
def test_more_copies_than_are_kept_ready_count_once(folder: Path, clock: Clock) -> None:
    # So many that the keys of the first ones are sealed, and found again behind their filter.
    with Installation(folder, clock.environment) as installation:
        flood(installation, clock, 300_000)
