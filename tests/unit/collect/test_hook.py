"""Taking the bodies of webhooks: what becomes a slice of its own, and what is not taken."""

import json
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conosco.collect.accept import BODY_BYTES_MAX, EVENTS_MAX
from conosco.collect.hook import FORM_FIELDS_MAX, Bodies, take
from conosco.model.problem import Refused

EACH = [("data", "list")]


def json_of(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_an_object_is_one_slice_as_it_came() -> None:
    assert take(b'\xef\xbb\xbf {"a" : 1.0}\n', False, []) == Bodies((b'{"a" : 1.0}',))


def test_a_list_is_a_slice_for_each_object() -> None:
    assert take(b'[{"a":1}, 5, {"b":2}]', False, EACH) == Bodies((b'{"a":1}', b'{"b":2}'), refused_count=1)


def test_a_list_that_all_mappings_go_through_is_taken_apart() -> None:
    body = b'{"id": 1, "data": {"n": 1.50, "list": [{"a":1}, {"b": [2]}]}, "z": 0}'
    assert take(body, False, EACH * 2) == Bodies(
        (b'{"a":1}', b'{"b": [2]}'), b'{"id": 1, "data": {"n": 1.50, "list": []}, "z": 0}', ("data", "list")
    )


@pytest.mark.parametrize(
    ("body", "each"),
    [
        ({"data": {"list": [1]}}, [("data", "list"), None]),
        ({"data": {"list": [1]}}, [("data", "list"), ("other",)]),
        ({"data": {"list": []}}, EACH),
        ({"data": {"list": {}}}, EACH),
        ({"data": [1]}, EACH),
        ({"list": [1]}, EACH),
        ({"data": {"list": [1], "x": "y" * (1 << 20)}}, EACH),
    ],
)
def test_else_a_body_stays_whole(body: Any, each: list[tuple[str, ...] | None]) -> None:
    assert take(json_of(body), False, each) == Bodies((json_of(body),))


def test_of_members_of_one_name_the_last_is_meant() -> None:
    taken = take(b'{"data":{"list":[1]},"data":{"list":[2,3]}}', False, EACH)
    assert (taken.slices, taken.rest) == ((b"2", b"3"), b'{"data":{"list":[1]},"data":{"list":[]}}')


@pytest.mark.parametrize(
    ("body", "is_form", "code"),
    [
        (b" ", False, "empty_body"),
        (b"{", False, "invalid_json"),
        (b"{} {}", False, "invalid_json"),
        (b'{"a":"\xff"}', False, "invalid_json"),
        (b"12", False, "not_an_object"),
        (b"[]", False, "empty_batch"),
        (b"[" + b"1," * EVENTS_MAX + b"1]", False, "too_many_events"),
        (b'{"data":{"list":[' + b"1," * EVENTS_MAX + b"1]}}", False, "too_many_events"),
        (b"{" * 300_000, False, "body_too_large"),
        (b" " * (BODY_BYTES_MAX + 1), False, "body_too_large"),
        (b"a=%ff", True, "invalid_form"),
        (b"&".join([b"a=1"] * (FORM_FIELDS_MAX + 1)), True, "invalid_form"),
        (b"no form", True, "invalid_form"),
    ],
)
def test_what_cannot_be_taken_is_refused_whole(body: bytes, is_form: bool, code: str) -> None:
    with pytest.raises(Refused) as refused:
        take(body, is_form, EACH)
    assert refused.value.problems[0].code == code


def test_json_that_calls_itself_a_form_is_json() -> None:
    assert take(b' {"a":1}', True, []).slices == (b'{"a":1}',)
    assert take(b"[{},{}]", True, []).slices == (b"{}", b"{}")


@given(pairs=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), min_size=1, max_size=8))
def test_a_form_keeps_all_its_fields(pairs: list[tuple[str, str]]) -> None:
    pairs = [(f"n{name}", value) for name, value in pairs]
    (raw,) = take(urlencode(pairs).encode(), True, []).slices
    told = msgspec.json.decode(raw)
    flat = [(name, value) for name, values in told.items() for value in (values if isinstance(values, list) else [values])]
    assert sorted(flat) == sorted(pairs)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(around=st.dictionaries(st.sampled_from("ab"), JSON), elements=st.lists(JSON, min_size=1, max_size=5))
def test_what_is_taken_apart_is_whole_when_put_together(around: dict[str, Any], elements: list[Any]) -> None:
    body = {**around, "data": {**around, "list": elements}}
    taken = take(json_of(body), False, EACH)
    rest = json.loads(taken.rest)
    assert rest["data"]["list"] == []
    rest["data"]["list"] = [json.loads(each) for each in taken.slices]
    assert rest == body


@given(st.binary(max_size=60) | st.text('{}[],:"0a\\ ', max_size=40).map(str.encode), st.booleans())
def test_any_bytes_are_taken_or_refused(body: bytes, is_form: bool) -> None:
    try:
        taken = take(body, is_form, EACH)
    except Refused as refused:
        assert refused.status in (400, 413)
    else:
        assert all(msgspec.json.decode(each) is not Ellipsis for each in taken.slices)
