"""Values as live evaluation reads them and as SQL reads them: one answer, the oracle's."""

import json
from collections.abc import Iterator
from decimal import Decimal
from random import Random
from typing import Any

import duckdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conosco.model.event import read_json
from conosco.model.moment import DAY, parse_moment
from conosco.model.number import spell
from conosco.rules import condition
from conosco.rules.condition import Scalar
from conosco.rules.fragments import column, leaves_at, number, passes
from conosco.rules.values import (
    MAX_PATH_PARTS,
    at_path,
    canonical_json,
    change_points,
    compile_test,
    index_key,
    number_at,
    value_at,
)
from conosco.rules.wire import Findings, read_test
from tests.laws import oracle
from tests.unit.rules.small_worlds import START, VALUES, random_test

NOW = START + 9 * DAY
BODIES = [f'{{"v":{value}}}' for value in VALUES] + ["{}", '{"v.y":"IT"}', '{"V":"IT"}']
VALUE_PATHS = (("v",), ("v",), ("v",), ("v", "y"), ("v", "z"), ("v", "y", "z"), ("v", "0"))


def made(spec: dict[str, Any]) -> condition.Test:
    found = Findings()
    test = read_test(found, spec, "")
    assert test is not None and not found.problems
    return test


def passing(test: condition.Test, raw: str, path: tuple[str, ...], now: int = NOW) -> bool:
    check = compile_test(test)
    return any(check(value, now) for value in at_path(read_json(raw.encode()), path))


@pytest.fixture(scope="module")
def index() -> Iterator[duckdb.DuckDBPyConnection]:
    door = duckdb.connect(":memory:", config={"threads": 1})
    door.execute("CREATE TABLE bodies (number INTEGER, keys VARCHAR)")
    door.executemany("INSERT INTO bodies VALUES (?, ?)", [(at, canonical_json(raw.encode())) for at, raw in enumerate(BODIES)])
    yield door
    door.close()


def test_live_sql_and_brute_force_read_every_value_alike(index: duckdb.DuckDBPyConnection) -> None:
    verdicts = {True: 0, False: 0}

    @settings(max_examples=300, deadline=None)
    @given(st.integers(0, 2**63))
    def check(seed: int) -> None:
        random = Random(seed)
        spec, path = random_test(random), random.choice(VALUE_PATHS)
        test = made(spec)
        holds = passes(leaves_at(column("keys"), path), test, number(NOW)).sql(dialect="duckdb")
        in_sql = {row[0] for row in index.execute(f"SELECT number FROM bodies WHERE {holds}").fetchall()}
        live = {at for at, raw in enumerate(BODIES) if passing(test, raw, path)}
        events = [
            {
                "position": 1, "event_at": 0, "source_id": "s", "message_id": f"m{at}", "priority": 0, "type": "identify",
                "event": None, "home": ("user_id", str(at)), "properties": "{}", "traits": raw,
            }
            for at, raw in enumerate(BODIES)
        ]  # fmt: skip
        case = oracle.Case(events, {("user_id", str(at)): str(at) for at in range(len(BODIES))}, NOW, 1)
        expected = {int(person) for person in oracle.people(case, {"kind": "trait", "path": list(path), **oracle_spec(spec)})}
        assert live == expected
        assert in_sql == expected
        verdicts[True] += len(expected)
        verdicts[False] += len(BODIES) - len(expected)

    check()
    assert verdicts[True] > sum(verdicts.values()) / 20


def oracle_spec(spec: dict[str, Any]) -> Any:
    """The spec as a client would have sent it."""
    return json.loads(json.dumps(spec))


def test_a_list_stands_for_its_elements_at_every_level() -> None:
    value = read_json(b'[{"a":[{"b":1},{"b":[2,[3]]},{"c":4}]},{"a":{"b":null}},5]')
    assert list(at_path(value, ("a", "b"))) == [1, 2, 3, None]
    assert list(at_path(value, ("a", "0"))) == []
    assert list(at_path([], ())) == []


def test_null_and_numbers_that_do_not_fit_pass_nothing() -> None:
    for spec in (
        {"test": "is_not", "value": 1},
        {"test": "not_in", "value": ["x"]},
        {"test": "exists"},
        {"test": "less_than", "value": 1},
    ):
        for raw in ('{"v":null}', '{"v":-1e400}', "{}", '{"v":[]}'):
            assert not passing(made(spec), raw, ("v",))


def test_a_value_of_another_type_is_different() -> None:
    for raw in ('{"v":"1"}', '{"v":true}', '{"v":{}}'):
        assert passing(made({"test": "is_not", "value": 1}), raw, ("v",))
        assert not passing(made({"test": "is", "value": 1}), raw, ("v",))


def test_numbers_are_compared_exactly() -> None:
    assert passing(made({"test": "is", "value": 0.3}), '{"v":0.30000000000000000001}', ("v",))
    assert passing(made({"test": "more_than", "value": 0}), '{"v":0.0000015}', ("v",))
    assert passing(made({"test": "is", "value": 0}), '{"v":0.0000005}', ("v",))


def test_windows_are_open_at_their_start_and_closed_at_their_end() -> None:
    within, before_last = made({"test": "within", "value": "30d"}), made({"test": "before_last", "value": "30d"})
    text = "2026-01-05T10:00:00Z"
    moment = parse_moment(text)
    assert moment is not None
    assert change_points(within, text) == (moment, moment + 30 * DAY)
    assert change_points(before_last, text) == (moment + 30 * DAY,)
    assert change_points(within, "soon") == change_points(made({"test": "exists"}), text) == ()
    for now in (moment - 1, moment, moment + 30 * DAY - 1, moment + 30 * DAY):
        assert compile_test(within)(text, now) is (moment <= now < moment + 30 * DAY)
        assert compile_test(before_last)(text, now) is (now >= moment + 30 * DAY)


@given(st.integers(-(10**40), 10**40), st.integers(1, 9_999))
def test_results_change_at_change_points_only(offset: int, days: int) -> None:
    text = "2026-01-05T10:00:00Z"
    for name in ("within", "before_last"):
        test = made({"test": name, "value": f"{days}d"})
        check = compile_test(test)
        points = change_points(test, text)
        for point in points:
            assert check(text, point) is not check(text, point - 1)
        if offset not in points:
            assert check(text, offset) is check(text, offset - 1)


def test_what_events_give_to_aggregates() -> None:
    properties = read_json(b'{"a":[{"p":1.5},{"p":"x"},{"p":2},{"p":1e400},{"p":{}}],"n":null,"o":{},"t":"e\\u0301","b":true}')
    assert number_at(properties, ("a", "p")) == 3_500_000
    assert value_at(properties, ("a", "p")) == [Decimal("1.5"), "x", 2]
    assert value_at(properties, ("t",)) == "é"
    assert value_at(properties, ("b",)) is True
    for path in (("n",), ("o",), ("missing",)):
        assert value_at(properties, path) is None
        assert number_at(properties, path) is None


def test_a_long_sum_is_not_cut() -> None:
    assert number_at([99999999999999999999999999999999] * 3, ()) == 3 * 99999999999999999999999999999999 * 10**6


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**34), 10**34) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def paths_of(value: Any) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = {()}
    for element in value if isinstance(value, list) else ():
        found |= paths_of(element)
    for name, member in value.items() if isinstance(value, dict) else ():
        found |= {(name, *path) for path in paths_of(member)}
    return found


@given(json_values)
def test_the_index_has_exactly_the_values_at_every_path(value: Any) -> None:
    raw = msgspec.json.encode(value)
    index = json.loads(canonical_json(raw))
    read = read_json(raw)
    known = set()
    for path in paths_of(read):
        folded = index.get(index_key("f", path), [])
        cased = index.get(index_key("c", path), folded)
        known |= {index_key(section, path) for section in ("f", "c", "m")}
        exists = compile_test(condition.Test(name="exists"))
        values = [found for found in at_path(read, path) if exists(found, 0)]
        assert [leaf[0] for leaf in folded] == [leaf[0] for leaf in cased]
        texts = [found for found in values if isinstance(found, str)]
        for text in texts:
            assert "t" + oracle.text_key(text, False) in folded
            assert "t" + oracle.text_key(text, True) in cased
        assert sum(leaf[0] == "t" for leaf in folded) == len(texts)
        assert sum(leaf[0] == "b" for leaf in folded) == sum(isinstance(found, bool) for found in values)
        assert ("o" in folded) is any(isinstance(found, dict) for found in values)
        numbers = [found for found in values if isinstance(found, int | Decimal) and not isinstance(found, bool)]
        assert [leaf for leaf in folded if leaf[0] == "n"] == [f"n{spelled(found)}" for found in numbers]
    assert set(index) <= known


def spelled(value: Any) -> str:
    exact = oracle.exact_number(oracle.Numeral(str(value)))
    assert exact is not None
    return spell(int(exact * 10**6))


def test_no_two_paths_share_a_key() -> None:
    names = ("a.b", "a", "b", "a~1b", "a~b", "~0", "~1", "~", ".", "")
    paths = [(), *((left,) for left in names), *((left, right) for left in names for right in names)]
    assert len({index_key("f", path) for path in paths}) == len(paths)


def test_paths_longer_than_conditions_can_name_are_left_out() -> None:
    deep: Any = 5
    for _ in range(MAX_PATH_PARTS + 1):
        deep = {"a": deep}
    keys = json.loads(canonical_json(msgspec.json.encode(deep)))
    assert index_key("f", ("a",) * MAX_PATH_PARTS) in keys
    assert index_key("f", ("a",) * (MAX_PATH_PARTS + 1)) not in keys


def test_null_has_an_empty_index() -> None:
    assert canonical_json(b"null") == "{}"
    with pytest.raises(msgspec.DecodeError):
        canonical_json(b"{")


def test_operands_have_one_form_each() -> None:
    assert made({"test": "is", "value": "CAFFE\u0300"}).operands == (Scalar("text", folded="caffè", exact="CAFFÈ"),)
    assert made({"test": "in", "value": [5, 5.0, True]}).operands == (Scalar("number", 5_000_000), Scalar("boolean", 1))
    assert made({"test": "is", "value": 5, "case": True}) == made({"test": "is", "value": 5})
