"""Compiled conditions against the brute-force oracle, and against texts that try to become SQL."""

import json
from collections.abc import Iterator
from fractions import Fraction
from random import Random
from typing import Any

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from conosco.model.event import read_json
from conosco.rules.catalogue import Catalogue
from conosco.rules.compile import attribute_values, people
from conosco.rules.parse import parse_attribute, parse_where
from tests.laws import oracle
from tests.unit.rules.small_worlds import DAY, START, Store, World, random_condition, random_world

SEEDS = st.integers(0, 2**63)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    opened = Store()
    yield opened
    opened.close()


def ask(store: Store, world: World, where: Any, true_at: int, known_at: int) -> list[str]:
    catalogue = Catalogue(segments=world.segments, attributes=world.attributes)
    condition = parse_where({"language": 1, "where": where}, catalogue)
    return [row[0] for row in store.rows(people(condition, true_at=true_at, known_at=known_at).sql(dialect="duckdb"))]


def shown(text: str) -> Any:
    """A trait's JSON text as the oracle gives values."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(element) for element in value]
        return value if isinstance(value, str | bool) else Fraction(value)

    return plain(read_json(text.encode()))


def test_sql_answers_like_brute_force(store: Store) -> None:
    verdicts = {True: 0, False: 0}

    @settings(max_examples=200, deadline=None)
    @given(SEEDS)
    def check(seed: int) -> None:
        random = Random(seed)
        world = random_world(random)
        store.load(world)
        true_at, known_at = START + random.randrange(4, 15) * DAY, random.randrange(8, 21)
        case = world.case(true_at, known_at)
        where = random_condition(random, world)
        found = ask(store, world, where, true_at, known_at)
        expected = oracle.people(case, where)
        assert len(found) == len(set(found))
        assert set(found) == expected, (where, true_at, known_at)
        for person in case.everyone():
            verdicts[person in expected] += 1

    check()
    assert 0.3 <= verdicts[True] / sum(verdicts.values()) <= 0.7


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_computed_traits_are_those_of_brute_force(store: Store, seed: int) -> None:
    random = Random(seed)
    world = random_world(random)
    store.load(world)
    true_at, known_at = START + random.randrange(4, 15) * DAY, random.randrange(8, 21)
    for spec in world.attributes.values():
        select = attribute_values(parse_attribute(spec), true_at=true_at, known_at=known_at)
        found = {person: shown(value) for person, value in store.rows(select.sql(dialect="duckdb"))}
        assert found == oracle.attribute_values(world.case(true_at, known_at), spec), spec


HOSTILE = st.one_of(
    st.sampled_from(
        (
            "'; DROP TABLE store.events; --",
            "' OR '1'='1",
            "\\' OR 1=1 --",
            '"; SELECT 1; "',
            "/* x */ */",
            "${x} {{x}} :x ? $1 @x",
            "$$x$$ E'x' x'00'",
            "a\nb\r\t",
            "'",
            "''",
            "\\",
            "%",
            "\u2019\uff07",
        )
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=30),
)


def shape(sql: str) -> Any:
    """The parse tree of a question with every literal blanked."""
    tree = sqlglot.parse_one(sql, dialect="duckdb")
    return tree.transform(lambda node: exp.Literal.string("") if isinstance(node, exp.Literal) else node).sql(dialect="duckdb")


def slots(text: str) -> dict[str, Any]:
    """A condition with the same text wherever a text can stand."""
    entry = [
        {"path": [text, text], "test": name, "value": text} for name in ("is", "is_not", "contains", "starts_with", "ends_with")
    ]
    listed = {"path": [text], "test": "not_in", "value": [text, text + "x"], "case": True}
    return {
        "kind": "all",
        "of": [
            {"kind": "did", "event": text, "where": [*entry, listed, {"path": [text], "test": "exists"}]},
            {"kind": "trait", "path": [text, text], "test": "is", "value": text, "case": True},
            {"kind": "identifier", "namespace": "email", "test": "ends_with", "value": text},
            {"kind": "attribute", "key": "last", "test": "in", "value": [text]},
        ],
    }


def attribute_of(text: str) -> dict[str, Any]:
    return {"language": 1, "aggregate": "last", "event": text, "path": [text]}


def question(hostile: str) -> str:
    catalogue = Catalogue(attributes={"last": attribute_of(hostile)})
    condition = parse_where({"language": 1, "where": slots(hostile)}, catalogue)
    return people(condition, true_at=START, known_at=9).sql(dialect="duckdb")


def test_no_text_changes_the_shape_of_the_question(store: Store) -> None:
    expected = shape(question("harmless"))
    # The engine's own parser must see the same tree, too.
    expected_by_engine = engine_shape(store, question("harmless"))

    @settings(max_examples=30, deadline=None)
    @given(HOSTILE)
    def check(hostile: str) -> None:
        sql = question(hostile)
        assert shape(sql) == expected
        assert engine_shape(store, sql) == expected_by_engine
        store.rows(sql)

    check()


def engine_shape(store: Store, sql: str) -> Any:
    quoted = exp.Literal.string(sql).sql(dialect="duckdb")
    tree = json.loads(store.rows(f"SELECT json_serialize_sql({quoted})")[0][0])
    assert tree["error"] is False
    return blanked(tree)


def blanked(node: Any) -> Any:
    """A parse tree without constants and places in the text."""
    if isinstance(node, list):
        return [blanked(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    if node.get("class") == "CONSTANT":
        return "constant"
    return {name: blanked(value) for name, value in node.items() if not name.startswith("query_location")}


# Examples, for readers -----------------------------------------------------------------------------------------------------


def event_of(person: str, number: int, **parts: Any) -> dict[str, Any]:
    return {
        "position": number,
        "event_at": START + number * DAY,
        "source_id": "src_a",
        "message_id": f"m{number}",
        "priority": 0,
        "type": "track",
        "event": "Order Completed",
        "home": ("user_id", person),
        "properties": "{}",
        "traits": "{}",
        **parts,
    }


def world_of(events: list[dict[str, Any]], people: str = "abc", **attributes: Any) -> World:
    versions = [
        {
            "namespace": "user_id",
            "value": person,
            "profile_id": f"pro_{person}",
            "first_seen_at": START,
            "position": 1,
            "ordinal": at,
        }
        for at, person in enumerate(people)
    ]
    return World(events, versions, {}, attributes)


ORDERED = {"kind": "did", "event": "Order Completed"}


def answer(store: Store, world: World, where: Any, days: int = 20, known_at: int = 99) -> str:
    store.load(world)
    return "".join(sorted(person.removeprefix("pro_") for person in ask(store, world, where, START + days * DAY, known_at)))


def test_absence_is_false_and_not_is_total(store: Store) -> None:
    world = world_of([event_of("a", 1), event_of("b", 2, type="identify", traits='{"country":"PL"}')])
    is_not = {"kind": "trait", "path": ["country"], "test": "is_not", "value": "IT"}
    assert answer(store, world, is_not) == "b"
    assert answer(store, world, {"kind": "not", "of": is_not}) == "ac"
    assert answer(store, world, {"kind": "not", "of": ORDERED}) == "bc"
    assert answer(store, world, {"kind": "all", "of": []}) == "abc"
    assert answer(store, world, {"kind": "any", "of": []}) == ""


def test_an_upper_bound_alone_holds_for_who_never_did_it(store: Store) -> None:
    world = world_of([event_of("a", 1), event_of("a", 2), event_of("b", 2)])
    assert answer(store, world, {**ORDERED, "times": {"max": 1}}) == "bc"
    assert answer(store, world, {**ORDERED, "times": {"min": 1, "max": 1}}) == "b"
    assert answer(store, world, {**ORDERED, "times": {"min": 0}}) == "abc"


def test_a_window_is_open_at_its_start(store: Store) -> None:
    world = world_of([event_of("a", 5), event_of("b", 6), event_of("c", 9)])
    assert answer(store, world, {**ORDERED, "within": "3d"}, days=8) == "b"
    assert answer(store, world, {**ORDERED, "within": "3d"}, days=9) == "c"


def test_both_times_bound_what_counts(store: Store) -> None:
    world = world_of([event_of("a", 5, position=9), event_of("b", 9, position=5)])
    assert answer(store, world, ORDERED, days=8) == "a"
    assert answer(store, world, ORDERED, known_at=8) == "b"


def test_a_sum_that_does_not_fit_is_absent_and_nothing_sums_to_zero(store: Store) -> None:
    huge = '{"x":99999999999999999999999999999999}'
    events = [event_of("a", number, properties=huge) for number in range(2, 6)]
    events += [event_of("b", 6, properties=huge), event_of("b", 7, properties='{"x":-0.5}')]
    spec = {"language": 1, "aggregate": "sum", "event": "Order Completed", "path": ["x"]}
    world = world_of(events, total=spec)
    assert answer(store, world, {"kind": "attribute", "key": "total", "test": "exists"}) == "bc"
    assert answer(store, world, {"kind": "attribute", "key": "total", "test": "is", "value": 0}) == "c"
    select = attribute_values(parse_attribute(spec), true_at=START + 20 * DAY, known_at=99)
    assert dict(store.rows(select.sql(dialect="duckdb"))) == {"pro_b": "99999999999999999999999999999998.5", "pro_c": "0"}


def test_a_trait_set_to_null_is_absent_and_a_stronger_source_wins(store: Store) -> None:
    def observed(person: str, number: int, country: str, **parts: Any) -> dict[str, Any]:
        return event_of(person, number, type="identify", event=None, traits=f'{{"country":{country}}}', **parts)

    events = [observed("a", 1, '"IT"'), observed("a", 2, "null"), observed("b", 3, '"IT"', priority=1), observed("b", 4, '"PL"')]
    assert answer(store, world_of(events), {"kind": "trait", "path": ["country"], "test": "is", "value": "it"}) == "b"


def test_who_an_event_belongs_to_follows_the_identity_of_the_position(store: Store) -> None:
    world = world_of([event_of("a", 1)])
    merged = {**world.versions[0], "profile_id": "pro_b", "position": 7}
    gone = {**world.versions[0], "profile_id": "", "position": 9}
    moved = world._replace(versions=[*world.versions, merged, gone])
    assert [answer(store, moved, ORDERED, known_at=position) for position in (6, 7, 9)] == ["a", "b", ""]


def test_many_conditions_are_one_question(store: Store) -> None:
    world = world_of([event_of("a", 1, properties='{"v":7}')])
    parts = [
        {**ORDERED, "times": {"min": 1}, "where": [{"path": ["v"], "test": "at_least", "value": number}]} for number in range(8)
    ]
    assert answer(store, world, {"kind": "all", "of": parts}) == "a"
    assert answer(store, world, {"kind": "not", "of": {"kind": "any", "of": parts}}) == "bc"
