"""The mapping language: what it makes of bodies and rows, and what it says where it cannot."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conosco.model.event import read_json
from conosco.model.problem import Refused
from conosco.rules.mapping import (
    ABSENT,
    ELEMENTS_MAX,
    Mapped,
    Unmapped,
    apply,
    compile_mapping,
    compile_value,
)
from conosco.rules.mapping_parse import (
    CODES,
    DEPTH_MAX,
    VALUES_MAX,
    parse_event_mapping,
    parse_event_mappings,
    parse_value,
)

TRACK: dict[str, Any] = {"type": "track", "event": "Seen", "user_id": {"path": ["id"]}}


def value_of(spec: Any, root: Any) -> Any:
    return compile_value(parse_value(spec)).apply(root)


def events_of(spec: dict[str, Any] | list[dict[str, Any]], root: Any) -> list[dict[str, Any]]:
    specs = spec if isinstance(spec, list) else [spec]
    found = apply([compile_mapping(mapping) for mapping in parse_event_mappings(specs)], root)
    assert isinstance(found, Mapped), found
    return [made.event for made in found.events]


def unmapped(spec: dict[str, Any], root: Any) -> Unmapped:
    found = apply(compile_mapping(parse_event_mapping(spec)), root)
    assert isinstance(found, Unmapped), found
    return found


def problems_of(spec: Any) -> list[tuple[str, str]]:
    with pytest.raises(Refused) as refused:
        parse_event_mapping(spec)
    return [(problem.code, problem.pointer) for problem in refused.value.problems]


@pytest.mark.parametrize(
    ("spec", "root", "expected"),
    [
        ({"path": ["a", "b", 1]}, {"a": {"b": [1, 2]}}, 2),
        ({"path": ["a", "*", "b"]}, {"a": [{"b": 1}, {"c": 2}, {"b": 3}]}, [1, 3]),
        ({"path": ["a", "*", "b"]}, {"a": [{"c": 2}]}, ABSENT),
        ({"path": ["a"]}, {"a": None}, ABSENT),
        ({"path": ["a", 0]}, {"a": {"0": 1}}, ABSENT),
        ({"path": ["a"]}, [1], ABSENT),
        ({"path": ["a"], "default": None}, {}, None),
        ({"const": None}, {}, None),
        ("Order Completed", {}, "Order Completed"),
        (12, {}, 12),
        ({"template": "{first} {last.name}"}, {"first": "Anna", "last": {"name": "Nowak"}}, "Anna Nowak"),
        ({"template": "{first} {last}", "as": "trim"}, {"first": "Anna"}, "Anna"),
        ({"template": "{first} {last}", "default": "?"}, {}, "?"),
        ({"template": "{list.0}/{{id}}"}, {"list": [5]}, "5/{id}"),
        ({"template": "{a}"}, {"a": {"b": 1}}, ABSENT),
        ({"first": [{"path": ["a"]}, {"path": ["b"]}]}, {"b": 0}, 0),
        ({"path": ["a"], "map": {"paid": "Paid", "1": "One", "true": "Yes"}}, {"a": 1}, "One"),
        ({"path": ["a"], "map": {"paid": "Paid", "true": "Yes"}}, {"a": True}, "Yes"),
        ({"path": ["a"], "map": {"paid": "Paid"}}, {"a": "open"}, ABSENT),
        ({"path": ["a"], "map": {"paid": "Paid", "*": "Other"}}, {"a": "open"}, "Other"),
        ({"path": ["a"], "as": "lower", "map": {"paid": "Paid"}}, {"a": "PAID"}, "Paid"),
        ({"path": ["a"], "as": ["trim", "upper"]}, {"a": " it "}, "IT"),
        ({"object": {"a": {"path": ["x"]}, "b": {"path": ["y"]}}}, {"x": 1}, {"a": 1}),
        ({"object": {"rest": True, "b": {"path": ["x"]}}}, {"x": 1, "y": 2, "z": None}, {"y": 2, "z": None, "b": 1}),
        ({"each": ["a"], "of": {"path": ["item", "n"]}}, {"a": [{"n": 1}, {}, {"n": 2}]}, [1, 2]),
        (
            {"each": ["a"], "of": {"object": {"n": {"path": ["item"]}, "id": {"path": ["id"]}}}},
            {"a": [4], "id": 9},
            [{"n": 4, "id": 9}],
        ),
    ],
)
def test_a_value_comes_from_where_it_is_said_to(spec: Any, root: Any, expected: Any) -> None:
    assert value_of(spec, root) == expected


@pytest.mark.parametrize(
    ("after", "given_value", "expected"),
    [
        ({"as": "number"}, "1,234.50", Decimal("1234.50")),
        ({"as": "number", "decimal": ","}, "1.234,50", Decimal("1234.50")),
        ({"as": "number", "decimal": ","}, "1\u202f234", 1234),
        ({"as": "number"}, "-12", -12),
        ({"as": "number"}, "1e3", Decimal("1000")),
        ({"as": "number"}, Decimal("0.10"), Decimal("0.10")),
        ({"as": "number"}, " ", ABSENT),
        ({"as": "integer"}, "12.0", 12),
        ({"as": "integer"}, Decimal("7.00"), 7),
        ({"as": "boolean"}, "Tak", True),
        ({"as": "boolean"}, "não", False),
        ({"as": "boolean"}, 1, True),
        ({"as": "boolean"}, False, False),
        ({"as": "text"}, 12, "12"),
        ({"as": "text"}, Decimal("1.50"), "1.50"),
        ({"as": "email"}, " Anna@Example.PL ", "anna@example.pl"),
        ({"as": "email"}, "", ABSENT),
        ({"as": "phone"}, "0039 06 123 456", "+3906123456"),
        ({"as": "phone"}, "+48 600-700-800", "+48600700800"),
        ({"as": "moment"}, "2026-01-31T10:00:00+01:00", "2026-01-31T09:00:00Z"),
        ({"as": "moment", "zone": "Europe/Warsaw"}, "2026-07-31 10:00:00", "2026-07-31T08:00:00Z"),
        ({"as": "moment", "zone": "Europe/Warsaw"}, "2026-07-31T10:00:00Z", "2026-07-31T10:00:00Z"),
        ({"as": "moment", "format": "seconds"}, 1_700_000_000, "2023-11-14T22:13:20Z"),
        ({"as": "moment", "format": "milliseconds"}, "1700000000123", "2023-11-14T22:13:20.123000Z"),
        ({"as": "moment", "format": "seconds"}, Decimal("1700000000.5"), "2023-11-14T22:13:20.500000Z"),
        ({"as": "moment", "format": "%d/%m/%Y", "zone": "Europe/Rome"}, "1/2/2026", "2026-01-31T23:00:00Z"),
        ({"as": "moment", "format": "%m/%d/%y %I:%M %p"}, "12/31/25 11:59 pm", "2025-12-31T23:59:00Z"),
        ({"as": "moment", "format": "%Y%m%d%H%M%S%z"}, "20260131100000+0100", "2026-01-31T09:00:00Z"),
    ],
)
def test_conversions(after: dict[str, Any], given_value: Any, expected: Any) -> None:
    found = value_of({"path": ["x"], **after}, {"x": given_value})
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("after", "given_value", "cause"),
    [
        ({"as": "number"}, "1.234,50", "unreadable"),
        ({"as": "number"}, "12,34", "unreadable"),
        ({"as": "number"}, "12 €", "unreadable"),
        ({"as": "number"}, "1" * 65, "unreadable"),
        ({"as": "number"}, True, "wrong_type"),
        ({"as": "number"}, ".", "unreadable"),
        ({"as": "integer"}, "12.5", "unreadable"),
        ({"as": "integer"}, Decimal("1e50000"), "unreadable"),
        ({"as": "integer"}, Decimal("Infinity"), "unreadable"),
        ({"as": "boolean"}, "maybe", "unreadable"),
        ({"as": "email"}, "anna at example", "unreadable"),
        ({"as": "phone"}, "12", "unreadable"),
        ({"as": "moment"}, "31/01/2026", "unreadable"),
        ({"as": "moment"}, 1_700_000_000, "wrong_type"),
        ({"as": "moment", "format": "seconds"}, Decimal("Infinity"), "unreadable"),
        ({"as": "moment", "format": "%d/%m/%Y"}, "31/02/2026", "unreadable"),
        ({"as": "text"}, {"a": 1}, "wrong_type"),
    ],
)
def test_what_cannot_be_read_is_said_and_never_guessed(after: dict[str, Any], given_value: Any, cause: str) -> None:
    spec = {**TRACK, "properties": {"x": {"path": ["deep", "x"], **after, "default": 0}}}
    assert unmapped(spec, {"id": "1", "deep": {"x": given_value}}) == Unmapped(cause, "properties/x", "deep.x")  # type: ignore[arg-type]  # causes are listed above


def test_a_body_becomes_an_event() -> None:
    body = read_json(
        b'{"id": 12, "customer": {"id": 7, "email": " A@B.it "}, "total": "1.234,50", "note": null, "weight": 1.10,'
        b' "items": [{"sku": "a", "n": 2}]}'
    )
    spec = {
        "type": "track",
        "event": "Order Completed",
        "user_id": {"path": ["customer", "id"]},
        "message_id": {"template": "order-{id}"},
        "properties": {
            "rest": True,
            "total": {"path": ["total"], "as": "number", "decimal": ","},
            "products": {"each": ["items"], "of": {"object": {"product_id": {"path": ["item", "sku"]}}}},
        },
        "context": {"traits": {"object": {"email": {"path": ["customer", "email"], "as": "email"}}}},
        "objects": [
            {"kind": "order", "object_id": {"path": ["id"]}, "state": {"total": {"path": ["total"]}}},
            {"kind": "ticket", "object_id": {"path": ["ticket"]}},
        ],
    }
    (event,) = events_of(spec, body)
    assert event == {
        "type": "track",
        "event": "Order Completed",
        "userId": "7",
        "messageId": "order-12",
        "properties": {"note": None, "weight": Decimal("1.10"), "total": Decimal("1234.50"), "products": [{"product_id": "a"}]},
        "context": {"traits": {"email": "a@b.it"}},
        "objects": [{"kind": "order", "object_id": "12", "state": {"total": "1.234,50"}}],
    }
    # Numbers that nothing converts are spelled as they came.
    assert b"1.10" in msgspec.json.Encoder(decimal_format="number").encode(event)


def test_each_element_becomes_an_event_with_the_body_around_it() -> None:
    spec = {
        "type": "track",
        "event": {"path": ["item", "event"]},
        "user_id": {"path": ["item", "who"]},
        "properties": {"rest": True, "list": {"path": ["list_name"]}},
        "each": ["events"],
        "when": [
            {"path": ["item", "event"], "test": "is_not", "value": "noise"},
            {"path": ["kind"], "test": "is", "value": "mail"},
        ],
    }
    body = {
        "kind": "mail",
        "list_name": "news",
        "events": [{"event": "open", "who": 1, "ip": "::"}, {"event": "noise", "who": 2}, {"event": "click", "who": 3}],
    }
    found = apply(compile_mapping(parse_event_mapping(spec)), body)
    assert isinstance(found, Mapped)
    assert [(made.element, made.event["userId"], made.event["properties"]) for made in found.events] == [
        (0, "1", {"ip": "::", "list": "news"}),
        (2, "3", {"list": "news"}),
    ]
    assert [made.has_own_id for made in found.events] == [False, False]
    assert unmapped(spec, {**body, "kind": "sms"}).cause == "no_mapping_applies"
    assert unmapped(spec, {**body, "events": []}).cause == "nothing_in_list"
    assert unmapped(spec, {**body, "events": {}}) == Unmapped("wrong_type", "each", "events")
    assert unmapped(spec, {**body, "events": [{}] * (ELEMENTS_MAX + 1)}).cause == "too_many_elements"


def test_all_mappings_that_apply_are_applied_in_order_and_whole_or_not_at_all() -> None:
    paid = {**TRACK, "when": [{"path": ["status"], "test": "is", "value": "paid"}]}
    known = {"type": "identify", "user_id": {"path": ["id"]}, "traits": {"age": {"path": ["age"], "as": "integer"}}}
    assert [event["type"] for event in events_of([paid, known], {"id": 1, "status": "PAID"})] == ["track", "identify"]
    assert [event["type"] for event in events_of([paid, known], {"id": 1})] == ["identify"]
    compiled = [compile_mapping(mapping) for mapping in parse_event_mappings([paid, known])]
    assert apply(compiled, {"id": 1, "status": "paid", "age": "old"}) == Unmapped("unreadable", "traits/age", "age", 1)


@pytest.mark.parametrize(
    ("changed", "body", "expected"),
    [
        ({"user_id": {"path": ["id"]}}, {"id": {"a": 1}}, ("wrong_type", "user_id")),
        ({"user_id": {"path": ["id"]}}, {"id": True}, ("wrong_type", "user_id")),
        ({"event": {"path": ["id"]}}, {"id": 1}, ("wrong_type", "event")),
        ({"timestamp": {"path": ["id"]}}, {"id": "yesterday"}, ("unreadable", "timestamp")),
        ({"timestamp": {"path": ["id"]}}, {"id": 5}, ("wrong_type", "timestamp")),
    ],
)
def test_fields_of_an_event_must_be_what_they_are(changed: dict[str, Any], body: Any, expected: tuple[str, str]) -> None:
    found = unmapped({**TRACK, **changed}, body)
    assert (found.cause, found.field) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({**TRACK, "propertys": {}}, [("unknown_field", "/propertys")]),
        ({"event": "x"}, [("missing_field", "")]),
        ({"type": "purchase"}, [("unknown_type", "/type")]),
        ({**TRACK, "user_id": {"pat": ["id"]}}, [("unknown_field", "/user_id/pat")]),
        ({**TRACK, "user_id": {}}, [("choose_one", "/user_id")]),
        ({**TRACK, "user_id": {"path": ["a"], "const": 1}}, [("choose_one", "/user_id")]),
        ({**TRACK, "user_id": None}, [("wrong_type", "/user_id")]),
        ({**TRACK, "user_id": {"path": []}}, [("empty_list", "/user_id/path")]),
        ({**TRACK, "user_id": {"path": [0]}}, [("out_of_range", "/user_id/path/0")]),
        ({**TRACK, "user_id": {"path": ["a", -1]}}, [("out_of_range", "/user_id/path/1")]),
        ({**TRACK, "user_id": {"path": ["a"] * 17}}, [("too_many_parts", "/user_id/path")]),
        ({**TRACK, "user_id": {"template": "{a..b}"}}, [("template_unreadable", "/user_id/template")]),
        ({**TRACK, "user_id": {"template": "{a"}}, [("template_unreadable", "/user_id/template")]),
        ({**TRACK, "user_id": {"template": "{a.__class__.*}"}}, [("template_unreadable", "/user_id/template")]),
        ({**TRACK, "user_id": {"template": "x" * 1_001}}, [("too_long", "/user_id/template")]),
        ({**TRACK, "user_id": {"template": "{a}" * 33}}, [("too_many_values", "/user_id/template")]),
        ({**TRACK, "user_id": {"path": ["a"], "as": "numbr"}}, [("unknown_conversion", "/user_id/as")]),
        ({**TRACK, "user_id": {"path": ["a"], "zone": "Europe/Rome"}}, [("field_not_used", "/user_id/zone")]),
        ({**TRACK, "timestamp": {"path": ["a"], "as": "moment", "zone": "Europe/Roma"}}, [("unknown_zone", "/timestamp/zone")]),
        ({**TRACK, "timestamp": {"path": ["a"], "as": "moment", "format": "%d"}}, [("unreadable_pattern", "/timestamp/format")]),
        ({**TRACK, "properties": {"a": {"path": ["a"], "map": []}}}, [("wrong_type", "/properties/a/map")]),
        ({**TRACK, "properties": {"a": {"const": "x" * 10_001}}}, [("too_long", "/properties/a/const")]),
        ({**TRACK, "each": ["a", "*"]}, [("each_in_each", "/each")]),
        (
            {**TRACK, "each": ["a"], "properties": {"b": {"path": ["b", "*"]}}},
            [("each_in_each", "/properties/b/path")],
        ),
        (
            {**TRACK, "properties": {"a": {"each": ["a"], "of": {"each": ["b"], "of": 1}}}},
            [("each_in_each", "/properties/a/of/each")],
        ),
        ({**TRACK, "when": [{"path": ["a"], "test": "within", "value": "1d"}]}, [("field_not_used", "/when/0/test")]),
        ({**TRACK, "objects": [{"kind": "order"}]}, [("missing_field", "/objects/0")]),
        (
            {**TRACK, "properties": {str(at): 1 for at in range(VALUES_MAX + 1)}},
            [("too_many_parts_of_mapping", "/properties/497")],
        ),
    ],
)
def test_a_wrong_mapping_is_refused_with_its_place(spec: Any, expected: list[tuple[str, str]]) -> None:
    assert problems_of(spec) == expected


def test_what_lies_too_deep_is_refused() -> None:
    value: Any = 1
    for _ in range(DEPTH_MAX + 2):
        value = {"first": [value]}
    assert [code for code, _ in problems_of({**TRACK, "user_id": value})] == ["too_many_parts_of_mapping"]


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(Refused) as refused:
        parse_event_mapping({**TRACK, "propertys": {}})
    assert refused.value.problems[0].params["nearest"] == "properties"


def test_results_stay_small() -> None:
    copies = {str(at): {"path": ["big"]} for at in range(400)}
    assert unmapped({**TRACK, "properties": copies}, {"id": "1", "big": {"x": "y" * 10_000}}).cause == "too_large"
    many = {"each": ["list"], "of": {"object": {"big": {"path": ["big"]}}}}
    assert (
        unmapped({**TRACK, "properties": {"a": many}}, {"id": "1", "big": "y" * 10_000, "list": [1] * 200}).cause == "too_large"
    )


def test_every_code_is_listed() -> None:
    assert len(set(CODES)) == len(CODES)


# Properties ---------------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcd") | st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)
PATHS = st.lists(st.sampled_from(["a", "b", "c", "*", "item"]) | st.integers(0, 2), min_size=1, max_size=4).filter(
    lambda path: isinstance(path[0], str)
)
AS = st.sampled_from(["text", "number", "integer", "boolean", "email", "phone", "moment", "lower", "upper", "trim"])
LEAVES = st.one_of(
    st.builds(lambda path: {"path": path}, PATHS),
    st.builds(lambda path, kind: {"path": path, "as": kind}, PATHS, AS),
    st.builds(lambda path, default: {"path": path, "default": default}, PATHS, JSON),
    st.builds(lambda value: {"const": value}, JSON),
    st.builds(lambda path: {"path": path, "map": {"x": 1, "*": "else"}}, PATHS),
    st.just({"template": "{a} {b.c} {{x}}"}),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda of: {"first": of}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda members: {"object": members}, st.dictionaries(st.sampled_from("xyz"), inner, max_size=3)),
    ),
    max_leaves=6,
)


@given(spec=VALUES, root=JSON)
def test_no_body_breaks_a_mapping_and_the_same_body_gives_the_same_result(spec: Any, root: Any) -> None:
    made = value_of(spec, root)
    assert value_of(spec, root) == made
    if made is not ABSENT and not isinstance(made, Unmapped):
        msgspec.json.encode(made)


@given(spec=JSON)
def test_whatever_is_written_is_read_or_refused_with_words(spec: Any) -> None:
    try:
        parse_event_mapping(spec)
    except Refused as refused:
        assert refused.problems
        assert all(problem.code for problem in refused.problems)


@given(body=st.dictionaries(st.sampled_from("abcdef"), st.integers(), max_size=6), used=st.sets(st.sampled_from("abcdef")))
def test_rest_and_what_is_used_are_all_of_the_body_and_overlap_in_nothing(body: dict[str, int], used: set[str]) -> None:
    members = {f"used_{name}": {"path": [name]} for name in sorted(used)}
    found = value_of({"object": {"rest": True, **members}}, body)
    told = {} if found is ABSENT else found
    taken = {name.removeprefix("used_"): value for name, value in told.items() if name.startswith("used_")}
    rest = {name: value for name, value in told.items() if not name.startswith("used_")}
    assert {**taken, **rest} == body
    assert not set(taken) & set(rest)


@given(whole=st.integers(-(10**20), 10**20), fraction=st.text("0123456789", max_size=8), comma=st.booleans())
def test_numbers_stay_exact(whole: int, fraction: str, comma: bool) -> None:
    mark = "," if comma else "."
    text = f"{whole}{mark}{fraction}" if fraction else str(whole)
    spec = {"path": ["x"], "as": "number", "decimal": mark}
    assert value_of(spec, {"x": text}) == Decimal(f"{whole}.{fraction or '0'}")
    grouped = f"{whole:,}".replace(",", "." if comma else ",") + (mark + fraction if fraction else "")
    assert value_of(spec, {"x": grouped}) == Decimal(f"{whole}.{fraction or '0'}")
