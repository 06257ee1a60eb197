"""Live segments made ready, indexed by what they read: an event touches only the segments that it can change."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from conosco.rules.condition import Condition, Did
from conosco.rules.evaluate import LeafPlan, Observation, Plan, Rows, View, plan
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

    def conditions(self, holding: Iterable[LeafPlan]) -> list[str]:
        """Pointers of some of the leaves, in the order in which the condition spells them."""
        wanted = {id(leaf) for leaf in holding}
        return sorted(pointer for pointer, leaf in zip(self.pointers, self.plan.leaves, strict=True) if id(leaf) in wanted)


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
    )


class _Nobody:
    """A view of which nothing is known."""

    born_at = 0

    def rows(self, stream: int) -> Rows:
        """No rows."""
        return Rows((), (), ())

    def observations(self, name: str) -> Sequence[Observation]:
        """No traits."""
        return ()

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

    def turned(self, rows: Rows, event_at: int, now: int) -> Iterable[SegmentPlan]:
        """The segments that an event, just inserted into the stream, may have changed.

        An event that is the newest of its stream, and since which nothing left a window, changes an answer only where it
        brought the count to a threshold. Any other event may have moved the start of a stretch too: then all are asked.
        """
        times = rows.times
        if not times or times[-1] > event_at:
            return self.all
        turned: list[SegmentPlan] = list(self.always)
        for within, counts in self.windows:
            if within is None:
                count = len(times) + rows.base_count
            else:
                expired = bisect_right(times, now - within)
                if expired == len(times) or bisect_right(times, event_at - within) != expired:
                    return self.all
                count = len(times) - expired
            turned.extend(counts.get(count, ()))
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

    @property
    def reads_traits(self) -> bool:
        """Whether any segment reads traits, so that they are worth reading ahead."""
        return bool(self._by_trait)

    def changed(
        self,
        view: View,
        streams: tuple[int, ...],
        traits: tuple[str, ...],
        identifiers: bool,
        event_at: int,
        now: int,
    ) -> tuple[SegmentPlan, ...]:
        """The segments that an event may have changed, each once, in order of their numbers."""
        found: dict[int, SegmentPlan] = {}
        for stream in streams:
            index = self._by_stream.get(stream)
            if index is not None:
                found.update((made.number, made) for made in index.turned(view.rows(stream), event_at, now))
        for name in traits:
            found.update((made.number, made) for made in self._by_trait.get(name, ()))
        if identifiers:
            found.update((made.number, made) for made in self._by_identifier)
        return tuple(found[number] for number in sorted(found)) if len(found) > 1 else tuple(found.values())

    def first(self, streams: tuple[int, ...], traits: tuple[str, ...]) -> tuple[SegmentPlan, ...]:
        """The segments that a new person can be in, given what the first event touched."""
        found = {made.number: made for made in (*self.newborn, *self._by_identifier)}
        for stream in streams:
            index = self._by_stream.get(stream)
            found.update((made.number, made) for made in (index.all if index is not None else ()))
        for name in traits:
            found.update((made.number, made) for made in self._by_trait.get(name, ()))
        return tuple(found[number] for number in sorted(found))
