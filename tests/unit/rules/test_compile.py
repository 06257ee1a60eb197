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
        for _ in range(2):
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


@settings(max_examples=60, deadline=None)
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
    st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), min_size=1, max_size=30),
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


@settings(max_examples=60, deadline=None)
@given(HOSTILE)
def test_no_text_changes_the_shape_of_the_question(store: Store, hostile: str) -> None:
    # Whether a list names one value or two is the author's choice and may show; which characters they have may not.
    def question(text: str) -> str:
        catalogue = Catalogue(attributes={"last": attribute_of(text)})
        condition = parse_where({"language": 1, "where": slots(text)}, catalogue)
        return people(condition, true_at=START, known_at=9).sql(dialect="duckdb")

    harmless = question("harmless")
    assert shape(question(hostile)) == shape(harmless)
    # The engine's own parser sees the same tree, too.
    assert engine_shape(store, question(hostile)) == engine_shape(store, harmless)
    store.rows(question(hostile))


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
    return {name: blanked(value) for name, value in node.items() if name != "query_location"}
