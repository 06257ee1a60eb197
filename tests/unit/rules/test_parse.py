"""Parsing: what is understood, and what is refused, where and with which hint."""

from typing import Any, get_args

import pytest

from conosco.model.problem import Problem, Refused
from conosco.rules import condition
from conosco.rules.catalogue import Catalogue
from conosco.rules.condition import All, AttributeSpec, Did, Filter, IdentifierTest, Not, Scalar, SegmentTest, Stream, TraitTest
from conosco.rules.messages import EXPECTED, MESSAGES, say
from conosco.rules.parse import AGGREGATES, CODES, LATER_AGGREGATES, LATER_KINDS, parse_attribute, parse_where

DAY = 86_400_000_000
ORDERED = {"kind": "did", "event": "Order Completed"}
TRAIT = {"kind": "trait", "path": ["country"], "test": "is", "value": "IT"}
SPEND = {"language": 1, "aggregate": "sum", "event": "Order Completed", "path": ["revenue"], "within": "30d"}
IS_IT = condition.Test(name="is", operands=(Scalar("text", folded="it", exact="IT"),))


def parsed(where: Any, catalogue: Catalogue = Catalogue(), key: str | None = None) -> condition.Condition:  # noqa: B008  # frozen
    return parse_where({"language": 1, "where": where}, catalogue, key=key)


def problems(where: Any, catalogue: Catalogue = Catalogue(), key: str | None = None) -> list[tuple[str, str]]:  # noqa: B008  # frozen
    with pytest.raises(Refused) as refused:
        parsed(where, catalogue, key)
    for problem in refused.value.problems:
        assert problem.code in CODES
        assert say(problem)
    return [(problem.code, problem.pointer) for problem in refused.value.problems]


def the_problem(where: Any, catalogue: Catalogue = Catalogue()) -> Problem:  # noqa: B008  # frozen
    with pytest.raises(Refused) as refused:
        parsed(where, catalogue)
    (problem,) = refused.value.problems
    return problem


def test_the_example_of_the_design() -> None:
    filters = [{"path": ["revenue"], "test": "at_least", "value": 50}]
    where = {
        "kind": "all",
        "of": [
            TRAIT,
            {**ORDERED, "times": {"min": 2}, "within": "30d", "where": filters},
            {"kind": "not", "of": {"kind": "did", "event": "Email Opened", "within": "7d"}},
            {"kind": "identifier", "namespace": "email"},
        ],
    }
    at_least = condition.Test(name="at_least", operands=(Scalar("number", 50_000_000),))
    orders = Stream(type="track", event="Order Completed", where=(Filter(path=("revenue",), test=at_least),))
    opened = Did(stream=Stream(type="track", event="Email Opened"), within=7 * DAY)
    assert parsed(where) == All(
        of=(
            TraitTest(path=("country",), test=IS_IT),
            Did(stream=orders, least=2, within=30 * DAY),
            Not(of=opened),
            IdentifierTest(namespace="email"),
        )
    )


def test_how_often_is_at_least_once_unless_said() -> None:
    bounds = {(): (1, None), ("max",): (0, 3), ("min",): (3, None), ("min", "max"): (3, 3)}
    for names, (least, most) in bounds.items():
        found = parsed({**ORDERED, "times": dict.fromkeys(names, 3)})
        assert isinstance(found, Did)
        assert (found.least, found.most) == (least, most)


def test_pages_and_screens_need_no_name() -> None:
    assert parsed({"kind": "did", "type": "page"}) == Did(stream=Stream(type="page", event=None))
    assert parsed({"kind": "did", "type": "screen", "event": "Home"}) == Did(stream=Stream(type="screen", event="Home"))
    assert parsed({"kind": "did", "type": "identify"}) == Did(stream=Stream(type="identify", event=None))
    assert problems({"kind": "did"}) == [("missing_field", "/where")]
    # Such calls have neither name nor properties: the condition could never hold.
    assert problems({"kind": "did", "type": "group", "event": "x", "where": []}) == [
        ("field_not_used", "/where/event"),
        ("field_not_used", "/where/where"),
    ]


def test_everyone_is_a_group_of_nothing() -> None:
    assert parsed({"kind": "all", "of": []}) == All(of=())


def test_references_are_inlined() -> None:
    catalogue = Catalogue(segments={"italians": {"language": 1, "where": TRAIT}}, attributes={"spend": SPEND})
    assert parsed({"kind": "segment", "key": "italians"}, catalogue) == SegmentTest(
        key="italians", of=TraitTest(path=("country",), test=IS_IT)
    )
    spend = parsed({"kind": "attribute", "key": "spend", "test": "more_than", "value": 100}, catalogue)
    assert isinstance(spend, condition.AttributeTest)
    assert spend.spec == parse_attribute(SPEND)


def test_a_ring_of_segments_is_named() -> None:
    catalogue = Catalogue(
        segments={
            name: {"language": 1, "where": {"kind": "not", "of": {"kind": "segment", "key": other}}}
            for name, other in (("a", "b"), ("b", "c"), ("c", "a"))
        }
    )
    problem = the_problem({"kind": "segment", "key": "a"}, catalogue)
    assert (problem.code, problem.params, problem.pointer) == ("reference_cycle", {"ring": "a > b > c > a"}, "/where/key")
    # The definition that is being saved is in the ring, although the catalogue has its older form.
    older = Catalogue(
        segments={"a": {"language": 1, "where": TRAIT}, "b": {"language": 1, "where": {"kind": "segment", "key": "a"}}}
    )
    assert problems({"kind": "segment", "key": "b"}, older, key="a") == [("reference_cycle", "/where/key")]
    assert problems({"kind": "segment", "key": "a"}, older, key="a") == [("reference_cycle", "/where/key")]


def test_a_reference_with_errors_is_one_problem_here() -> None:
    catalogue = Catalogue(segments={"bad": {"language": 1, "where": {"kind": "trait"}}}, attributes={"bad": {"language": 1}})
    assert problems({"kind": "segment", "key": "bad"}, catalogue) == [("broken_reference", "/where/key")]
    assert problems({"kind": "attribute", "key": "bad", "test": "exists"}, catalogue) == [("broken_reference", "/where/key")]


def test_every_problem_is_found_in_one_pass() -> None:
    where = {
        "kind": "any",
        "of": [
            {"kind": "trait", "path": [], "test": "is", "value": "x"},
            {"kind": "trait", "path": ["a"], "tests": "is"},
            {"kind": "not", "of": {"kind": "did", "event": "", "within": "soon", "times": {"min": 3, "max": 2}}},
            {"kind": "did", "event": "a/b", "where": [{"path": ["p~"], "test": "at_leest", "value": 1}]},
            5,
        ],
    }
    assert problems(where) == [
        ("empty_list", "/where/of/0/path"),
        ("unknown_field", "/where/of/1/tests"),
        ("missing_field", "/where/of/1"),
        ("empty_text", "/where/of/2/of/event"),
        ("bounds_reversed", "/where/of/2/of/times"),
        ("unreadable_duration", "/where/of/2/of/within"),
        ("unknown_test", "/where/of/3/where/0/test"),
        ("wrong_type", "/where/of/4"),
    ]


@pytest.mark.parametrize(
    ("where", "code", "nearest"),
    [
        ({"kind": "tait", "path": ["a"], "test": "exists"}, "unknown_kind", "trait"),
        ({"kind": "trait", "path": ["a"], "test": "contain", "value": "x"}, "unknown_test", "contains"),
        ({**ORDERED, "withn": "3d"}, "unknown_field", "within"),
        ({"kind": "did", "type": "pages"}, "unknown_type", "page"),
        ({"kind": "segment", "key": "newsleter"}, "unknown_segment", "newsletter"),
        ({"kind": "attribute", "key": "spent", "test": "exists"}, "unknown_attribute", "spend"),
        ({"kind": "qqqqqq"}, "unknown_kind", None),
    ],
)
def test_unknown_words_come_with_the_nearest_known_one(where: Any, code: str, nearest: str | None) -> None:
    catalogue = Catalogue(segments={"newsletter": {"language": 1, "where": TRAIT}}, attributes={"spend": SPEND})
    problem = the_problem(where, catalogue)
    assert problem.code == code
    assert problem.params.get("nearest") == nearest
    assert (f"Did you mean {nearest}?" in say(problem)) is (nearest is not None)


def test_what_is_not_built_yet_is_refused_by_name() -> None:
    for kind in LATER_KINDS:
        problem = the_problem({"kind": kind, "whatever": 1})
        assert (problem.code, problem.params, problem.pointer) == ("not_built_yet", {"kind": kind}, "/where/kind")
    assert the_problem({**ORDERED, "between": ["2026-01-01", "2026-02-01"]}).params == {"kind": "between"}
    assert the_problem({**ORDERED, "before_last": "181d"}).params == {"kind": "before_last"}
    assert the_problem({**ORDERED, "within": {"calendar": "day", "zone": "Europe/Rome"}}).params == {"kind": "calendar"}
    for aggregate in LATER_AGGREGATES:
        with pytest.raises(Refused) as refused:
            parse_attribute({**SPEND, "aggregate": aggregate})
        assert refused.value.problems == (Problem(code="not_built_yet", params={"kind": aggregate}, pointer="/aggregate"),)


@pytest.mark.parametrize(
    ("test", "value", "code"),
    [
        ("is", None, "missing_field"),
        ("is", ["x"], "wrong_type"),
        ("is", 10**33, "number_does_not_fit"),
        ("is", float("nan"), "number_does_not_fit"),
        ("is", "x" * 1001, "too_long"),
        ("is", "a\x00b", "unreadable_text"),
        ("is", "\ud800", "unreadable_text"),
        ("in", "x", "wrong_type"),
        ("in", [], "empty_list"),
        ("in", [None], "wrong_type"),
        ("in", list(range(10_001)), "too_many_values"),
        ("contains", 5, "wrong_type"),
        ("contains", "", "empty_text"),
        ("more_than", True, "wrong_type"),
        ("more_than", "ten", "unreadable_moment"),
        ("between", [1], "wrong_type"),
        ("between", [2, 1], "bounds_reversed"),
        ("between", [1, "2026-01-01"], "mixed_bounds"),
        ("before", 5, "wrong_type"),
        ("before", "yesterday", "unreadable_moment"),
        ("within", "30", "unreadable_duration"),
        ("within", "0d", "unreadable_duration"),
        ("before_last", 30, "wrong_type"),
        ("matches", "(", "pattern_unreadable"),
        ("matches", "a{2000}", "pattern_unreadable"),
        ("matches", "x" * 501, "too_long"),
        ("exists", 1, "field_not_used"),
    ],
)
def test_operands_are_checked(test: str, value: Any, code: str) -> None:
    assert [found for found, _ in problems({"kind": "trait", "path": ["a"], "test": test, "value": value})] == [code]


@pytest.mark.parametrize(
    "pattern",
    [
        "(?i)x",
        "x(?=y)",
        "(?<!y)x",
        "(?P<n>x)\\1",
        "(?<n>x)",
        "(x)\\1",
        "[[:alpha:](?i)]",
        "a\\Qb",
        "\\C",
        "(?s:.)",
        "(?-i:x)",
        "\\k<n>",
    ],
)
def test_patterns_that_engines_read_differently_are_refused(pattern: str) -> None:
    where = {"kind": "trait", "path": ["a"], "test": "matches", "value": pattern}
    assert problems(where) == [("pattern_refused", "/where/value")]


@pytest.mark.parametrize("pattern", ["(?:a|b)+$", "\\(?i", "[(?]x", "[]()?]", "[^](?]", "\\d{3}-\\w+", "x\\\\y", "\\p{L}+"])
def test_patterns_without_such_parts_are_taken(pattern: str) -> None:
    parsed({"kind": "trait", "path": ["a"], "test": "matches", "value": pattern})


def test_a_flag_that_means_nothing_is_refused() -> None:
    assert problems({**TRAIT, "test": "more_than", "value": 5, "case": True}) == [("field_not_used", "/where/case")]
    assert problems({**TRAIT, "case": "yes"}) == [("wrong_type", "/where/case")]
    assert problems({"kind": "identifier", "namespace": "email", "value": "x"}) == [("missing_field", "/where")]
    assert problems({"kind": "identifier", "namespace": "E-Mail"}) == [("unknown_namespace", "/where/namespace")]


def nested(levels: int) -> Any:
    where: Any = TRAIT
    for _ in range(levels):
        where = {"kind": "not", "of": where}
    return where


def test_limits() -> None:
    parsed(nested(31))
    assert [code for code, _ in problems(nested(32))] == ["too_deep"]
    parsed({"kind": "all", "of": [TRAIT] * 500})
    assert problems({"kind": "all", "of": [TRAIT] * 501}) == [("too_many_conditions", "/where/of/500")]
    assert problems({"kind": "all", "of": [{"kind": "any", "of": []}] * 501}) == [("too_many_conditions", "/where/of/500")]
    assert problems({**ORDERED, "where": [{"path": ["a"], "test": "exists"}] * 51}) == [("too_many_filters", "/where/where")]
    assert problems({**TRAIT, "path": ["a"] * 17}) == [("too_many_parts", "/where/path")]
    assert problems({**ORDERED, "times": {"min": 10**9}}) == [("out_of_range", "/where/times/min")]
    assert problems({**ORDERED, "times": {"min": True}}) == [("wrong_type", "/where/times/min")]


def test_segments_that_multiply_are_stopped_early() -> None:
    segments: dict[str, dict[str, Any]] = {"s0": {"language": 1, "where": {"kind": "all", "of": []}}}
    for number in range(1, 25):
        reference = {"kind": "segment", "key": f"s{number - 1}"}
        segments[f"s{number}"] = {"language": 1, "where": {"kind": "all", "of": [reference, reference]}}
    found = problems({"kind": "segment", "key": "s24"}, Catalogue(segments=segments))
    assert [code for code, _ in found] in (["too_many_conditions"], ["too_deep"])
    # Referring costs nothing by itself: what is referred to is counted.
    wide = Catalogue(segments={"wide": {"language": 1, "where": {"kind": "all", "of": [TRAIT] * 250}}})
    parsed({"kind": "any", "of": [{"kind": "segment", "key": "wide"}] * 2}, wide)
    assert problems({"kind": "any", "of": [{"kind": "segment", "key": "wide"}] * 3}, wide) == [
        ("too_many_conditions", "/where/of/2")
    ]


def test_the_envelope_is_checked() -> None:
    for spec, code in (
        ({}, "missing_field"),
        ([], "wrong_type"),
        ({"language": 2, "where": TRAIT}, "unknown_language"),
        ({"language": True, "where": TRAIT}, "unknown_language"),
        ({"language": 1, "where": TRAIT, "x": 1}, "unknown_field"),
        ({"language": 1, "where": {}}, "missing_field"),
    ):
        with pytest.raises(Refused) as refused:
            parse_where(spec, Catalogue())
        assert refused.value.problems[0].code == code


def test_attributes() -> None:
    assert parse_attribute(SPEND) == AttributeSpec(
        aggregate="sum", stream=Stream(type="track", event="Order Completed", value=("revenue",)), within=30 * DAY
    )
    # Counting looks at no value, so that such attributes share their stream with conditions.
    counted = parse_attribute({**SPEND, "aggregate": "count"})
    assert counted.stream == Stream(type="track", event="Order Completed")
    for spec, found in (
        ({**SPEND, "aggregate": "summ"}, ("unknown_aggregate", "/aggregate")),
        ({"language": 1, "aggregate": "last", "event": "x"}, ("missing_field", "")),
        ({**SPEND, "test": 1}, ("unknown_field", "/test")),
        ({"language": 1, "aggregate": "sum", "type": "identify", "path": ["a"]}, ("field_not_used", "/path")),
        (5, ("wrong_type", "")),
    ):
        with pytest.raises(Refused) as refused:
            parse_attribute(spec)
        assert (refused.value.problems[0].code, refused.value.problems[0].pointer) == found


def test_every_code_has_words() -> None:
    assert set(MESSAGES) == set(CODES)
    assert sorted(CODES) == list(CODES)
    assert all(sentence.endswith((".", "}")) for sentence in (*MESSAGES.values(), *(f"{word}." for word in EXPECTED.values())))
    assert get_args(condition.Aggregate) == AGGREGATES


def test_automated_events_are_counted_when_asked_for() -> None:
    counted = parsed({**ORDERED, "automated": True})
    assert isinstance(counted, Did) and counted.stream.automated
    assert parsed({**ORDERED, "automated": False}) == parsed(ORDERED)
    assert parse_attribute({**SPEND, "automated": True}).stream.automated
    assert problems({**ORDERED, "automated": "yes"}) == [("wrong_type", "/where/automated")]
