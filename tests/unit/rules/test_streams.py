"""Streams: which events belong to which, and which value an event brings."""

from typing import Any

import msgspec
import pytest

from conosco.model.event import Event
from conosco.model.identifier import Identifier
from conosco.rules.catalogue import Catalogue
from conosco.rules.condition import Condition, Did, Stream
from conosco.rules.parse import parse_where
from conosco.rules.streams import Streams, value_of


def condition_of(*parts: dict[str, Any]) -> Condition:
    return parse_where({"language": 1, "where": {"kind": "all", "of": list(parts)}}, Catalogue())


def event_of(type_: Any = "track", event: str | None = "Order", **changes: Any) -> Event:
    made = Event(
        position=1,
        slot=0,
        message_id="m1",
        source_id="src",
        type=type_,
        event=event,
        identifiers=(Identifier("user_id", "u"),),
        event_at=1_767_225_600_000_000,
        received_at=0,
        logged_at=0,
    )
    return msgspec.structs.replace(made, **changes)


ORDER = {"kind": "did", "event": "Order"}
BIG = {"kind": "did", "event": "Order", "where": [{"path": ["total"], "test": "at_least", "value": 50}]}
PAGE = {"kind": "did", "type": "page"}
NEW = {"kind": "did", "event": "Order", "where": [{"path": ["born"], "test": "within", "value": "2d"}]}


def test_numbers_are_given_once_and_kept() -> None:
    streams = Streams(())
    first = streams.register(condition_of(ORDER, PAGE))
    assert [made.number for made in first] == [0, 1]
    assert streams.register(condition_of(PAGE, ORDER)) == []
    assert [made.number for made in streams.register(condition_of(BIG, PAGE))] == [2]
    again = Streams(streams.texts())
    assert again.texts() == streams.texts()
    for text in streams.texts():
        stream = msgspec.json.decode(text, type=Stream)
        assert again.number(stream) == streams.number(stream)
    assert [made.number for made in streams.since(1)] == [1, 2]


def test_the_order_of_parts_does_not_matter() -> None:
    one, other = Streams(()), Streams(())
    one.register(condition_of(ORDER, BIG, PAGE))
    other.register(condition_of(PAGE, BIG, ORDER))
    assert one.texts() == other.texts()


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (event_of(), {"order"}),
        (event_of(properties=b'{"total":50}'), {"order", "big"}),
        (event_of(properties=b'{"total":[1,50.5]}'), {"order", "big"}),
        (event_of(properties=b'{"total":"50"}'), {"order"}),
        (event_of(properties=b'{"born":"2025-12-31"}'), {"order", "new"}),
        (event_of(properties=b'{"born":"2025-12-01"}'), {"order"}),
        (event_of(event="order"), set()),
        (event_of("page", "Order"), {"page"}),
        (event_of("page", None), {"page"}),
        (event_of("identify", None), set()),
    ],
)
def test_an_event_belongs_by_type_name_and_filters(event: Event, expected: set[str]) -> None:
    streams = Streams(())
    named: dict[int, str] = {}
    for name, part in (("order", ORDER), ("big", BIG), ("page", PAGE), ("new", NEW)):
        condition = parse_where({"language": 1, "where": part}, Catalogue())
        streams.register(condition)
        assert isinstance(condition, Did)
        named[streams.number(condition.stream)] = name
    assert {named[made.number] for made in streams.touching(event)} == expected


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (b'{"v":5}', b"5"),
        (b'{"v":1.50}', b"1.5"),
        (b'{"v":"caffe\xcc\x80"}', '"caffè"'.encode()),
        (b'{"v":[1,null,"x",{"y":2}]}', b'[1,"x"]'),
        (b'{"v":99999999999999999999999999999999.999999}', b"99999999999999999999999999999999.999999"),
        (b'{"v":1e400}', b""),
        (b'{"v":null}', b""),
        (b'{"v":{}}', b""),
        (b"{}", b""),
    ],
)
def test_the_value_that_an_event_brings(properties: bytes, expected: bytes) -> None:
    stream = Stream(type="track", event="Order", value=("v",))
    assert value_of(stream, event_of(properties=properties)) == expected
    assert value_of(Stream(type="track", event="Order"), event_of(properties=properties)) == b""


def test_an_identify_call_is_filtered_by_its_properties_as_in_sql() -> None:
    stream = Stream(type="identify", event=None, value=("v",))
    assert value_of(stream, event_of("identify", None, traits=b'{"v":1}')) == b""
    assert value_of(stream, event_of("identify", None, properties=b'{"v":1}')) == b"1"


def test_events_of_programs_belong_only_where_they_are_wanted() -> None:
    streams = Streams(())
    streams.register(condition_of(ORDER, {**ORDER, "automated": True}, {**BIG, "automated": False}))
    wanted = [made.number for made in streams.since(0) if made.stream.automated]
    assert len(wanted) == 1
    touched = streams.touching(event_of(properties=b'{"total":60}', automated=True))
    assert [made.number for made in touched] == wanted
    assert len(streams.touching(event_of(properties=b'{"total":60}'))) == 3
