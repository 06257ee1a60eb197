"""When a schedule is due next, against a plain search through every minute by the zone's own clock."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest

from conosco.model.moment import parse_moment, spell_moment
from conosco.model.schedule import WEEKDAYS, Schedule, next_due


def moment(text: str) -> int:
    found = parse_moment(text)
    assert found is not None
    return found


def searched(schedule: Schedule, after: str) -> str:
    """The next minute at which the clock on the wall shows the time for the first time that day."""
    zone, at = ZoneInfo(schedule.zone), datetime.fromisoformat(after.replace("Z", "+00:00")).astimezone(UTC)
    at = at.replace(second=0) + timedelta(minutes=1)
    for _ in range(10 * 24 * 60):
        local = at.astimezone(zone)
        days = schedule.on or WEEKDAYS
        if local.strftime("%H:%M") == schedule.at and local.fold == 0 and WEEKDAYS[local.weekday()] in days:
            return at.strftime("%Y-%m-%dT%H:%M:%SZ")
        at += timedelta(minutes=1)
    raise AssertionError("never")


@pytest.mark.parametrize("zone", ["Europe/Warsaw", "Australia/Lord_Howe"])
@pytest.mark.parametrize("at", ["00:00", "03:30", "23:59"])
@pytest.mark.parametrize(
    "after",
    ["2024-03-30T00:10:00Z", "2024-03-31T00:59:00Z", "2024-10-26T23:30:00Z", "2024-10-27T01:00:00Z", "2024-04-06T14:00:00Z"],
)
@pytest.mark.parametrize("on", [(), ("monday", "sunday")])
def test_the_next_time_is_that_of_the_wall_clock(zone: str, at: str, after: str, on: tuple[str, ...]) -> None:
    schedule = msgspec.convert({"at": at, "zone": zone, "on": list(on)}, Schedule)
    assert spell_moment(next_due(schedule, moment(after))) == searched(schedule, after)


def test_a_time_that_the_clock_leaves_out_is_served_an_hour_later() -> None:
    schedule = Schedule(at="02:30", zone="Europe/Rome")
    assert spell_moment(next_due(schedule, moment("2024-03-30T12:00:00Z"))) == "2024-03-31T01:30:00Z"
    assert spell_moment(next_due(schedule, moment("2024-03-31T01:30:00Z"))) == "2024-04-01T00:30:00Z"


def test_a_time_that_comes_twice_is_served_once() -> None:
    schedule = Schedule(at="02:30", zone="Europe/Rome")
    assert spell_moment(next_due(schedule, moment("2024-10-26T12:00:00Z"))) == "2024-10-27T00:30:00Z"
    assert spell_moment(next_due(schedule, moment("2024-10-27T00:30:00Z"))) == "2024-10-28T01:30:00Z"


def test_every_so_often_is_counted_from_midnight() -> None:
    assert spell_moment(next_due(Schedule(every="15m"), moment("2024-01-01T10:01:07Z"))) == "2024-01-01T10:15:00Z"
    assert spell_moment(next_due(Schedule(every="6h"), moment("2024-01-01T12:00:00Z"))) == "2024-01-01T18:00:00Z"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"every": "15m", "at": "03:30"},
        {"every": "10s"},
        {"every": "8d"},
        {"every": "1h", "on": ["monday"]},
        {"at": "3:30"},
        {"at": "24:00"},
        {"at": "٠٣:30"},
        {"at": "03:30", "zone": "Europe/Nowhere"},
        {"at": "03:30", "zone": "../etc/passwd"},
        {"at": "03:30", "on": ["someday"]},
    ],
)
def test_what_cannot_be_meant_is_refused(spec: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(spec, Schedule)
