"""The partition, rule by rule, on evidence small enough to read."""

from conosco.model.identifier import IdentityRules, LinkKind, NamespaceRule
from conosco.resolve.partition import Edge, Member, Partition, partition

RULES = IdentityRules()


def people(names: str, *links: str, rules: IdentityRules = RULES) -> Partition:
    """Names such as ``u:1 e:a@5`` (namespace, value, first seen); links such as ``u:1-e:a observed@3``."""
    members = [member(name) for name in names.split()]
    places = {name.split("@")[0]: place for place, name in enumerate(names.split())}
    return partition(members, [edge(link, places) for link in links], rules)


def member(name: str) -> Member:
    text, _, at = name.partition("@")
    letter, _, value = text.partition(":")
    namespace = {"u": "user_id", "e": "email", "p": "phone", "d": "anonymous_id"}.get(letter, letter)
    return Member(namespace, value, int(at or 0))


def edge(link: str, places: dict[str, int]) -> Edge:
    ends, _, rest = link.partition(" ")
    left, right = ends.split("-")
    words, _, at = rest.partition("@")
    names: dict[str, LinkKind] = {
        "same": "manual_same",
        "different": "manual_different",
        "asserted": "asserted",
        "scored": "scored",
    }
    kind = names.get(words.split()[0] if words else "", "observed")
    return Edge(places[left], places[right], kind, int(at or 0), "retracted" in words)


def groups(result: Partition) -> list[tuple[int, ...]]:
    return sorted(group.members for group in result.groups)


def test_observed_links_join() -> None:
    result = people("u:1 e:a d:x d:y", "u:1-e:a", "u:1-d:x")
    assert groups(result) == [(0, 1, 2), (3,)] and not result.refused


def test_a_shared_device_stays_with_the_user_who_had_it_first() -> None:
    for swapped in (False, True):
        links = ["u:2-d:x @5", "u:1-d:x @3"]
        result = people("u:1 u:2 d:x", *(reversed(links) if swapped else links))
        assert groups(result) == [(0, 2), (1,)]
        assert list(result.refused.values()) == ["unique"]


def test_asserted_user_ids_count_as_one_value_even_through_something_between() -> None:
    result = people("u:1 u:2 d:old d:x d:y", "u:1-d:old asserted", "d:old-u:2 asserted", "u:1-d:x", "u:2-d:y")
    assert groups(result) == [(0, 1, 2, 3, 4)]
    third = people("u:1 u:2 u:3 d:x", "u:1-u:2 asserted", "u:3-d:x @1", "u:2-d:x @2")
    assert groups(third) == [(0, 1), (2, 3)] and third.refused == {2: "unique"}


def test_a_limit_counts_distinct_values_and_forbids_only_what_it_counts() -> None:
    rules = IdentityRules(namespaces=(NamespaceRule(namespace="user_id", unique=True), NamespaceRule(namespace="email", limit=2)))
    names = "u:1 e:a e:b e:c d:x"
    observed = people(names, "u:1-e:a @1", "u:1-e:b @2", "u:1-e:c @3", "u:1-d:x @4", rules=rules)
    assert groups(observed) == [(0, 1, 2, 4), (3,)] and observed.refused == {2: "limit"}
    over = people(names, "u:1-e:a same", "u:1-e:b same", "u:1-e:c same", "u:1-d:x", rules=rules)
    assert groups(over) == [(0, 1, 2, 3, 4)] and not over.refused


def test_a_hub_stops_linking_with_one_stronger_partner_too_many() -> None:
    names = " ".join(["d:kiosk", *(f"u:{number}" for number in range(1, 10))])
    eight = people(names, *(f"u:{number}-d:kiosk @{number}" for number in range(1, 9)))
    assert groups(eight)[0] == (0, 1) and not eight.hubs
    nine = people(names, *(f"u:{number}-d:kiosk @{number}" for number in range(1, 10)))
    assert len(nine.groups) == 10 and nine.hubs == {0} and set(nine.refused.values()) == {"hub"}
    retracted = people(names, *(f"u:{number}-d:kiosk {'retracted' if number == 4 else ''}@{number}" for number in range(1, 10)))
    assert groups(retracted)[0] == (0, 1)
    asserted = people(names, *(f"u:{number}-d:kiosk @{number}" for number in range(1, 10)), "u:9-d:kiosk asserted")
    assert groups(asserted)[0] == (0, 9)


def test_a_known_hub_needs_no_links_to_be_one() -> None:
    result = partition([Member("user_id", "1", 0), Member("anonymous_id", "k", 0, hub=True)], [Edge(0, 1, "observed", 0)], RULES)
    assert result.refused == {0: "hub"}


def test_manual_different_outranks_everything() -> None:
    assert people("u:1 d:x", "u:1-d:x same", "u:1-d:x different @9").refused == {0: "manual_different"}
    through = people("u:1 e:a d:x", "u:1-e:a same", "e:a-d:x @1", "d:x-u:1 different")
    assert groups(through) == [(0, 1), (2,)] and through.refused == {1: "manual_different"}
    assert groups(people("u:1 d:x", "u:1-d:x", "u:1-d:x different retracted")) == [(0, 1)]


def test_manual_same_goes_before_what_is_asserted() -> None:
    result = people("u:1 u:2 u:3", "u:1-u:2 asserted@1", "u:2-u:3 same@2", "u:1-u:3 different@3")
    assert groups(result) == [(0,), (1, 2)] and result.refused == {0: "manual_different"}


def test_blocked_values_and_mere_offers_join_nobody() -> None:
    result = people("u:1 u:guest d:x", "u:1-u:guest same", "u:1-d:x scored")
    assert len(result.groups) == 3 and result.refused == {0: "blocked", 1: "scored"}


def test_the_strongest_namespace_anchors_then_the_earliest_then_the_hash() -> None:
    assert people("d:x@1 e:a@3 e:b@2", "e:a-d:x", "e:b-d:x").groups[0].anchor == 2
    assert people("zone:z@1 cookie:c@2 d:x@3", "cookie:c-d:x", "zone:z-d:x").groups[0].anchor == 2
    assert people("zone:z@1 cookie:c@2", "zone:z-cookie:c").groups[0].anchor == 1
    one = people("e:a e:b d:x", "e:a-d:x", "e:b-d:x").groups[0]
    other = people("e:b d:x e:a", "e:a-d:x", "e:b-d:x").groups[0]
    assert (one.anchor == 0) == (other.anchor == 2)
