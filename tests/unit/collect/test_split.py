"""The splitter takes exactly what the standard parser takes, and finds the same elements and members."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conosco.collect.split import Malformed, check_document, cut_members, elements, members

TEXTS = st.text(st.characters(exclude_categories=()), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)
SPACED = st.sampled_from([None, 0, 1])


@given(VALUES, SPACED)
def test_finds_a_whole_document(value: Any, indent: int | None) -> None:
    body = json.dumps(value, indent=indent).encode()
    assert check_document(b" \n" + body + b"\t ") == (2, 2 + len(body))


@given(st.lists(VALUES, max_size=6), SPACED)
def test_elements_are_those_of_the_standard_parser(values: list[Any], indent: int | None) -> None:
    assert [json.loads(raw) for raw in elements(json.dumps(values, indent=indent).encode())] == values


@given(st.dictionaries(TEXTS, VALUES, max_size=6), SPACED)
def test_members_are_those_of_the_standard_parser(values: dict[str, Any], indent: int | None) -> None:
    body = json.dumps(values, indent=indent).encode()
    found = [(member.name, json.loads(body[member.value_start : member.end])) for member in members(body)]
    readable = [name if name.isprintable() or _is_whole(name) else None for name in values]
    assert found == list(zip(readable, values.values(), strict=True))


def _is_whole(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


@given(VALUES, st.lists(st.tuples(st.integers(0, 200), st.sampled_from(b'[]{},:"\\0123-.e \x01tn')), min_size=1, max_size=3))
@example([0], [(1, ord("-"))])
def test_takes_what_the_standard_parser_takes(value: Any, changes: list[tuple[int, int]]) -> None:
    body = bytearray(json.dumps(value).encode())
    for place, byte in changes:
        body.insert(place % (len(body) + 1), byte)
    raw = bytes(body)
    try:
        json.loads(raw, parse_constant=_no_constant)
        expected = True
    except ValueError:
        expected = False
    try:
        check_document(raw)
        taken = True
    except Malformed:
        taken = False
    assert taken is expected


def _no_constant(name: str) -> None:
    raise ValueError(name)


@pytest.mark.parametrize(
    "raw", [b"", b" ", b"NaN", b"[Infinity]", b"[1 2]", b"{'a':1}", b'{"a":1,}', b"[1,]", b"01", b'"\x01"', b'["']
)
def test_refuses_what_is_not_json(raw: bytes) -> None:
    with pytest.raises(Malformed):
        check_document(raw)


def test_depth_knows_no_limit() -> None:
    deep = b'[{"a":' * 100_000 + b"1" + b"}]" * 100_000
    assert check_document(deep) == (0, len(deep))
    assert [len(raw) for raw in elements(b"[" + deep + b", 1]")] == [len(deep), 1]


def test_cutting_leaves_the_other_values_as_they_are() -> None:
    body = b'{"writeKey": "k", "a" : 1.50, "in": {"writeKey": "kept"}, "write\\u004bey": 2}'
    assert cut_members(body, 0, frozenset({"writeKey"})) == b'{"a" : 1.50,"in": {"writeKey": "kept"}}'
    assert cut_members(b'{"writeKey":"k"}', 0, frozenset({"writeKey"})) == b"{}"
