"""The segment stage: entering and leaving with the right moments and reasons, timers, and memberships that move."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from conosco.engines.memory.state import MemoryState
from conosco.ports.tables import MEMBERS, MEMBERSHIPS, PERSONS, TIMERS, MembershipRow, PersonRow
from conosco.ports.work import Work
from conosco.rules.catalogue import Catalogue
from conosco.rules.evaluate import Observation, Rows
from conosco.rules.parse import parse_where
from conosco.rules.streams import Streams
from conosco.segment.plans import SegmentPlan, ready
from conosco.segment.stage import Cause, Evaluated, Ordinals, arm, carry_over, close_all, disarm, evaluate, expel

DAY = 86_400_000_000
DID: dict[str, Any] = {"kind": "did", "event": "A"}


class Someone:
    """A person who did A at some moments."""

    def __init__(self, times: Sequence[int] = (), born_at: int = 0) -> None:
        self.times = sorted(times)
        self.born = born_at

    @property
    def born_at(self) -> int:
        return self.born

    def rows(self, stream: int) -> Rows:
        return Rows(self.times, [0] * len(self.times), ())

    def observations(self, name: str) -> Sequence[Observation]:
        return ()

    def trait(self, name: str, at: int) -> bytes | None:
        known = [seen for seen in self.observations(name) if seen.event_at <= at]
        return max(known).value if known else None

    def identifiers(self) -> Sequence[tuple[str, str, int]]:
        return (("user_id", "u", self.born),)


def plan_of(where: dict[str, Any], number: int = 0) -> SegmentPlan:
    streams = Streams(())
    condition = parse_where({"language": 1, "where": where}, Catalogue())
    streams.register(condition)
    return ready(number, f"s{number}", "operations", condition, streams)


EVER = plan_of(DID)
LATELY = plan_of({**DID, "within": "2d"}, 1)
NOT_LATELY = plan_of({"kind": "not", "of": {**DID, "within": "2d"}}, 2)


class Desk:
    """One person and everything that an evaluation needs, at a position that grows."""

    def __init__(self, *plans: SegmentPlan) -> None:
        self.work = Work(MemoryState())
        self.plans = plans
        self.person = PersonRow(profile_id="pro_1", anchor=("user_id", "u"), cells=[1], identifiers=[("user_id", "u", 0)])
        self.work.put(PERSONS, (1,), self.person)
        self.ordinals = Ordinals()
        self.position = 0

    def ask(self, someone: Someone, now: int, kind: Any = "event", event_at: int | None = None, **cause: Any) -> Evaluated:
        self.position += 1
        at = now if event_at is None else event_at
        made = Cause(kind, self.position, now, at, ("m",) if kind == "event" else (), True, **cause)
        return evaluate(self.work, 1, self.person, someone, self.plans, made, self.ordinals)

    def rows(self) -> list[MembershipRow]:
        return [row for _, row in self.work.scan(MEMBERSHIPS, (), None, 100)]

    def timers(self) -> list[int]:
        return [key[0] for key, _ in self.work.scan(TIMERS, (), None, 100)]


def test_entering_and_leaving() -> None:
    desk = Desk(LATELY)
    entered = desk.ask(Someone([5 * DAY]), 5 * DAY + 7)
    (change,) = entered.changes
    assert (change.type, change.at, change.position, change.live) == ("segment.entered", 5 * DAY, 1, True)
    expected = {"cause": "event", "message_ids": ["m"], "conditions": ["where"]}
    assert msgspec.json.decode(msgspec.json.encode(change.because)) == expected
    assert desk.work.get(MEMBERS, (1, 1)) is not None
    assert desk.timers() == [7 * DAY]
    disarm(desk.work, 1, desk.person)
    (left,) = desk.ask(Someone([5 * DAY]), 7 * DAY, "timer").changes
    assert (left.type, left.at, left.because["cause"]) == ("segment.exited", 7 * DAY, "timer")
    (row,) = desk.rows()
    assert (row.entered_at, row.exited_at, row.position) == (5 * DAY, 7 * DAY, 1)
    assert desk.person.memberships == {}
    assert desk.work.get(MEMBERS, (1, 1)) is None
    assert desk.timers() == []


def test_nothing_changes_nothing() -> None:
    desk = Desk(EVER, NOT_LATELY)
    desk.ask(Someone([5 * DAY]), 5 * DAY)
    assert desk.ask(Someone([5 * DAY, 6 * DAY]), 6 * DAY) == Evaluated([], [])
    assert len(desk.rows()) == 1


def test_a_late_event_corrects_the_beginning_without_a_word() -> None:
    desk = Desk(EVER)
    desk.ask(Someone([5 * DAY]), 6 * DAY, event_at=5 * DAY)
    found = desk.ask(Someone([2 * DAY, 5 * DAY]), 7 * DAY, event_at=2 * DAY)
    assert found.changes == []
    assert [version.entered_at for version in found.versions] == [2 * DAY]
    assert desk.person.memberships[0][0] == 2 * DAY


def test_time_lets_in_who_did_nothing_lately() -> None:
    desk = Desk(NOT_LATELY)
    assert desk.ask(Someone([DAY]), DAY).changes == []
    assert desk.timers() == [3 * DAY]
    disarm(desk.work, 1, desk.person)
    (change,) = desk.ask(Someone([DAY]), 3 * DAY, "timer").changes
    assert (change.type, change.at) == ("segment.entered", 3 * DAY)


def test_nothing_holds_of_the_unborn_and_the_timer_is_the_birth() -> None:
    desk = Desk(NOT_LATELY)
    assert desk.ask(Someone(born_at=5 * DAY), 4 * DAY) == Evaluated([], [])
    assert desk.timers() == [5 * DAY]
    disarm(desk.work, 1, desk.person)
    (change,) = desk.ask(Someone(born_at=5 * DAY), 5 * DAY, "timer").changes
    assert change.at == 5 * DAY


def test_only_an_earlier_timer_replaces_one() -> None:
    desk = Desk()
    for due in (50, 70, 30):
        arm(desk.work, 1, desk.person, due)
    assert desk.timers() == [30]
    disarm(desk.work, 1, desk.person)
    disarm(desk.work, 1, desk.person)
    assert desk.timers() == []


def test_rows_of_a_position_are_numbered() -> None:
    ordinals = Ordinals(5)
    assert [ordinals.take(position) for position in (1, 1, 2, 2, 2, 3)] == [5, 6, 5, 6, 7, 5]


def test_who_is_expelled_is_told_to_nobody() -> None:
    desk = Desk(EVER, LATELY)
    desk.ask(Someone([DAY]), DAY)
    cause = Cause("definition", 9, 2 * DAY, 2 * DAY, (), False, True)
    versions = expel(desk.work, 1, desk.person, [0, 5], cause)
    assert [(version.segment, version.exited_at) for version in versions] == [("s0", 2 * DAY)]
    assert list(desk.person.memberships) == [1]
    assert [version.segment for version in close_all(desk.work, desk.person, cause)] == ["s1"]


def carried(times: Sequence[int], stays: list[tuple[str, int]], surviving: set[str]) -> tuple[Desk, Evaluated]:
    """Person pro_1 takes over stays of former people in ``EVER``."""
    desk = Desk(EVER)
    inherited = []
    for place, (profile_id, entered_at) in enumerate(stays):
        row = MembershipRow(
            segment="s0",
            profile_id=profile_id,
            entered_at=entered_at,
            exited_at=None,
            because=b'{"cause":"event"}',
            position=place + 1,
        )
        desk.work.put(MEMBERSHIPS, (profile_id, place + 1, 0), row)
        inherited.append((profile_id, entered_at, place + 1, 0))
    cause = Cause("merge", 50, 9 * DAY, 9 * DAY, ("m",), True)
    found = carry_over(
        desk.work, 1, desk.person, Someone(times), {0: inherited}, {0: EVER}, (EVER,), frozenset(surviving), cause, desk.ordinals
    )
    return desk, found


@pytest.mark.parametrize(
    ("stays", "surviving", "open_rows"),
    [
        ([("pro_1", 2 * DAY)], {"pro_1"}, [("pro_1", 2 * DAY, 1)]),
        ([("pro_1", 4 * DAY), ("pro_2", 2 * DAY)], {"pro_1"}, [("pro_1", 2 * DAY, 1)]),
        ([("pro_2", 2 * DAY)], {"pro_1"}, [("pro_1", 2 * DAY, 50)]),
        # A split: the other one lives on, and stays in.
        ([("pro_2", 2 * DAY)], {"pro_1", "pro_2"}, [("pro_1", 2 * DAY, 50), ("pro_2", 2 * DAY, 1)]),
    ],
    ids=["own", "merge", "new id", "split"],
)
def test_what_still_holds_goes_on_without_a_word(
    stays: list[tuple[str, int]], surviving: set[str], open_rows: list[tuple[str, int, int]]
) -> None:
    desk, found = carried([2 * DAY], stays, surviving)
    assert found.changes == []
    still = [(row.profile_id, row.entered_at, row.position) for row in desk.rows() if row.exited_at is None]
    assert sorted(still) == open_rows
    moved = [row for row in desk.rows() if row.position == 50]
    assert [msgspec.json.decode(row.because) for row in moved] == [{"cause": "event", "moved_from": "pro_2"}] * len(moved)


def test_what_holds_no_longer_is_left() -> None:
    desk, found = carried([], [("pro_2", 2 * DAY)], {"pro_1"})
    (change,) = found.changes
    assert (change.type, change.profile_id, change.because["cause"]) == ("segment.exited", "pro_1", "merge")
    assert all(row.exited_at is not None for row in desk.rows())
