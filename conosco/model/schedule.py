"""When something is done again and again: every so often, or at a time of day in a zone. Pure: now is handed in."""

from datetime import datetime, time, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from conosco.model.moment import DAY, EPOCH, MINUTE, SECOND, parse_duration

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS: Final[tuple[Weekday, ...]] = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
EVERY_MAX: Final = 7 * DAY
_DAYS_AHEAD: Final = 9


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """``every`` (``15m``, ``6h``; counted from midnight UTC of 1970), or ``at`` (``03:30``) in ``zone``, on all days or those of ``on``.

    A time of day that a clock change leaves out is served as much later as the clock was put forward; one that comes twice is
    served the first time.
    """

    every: str = ""
    at: str = ""
    on: tuple[Weekday, ...] = ()
    zone: str = "UTC"

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for what cannot be meant."""
        if bool(self.every) == bool(self.at):
            raise ValueError("a schedule has either every, such as 15m, or at, such as 03:30")
        if self.every:
            step = parse_duration(self.every)
            if step is None or not MINUTE <= step <= EVERY_MAX or step % MINUTE:
                raise ValueError("every is at least 1m and at most 7d, in whole minutes, such as 15m, 6h or 1d")
            if self.on or self.zone != "UTC":
                raise ValueError("days and zone belong to at, not to every")
        elif _time_of(self.at) is None:
            raise ValueError("at is a time of day such as 03:30")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"the time zone {self.zone[:60]} is not known; write one such as Europe/Rome") from None


def next_due(schedule: Schedule, after: int) -> int:
    """The first moment after ``after`` (microseconds UTC) at which it is due."""
    if schedule.every:
        step = parse_duration(schedule.every) or DAY
        return (after // step + 1) * step
    zone, at = ZoneInfo(schedule.zone), _time_of(schedule.at) or time()
    day = (EPOCH + timedelta(microseconds=after)).astimezone(zone).date() - timedelta(days=1)
    days = {WEEKDAYS.index(name) for name in schedule.on} or set(range(7))
    for _ in range(_DAYS_AHEAD + 1):
        if day.weekday() in days:
            since = datetime.combine(day, at, tzinfo=zone) - EPOCH
            due = (since.days * 86_400 + since.seconds) * SECOND
            if due > after:
                return due
        day += timedelta(days=1)
    raise AssertionError("every schedule is due within nine days")


def _time_of(text: str) -> time | None:
    hour, colon, minute = text.partition(":")
    if len(text) != 5 or not colon or not (hour + minute).isascii() or not (hour + minute).isdecimal():
        return None
    return time(int(hour), int(minute)) if int(hour) < 24 and int(minute) < 60 else None
