"""Bodies of webhooks as events: their ids, their places in the record, and the same rules as for all events."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conosco.collect.envelope import spell_envelope
from conosco.collect.hook import take
from conosco.collect.understand import Rejected, understand
from conosco.model.definition import Source, SourceSpec
from conosco.model.event import Event
from conosco.model.identifier import IdentityRules
from conosco.model.record import MAPPED, Envelope, Record, slice_of, slice_stride

NOON = 1_772_366_400_000_000
EACH: dict[str, Any] = {"each": ["list"], "type": "track", "event": "Seen", "user_id": {"path": ["item", "who"]}}
WHOLE: dict[str, Any] = {"type": "track", "event": "Seen", "user_id": {"path": ["who"]}, "properties": {"rest": True}}


def source(*mappings: dict[str, Any]) -> Source:
    return Source(key="hook", name="Hook", type="webhook", region="eu", id="src_1", spec=SourceSpec(mappings=mappings))


def record(body: Any, each: list[Any] = [], erased: tuple[int, ...] = (), body_id: str = "body") -> Record:  # noqa: B006  # never changed
    taken = take(body if isinstance(body, bytes) else json.dumps(body).encode(), False, [tuple(path) for path in each])
    envelope = Envelope(received_at=NOON, call="webhook", shared=msgspec.Raw(taken.rest), body_id=body_id, each=taken.each)
    slices = tuple(None if at in erased else raw for at, raw in enumerate((spell_envelope(envelope), *taken.slices)))
    return Record(
        position=7,
        kind="request",
        schema=1,
        logged_at=NOON + 1,
        source_id="src_1",
        flags=MAPPED,
        hashes=b"",
        chain=b"",
        salts=(b"",) * len(slices),
        slices=slices,
    )


def read(record: Record, *mappings: dict[str, Any]) -> list[Event | Rejected]:
    return understand(record, source(*mappings), IdentityRules())


def told(items: list[Event | Rejected]) -> list[tuple[int, str, str]]:
    """(slot, message id, reason or user)."""
    return [(item.slot, item.message_id, item.reason if isinstance(item, Rejected) else str(item.user_id)) for item in items]


def test_a_body_without_an_id_has_that_of_its_request() -> None:
    assert told(read(record({"who": "u"}), WHOLE)) == [(0, "body", "u")]
    assert told(read(record([{"who": "u"}, {"who": "v"}]), WHOLE)) == [(0, "body-1", "u"), (1, "body-2", "v")]
    assert told(read(record({"who": "u"}, body_id=""), WHOLE)) == [(0, "7", "u")]


def test_several_events_of_one_body_lie_a_stride_apart_and_have_ids_of_their_own() -> None:
    own = {**WHOLE, "message_id": {"path": ["id"]}}
    bodies = [{"who": "u", "id": "m1"}, {"who": "v", "id": "m2"}, {"who": "w"}]
    taken = record(bodies)
    items = read(taken, own, own, own)
    assert told(items) == [
        (0, "m1", "u"),
        (4, "m1-2", "u"),
        (8, "m1-3", "u"),
        (1, "m2", "v"),
        (5, "m2-2", "v"),
        (9, "m2-3", "v"),
        (2, "body-3", "w"),
        (6, "body-3-2", "w"),
        (10, "body-3-3", "w"),
    ]
    assert [slice_of(taken, item.slot) for item in items] == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_elements_keep_their_own_ids_and_get_a_number_if_they_have_none() -> None:
    body = {"id": "b1", "list": [{"who": "u", "id": "e1"}, {"who": "v", "id": "e2"}]}
    taken = record(body, [["list"]])
    assert told(read(taken, EACH)) == [(0, "body-1-1", "u"), (1, "body-2-2", "v")]
    assert told(read(taken, {**EACH, "message_id": {"path": ["item", "id"]}})) == [(0, "e1", "u"), (1, "e2", "v")]
    assert told(read(taken, {**EACH, "message_id": {"path": ["id"]}})) == [(0, "b1-1", "u"), (1, "b1-2", "v")]


def test_erased_bodies_are_left_out_and_all_others_stay_as_they_were() -> None:
    body = {"list": [{"who": "u"}, {"who": "v"}, {"who": "w"}]}
    every = told(read(record(body, [["list"]]), EACH))
    assert told(read(record(body, [["list"]], erased=(2,)), EACH)) == [every[0], every[2]]
    # Without the envelope what stood around is gone, and the elements stay what they are.
    assert [item[2] for item in told(read(record(body, [["list"]], erased=(0,)), WHOLE))] == ["u", "v", "w"]


def test_a_body_is_mapped_whole_or_not_at_all() -> None:
    wrong = {**WHOLE, "properties": {"n": {"path": ["n"], "as": "number"}}}
    items = read(record({"who": "u", "n": "x"}), WHOLE, wrong)
    assert told(items) == [(0, "body", "mapping_cannot_read")]
    assert isinstance(items[0], Rejected)
    assert items[0].params == {"mapping": 2, "field": "properties/n", "path": "n"}


@pytest.mark.parametrize(
    ("body", "mapping", "reason", "params"),
    [
        ({"who": "u"}, {**WHOLE, "when": [{"path": ["x"], "test": "exists"}]}, "no_mapping_applies", {}),
        ({"who": "u"}, EACH, "mapping_finds_nothing", {"mapping": 1, "field": "each", "path": "list"}),
        ({"list": []}, EACH, "mapping_finds_nothing", {"mapping": 1, "field": "each", "path": "list"}),
        ({"list": {}}, EACH, "mapping_wrong_type", {"mapping": 1, "field": "each", "path": "list"}),
        ({"who": ["u"]}, WHOLE, "mapping_wrong_type", {"mapping": 1, "field": "user_id", "path": "who"}),
        ({"who": "null"}, WHOLE, "no_usable_identifier", {"mapping": 1, "path": "who"}),
        (
            {"who": "u"},
            {**WHOLE, "event": {"path": ["a", "b"]}},
            "missing_field",
            {"field": "event", "mapping": 1, "path": "a.b"},
        ),
        ({"who": "u"}, {**WHOLE, "type": {"path": ["who"]}}, "unknown_type", {"type": "u", "mapping": 1}),
        (b'{"who":"\\ud800"}', WHOLE, "unreadable_text", {}),
        ({"who": "u", "x": "y" * (1 << 20)}, WHOLE, "too_large", None),
    ],
)
def test_what_cannot_be_an_event_is_kept_with_its_reason(body: Any, mapping: Any, reason: str, params: Any) -> None:
    (item,) = read(record(body), mapping)
    assert isinstance(item, Rejected)
    assert item.reason == reason
    assert params is None or item.params == params


def test_without_a_mapping_nothing_is_lost() -> None:
    assert told(read(record([{"a": 1}, {"b": 2}]))) == [(0, "body-1", "no_mapping_applies"), (1, "body-2", "no_mapping_applies")]


def test_a_webhook_observes_only() -> None:
    (event,) = read(record({"who": "u"}), WHOLE)
    assert isinstance(event, Event)
    assert not event.may_assert


def test_more_events_than_a_record_has_places_for_are_not_made() -> None:
    bodies: list[Any] = [{"list": [{"who": "u"}] * 100}] * 1_000
    items = read(record(bodies), EACH)
    assert {item.reason for item in items if isinstance(item, Rejected)} == {"mapping_too_large"}
    assert len(items) == 1_000


@given(slices=st.integers(1, 10_000), data=st.data())
def test_every_slot_leads_to_its_slice(slices: int, data: st.DataObject) -> None:
    stride = slice_stride(slices)
    assert slices <= stride < 2 * slices or slices == stride == 1
    index = data.draw(st.integers(1, slices))
    number = data.draw(st.integers(0, (65_535 - index) // stride))
    taken = record({"who": "u"})
    many = msgspec.structs.replace(taken, slices=(b"",) * (slices + 1))
    assert slice_of(many, index - 1 + number * stride) == index


PERSON = st.sampled_from(["u", "v", 7])
ELEMENT = st.fixed_dictionaries({"who": PERSON}, optional={"n": st.integers(0, 3), "id": st.sampled_from(["a", "b"])})


@given(elements=st.lists(ELEMENT, min_size=1, max_size=5), around=st.integers(0, 2))
def test_a_list_means_the_same_whether_it_was_taken_apart_or_not(elements: list[Any], around: int) -> None:
    mapping = {
        **EACH,
        "properties": {"rest": True, "around": {"path": ["around"]}, "first": {"path": ["list", 0, "n"]}},
        "when": [{"path": ["around"], "test": "less_than", "value": 2}],
    }
    body = {"around": around, "list": elements}
    apart, whole = read(record(body, [["list"]]), mapping), read(record(body), mapping)
    assert {(item.user_id, item.properties) for item in apart if isinstance(item, Event)} == {
        (item.user_id, item.properties) for item in whole if isinstance(item, Event)
    }
    assert len(apart) == len(elements)


@given(
    st.recursive(
        st.none() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
        lambda of: st.lists(of) | st.dictionaries(st.text(), of),
    )
)
def test_no_body_breaks_the_reader(value: Any) -> None:
    items = read(record({"who": value, "list": value}, [["list"]]), WHOLE, EACH)
    assert items
    for item in items:
        assert isinstance(item, Event | Rejected)
