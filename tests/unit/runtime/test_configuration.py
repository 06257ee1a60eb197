"""The configuration in force: what is active, how streams and segments keep their numbers, and what refers to what."""

from typing import Any

import pytest

from conosco.engines.memory.state import MemoryState
from conosco.model.definition import Attribute, Definition, Destination, Identity, Purpose, Segment, Source
from conosco.model.identifier import IdentityRules, NamespaceRule
from conosco.model.problem import Refused
from conosco.ports.tables import META, encode_row
from conosco.runtime.configuration import Configuration, load, meta

DAY = 86_400_000_000
ORDERED: dict[str, Any] = {"kind": "did", "event": "Order"}


def segment_of(key: str, where: dict[str, Any], **changes: Any) -> Segment:
    return Segment(key=key, name=key, purpose="operations", spec={"language": 1, "where": where}, id=f"seg_{key}", **changes)


def configuration_of(*definitions: Definition) -> Configuration:
    return Configuration(definitions, (), {})


def test_only_what_is_active_counts() -> None:
    made = configuration_of(
        Purpose(key="operations", name="o", basis="legitimate_interest", id="prp_1"),
        Source(key="shop", name="s", type="server", region="eu", id="src_1"),
        Source(key="old", name="s", type="server", region="eu", id="src_2", state="archived"),
        Destination(key="hook", name="h", purposes=(), region="eu", type="webhook", spec={}, id="dst_1", state="archived"),
        segment_of("one", ORDERED),
        segment_of("gone", ORDERED, state="archived"),
    )
    assert list(made.sources) == ["src_1"]
    assert list(made.purposes) == ["operations"]
    assert made.destinations == ()
    assert [plan.key for plan in made.plans.all] == ["one"]
    # An archived source still explains the events that it sent.
    assert made.definitions_by_id["src_2"].key == "old"


def test_rules_are_the_default_ones_until_they_are_defined() -> None:
    rules = IdentityRules(namespaces=(NamespaceRule(namespace="user_id", unique=True),))
    assert configuration_of().rules == IdentityRules()
    assert configuration_of(Identity(rules=rules)).rules == rules


def test_numbers_stay_as_definitions_come_and_go() -> None:
    first = configuration_of(segment_of("b", ORDERED))
    second = first.with_definition(segment_of("a", {"kind": "did", "event": "View"}))
    third = second.with_definition(segment_of("b", {"kind": "did", "event": "Click"}))
    last = third.with_definition(segment_of("b", ORDERED, state="archived")).with_definition(segment_of("c", ORDERED))
    assert last.segment_numbers == {"b": 0, "a": 1, "c": 2}
    assert last.streams.texts()[: len(third.streams.texts())] == third.streams.texts()
    assert len(last.streams.texts()) == 3
    assert first.segment_numbers == {"b": 0}


def test_a_stream_keeps_rows_as_long_as_its_longest_window() -> None:
    age = Attribute(key="age", name="a", spec={"language": 1, "aggregate": "count", "event": "Order", "within": "9d"}, id="atr_1")
    made = configuration_of(segment_of("a", {**ORDERED, "within": "2d"}), segment_of("b", {**ORDERED, "within": "5d"}))
    assert made.window(0) == 5 * DAY
    assert made.with_definition(age).window(0) == 9 * DAY
    assert configuration_of(segment_of("a", ORDERED)).window(0) == 0
    assert made.window(77) == 0


def test_references_are_inlined_and_known() -> None:
    made = configuration_of(segment_of("inner", ORDERED), segment_of("outer", {"kind": "segment", "key": "inner"}))
    assert made.references()["outer"].segments == {"inner"}
    assert made.references()["outer"].streams == made.references()["inner"].streams
    changed = made.with_definition(segment_of("inner", {"kind": "did", "event": "View"}))
    assert changed.conditions["outer"] != made.conditions["outer"]
    with pytest.raises(Refused):
        made.with_definition(segment_of("inner", ORDERED, state="archived"))


def test_it_is_read_back_as_it_was_kept() -> None:
    state = MemoryState()
    made = configuration_of(segment_of("b", ORDERED)).with_definition(segment_of("a", ORDERED))
    assert load(state).definitions == {}
    state.begin(1)
    state.put_many(META, {(name,): encode_row(row) for name, row in made.meta_rows().items()})
    state.commit(None)
    assert load(state).streams.texts() == made.streams.texts()
    assert load(state).segment_numbers == {"b": 0, "a": 1}
    assert meta(state, "nothing", "default") == "default"
