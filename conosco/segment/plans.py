"""Live segments made ready, indexed by what they read: an event touches only the segments that it can change."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from conosco.rules.condition import All, Any_, Condition, Did, Not, SegmentTest
from conosco.rules.evaluate import Observation, Plan, Rows, View, plan
from conosco.rules.explain import walk
from conosco.rules.streams import Streams
from conosco.rules.usage import reads


class SegmentPlan(NamedTuple):
    """One live segment. ``number`` stands for its key inside State; pointers run parallel to ``plan.leaves``."""

    number: int
    key: str
    purpose: str
    plan: Plan
    streams: frozenset[int]
    traits: frozenset[str]
    identifiers: bool
    pointers: tuple[str, ...]
    # Pointers of all leaves if the condition holds only where each of them does, so that nobody needs to ask which do.
    together: tuple[str, ...] | None

    def conditions(self, view: View, now: int, holding: bool) -> Sequence[str]:
        """Pointers of the leaves that hold (or, for holding False, do not), in the order in which the condition spells them.

        The condition as a whole must hold, or not, likewise.
        """
        if holding and self.together is not None:
            return self.together
        leaves = zip(self.pointers, self.plan.leaves, strict=True)
        return sorted(pointer for pointer, leaf in leaves if leaf.holds(view, now) is holding)


def ready(number: int, key: str, purpose: str, condition: Condition, streams: Streams) -> SegmentPlan:
    """Make a segment ready; its streams must be registered."""
    made = plan(condition, streams.number)
    read = reads(condition)
    spelled = {id(leaf): pointer for pointer, leaf in walk(condition)}
    return SegmentPlan(
        number,
        key,
        purpose,
        made,
        frozenset(made.streams),
        read.traits,
        bool(read.namespaces),
        tuple(spelled[id(leaf.leaf)] for leaf in made.leaves),
        tuple(sorted(spelled[id(leaf.leaf)] for leaf in made.leaves)) if _is_conjunction(condition) else None,
    )


def _is_conjunction(condition: Condition) -> bool:
    match condition:
        case All(of=parts):
            return all(map(_is_conjunction, parts))
        case SegmentTest(of=inner):
            return _is_conjunction(inner)
        case Not() | Any_():
            return False
        case _:
            return True


class _Nobody:
    """A view of which nothing is known."""

    born_at = 0

    def rows(self, stream: int) -> Rows:
        """No rows."""
        return Rows((), (), ())

    def observations(self, name: str) -> Sequence[Observation]:
        """No traits."""
        return ()

    def trait(self, name: str, at: int) -> bytes | None:
        """No trait."""
        return None

    def identifiers(self) -> Sequence[tuple[str, str, int]]:
        """No identifiers."""
        return ()


class _StreamIndex:
    """The segments that read one stream, by the counts at which an event can turn one of their conditions.

    ``windows``: (window, {count after the event: segments}); a window of None means all time.
    """

    def __init__(self, number: int, plans: Sequence[SegmentPlan]) -> None:
        always: dict[int, SegmentPlan] = {}
        turning: dict[int | None, dict[int, dict[int, SegmentPlan]]] = {}
        for made in plans:
            for leaf in made.plan.leaves:
                if leaf.stream != number:
                    continue
                if isinstance(leaf.leaf, Did):
                    counts = turning.setdefault(leaf.leaf.within, {})
                    ends = () if leaf.leaf.most is None else (leaf.leaf.most + 1,)
                    for count in (leaf.leaf.least, *ends):
                        counts.setdefault(count, {})[made.number] = made
                else:
                    always[made.number] = made
        self.all = tuple(plans)
        self.always = tuple(always.values())
        self.windows = tuple(
            (within, {count: tuple(found.values()) for count, found in counts.items()}) for within, counts in turning.items()
        )

    def turned(self, rows: Rows, event_at: int, now: int) -> Sequence[SegmentPlan]:
        """The segments that an event, just inserted into the stream, may have changed.

        An event that is the newest of its stream, and since which nothing left a window, changes an answer only where it
        brought the count to a threshold. Any other event may have moved the start of a stretch too: then all are asked.
        """
        times = rows.times
        if not times or times[-1] > event_at:
            return self.all
        turned: Sequence[SegmentPlan] = self.always
        for within, counts in self.windows:
            if within is None:
                count = len(times) + rows.base_count
            elif times[0] > now - within:
                count = len(times)
            else:
                expired = bisect_right(times, now - within)
                if expired == len(times) or bisect_right(times, event_at - within) != expired:
                    return self.all
                count = len(times) - expired
            if count in counts:
                turned = (*turned, *counts[count])
        return turned


class SegmentPlans:
    """All live segments of a workspace. Replaced as a whole when a definition changes."""

    def __init__(self, plans: Iterable[SegmentPlan]) -> None:
        self.all = tuple(sorted(plans, key=lambda made: made.number))
        self.by_number = {made.number: made for made in self.all}
        self.timed = tuple(made for made in self.all if made.plan.timed)
        # What holds of someone of whom nothing is known must be asked as soon as a person appears.
        self.newborn = tuple(made for made in self.all if made.plan.holds(_Nobody(), 0))
        self._by_trait: dict[str, tuple[SegmentPlan, ...]] = {}
        self._by_identifier = tuple(made for made in self.all if made.identifiers)
        readers: dict[int, list[SegmentPlan]] = {}
        for made in self.all:
            for stream in made.streams:
                readers.setdefault(stream, []).append(made)
            for name in made.traits:
                self._by_trait[name] = (*self._by_trait.get(name, ()), made)
        self._by_stream = {stream: _StreamIndex(stream, found) for stream, found in readers.items()}
        # What any segment reads of traits: changes of others need not be told.
        self.traits_read = frozenset(self._by_trait)

    def changed(
        self,
        view: View,
        streams: tuple[int, ...],
        traits: tuple[str, ...],
        identifiers: bool,
        event_at: int,
        now: int,
        also: Iterable[int] = (),
    ) -> Sequence[SegmentPlan]:
        """The segments that an event may have changed, and ``also`` those with these numbers: each once, in their order."""
        found: list[SegmentPlan] = []
        indexes = self._by_stream
        for stream in streams:
            if stream in indexes:
                found += indexes[stream].turned(view.rows(stream), event_at, now)
        for name in traits:
            found += self._by_trait.get(name, ())
        if identifiers:
            found += self._by_identifier
        found += [self.by_number[number] for number in also if number in self.by_number]
        return found if len(found) < 2 else _in_order(found)

    def first(self, streams: tuple[int, ...], traits: tuple[str, ...]) -> Sequence[SegmentPlan]:
        """The segments that a new person can be in, given what the first event touched."""
        found = list[SegmentPlan]((*self.newborn, *self._by_identifier))
        for stream in streams:
            index = self._by_stream.get(stream)
            found += index.all if index is not None else ()
        for name in traits:
            found += self._by_trait.get(name, ())
        return _in_order(found)


def _in_order(plans: Iterable[SegmentPlan]) -> Sequence[SegmentPlan]:
    """Each once, in order of their numbers."""
    found = {made.number: made for made in plans}
    return [found[number] for number in sorted(found)]
