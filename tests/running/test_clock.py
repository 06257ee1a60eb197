"""The clock of the machine is set back and forth under a running installation: positions, order and outcomes stand."""

import json
import os
from pathlib import Path

import pytest

from tests.running.installation import REPOSITORY, Installation, is_settled

HOUR_S = 3_600
# Read by every Python process at its start: the time of day is then shifted by what stands in a file.
SHIFT = """
import os, time

_true_ns, _file = time.time_ns, os.environ["CLOCK_FILE"]


def _shifted_ns():
    with open(_file) as file:
        return _true_ns() + int(file.read()) * 1_000_000_000


time.time_ns = _shifted_ns
time.time = lambda: _shifted_ns() / 1e9
"""


class Clock:
    """What processes that are started with ``environment`` take for the time of day."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "offset"
        place = folder / "shift"
        place.mkdir()
        (place / "sitecustomize.py").write_text(SHIFT)
        self.environment = {"CLOCK_FILE": str(self._file), "PYTHONPATH": os.pathsep.join((str(place), str(REPOSITORY)))}
        self.set(0)

    def set(self, offset_s: int) -> None:
        """Shift the clock against the true time."""
        draft = self._file.with_suffix(".new")
        draft.write_text(str(offset_s))
        draft.replace(self._file)


@pytest.fixture
def clock(folder: Path) -> Clock:
    """A clock that can be set."""
    return Clock(folder)


def send(installation: Installation, number: int) -> None:
    event = {"type": "track", "event": "Ticked", "userId": "watcher", "messageId": f"tick-{number}"}
    assert installation.track(json.dumps({"batch": [event, event]}).encode()).status == 200
    installation.settled()


def test_a_clock_that_is_set_back_and_forth(folder: Path, clock: Clock) -> None:
    with Installation(folder, clock.environment) as installation:
        spec = {"language": 1, "where": {"kind": "did", "event": "Ticked", "times": {"min": 2}, "within": "1h"}}
        installation.post("/api/segments", {"key": "lately", "name": "Lately", "purpose": "operations", "spec": spec})
        offsets = [0, -HOUR_S, -48 * HOUR_S, -60, 30 * HOUR_S, 0]
        for number, offset_s in enumerate(offsets):
            clock.set(offset_s)
            send(installation, number)
            if number == 2:
                # A start finds a log that is ahead of the clock.
                assert installation.stop() == 0
                installation.start()
        status = installation.settled()
        assert is_settled(status)
        assert (status["applied"], status["duplicates"]) == (len(offsets), len(offsets))
        assert status["lag_seconds"] >= 0
        rows = installation.sql("select message_id, epoch_us(logged_at), epoch_us(event_at) from events order by position")
        assert [row[0] for row in rows] == [f"tick-{number}" for number in range(len(offsets))]
        logged = [row[1] for row in rows]
        assert logged == sorted(logged)
        assert all(row[2] <= row[1] + 300_000_000 for row in rows)
        assert installation.ask("GET", "/health/ready").status == 200
        live, rebuilt, code = installation.replay()
        assert (live, code) == (rebuilt, 0)
