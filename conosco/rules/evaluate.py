"""Evaluation of a condition for one person in memory: true at a moment, since when, and when that can next change.

Every leaf is a piecewise constant function of valid time. So three questions suffice for the whole language: does it hold
at t, at which moments can it have changed, and what is the next moment at which time alone can change it.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from conosco.model.event import read_json
from conosco.model.moment import DAY
from conosco.model.number import LIMIT, UNIT, plain
from conosco.rules.condition import (
    All,
    Any_,
    AttributeSpec,
    AttributeTest,
    Condition,
    Did,
    IdentifierTest,
    Leaf,
    Not,
    SegmentTest,
    Stream,
    TraitTest,
)
from conosco.rules.values import at_path, change_points, compile_test, number_at

# How many change points held_since walks back at most; beyond it the stretch is said to begin at the last one seen.
WALK_LIMIT: Final = 5_000


class Extra(NamedTuple):
    """What an aggregate needs of a row beside its time: the value as sent and the rest of the total order."""

    value: bytes
    source_id: str
    message_id: str


class Rows(NamedTuple):
    """A person's rows of one stream in order of time, and what was folded away before them.

    ``base_newest`` is the event time of the newest folded row (0 for none): no question about a moment before it can be answered.
    """

    times: Sequence[int]
    addresses: Sequence[int]
    extras: Sequence[Sequence[Any]]
    base_count: int = 0
    base_sum: int = 0
    base_newest: int = 0


class Observation(NamedTuple):
    """One observation of a trait; the greatest (priority, event_at, source_id, message_id) wins."""

    priority: int
    event_at: int
    source_id: str
    message_id: str
    value: bytes


def winning_value(observations: Iterable[Observation], at: int) -> bytes | None:
    """The value of the observation that wins among those up to a moment; None if there are none."""
    known = [seen for seen in observations if seen.event_at <= at]
    return max(known).value if known else None


class View(Protocol):
    """A person as conditions see it; streams go by their numbers.

    ``born_at`` is the earliest moment at which anything is known of the person, ``trait`` the value (JSON) of the
    observation that wins among those up to a moment.
    """

    @property
    def born_at(self) -> int: ...

    def rows(self, stream: int) -> Rows: ...

    def observations(self, name: str) -> Sequence[Observation]: ...

    def trait(self, name: str, at: int) -> bytes | None: ...

    def identifiers(self) -> Sequence[tuple[str, str, int]]: ...


# Gives the number of a stream that is kept live.
NumberOf = Callable[[Stream], int]


class LeafPlan(NamedTuple):
    """A leaf made ready: its three answers, and what kind of change can make it true.

    ``monotone``: more events can only make it true, never false. ``timed``: time alone can change it.
    ``stream``: the number of the stream it reads, if it reads one.
    """

    leaf: Leaf
    holds: Callable[[View, int], bool]
    changes: Callable[[View], Iterable[int]]
    next_change: Callable[[View, int], int | None]
    monotone: bool
    timed: bool
    stream: int | None = None


class Plan(NamedTuple):
    """A condition made ready for many people."""

    condition: Condition
    holds: Callable[[View, int], bool]
    leaves: tuple[LeafPlan, ...]
    monotone: bool
    timed: bool
    streams: tuple[int, ...]

    def begun_by(self, view: View, at: int, now: int) -> int:
        """As held_since, for a condition that an event at ``at`` has just made true.

        A monotone condition to whose streams the event is the newest has held from that event on; if it did not hold just
        before, that is the answer, and no change point need be looked at.
        """
        if self.monotone:
            for stream in self.streams:
                times = view.rows(stream).times
                if times and times[-1] > at:
                    break
            else:
                if not self.holds(view, at - 1):
                    return at
        return self.held_since(view, now)

    def held_since(self, view: View, now: int, truth: bool = True) -> int:
        """The moment from which the condition has held (or, for truth False, failed) without a break, as it does now."""
        born_at = view.born_at
        if now < born_at:
            return now
        points = {point for leaf in self.leaves for point in leaf.changes(view) if point <= now}
        points.add(born_at)
        since = now
        for walked, point in enumerate(sorted(points, reverse=True)):
            if point < born_at or walked >= WALK_LIMIT or self.holds(view, point) is not truth:
                break
            since = point
        return since

    def next_change(self, view: View, now: int) -> int | None:
        """The earliest moment after now at which time alone may change the answer; None if it cannot."""
        nearest = [due for leaf in self.leaves if leaf.timed and (due := leaf.next_change(view, now)) is not None]
        return min(nearest, default=None)


def plan(condition: Condition, number_of: NumberOf) -> Plan:
    """Make a condition ready. The work is done once per definition, never per person."""
    leaves: list[LeafPlan] = []
    holds = _tree(condition, leaves, number_of)
    return Plan(
        condition,
        holds,
        tuple(leaves),
        monotone=_positive(condition) and all(leaf.monotone for leaf in leaves),
        timed=any(leaf.timed for leaf in leaves),
        streams=tuple(sorted({leaf.stream for leaf in leaves if leaf.stream is not None})),
    )


def _positive(condition: Condition) -> bool:
    match condition:
        case Not():
            return False
        case All(of=parts) | Any_(of=parts):
            return all(_positive(part) for part in parts)
        case SegmentTest(of=inner):
            return _positive(inner)
        case _:
            return True


def _cost(condition: Condition) -> int:
    """Cheap parts first: streams lie in the hot row, traits in a colder one."""
    match condition:
        case Did():
            return 0
        case IdentifierTest() | AttributeTest():
            return 1
        case TraitTest():
            return 2
        case Not(of=inner) | SegmentTest(of=inner):
            return _cost(inner)
        case All(of=parts) | Any_(of=parts):
            return max((_cost(part) for part in parts), default=0)


def _tree(condition: Condition, leaves: list[LeafPlan], number_of: NumberOf) -> Callable[[View, int], bool]:
    match condition:
        case Not(of=inner):
            negated = _tree(inner, leaves, number_of)
            return lambda view, now: not negated(view, now)
        case SegmentTest(of=inner):
            return _tree(inner, leaves, number_of)
        case All(of=parts):
            return _conjunction([_tree(part, leaves, number_of) for part in sorted(parts, key=_cost)])
        case Any_(of=parts):
            return _disjunction([_tree(part, leaves, number_of) for part in sorted(parts, key=_cost)])
        case TraitTest():
            leaf = _trait(condition)
        case Did():
            leaf = _did(condition, number_of(condition.stream))
        case AttributeTest():
            leaf = _attribute(condition, number_of(condition.spec.stream))
        case IdentifierTest():
            leaf = _identifier(condition)
    leaves.append(leaf)
    return leaf.holds


def _conjunction(parts: list[Callable[[View, int], bool]]) -> Callable[[View, int], bool]:
    if len(parts) == 1:
        return parts[0]

    def holds(view: View, now: int) -> bool:
        for part in parts:
            if not part(view, now):
                return False
        return True

    return holds


def _disjunction(parts: list[Callable[[View, int], bool]]) -> Callable[[View, int], bool]:
    def holds(view: View, now: int) -> bool:
        for part in parts:
            if part(view, now):
                return True
        return False

    return holds


def count_at(rows: Rows, now: int, within: int | None) -> int:
    """How many rows lie in (now - within, now], or up to now without a window."""
    times = rows.times
    upto = len(times) if not times or times[-1] <= now else bisect_right(times, now)
    return upto + rows.base_count if within is None else upto - bisect_right(rows.times, now - within)


def _windowed_changes(rows: Rows, within: int | None) -> Iterable[int]:
    yield from rows.times
    if within is not None:
        for at in rows.times:
            yield at + within


def _next_expiry(rows: Rows, now: int, within: int) -> int | None:
    index = bisect_right(rows.times, now - within)
    return rows.times[index] + within if index < len(rows.times) else None


def _did(leaf: Did, stream: int) -> LeafPlan:
    least, most, within = leaf.least, leaf.most, leaf.within

    def holds(view: View, now: int) -> bool:
        count = count_at(view.rows(stream), now, within)
        return count >= least and (most is None or count <= most)

    def next_change(view: View, now: int) -> int | None:
        assert within is not None
        rows = view.rows(stream)
        if most is not None:
            return _next_expiry(rows, now, within)
        upto = bisect_right(rows.times, now)
        # Time alone only takes rows away: while true, it ends when the least-th newest row leaves the window.
        if least == 0 or upto < least or rows.times[upto - least] <= now - within:
            return None
        return rows.times[upto - least] + within

    return LeafPlan(
        leaf,
        holds,
        lambda view: _windowed_changes(view.rows(stream), within),
        next_change,
        monotone=most is None,
        timed=within is not None,
        stream=stream,
    )


def attribute_value(spec: AttributeSpec, rows: Rows, now: int) -> Any:
    """A computed trait's value at a moment, from the rows of its stream; None if absent; numbers are int or Decimal.

    Several values of the last event come as a list, of which a test needs one to pass.
    """
    if spec.aggregate == "count":
        return count_at(rows, now, spec.within)
    upto = bisect_right(rows.times, now)
    start = 0 if spec.within is None else bisect_right(rows.times, now - spec.within)
    if spec.aggregate == "days_since":
        if upto > start:
            return (now - rows.times[upto - 1]) // DAY
        return (now - rows.base_newest) // DAY if spec.within is None and rows.base_count else None
    if spec.aggregate == "last":
        carrying = [
            (rows.times[index], *rows.extras[index][1:], rows.extras[index][0])
            for index in range(start, upto)
            if rows.extras[index][0]
        ]
        return read_json(max(carrying)[3]) if carrying else None
    total = rows.base_sum if spec.within is None else 0
    for index in range(start, upto):
        raw = rows.extras[index][0]
        total += (number_at(read_json(raw), ()) or 0) if raw else 0
    return plain(total) if -LIMIT < total < LIMIT else None


def _attribute(leaf: AttributeTest, stream: int) -> LeafPlan:
    spec, within = leaf.spec, leaf.spec.within
    passes = compile_test(leaf.test)
    whole_days = sorted(
        {
            days
            for operand in leaf.test.operands
            if operand.kind == "number"
            for days in (operand.number // UNIT, operand.number // UNIT + 1)
        }
    )

    def holds(view: View, now: int) -> bool:
        value = attribute_value(spec, view.rows(stream), now)
        return value is not None and any(passes(each, now) for each in at_path(value, ()))

    def changes(view: View) -> Iterable[int]:
        rows = view.rows(stream)
        yield from _windowed_changes(rows, within)
        if spec.aggregate == "days_since":
            for at in rows.times:
                for days in whole_days:
                    yield at + days * DAY
        if spec.aggregate == "last":
            for extra in rows.extras:
                for value in at_path(read_json(extra[0]), ()) if extra[0] else ():
                    yield from change_points(leaf.test, value)

    def next_change(view: View, now: int) -> int | None:
        return min((point for point in changes(view) if point > now), default=None)

    growing = leaf.test.name in ("at_least", "more_than") and spec.aggregate == "count"
    timed = within is not None or spec.aggregate in ("days_since", "last")
    return LeafPlan(leaf, holds, changes, next_change, monotone=growing, timed=timed, stream=stream)


def _trait(leaf: TraitTest) -> LeafPlan:
    name, path = leaf.path[0], leaf.path[1:]
    passes = compile_test(leaf.test)

    def holds(view: View, now: int) -> bool:
        raw = view.trait(name, now)
        return raw is not None and any(passes(value, now) for value in at_path(read_json(raw), path))

    def changes(view: View) -> Iterable[int]:
        for seen in view.observations(name):
            yield seen.event_at
            for value in at_path(read_json(seen.value), path):
                yield from change_points(leaf.test, value)

    def next_change(view: View, now: int) -> int | None:
        return min((point for point in changes(view) if point > now), default=None)

    timed = leaf.test.name in ("within", "before_last")
    return LeafPlan(leaf, holds, changes, next_change, monotone=False, timed=timed)


def _identifier(leaf: IdentifierTest) -> LeafPlan:
    passes = None if leaf.test is None else compile_test(leaf.test)

    def matching(view: View, now: int) -> Iterable[int]:
        for namespace, value, first_seen_at in view.identifiers():
            if namespace == leaf.namespace and (passes is None or passes(value, now)):
                yield first_seen_at

    def holds(view: View, now: int) -> bool:
        return any(first_seen_at <= now for first_seen_at in matching(view, now))

    return LeafPlan(
        leaf, holds, lambda view: (seen for _, _, seen in view.identifiers()), lambda view, now: None, monotone=False, timed=False
    )
