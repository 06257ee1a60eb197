"""Live segments made ready, indexed by what they read: an event touches only the segments that it can change."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from conosco.rules.condition import Condition
from conosco.rules.evaluate import LeafPlan, Observation, Plan, Rows, plan
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


class SegmentPlans:
    """All live segments of a workspace. Replaced as a whole when a definition changes."""

    def __init__(self, plans: Iterable[SegmentPlan]) -> None:
        self.all = tuple(sorted(plans))
        self.by_number = {made.number: made for made in self.all}
        self.timed = tuple(made for made in self.all if made.plan.timed)
        self._by_stream: dict[int, tuple[SegmentPlan, ...]] = {}
        self._by_trait: dict[str, tuple[SegmentPlan, ...]] = {}
        self._by_identifier = tuple(made for made in self.all if made.identifiers)
        # What holds of someone of whom nothing is known must be asked as soon as a person appears.
        self.newborn = tuple(made for made in self.all if made.plan.holds(_Nobody(), 0))
        for made in self.all:
            for stream in made.streams:
                self._by_stream[stream] = (*self._by_stream.get(stream, ()), made)
            for name in made.traits:
                self._by_trait[name] = (*self._by_trait.get(name, ()), made)

    def touched(self, streams: tuple[int, ...], traits: tuple[str, ...], identifiers: bool) -> tuple[SegmentPlan, ...]:
        """The segments that read any of these, each once, in order of their numbers."""
        if len(streams) == 1 and not traits and not identifiers:
            return self._by_stream.get(streams[0], ())
        return self._collect((), streams, traits, identifiers)

    def first(self, streams: tuple[int, ...], traits: tuple[str, ...]) -> tuple[SegmentPlan, ...]:
        """The segments that a new person can be in, given what the first event touched."""
        return self._collect(self.newborn, streams, traits, True)

    def _collect(
        self, base: tuple[SegmentPlan, ...], streams: tuple[int, ...], traits: tuple[str, ...], identifiers: bool
    ) -> tuple[SegmentPlan, ...]:
        found = {made.number: made for made in base}
        found.update((made.number, made) for stream in streams for made in self._by_stream.get(stream, ()))
        for name in traits:
            found.update((made.number, made) for made in self._by_trait.get(name, ()))
        if identifiers:
            found.update((made.number, made) for made in self._by_identifier)
        return tuple(found[number] for number in sorted(found))
