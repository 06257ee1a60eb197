"""The identity rules in the form in which they are asked: ranks, caps and hub thresholds by namespace."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol

from conosco.model.identifier import IdentityRules


class Dated(Protocol):
    """An identifier with the time it was first seen."""

    @property
    def namespace(self) -> str:
        """The namespace."""

    @property
    def value(self) -> str:
        """The value."""

    @property
    def first_seen_at(self) -> int:
        """Microseconds UTC."""


class Cap(NamedTuple):
    """At most ``most`` values of a namespace in one person."""

    namespace: str
    most: int
    refusal: Literal["unique", "limit"]


class Rulebook(NamedTuple):
    """What the rules say about each namespace. ``caps`` are in rule order, the strongest namespace first."""

    ranks: dict[str, int]
    caps: tuple[Cap, ...]
    caps_of: dict[str, tuple[int, ...]]
    hubs: dict[str, int]
    hub_min: int

    def ranks_of(self, namespaces: Iterable[str]) -> dict[str, int]:
        """The rank of each namespace, 0 the strongest; those without a rule come last, by name."""
        unknown = sorted({name for name in namespaces if name not in self.ranks})
        if not unknown:
            return self.ranks
        return self.ranks | {name: len(self.ranks) + place for place, name in enumerate(unknown)}

    def is_weaker(self, namespace: str, than: str) -> bool:
        """True if the first namespace ranks strictly behind the second."""
        last = len(self.ranks)
        here, there = self.ranks.get(namespace, last), self.ranks.get(than, last)
        return here > there or (here == there == last and namespace > than)

    def anchor(self, members: Sequence[Dated]) -> int:
        """The place of the member that names the person: strongest namespace, then seen first, then by a stable hash."""
        if len(members) == 1:
            return 0
        ranks = self.ranks_of(member.namespace for member in members)
        keys = [(ranks[member.namespace], member.first_seen_at) for member in members]
        first = min(keys)
        tied = [place for place, key in enumerate(keys) if key == first]
        return tied[0] if len(tied) == 1 else min(tied, key=lambda place: stable_hash(members[place]))


@lru_cache(maxsize=16)
def rulebook(rules: IdentityRules) -> Rulebook:
    """Read the rules once; equal rules share one rulebook."""
    caps: list[Cap] = []
    for rule in rules.namespaces:
        if rule.unique:
            caps.append(Cap(rule.namespace, 1, "unique"))
        if rule.limit is not None:
            caps.append(Cap(rule.namespace, rule.limit, "limit"))
    hubs = {rule.namespace: rule.hub for rule in rules.namespaces if rule.hub is not None}
    return Rulebook(
        ranks={rule.namespace: rank for rank, rule in enumerate(rules.namespaces)},
        caps=tuple(caps),
        caps_of={
            rule.namespace: tuple(place for place, cap in enumerate(caps) if cap.namespace == rule.namespace)
            for rule in rules.namespaces
            if rule.unique or rule.limit is not None
        },
        hubs=hubs,
        hub_min=min(hubs.values(), default=0),
    )


def stable_hash(*ends: Dated) -> bytes:
    """A hash of texts alone, the same in every process and whichever end comes first; it decides what nothing else does."""
    framed = sorted(f"{len(end.namespace)}:{end.namespace}{len(end.value)}:{end.value}" for end in ends)
    return hashlib.blake2b("".join(framed).encode("utf-8", "surrogatepass"), digest_size=16).digest()
