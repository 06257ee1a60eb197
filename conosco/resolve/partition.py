"""The partition: which identifiers are one person, as a pure function of members, links and rules.

It is Kruskal's forest under constraints. Links are taken from the most to the least trustworthy, in an order that uses
nothing of their arrival, and each joins two people unless a rule forbids it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from conosco.model.identifier import IdentityRules, LinkKind
from conosco.resolve.rulebook import Cap, rulebook, stable_hash

Refusal = Literal["blocked", "manual_different", "hub", "unique", "limit", "scored"]


class Member(NamedTuple):
    """An identifier and the time it was first seen. ``hub``: known to be one by links that are not given here."""

    namespace: str
    value: str
    first_seen_at: int
    hub: bool = False


class Edge(NamedTuple):
    """A link between two members, named by their places in the list of members."""

    left: int
    right: int
    kind: LinkKind
    first_seen_at: int
    retracted: bool = False


class Group(NamedTuple):
    """A person: the places of its members in ascending order, and of the one that anchors it."""

    anchor: int
    members: tuple[int, ...]


class Partition(NamedTuple):
    """Every member in exactly one group, and for each refused link (by place) the rule that refused it."""

    groups: list[Group]
    refused: dict[int, Refusal]
    hubs: frozenset[int]


def partition(members: Sequence[Member], links: Sequence[Edge], rules: IdentityRules) -> Partition:
    """Compute the persons from all evidence about some identifiers. Retracted links do not count.

    ``manual_different`` outranks everything; then ``manual_same``, then ``asserted`` links, which heed no other rule;
    then ``observed`` ones under unique, limit and hub. A ``scored`` link is an offer to a person who reviews it and
    joins nobody by itself. The order of members and links changes nothing but the places in the answer.
    """
    book = rulebook(rules)
    ranks_by_name = book.ranks_of(member.namespace for member in members)
    ranks = [ranks_by_name[member.namespace] for member in members]
    blocked = {place for place, member in enumerate(members) if rules.is_blocked(member.value)}
    hubs = _hubs(members, links, ranks, book.hubs)
    certain: list[int] = []
    observed: list[int] = []
    apart: list[Edge] = []
    refused: dict[int, Refusal] = {}
    for place, (left, right, kind, _, retracted) in enumerate(links):
        if retracted:
            continue
        if kind == "manual_different":
            apart.append(links[place])
        elif left in blocked or right in blocked:
            refused[place] = "blocked"
        elif kind == "scored":
            refused[place] = "scored"
        elif kind == "observed":
            if left in hubs or right in hubs:
                refused[place] = "hub"
            else:
                observed.append(place)
        else:
            certain.append(place)

    def certainty(place: int) -> tuple[bool, int]:
        return (links[place].kind != "manual_same", links[place].first_seen_at)

    def priority(place: int) -> tuple[int, int, int]:
        left, right, _, first_seen_at, _ = links[place]
        ends = (ranks[left], ranks[right])
        return (min(ends), max(ends), first_seen_at)

    def tie(place: int) -> bytes:
        return stable_hash(members[links[place].left], members[links[place].right])

    persons = _Persons(members, book.caps, book.caps_of, apart)
    for place in _ordered(certain, certainty, tie):
        if not persons.join(links[place].left, links[place].right):
            refused[place] = "manual_different"
    for place in _ordered(observed, priority, tie):
        refusal = persons.join_within_rules(links[place].left, links[place].right)
        if refusal is not None:
            refused[place] = refusal
    groups = [Group(group[book.anchor([members[place] for place in group])], tuple(group)) for group in persons.groups()]
    return Partition(groups, refused, hubs)


def _hubs(members: Sequence[Member], links: Sequence[Edge], ranks: list[int], thresholds: dict[str, int]) -> frozenset[int]:
    """The members that were observed together with more distinct stronger identifiers than their namespace allows."""
    known = {place for place, member in enumerate(members) if member.hub}
    if len(links) <= min(thresholds.values(), default=len(links)):
        return frozenset(known)
    partners: dict[int, set[int]] = {}
    for left, right, kind, _, retracted in links:
        if kind != "observed" or retracted or ranks[left] == ranks[right]:
            continue
        weak, strong = (right, left) if ranks[left] < ranks[right] else (left, right)
        if members[weak].namespace in thresholds:
            partners.setdefault(weak, set()).add(strong)
    known.update(weak for weak, strong in partners.items() if len(strong) > thresholds[members[weak].namespace])
    return frozenset(known)


def _ordered(places: list[int], key: Callable[[int], Any], tie: Callable[[int], bytes]) -> Iterable[int]:
    """Sort by the key, and by the hash only where keys are equal: hashing every link would cost more than the sort."""
    keyed = sorted((key(place), place) for place in places)
    start = 0
    while start < len(keyed):
        stop = start + 1
        while stop < len(keyed) and keyed[stop][0] == keyed[start][0]:
            stop += 1
        run = [place for _, place in keyed[start:stop]]
        yield from run if len(run) == 1 else sorted(run, key=tie)
        start = stop


class _Persons:
    """Disjoint sets of members that know what the rules count in each of them."""

    def __init__(
        self, members: Sequence[Member], caps: tuple[Cap, ...], caps_of: dict[str, tuple[int, ...]], apart: list[Edge]
    ) -> None:
        self._caps = caps
        self._parents = list(range(len(members)))
        self._sizes = [1] * len(members)
        self._counts = [dict.fromkeys(caps_of.get(member.namespace, ()), 1) for member in members]
        self._strangers: dict[int, set[int]] = {}
        for edge in apart:
            self._strangers.setdefault(edge.left, set()).add(edge.right)
            self._strangers.setdefault(edge.right, set()).add(edge.left)

    def join(self, left: int, right: int) -> bool:
        """Make two members one person unless a person said that they differ; True if they are one."""
        one, other = self._root(left), self._root(right)
        if one != other and self._are_strangers(one, other):
            return False
        if one != other:
            self._unite(one, other)
        return True

    def join_within_rules(self, left: int, right: int) -> Refusal | None:
        """Make two members one person unless a rule forbids it; then the rule.

        A rule forbids what a link would add. So values that are one person by assertion count as one where the rule is
        ``unique``, and who is over a limit by assertion may still gain what that limit does not count.
        """
        one, other = self._root(left), self._root(right)
        if one == other:
            return None
        if self._are_strangers(one, other):
            return "manual_different"
        here, there = self._counts[one], self._counts[other]
        broken = [place for place in here if place in there and here[place] + there[place] > self._caps[place].most]
        if broken:
            return self._caps[min(broken)].refusal
        self._unite(one, other)
        return None

    def groups(self) -> list[list[int]]:
        """The persons as ascending lists of members."""
        gathered: dict[int, list[int]] = {}
        for place in range(len(self._parents)):
            gathered.setdefault(self._root(place), []).append(place)
        return list(gathered.values())

    def _root(self, place: int) -> int:
        parents = self._parents
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    def _are_strangers(self, one: int, other: int) -> bool:
        if not self._strangers:
            return False
        here, there = self._strangers.get(one), self._strangers.get(other)
        if not here or not there:
            return False
        if len(there) < len(here):
            other, here = one, there
        return any(self._root(stranger) == other for stranger in here)

    def _unite(self, one: int, other: int) -> None:
        if self._sizes[one] < self._sizes[other]:
            one, other = other, one
        self._parents[other] = one
        self._sizes[one] += self._sizes[other]
        counts = self._counts[one]
        for place, count in self._counts[other].items():
            counts[place] = counts.get(place, 0) + count
        strangers = self._strangers.pop(other, None)
        if strangers:
            self._strangers.setdefault(one, set()).update(strangers)
