"""Law 4: identity is a pure function of the evidence.

In whatever order a world arrives, the stage ends with the persons, anchors and refused links that the pure function finds
in the whole set, and that a brute-force oracle finds which shares nothing with either. A rule that decides as events come,
as most products do, fails the same test.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conosco.engines.memory.state import MemoryState
from conosco.model.event import Event
from conosco.model.identifier import Identifier, IdentityRules, NamespaceRule
from conosco.ports.state import Key, Table
from conosco.ports.tables import COMPONENTS, HUB_LINKS, IDENTIFIERS, decode_row
from conosco.ports.work import Work
from conosco.resolve import stage as real_stage
from conosco.resolve.partition import Edge, Member, partition
from tests.laws.mutants.identity import PARTITION_MUTANTS, STAGE_MUTANTS, Mutant, broken_partition, broken_stage
from tests.laws.worlds import Claim, Happening, Name, Retraction, Step, World, arrival, make_tangle, make_world, true_pairs

RULES = IdentityRules()
WORLDS = 40
NEVER = 253_402_300_799_000_000
LinkKey = tuple[Name, Name, str, str]


class People(NamedTuple):
    """What identity comes to: each person's identifiers with its anchor, when each was first seen, who was refused why."""

    persons: dict[frozenset[Name], Name]
    first_seen_at: dict[Name, int]
    refused: dict[LinkKey, str]

    @property
    def groups(self) -> list[frozenset[Name]]:
        return list(self.persons)


# The evidence of a world, gathered from the whole set


class Bond(NamedTuple):
    """A link of the evidence that was not taken back."""

    left: Name
    right: Name
    kind: str
    at: int
    link_id: str = ""


class Evidence(NamedTuple):
    first_seen_at: dict[Name, int]
    bonds: list[Bond]


def gather(happenings: Sequence[Happening], claims: Sequence[Claim], retractions: Sequence[Retraction]) -> Evidence:
    """All identifiers with the time they were first seen, and all links that stand."""
    seen: dict[Name, int] = {}
    for each in happenings:
        for name in each.identifiers:
            seen[name] = min(seen.get(name, NEVER), each.event_at)
    found: dict[LinkKey, int] = {}
    mentions: dict[LinkKey, Name] = {}
    for each in happenings:
        for other in each.identifiers[1:]:
            ends = (each.identifiers[0], other)
            # Between two values of one namespace a link has no direction: it is told in the order of their texts.
            left, right = sorted(ends) if ends[0][0] == ends[1][0] else ends
            key = (left, right, "observed", "")
            found[key] = min(found.get(key, NEVER), each.event_at)
        if each.type == "alias" and each.previous_id is not None and each.previous_id.lower() not in BLOCKED:
            namespace = "user_id" if ("user_id", each.previous_id) in seen else "anonymous_id"
            previous, user = (namespace, each.previous_id), each.identifiers[0]
            if previous != user:
                key = (previous, user, "asserted" if each.may_assert else "observed", "")
                found[key] = min(found.get(key, NEVER), each.event_at)
                mentions[key] = previous
    taken_back = {retraction.which for retraction in retractions}
    pairs = {(frozenset(which[:2]), which[2]) for which in taken_back if not isinstance(which, str)}
    bonds = [Bond(*key[:3], at) for key, at in found.items() if (frozenset(key[:2]), key[2]) not in pairs]
    standing = {bond[:4] for bond in bonds}
    for key, previous in mentions.items():
        if (*key[:3], found[key]) in standing:
            seen[previous] = min(seen.get(previous, NEVER), found[key])
    made = [claim for claim in claims if claim.link_id not in taken_back]
    dates: dict[Name, int] = {}
    for claim in made:
        left, right = sorted((claim.left, claim.right))
        bonds.append(Bond(left, right, claim.kind, claim.at, claim.link_id))
        for name in (left, right):
            dates[name] = min(dates.get(name, NEVER), claim.at)
    return Evidence(dates | seen, bonds)


BLOCKED = ("", "null", "-1", "anonymous", "guest", "undefined", "00-0")


# The oracle: every link tried against every rule by counting over plain sets


class Line(NamedTuple):
    """One line of the rules, in the oracle's own words."""

    namespace: str
    unique: bool = False
    limit: int | None = None
    hub: int | None = None


DEFAULT = (Line("user_id", unique=True), Line("email", limit=4), Line("phone", limit=4), Line("anonymous_id", hub=8))
STRICT = (Line("user_id", unique=True), Line("email", limit=2, hub=2), Line("anonymous_id", hub=1))


def as_rules(lines: Sequence[Line]) -> IdentityRules:
    return IdentityRules(namespaces=tuple(NamespaceRule(**line._asdict()) for line in lines))


def texts_hash(*names: Name) -> bytes:
    spelled = sorted(f"{len(namespace)}:{namespace}{len(value)}:{value}" for namespace, value in names)
    return hashlib.blake2b("".join(spelled).encode(), digest_size=16).digest()


def brute_force(evidence: Evidence, lines: Sequence[Line] = DEFAULT) -> People:
    """Kruskal by hand: persons are sets, and each rule is counted anew for each link."""
    listed = [line.namespace for line in lines]
    strength = [*listed, *sorted({name[0] for name in evidence.first_seen_at} - set(listed))].index
    persons = [frozenset([name]) for name in evidence.first_seen_at]
    differ = [bond for bond in evidence.bonds if bond.kind == "manual_different"]
    watched: dict[Name, set[Name]] = {}
    for bond in evidence.bonds:
        if bond.kind == "observed":
            for weak, strong in ((bond.left, bond.right), (bond.right, bond.left)):
                if strength(strong[0]) < strength(weak[0]):
                    watched.setdefault(weak, set()).add(strong)
    hubs = {
        weak
        for weak, strong in watched.items()
        for line in lines
        if line.namespace == weak[0] and line.hub is not None and len(strong) > line.hub
    }

    def order(bond: Bond) -> tuple[Any, ...]:
        if bond.kind != "observed":
            return (0, 0 if bond.kind == "manual_same" else 1, 0, bond.at, texts_hash(bond.left, bond.right))
        strong, weak = sorted((strength(bond.left[0]), strength(bond.right[0])))
        return (1, strong, weak, bond.at, texts_hash(bond.left, bond.right))

    def objection(one: frozenset[Name], other: frozenset[Name], bond: Bond) -> str:
        both = one | other
        if bond.kind == "observed" and (bond.left in hubs or bond.right in hubs):
            return "hub"
        if one == other:
            return ""
        if any(apart.left in both and apart.right in both for apart in differ):
            return "manual_different"
        if bond.kind != "observed":
            return ""
        for line in lines:
            here = {name for name in one if name[0] == line.namespace}
            there = {name for name in other if name[0] == line.namespace}
            # The unique values of one side are one class: only an assertion can have brought them together.
            if here and there and line.unique:
                return "unique"
            if here and there and line.limit is not None and len(here | there) > line.limit:
                return "limit"
        return ""

    refused: dict[LinkKey, str] = {}
    for bond in sorted((bond for bond in evidence.bonds if bond.kind != "manual_different"), key=order):
        here = next(person for person in persons if bond.left in person)
        there = next(person for person in persons if bond.right in person)
        rule = objection(here, there, bond)
        if rule:
            refused[bond.left, bond.right, bond.kind, bond.link_id] = rule
        elif here != there:
            persons = [person for person in persons if person not in (here, there)] + [here | there]

    def precedence(name: Name) -> tuple[int, int, bytes]:
        return (strength(name[0]), evidence.first_seen_at[name], texts_hash(name))

    return People({person: min(person, key=precedence) for person in persons}, evidence.first_seen_at, refused)


# The pure function over the whole set, in any order of its members and links


def by_partition(evidence: Evidence, function: Callable[..., Any], seed: int, rules: IdentityRules = RULES) -> People:
    draw = random.Random(seed)
    names = list(evidence.first_seen_at)
    draw.shuffle(names)
    bonds = [
        *evidence.bonds,
        *(bond._replace(kind="taken back") for bond in draw.sample(evidence.bonds, min(5, len(evidence.bonds)))),
    ]
    draw.shuffle(bonds)
    places = {name: place for place, name in enumerate(names)}
    edges = [
        Edge(places[bond.left], places[bond.right], "manual_same", bond.at, retracted=True)
        if bond.kind == "taken back"
        else Edge(places[bond.left], places[bond.right], bond.kind, bond.at)  # type: ignore[arg-type]  # a kind of the product
        for bond in bonds
    ]
    result = function([Member(*name, evidence.first_seen_at[name]) for name in names], edges, rules)
    return People(
        {frozenset(names[place] for place in group.members): names[group.anchor] for group in result.groups},
        evidence.first_seen_at,
        {
            (bonds[place].left, bonds[place].right, bonds[place].kind, bonds[place].link_id): rule
            for place, rule in result.refused.items()
        },
    )


# The stage, fed with one step after the other


class Mirror:
    """What someone knows who only listens to resolutions: it must be what the tables say."""

    def __init__(self) -> None:
        self.persons: dict[int, tuple[int, ...]] = {}
        self.identifiers: dict[Name, tuple[int, int, int]] = {}
        self.links: dict[LinkKey, tuple[str, int | None]] = {}

    def hear(self, resolution: real_stage.Resolution) -> None:
        if resolution.regrouping is not None:
            before, after = resolution.regrouping.before, resolution.regrouping.after
            assert before != after
            assert not [person for person in before.keys() & after.keys() if before[person] == after[person]]
            for person, members in before.items():
                assert self.persons.pop(person) == members
            for person, members in after.items():
                assert person not in self.persons and person in members
                self.persons[person] = members
        for namespace, value, number, person, first_seen_at in resolution.identifier_changes:
            assert self.identifiers.get((namespace, value)) != (number, person, first_seen_at)
            self.identifiers[namespace, value] = (number, person, first_seen_at)
        for link in resolution.link_changes:
            row = link.as_row()
            key = ((link.left_namespace, link.left_value), (link.right_namespace, link.right_value), link.kind, link.link_id)
            self.links[key] = (str(row["refused_by"]), link.retracted_position)


def by_stage(steps: Sequence[Step], stage: Any = real_stage, batch: int = 7, rules: IdentityRules = RULES) -> People:
    """Resolve step by step, in micro-batches; the answer is read from the tables, and the mirror must agree."""
    state, mirror = MemoryState(), Mirror()
    for start in range(0, len(steps), batch):
        work = Work(state)
        for position, step in enumerate(steps[start : start + batch], start=start + 1):
            mirror.hear(apply(work, step, position, stage, rules))
        state.begin(1)
        work.flush()
        state.commit(start + batch)
    people = read_people(state)
    assert people.first_seen_at == {name: first for name, (_, person, first) in mirror.identifiers.items() if person}
    numbers = {number: name for name, (number, _, _) in mirror.identifiers.items()}
    assert people.persons == {
        frozenset(numbers[number] for number in members): numbers[person] for person, members in mirror.persons.items()
    }
    assert people.refused == {key: rule for key, (rule, retracted) in mirror.links.items() if rule and retracted is None}
    return people


def apply(work: Work, step: Step, position: int, stage: Any, rules: IdentityRules) -> real_stage.Resolution:
    match step:
        case Happening():
            resolution: real_stage.Resolution = stage.resolve(work, as_event(step, position), rules)
            return resolution
        case Claim(link_id, kind, left, right, at):
            resolution = stage.assert_link(work, kind, Identifier(*left), Identifier(*right), at, position, link_id, "why", rules)
            return resolution
        case Retraction(which):
            if not isinstance(which, str):
                which = (Identifier(*which[0]), Identifier(*which[1]), which[2])
            retracted: real_stage.Resolution | None = stage.retract_link(work, which, position, rules)
            assert retracted is not None
            return retracted


def as_event(each: Happening, position: int) -> Event:
    return Event(
        position=position,
        slot=0,
        message_id=each.message_id,
        source_id="src",
        type=each.type,
        user_id=dict(each.identifiers).get("user_id"),
        previous_id=each.previous_id,
        identifiers=tuple(Identifier(*name) for name in each.identifiers),
        event_at=each.event_at,
        received_at=each.event_at,
        logged_at=each.event_at,
        may_assert=each.may_assert,
    )


def read_people(state: MemoryState) -> People:
    members: dict[int, Any] = {}
    links: list[Any] = []
    identifiers = dict(read_rows(state, IDENTIFIERS))
    for (number,), component in read_rows(state, COMPONENTS):
        assert number in {member.number for member in component.members}
        links.extend(component.links)
        for member in component.members:
            members[member.number] = member
            row = identifiers[member.namespace, member.value]
            assert (row.number, row.component, row.person) == (member.number, number, member.person)
            assert bool(row.hub) == member.hub
    assert len(members) == len(identifiers)
    links.extend(row.link for _, row in read_rows(state, HUB_LINKS))
    names = {number: (member.namespace, member.value) for number, member in members.items()}
    persons: dict[int, set[Name]] = {}
    for number, member in members.items():
        if member.person:
            persons.setdefault(member.person, set()).add(names[number])
    return People(
        {frozenset(group): names[person] for person, group in persons.items()},
        {names[number]: member.first_seen_at for number, member in members.items() if member.person},
        {(names[link.left], names[link.right], link.kind, link.link_id): link.refused_by for link in links if link.refused_by},
    )


def read_rows(state: MemoryState, table: Table) -> list[tuple[Key, Any]]:
    return [(key, decode_row(table, raw)) for key, raw in state.scan(table, max_rows=1_000_000)]


# What most products do: decide as events come


def by_greedy(steps: Sequence[Step]) -> list[frozenset[Name]]:
    """Union on arrival, and refuse a union that would put two user ids into one person."""
    persons: dict[Name, frozenset[Name]] = {}

    def join(left: Name, right: Name) -> None:
        one, other = persons.setdefault(left, frozenset([left])), persons.setdefault(right, frozenset([right]))
        together = one | other
        if sum(name[0] == "user_id" for name in together) <= 1:
            persons.update(dict.fromkeys(together, together))

    for step in steps:
        if isinstance(step, Happening):
            persons.setdefault(step.identifiers[0], frozenset(step.identifiers[:1]))
            for other in step.identifiers[1:]:
                join(step.identifiers[0], other)
            if step.previous_id and step.previous_id.lower() not in BLOCKED:
                previous = ("user_id", step.previous_id)
                join(step.identifiers[0], previous if previous in persons else ("anonymous_id", step.previous_id))
    return list(set(persons.values()))


# The law


def whole(world: World) -> Evidence:
    return gather(world.happenings, world.claims, world.retractions)


def check_order_independence(world: World, resolver: Callable[[Sequence[Step]], Any], orders: int = 3) -> None:
    """In whatever order a world arrives, the same people come out."""
    outcomes = [resolver(arrival(world, seed)) for seed in range(orders)]
    for outcome in outcomes[1:]:
        assert outcome == outcomes[0]


def check_stage(world: World, stage: Any, orders: int = 3) -> None:
    expected = brute_force(whole(world))
    for seed in range(orders):
        assert by_stage(arrival(world, seed), stage, batch=1 + 6 * seed) == expected


def check_partition(world: World, function: Callable[..., Any]) -> None:
    evidence = whole(world)
    expected = brute_force(evidence)
    for seed in range(2):
        assert by_partition(evidence, function, seed) == expected


@settings(max_examples=WORLDS)
@given(st.integers(0, 10_000))
def test_identity_is_a_pure_function_of_the_evidence(seed: int) -> None:
    world = make_world(seed)
    check_stage(world, real_stage)
    check_partition(world, partition)


@settings(max_examples=150)
@given(st.integers(0, 1_000_000))
def test_the_law_holds_for_other_rules_and_for_namespaces_without_any(seed: int) -> None:
    """Few identifiers that meet often, under rules so strict that hubs link to hubs and limits bind all the time."""
    world = make_tangle(seed)
    expected = brute_force(whole(world), STRICT)
    rules = as_rules(STRICT)
    for order in range(2):
        assert by_stage(arrival(world, order), batch=1 + order, rules=rules) == expected
    assert by_partition(whole(world), partition, seed, rules) == expected


def test_worlds_are_hard() -> None:
    """Every rule refuses something, people are merged and kept apart, hubs come and go, previous ids change their meaning."""
    refusals: Counter[str] = Counter()
    for seed in range(10):
        world = make_world(seed)
        assert len(world.happenings) >= 200 and len({owner for owner in world.truth.values() if owner is not None}) >= 30
        people = brute_force(whole(world))
        refusals.update(people.refused.values())
        assert any(len(group) > 3 for group in people.groups)
        assert len({each.event_at for each in world.happenings}) < len(world.happenings)
    assert set(refusals) == {"hub", "unique", "limit", "manual_different"}


@settings(max_examples=12)
@given(st.integers(0, 10_000))
def test_what_is_taken_back_leaves_no_trace(seed: int) -> None:
    """A wrong link of any kind, later taken back, leaves exactly the people that there would be without it."""
    world = make_world(seed)
    draw = random.Random(seed)
    steps = arrival(world, seed)
    expected = by_stage(steps)
    last = max(each.event_at for each in world.happenings)
    users = [name for name in expected.first_seen_at if name[0] == "user_id"]
    devices = [name for name in expected.first_seen_at if name[0] == "anonymous_id"]
    seen_users = [name for name in users if any(name in each.identifiers for each in world.happenings)]
    known = {(each.identifiers[0], each.identifiers[-1]) for each in world.happenings}
    user, device = next(
        pair for pair in ((draw.choice(seen_users), draw.choice(devices)) for _ in range(1_000)) if pair not in known
    )
    one, other = draw.sample(seen_users, 2)
    left, right = draw.sample(users + devices, 2)
    wrong: list[tuple[Step, Retraction]] = [
        (Claim("lnk-wrong", "manual_same", left, right, last), Retraction("lnk-wrong")),
        (Happening("wrong-o", "track", last, (user, device)), Retraction((user, device, "observed"))),
        (Happening("wrong-a", "alias", last, (one,), other[1]), Retraction((other, one, "asserted"))),
    ]
    for step, retraction in wrong:
        if isinstance(step, Happening) and step.type == "alias" and _was_asserted(world, one, other):
            continue
        detour = list(steps)
        place = draw.randint(len(steps) // 2, len(steps)) if isinstance(step, Claim) else len(steps)
        detour.insert(place, step)
        detour.insert(draw.randint(place + 1, len(detour)), retraction)
        assert by_stage(detour) == expected


def _was_asserted(world: World, one: Name, other: Name) -> bool:
    return any({each.identifiers[0][1], each.previous_id} == {one[1], other[1]} for each in world.happenings)


def test_people_with_different_user_ids_are_never_merged_by_what_they_share() -> None:
    """No two user ids in one person without an assertion that leads from one to the other."""
    for seed in range(15):
        evidence = whole(make_world(seed))
        asserted = brute_force(
            evidence._replace(bonds=[bond for bond in evidence.bonds if bond.kind in ("asserted", "manual_same")])
        )
        classes = {name: group for group in asserted.groups for name in group}
        for person in by_stage(arrival(make_world(seed), seed)).groups:
            assert len({classes[name] for name in person if name[0] == "user_id"}) <= 1


def test_a_rule_that_decides_on_arrival_breaks_the_law() -> None:
    """The test above can fail: on greedy merging it does, in at least nine worlds of ten."""
    broken = 0
    for seed in range(WORLDS):
        world = make_world(seed)
        if seed < 10:
            check_order_independence(world, by_stage)
        try:
            check_order_independence(world, lambda steps: set(by_greedy(steps)))
        except AssertionError:
            broken += 1
    assert broken >= 0.9 * WORLDS


def test_people_are_found_at_least_as_well_as_on_arrival(record_property: Callable[[str, object], None]) -> None:
    ours, greedy = Counter[str](), Counter[str]()
    for seed in range(20):
        world = make_world(seed)
        steps = arrival(world, seed)
        for score, groups in ((ours, by_stage(steps).groups), (greedy, by_greedy(steps))):
            right, joined, true = true_pairs(groups, world.truth)
            score.update(right=right, joined=joined, true=true)
    scores = [2 * score["right"] / (score["joined"] + score["true"]) for score in (ours, greedy)]
    record_property("pairwise_f1_ours", round(scores[0], 4))
    record_property("pairwise_f1_greedy", round(scores[1], 4))
    print(f"pairwise F1: ours {scores[0]:.4f}, on arrival {scores[1]:.4f}")
    assert scores[0] >= scores[1]


def is_found_out(check: Callable[[World, Any], None], suspect: Any) -> bool:
    """True if the check fails in one of the worlds; a fault may also show as a row that is not where it should be."""
    for seed in range(WORLDS):
        try:
            check(make_world(seed), suspect)
        except (AssertionError, KeyError, StopIteration):
            return True
    return False


@pytest.mark.parametrize("mutant", PARTITION_MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_broken_partition_is_found_out(mutant: Mutant) -> None:
    assert is_found_out(check_partition, broken_partition(mutant))


@pytest.mark.parametrize("mutant", STAGE_MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_broken_stage_is_found_out(mutant: Mutant) -> None:
    assert is_found_out(check_stage, broken_stage(mutant))
