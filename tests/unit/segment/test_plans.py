"""Which segments an event can change: never too few, and seldom too many."""

from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from conosco.rules.catalogue import Catalogue
from conosco.rules.evaluate import Observation, Rows
from conosco.rules.parse import parse_where
from conosco.rules.streams import Streams
from conosco.segment.plans import SegmentPlans, ready

DAY = 86_400_000_000
CATALOGUE = Catalogue(attributes={"sum": {"language": 1, "aggregate": "sum", "event": "A", "path": ["v"]}})
WHERES: tuple[dict[str, Any], ...] = (
    {"kind": "did", "event": "A"},
    {"kind": "did", "event": "A", "times": {"min": 3}},
    {"kind": "did", "event": "A", "times": {"min": 2, "max": 3}, "within": "3d"},
    {"kind": "not", "of": {"kind": "did", "event": "A", "within": "1d"}},
    {"kind": "all", "of": [{"kind": "did", "event": "A", "within": "5d"}, {"kind": "trait", "path": ["t"], "test": "exists"}]},
    {"kind": "attribute", "key": "sum", "test": "at_least", "value": 1},
    {"kind": "identifier", "namespace": "email"},
    {"kind": "any", "of": []},
)


class Someone:
    """A person who did A at some moments."""

    born_at = 0

    def __init__(self, times: Sequence[int]) -> None:
        self.times = sorted(times)

    def rows(self, stream: int) -> Rows:
        return Rows(self.times, [0] * len(self.times), [(b"1", "s", "m")] * len(self.times))

    def observations(self, name: str) -> Sequence[Observation]:
        return (Observation(0, 0, "s", "m", b"1"),)

    def trait(self, name: str, at: int) -> bytes | None:
        known = [seen for seen in self.observations(name) if seen.event_at <= at]
        return max(known).value if known else None

    def identifiers(self) -> Sequence[tuple[str, str, int]]:
        return (("email", "a@mail.example", 0),)


def plans_of(wheres: Sequence[dict[str, Any]]) -> SegmentPlans:
    streams = Streams(())
    made = []
    for number, where in enumerate(wheres):
        condition = parse_where({"language": 1, "where": where}, CATALOGUE)
        streams.register(condition)
        made.append(ready(number, f"s{number}", "operations", condition, streams))
    return SegmentPlans(reversed(made))


PLANS = plans_of(WHERES)
STREAMS = tuple(sorted({stream for made in PLANS.all for stream in made.streams}))


@given(st.integers(0, 2**32))
def test_whatever_an_event_changes_is_asked(seed: int) -> None:
    random = Random(seed)
    times = [random.randrange(20) * DAY // 2 for _ in range(random.randrange(6))]
    event_at = random.randrange(20) * DAY // 2
    now = max(event_at, random.randrange(20) * DAY // 2)
    before, after = Someone([at for at in times if at <= now]), Someone([*(at for at in times if at <= now), event_at])
    asked = {made.number for made in PLANS.changed(after, STREAMS, (), False, event_at, now)}
    for made in PLANS.all:
        held, holds = made.plan.holds(before, now), made.plan.holds(after, now)
        if held is not holds or (holds and made.plan.held_since(before, now) != made.plan.held_since(after, now)):
            assert made.number in asked, (made.key, times, event_at, now)


def test_the_newest_event_asks_only_where_a_count_turns() -> None:
    def asked(count: int) -> list[str]:
        someone = Someone([10 * DAY + place for place in range(count)])
        at = someone.times[-1]
        return [made.key for made in PLANS.changed(someone, STREAMS, (), False, at, at)]

    # The attribute looks at values, so it is always asked.
    assert asked(1) == ["s0", "s3", "s4", "s5"]
    assert asked(2) == ["s2", "s5"]
    assert asked(3) == ["s1", "s5"]
    assert asked(4) == ["s2", "s5"]
    assert asked(5) == ["s5"]


def test_traits_and_identifiers_ask_their_readers() -> None:
    someone = Someone([])
    assert [made.key for made in PLANS.changed(someone, (), ("t", "u"), False, 0, 0)] == ["s4"]
    assert [made.key for made in PLANS.changed(someone, (), (), True, 0, 0)] == ["s6"]
    assert PLANS.traits_read == {"t"}


def test_a_new_person_is_asked_about_what_holds_of_nobody() -> None:
    assert [made.key for made in PLANS.newborn] == ["s3"]
    assert [made.key for made in PLANS.first((), ())] == ["s3", "s6"]
    assert [made.key for made in PLANS.first(STREAMS, ())] == ["s0", "s1", "s2", "s3", "s4", "s5", "s6"]


def test_plans_are_in_order_of_their_numbers() -> None:
    assert [made.number for made in PLANS.all] == list(range(len(WHERES)))
    assert [made.key for made in PLANS.timed] == ["s2", "s3", "s4"]


def test_the_conditions_that_are_met_are_named() -> None:
    both = next(made for made in PLANS.all if made.key == "s4")
    someone = Someone([9 * DAY])
    assert both.conditions(someone, 9 * DAY, True) == ("where/of/0", "where/of/1")
    assert list(both.conditions(someone, 20 * DAY, False)) == ["where/of/0"]
    assert list(PLANS.by_number[3].conditions(Someone([]), 0, True)) == []
    assert list(PLANS.by_number[3].conditions(Someone([]), 0, False)) == ["where/of"]
