"""Live evaluation of one person: windows, values, the beginning of a stretch, and when time alone can end it."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conosco.rules.catalogue import Catalogue
from conosco.rules.condition import AttributeTest, Stream
from conosco.rules.evaluate import Extra, Observation, Plan, Rows, attribute_value, count_at, plan, winning_value
from conosco.rules.parse import parse_attribute, parse_where
from conosco.rules.usage import reads

DAY = 86_400_000_000
HOUR = DAY // 24
NAMES = ("A", "B")
ATTRIBUTES = {
    "count": {"language": 1, "aggregate": "count", "event": "A", "within": "3d"},
    "sum": {"language": 1, "aggregate": "sum", "event": "A", "path": ["v"]},
    "last": {"language": 1, "aggregate": "last", "event": "A", "path": ["v"]},
    "age": {"language": 1, "aggregate": "days_since", "event": "A"},
}
CATALOGUE = Catalogue(attributes=ATTRIBUTES)


class Someone:
    """A person with the rows, observations and identifiers that a test gives it."""

    def __init__(self, times: Mapping[str, Sequence[int]], values: Mapping[int, bytes], born_at: int = 0) -> None:
        self._times = times
        self._values = values
        self._born_at = born_at
        self.numbers: dict[Stream, int] = {}
        self._streams: list[Stream] = []
        self.seen: list[Observation] = []
        self.names: list[tuple[str, str, int]] = []

    def number_of(self, stream: Stream) -> int:
        if stream not in self.numbers:
            self.numbers[stream] = len(self._streams)
            self._streams.append(stream)
        return self.numbers[stream]

    @property
    def born_at(self) -> int:
        return self._born_at

    def rows(self, stream: int) -> Rows:
        made = self._streams[stream]
        times = sorted(self._times.get(made.event or "", ()))
        extras = [Extra(self._values.get(at, b""), "src", f"m{at}") for at in times] if made.value is not None else ()
        return Rows(times, list(range(len(times))), extras)

    def observations(self, name: str) -> Sequence[Observation]:
        return self.seen if name == "country" else ()

    def trait(self, name: str, at: int) -> bytes | None:
        return winning_value(self.observations(name), at)

    def identifiers(self) -> Sequence[tuple[str, str, int]]:
        return self.names


def planned(someone: Someone, where: dict[str, Any]) -> Plan:
    return plan(parse_where({"language": 1, "where": where}, CATALOGUE), someone.number_of)


def value(someone: Someone, key: str, now: int) -> Any:
    spec = parse_attribute(ATTRIBUTES[key])
    return attribute_value(spec, someone.rows(someone.number_of(spec.stream)), now)


LEAVES = (
    {"kind": "did", "event": "A"},
    {"kind": "did", "event": "A", "within": "2d"},
    {"kind": "did", "event": "A", "times": {"min": 2}, "within": "5d"},
    {"kind": "did", "event": "B", "times": {"max": 1}, "within": "3d"},
    {"kind": "did", "event": "B", "times": {"min": 1, "max": 2}},
    {"kind": "attribute", "key": "count", "test": "at_least", "value": 2},
    {"kind": "attribute", "key": "count", "test": "is", "value": 1},
    {"kind": "attribute", "key": "age", "test": "between", "value": [1, 3]},
    {"kind": "attribute", "key": "age", "test": "more_than", "value": 1.5},
    {"kind": "attribute", "key": "sum", "test": "at_least", "value": 10},
    {"kind": "trait", "path": ["country"], "test": "is", "value": "it"},
    {"kind": "identifier", "namespace": "email"},
)


def random_where(random: Random, depth: int = 2) -> dict[str, Any]:
    if depth and random.random() < 0.6:
        kind = random.choice(("all", "any", "not"))
        if kind == "not":
            return {"kind": "not", "of": random_where(random, depth - 1)}
        return {"kind": kind, "of": [random_where(random, depth - 1) for _ in range(random.randint(1, 3))]}
    return random.choice(LEAVES)


def random_someone(random: Random) -> Someone:
    times = {
        name: [random.randrange(1, 10) * DAY + random.choice((0, HOUR)) for _ in range(random.randrange(5))] for name in NAMES
    }
    values = {at: random.choice((b"5", b"7.5", b'"x"', b"")) for at in times["A"]}
    someone = Someone(times, values, born_at=random.randrange(3) * DAY)
    someone.seen = [
        Observation(random.randrange(2), random.randrange(1, 10) * DAY, "src", f"m{number}", random.choice((b'"IT"', b'"PL"')))
        for number in range(random.randrange(4))
    ]
    someone.names = [("email", "a@mail.example", random.randrange(1, 10) * DAY)][: random.randrange(2)]
    return someone


@given(st.integers(0, 2**32))
def test_stretches_and_changes_are_those_of_asking_all_the_time(seed: int) -> None:
    random = Random(seed)
    someone = random_someone(random)
    made = planned(someone, random_where(random))
    # Everything happens at whole hours, so this grid misses nothing.
    grid = range(0, 16 * DAY, HOUR)
    now = random.choice(grid[3 * 24 :])
    holds = {at: made.holds(someone, at) for at in grid}
    since = now
    while since - HOUR >= someone.born_at and holds[since - HOUR] is holds[now]:
        since -= HOUR
    assert made.held_since(someone, now, truth=holds[now]) == since
    flips = [at for at in grid if at > now and holds[at] is not holds[at - HOUR]]
    due = made.next_change(someone, now)
    of_itself = [at for at in flips if not happens_at(someone, at)]
    if of_itself and not any(happens_at(someone, at) for at in grid if now < at <= of_itself[0]):
        assert due is not None
        assert due <= of_itself[0]


def happens_at(someone: Someone, at: int) -> bool:
    """Whether something comes at a moment: then it is not time alone that passes."""
    things = {when for number in range(len(someone.numbers)) for when in someone.rows(number).times}
    things |= {seen.event_at for seen in someone.seen} | {first_seen_at for _, _, first_seen_at in someone.names}
    return at in things


@given(st.integers(0, 2**32))
def test_an_event_that_made_it_true_tells_the_beginning_at_once(seed: int) -> None:
    random = Random(seed)
    someone = random_someone(random)
    made = planned(someone, random_where(random))
    newest = max((at for stream in made.streams for at in someone.rows(stream).times), default=0)
    now = newest + random.randrange(3) * DAY
    if made.holds(someone, now) and now >= someone.born_at and newest >= someone.born_at:
        assert made.begun_by(someone, newest, now) == made.held_since(someone, now)


def test_a_window_leaves_its_beginning_out_and_takes_its_end_in() -> None:
    rows = Rows([10, 20, 30], [], [], base_count=2)
    assert [count_at(rows, now, 10) for now in (9, 10, 19, 20, 29, 30, 39, 40)] == [0, 1, 1, 1, 1, 1, 1, 0]
    assert [count_at(rows, now, None) for now in (9, 10, 30)] == [2, 3, 5]


def test_time_makes_a_monotone_condition_only_false() -> None:
    someone = Someone({"A": [1 * DAY, 2 * DAY]}, {})
    twice = planned(someone, {"kind": "did", "event": "A", "times": {"min": 2}, "within": "5d"})
    assert (twice.monotone, twice.timed) == (True, True)
    assert twice.next_change(someone, 2 * DAY) == 6 * DAY
    assert twice.next_change(someone, 6 * DAY) is None
    never = planned(someone, {"kind": "not", "of": {"kind": "did", "event": "A", "within": "5d"}})
    assert (never.monotone, never.timed) == (False, True)
    ever = planned(someone, {"kind": "did", "event": "A"})
    assert (ever.monotone, ever.timed) == (True, False)


def test_nothing_is_held_before_birth() -> None:
    someone = Someone({}, {}, born_at=5 * DAY)
    made = planned(someone, {"kind": "not", "of": {"kind": "did", "event": "A"}})
    assert made.held_since(someone, 9 * DAY) == 5 * DAY
    assert made.held_since(someone, 2 * DAY) == 2 * DAY


def test_values_of_attributes() -> None:
    someone = Someone({"A": [1 * DAY, 2 * DAY, 3 * DAY + HOUR]}, {1 * DAY: b"1.5", 2 * DAY: b'[2,"x",true]', 3 * DAY + HOUR: b""})
    assert value(someone, "count", 4 * DAY) == 2
    assert value(someone, "sum", 4 * DAY) == Decimal("3.5")
    assert value(someone, "last", 4 * DAY) == [2, "x", True]
    assert [value(someone, "age", at) for at in (0, 3 * DAY, 4 * DAY, 4 * DAY + HOUR)] == [None, 1, 0, 1]
    nobody = Someone({}, {})
    assert [value(nobody, key, DAY) for key in ("count", "sum", "last", "age")] == [0, 0, None, None]


@pytest.mark.parametrize(("wanted", "met"), [(2, True), ("X", True), (True, True), (3, False)])
def test_of_several_last_values_one_must_pass(wanted: object, met: bool) -> None:
    someone = Someone({"A": [DAY]}, {DAY: b'[2,"x",true]'})
    made = planned(someone, {"kind": "attribute", "key": "last", "test": "is", "value": wanted})
    assert made.holds(someone, 2 * DAY) is met


def test_equal_moments_are_ordered_by_source_and_message() -> None:
    spec = parse_attribute(ATTRIBUTES["last"])
    extras = [Extra(b"1", "src_b", "m1"), Extra(b"2", "src_a", "m9"), Extra(b"3", "src_b", "m0")]
    assert attribute_value(spec, Rows([DAY] * 3, [1, 2, 3], extras), DAY) == 1


def test_what_was_folded_away_still_counts() -> None:
    rows = Rows([5 * DAY], [1], [Extra(b"2", "src", "m1")], base_count=3, base_sum=7_000_000, base_newest=2 * DAY)
    assert attribute_value(parse_attribute(ATTRIBUTES["sum"]), rows, 6 * DAY) == 9
    age = parse_attribute(ATTRIBUTES["age"])
    assert attribute_value(age, rows._replace(times=[], extras=[]), 6 * DAY) == 4


def test_a_sum_that_does_not_fit_is_absent() -> None:
    spec = parse_attribute(ATTRIBUTES["sum"])
    rows = Rows([DAY, DAY], [1, 2], [Extra(b"6e31", "s", "a"), Extra(b"6e31", "s", "b")])
    assert attribute_value(spec, rows, DAY) is None


def test_an_attribute_condition_reads_its_stream() -> None:
    condition = parse_where({"language": 1, "where": {"kind": "attribute", "key": "sum", "test": "exists"}}, CATALOGUE)
    assert isinstance(condition, AttributeTest)
    assert reads(condition).streams == {condition.spec.stream}
