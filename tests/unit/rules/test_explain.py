"""Conditions as sentences, and what conditions read."""

from typing import Any

import pytest

from conosco.rules.catalogue import Catalogue
from conosco.rules.condition import Condition, Stream
from conosco.rules.explain import sentence, sentence_of, walk
from conosco.rules.parse import parse_where
from conosco.rules.usage import reads

TRAIT = {"kind": "trait", "path": ["country"], "test": "is", "value": "IT"}
ORDERED = {"kind": "did", "event": "Order Completed"}
CATALOGUE = Catalogue(
    segments={
        "newsletter": {"language": 1, "where": {"kind": "any", "of": [{"kind": "did", "type": "page", "event": "News"}, TRAIT]}}
    },
    attributes={"spend": {"language": 1, "aggregate": "sum", "event": "Order Completed", "path": ["revenue"]}},
)


def parsed(where: Any) -> Condition:
    return parse_where({"language": 1, "where": where}, CATALOGUE)


def test_the_example_reads_like_speech() -> None:
    filters = [{"path": ["revenue"], "test": "at_least", "value": 50}]
    where = {
        "kind": "all",
        "of": [
            TRAIT,
            {**ORDERED, "times": {"min": 2}, "within": "30d", "where": filters},
            {
                "kind": "not",
                "of": {"kind": "any", "of": [{**ORDERED, "within": "12h"}, {"kind": "segment", "key": "newsletter"}]},
            },
        ],
    }
    assert sentence(parsed(where)) == (
        "country is IT and did Order Completed at least 2 times in the last 30 days where revenue is at least 50 "
        "and not (did Order Completed in the last 12 hours or is in the segment newsletter)"
    )


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({**ORDERED, "times": {"max": 0}}, "never did Order Completed"),
        ({**ORDERED, "times": {"max": 1}}, "did Order Completed at most once"),
        ({**ORDERED, "times": {"min": 1, "max": 1}}, "did Order Completed exactly once"),
        ({**ORDERED, "times": {"min": 2, "max": 4}}, "did Order Completed between 2 and 4 times"),
        ({**ORDERED, "times": {"min": 0}}, "did Order Completed any number of times"),
        ({**ORDERED, "within": "1d"}, "did Order Completed in the last 1 day"),
        ({**ORDERED, "automated": True}, "did Order Completed, automated events included"),
        ({"kind": "did", "type": "page"}, "viewed a page"),
        ({"kind": "did", "type": "screen", "event": "Home"}, "viewed the screen Home"),
        ({"kind": "did", "type": "identify"}, "was identified"),
        ({"kind": "did", "type": "group"}, "joined a group"),
        ({"kind": "identifier", "namespace": "email"}, "has an email"),
        (
            {"kind": "identifier", "namespace": "user_id", "test": "starts_with", "value": "vip-", "case": True},
            "has a user_id that starts with vip- (with case)",
        ),
        ({"kind": "attribute", "key": "spend", "test": "between", "value": [1.5, 20]}, "spend is between 1.5 and 20"),
        ({"kind": "trait", "path": ["a", "b"], "test": "exists"}, "a.b is known"),
        ({"kind": "trait", "path": ["a"], "test": "is", "value": ""}, 'a is ""'),
        ({"kind": "trait", "path": ["a"], "test": "is_not", "value": True}, "a is not true"),
        ({"kind": "trait", "path": ["a"], "test": "in", "value": [1, "x", "y, z"]}, 'a is one of 1, x, "y, z"'),
        ({"kind": "trait", "path": ["a"], "test": "not_in", "value": list(range(9))}, "a is none of 0, 1, 2, 3, 4 and 4 more"),
        ({"kind": "trait", "path": ["a"], "test": "at_most", "value": "2026-01-05"}, "a is at or before 2026-01-05T00:00:00Z"),
        ({"kind": "trait", "path": ["a"], "test": "before_last", "value": "90m"}, "a is before the last 90 minutes"),
        ({"kind": "all", "of": []}, "everyone"),
        ({"kind": "any", "of": []}, "nobody"),
        (
            {"kind": "all", "of": [TRAIT, {"kind": "any", "of": [TRAIT, TRAIT]}]},
            "country is IT and (country is IT or country is IT)",
        ),
    ],
)
def test_sentences(where: Any, expected: str) -> None:
    assert sentence(parsed(where)) == expected


def test_several_filters_stand_together() -> None:
    filters = [{"path": ["a"], "test": "exists"}, {"path": ["b"], "test": "exists"}]
    assert sentence(parsed({**ORDERED, "where": filters})) == "did Order Completed where (a is known and b is known)"


def test_walk_says_where_every_leaf_stands() -> None:
    where = {"kind": "all", "of": [TRAIT, {"kind": "not", "of": ORDERED}, {"kind": "segment", "key": "newsletter"}]}
    assert [(pointer, sentence_of(leaf)) for pointer, leaf in walk(parsed(where))] == [
        ("where/of/0", "country is IT"),
        ("where/of/1/of", "did Order Completed"),
        ("where/of/2/where/of/0", "viewed the page News"),
        ("where/of/2/where/of/1", "country is IT"),
    ]
    assert [pointer for pointer, _ in walk(parsed(TRAIT))] == ["where"]


def test_what_a_condition_reads() -> None:
    where = {
        "kind": "any",
        "of": [
            {"kind": "trait", "path": ["address", "city"], "test": "exists"},
            {"kind": "not", "of": {"kind": "segment", "key": "newsletter"}},
            {"kind": "attribute", "key": "spend", "test": "exists"},
            {"kind": "identifier", "namespace": "email"},
            ORDERED,
        ],
    }
    found = reads(parsed(where))
    assert found.traits == {"address", "country"}
    assert found.namespaces == {"email"}
    assert found.segments == {"newsletter"}
    assert found.attributes == {"spend"}
    assert found.streams == {
        Stream(type="page", event="News"),
        Stream(type="track", event="Order Completed", value=("revenue",)),
        Stream(type="track", event="Order Completed"),
    }
