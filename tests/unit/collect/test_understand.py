"""Understanding: times, identifiers, what a batch shares, and when two bodies say the same."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conosco.collect.envelope import decode_anonymous_id
from conosco.collect.understand import Rejected, canonical_body
from conosco.model.event import Event, read_json
from conosco.model.identifier import Identifier
from conosco.model.moment import HOUR, LATEST, MINUTE, SECOND
from conosco.model.record import IMPORTED
from tests.unit.collect.requests import NOON, event_of, moment, read, record_of, source, take, take_batch, track

EARLIER = "2026-03-01T11:00:00.000Z"


def test_an_event_carries_all_that_was_sent() -> None:
    event = event_of(
        track(anonymousId="a", groupId=3, properties={"n": 1}, traits={"t": 1}, context={"c": 1}, integrations={"All": True}),
        of=source(priority=4),
    )
    assert (event.position, event.slot, event.message_id, event.source_id) == (7, 0, "m-1", "src_1")
    assert (event.type, event.event, event.user_id, event.anonymous_id, event.group_id) == ("track", "Viewed", "ada", "a", "3")
    assert (event.properties, event.traits, event.context) == (b'{"n": 1}', b'{"t": 1}', b'{"c": 1}')
    assert event.integrations == b'{"All": true}'
    assert (event.source_priority, event.may_assert) == (4, True)
    assert event_of(track(), of=source(type="browser")).may_assert is False


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"type": "identify", "context": {"traits": {"plan": "gold"}}}, b'{"plan": "gold"}'),
        ({"type": "identify", "traits": {}, "context": {"traits": {"plan": "gold"}}}, b'{"plan": "gold"}'),
        ({"type": "identify", "traits": {"plan": "new"}, "context": {"traits": {"plan": "gold"}}}, b'{"plan": "new"}'),
        ({"type": "identify", "context": {"traits": None}}, b"{}"),
        ({"type": "identify", "context": {"traits": ["gold"]}}, b"{}"),
        ({"type": "identify", "context": {"page": {}}}, b"{}"),
        # What other calls say in passing is no news of the person; a group's context does not tell of the group.
        ({"context": {"traits": {"plan": "gold"}}}, b"{}"),
        ({"type": "group", "groupId": "g", "context": {"traits": {"plan": "gold"}}}, b"{}"),
    ],
)
def test_an_identify_may_tell_its_traits_in_its_context(fields: dict[str, Any], expected: bytes) -> None:
    assert event_of(track(**fields)).traits == expected


@pytest.mark.parametrize("call", ["page", "screen"])
def test_a_page_is_named_by_its_name(call: str) -> None:
    assert event_of({"type": call, "userId": "u", "name": "Home"}).event == "Home"
    assert event_of({"type": call, "userId": "u", "name": ""}).event is None
    assert event_of({"type": call, "userId": "u", "event": "ignored"}).event is None
    assert event_of({"type": "identify", "userId": "u", "event": "ignored"}).event is None


@pytest.mark.parametrize(
    ("fields", "members", "header", "expected"),
    [
        # Without any time it happened when it was received.
        ({}, {}, None, NOON),
        ({"timestamp": EARLIER}, {}, None, EARLIER),
        ({"originalTimestamp": EARLIER}, {}, None, EARLIER),
        # rudder-sdk-node: the historic moment in timestamp, the present one in originalTimestamp.
        ({"timestamp": "2020-01-01T00:00:00Z", "originalTimestamp": NOON}, {}, None, "2020-01-01T00:00:00Z"),
        # The batch's own timestamp is only when it was sent.
        ({"timestamp": EARLIER}, {"timestamp": NOON, "sentAt": NOON}, None, EARLIER),
        ({}, {"timestamp": EARLIER}, None, NOON),
        # The client's clock is an hour behind.
        ({"timestamp": "2026-03-01T10:59:00Z"}, {"sentAt": EARLIER}, None, "2026-03-01T11:59:00Z"),
        ({"timestamp": "2026-03-01T10:59:00Z", "sentAt": EARLIER}, {}, None, "2026-03-01T11:59:00Z"),
        ({"timestamp": "2026-03-01T10:59:00Z"}, {}, EARLIER, "2026-03-01T11:59:00Z"),
        # ... or a minute ahead.
        ({"timestamp": "2026-03-01T12:00:30Z"}, {"sentAt": "2026-03-01T12:01:00Z"}, None, "2026-03-01T11:59:30Z"),
        # The message's own word counts before the batch's, the batch's before the header's.
        ({"timestamp": EARLIER, "sentAt": NOON}, {"sentAt": EARLIER}, EARLIER, EARLIER),
        ({"timestamp": EARLIER}, {"sentAt": NOON}, EARLIER, EARLIER),
        # A word that cannot be read is none.
        ({"timestamp": EARLIER, "sentAt": "soon"}, {"sentAt": NOON}, None, EARLIER),
        ({"timestamp": "2026-03-01T10:59:00Z", "sentAt": 5}, {"sentAt": {}}, EARLIER, "2026-03-01T11:59:00Z"),
        # Less than five seconds are the network's and are left alone.
        ({"timestamp": EARLIER, "sentAt": "2026-03-01T11:59:55.001Z"}, {}, None, EARLIER),
        ({"timestamp": EARLIER, "sentAt": "2026-03-01T12:00:04.999Z"}, {}, None, EARLIER),
        ({"timestamp": EARLIER, "sentAt": "2026-03-01T11:59:55Z"}, {}, None, "2026-03-01T11:00:05Z"),
        # Our own clock needs no correction.
        ({"sentAt": EARLIER}, {}, None, NOON),
        # Without sentAt nothing is known of the client's clock.
        ({"timestamp": "2026-03-01T12:04:00Z"}, {}, None, "2026-03-01T12:04:00Z"),
        ({"timestamp": "2026-03-01T12:05:00Z"}, {}, None, "2026-03-01T12:05:00Z"),
        ({"timestamp": "2026-03-01T12:05:00.001Z"}, {}, None, NOON),
        ({"timestamp": "9999-12-31T00:00:00Z"}, {}, None, NOON),
        ({"timestamp": "2026-03-01T14:00:00+02:00"}, {}, None, NOON),
        ({"timestamp": "0001-01-01T00:00:00Z", "sentAt": "9999-12-31T00:00:00Z"}, {}, None, "0001-01-01T00:00:00Z"),
    ],
)
def test_the_time_of_an_event(fields: dict[str, Any], members: dict[str, Any], header: str | None, expected: str) -> None:
    event = event_of(track(**fields), members=members, header_sent_at=header)
    assert event.event_at == moment(expected)


def test_the_four_times_are_kept() -> None:
    event = event_of(track(timestamp="2026-03-01T10:00:00Z"), members={"sentAt": EARLIER}, logged_at="2026-03-01T12:00:01Z")
    assert event.original_at == moment("2026-03-01T10:00:00Z")
    assert event.sent_at == moment(EARLIER)
    assert event.received_at == moment(NOON)
    assert event.logged_at == moment(NOON) + SECOND
    assert event.event_at == moment(EARLIER)
    assert event_of(track()).original_at is None
    assert event_of(track(timestamp="9999-12-31T23:59:59Z")).original_at == LATEST


def test_a_time_ahead_is_clamped_to_when_it_was_logged() -> None:
    event = event_of(track(timestamp="2026-03-02T00:00:00Z"), logged_at="2026-03-01T12:00:09Z")
    assert event.event_at == moment("2026-03-01T12:00:09Z")
    assert event.original_at == moment("2026-03-02T00:00:00Z")


def test_history_is_told_by_age_before_clamping_or_by_import() -> None:
    assert event_of(track(timestamp=EARLIER)).historical is False
    assert event_of(track(timestamp="2026-03-01T10:59:59.999Z")).historical is True
    assert event_of(track(timestamp=EARLIER), of=source(max_event_age="30m")).historical is True
    assert event_of(track(timestamp="2026-02-01T00:00:00Z"), of=source(max_event_age="52w")).historical is False
    assert event_of(track(timestamp="2030-01-01T00:00:00Z")).historical is False
    assert event_of(track(), flags=IMPORTED).historical is True
    # A client whose clock is a day behind is not telling history.
    behind = "2026-02-28T12:00:00Z"
    assert event_of(track(timestamp=behind), members={"sentAt": behind}).historical is False


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"userId": 42, "anonymousId": "a"}, ["user_id:42", "anonymous_id:a"]),
        ({"userId": "", "anonymousId": "a"}, ["anonymous_id:a"]),
        ({"userId": "guest", "anonymousId": "a"}, ["anonymous_id:a"]),
        ({"userId": " u ", "anonymousId": "0"}, ["user_id: u "]),
        (
            {"type": "identify", "anonymousId": "a", "traits": {"email": " Ada@Example.COM ", "phone": "0039 (06) 123-4567"}},
            ["user_id:ada", "email:ada@example.com", "phone:+39061234567", "anonymous_id:a"],
        ),
        ({"context": {"traits": {"email": "ada@example.com"}}}, ["user_id:ada", "email:ada@example.com"]),
        (
            {"type": "identify", "traits": {"email": "a@example.com"}, "context": {"traits": {"email": "b@example.com"}}},
            ["user_id:ada", "email:a@example.com", "email:b@example.com"],
        ),
        (
            {"type": "identify", "traits": {"email": "a@example.com"}, "context": {"traits": {"email": "A@example.com"}}},
            ["user_id:ada", "email:a@example.com"],
        ),
        ({"type": "identify", "traits": {"phone": 39061234567}}, ["user_id:ada", "phone:39061234567"]),
        ({"type": "identify", "traits": {"phone": "(+39) 06 1234567"}}, ["user_id:ada", "phone:+39061234567"]),
        ({"type": "identify", "traits": {"phone": "06 1234567 int. +5"}}, ["user_id:ada", "phone:0612345675"]),
        ({"type": "identify", "traits": {"phone": "000000", "email": "anonymous"}}, ["user_id:ada"]),
        ({"type": "identify", "traits": {"phone": [1], "email": {"a": 1}}}, ["user_id:ada"]),
        ({"type": "identify", "traits": {"phone": None, "email": None}}, ["user_id:ada"]),
        ({"type": "identify", "traits": {"phone": "12", "email": "n/a"}}, ["user_id:ada"]),
        ({"type": "group", "groupId": "g", "traits": {"email": "firm@example.com"}}, ["user_id:ada"]),
        (
            {"type": "group", "groupId": "g", "context": {"traits": {"email": "ada@example.com"}}},
            ["user_id:ada", "email:ada@example.com"],
        ),
        ({"properties": {"email": "b@example.com"}}, ["user_id:ada"]),
        ({"type": "alias", "previousId": "old", "anonymousId": "a"}, ["user_id:ada", "anonymous_id:a"]),
        ({"context": {"page": {"title": 'the "traits" of people \\'}}}, ["user_id:ada"]),
    ],
)
def test_identifiers_strongest_first(fields: dict[str, Any], expected: list[str]) -> None:
    event = event_of(track(**fields))
    assert [f"{namespace}:{value}" for namespace, value in event.identifiers] == expected
    assert event.home == event.identifiers[0]


def test_a_key_may_be_spelled_with_escapes() -> None:
    raw = b'{"batch":[{"type":"identify","anonymousId":"a","context":{"tr\\u0061its":{"em\\u0061il":"ada@example.com"}}}]}'
    (event,) = read(record_of(take(raw)))
    assert isinstance(event, Event)
    assert event.home == Identifier("email", "ada@example.com")


def test_an_alias_keeps_both_ends() -> None:
    event = event_of({"type": "alias", "previousId": 5, "userId": "new"})
    assert (event.previous_id, event.user_id, event.home) == ("5", "new", Identifier("user_id", "new"))


def test_the_header_s_anonymous_id_is_used_only_in_need() -> None:
    accepted = take({"batch": [track(), track(userId=None)]}, header_anonymous_id="h")
    named, nameless = read(record_of(accepted, header_anonymous_id="h"))
    assert isinstance(named, Event) and named.identifiers == (Identifier("user_id", "ada"),)
    assert isinstance(nameless, Event) and nameless.identifiers == (Identifier("anonymous_id", "h"),)
    assert nameless.anonymous_id is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [("YWJj", "abc"), ("xZvDs2TFug==", "śódź"), ("/w==", None), ("not base64!", None), ("", None)],
)
def test_the_anonymous_id_header_is_base64(header: str, expected: str | None) -> None:
    assert decode_anonymous_id(header) == expected


def test_what_the_batch_shares_lies_under_what_the_event_says() -> None:
    shared = {"context": {"locale": "it-IT", "app": {"name": "shop"}}, "integrations": {"All": False}}
    event = event_of(track(context={"locale": "pl-PL"}), members=shared)
    assert json.loads(event.context) == {"locale": "pl-PL", "app": {"name": "shop"}}
    assert event.integrations == b'{"All": false}'
    bare = event_of(track(), members={"context": {"traits": {"email": "a@example.com"}}})
    assert Identifier("email", "a@example.com") in bare.identifiers


def test_erased_slices_are_left_out_and_slots_stay() -> None:
    record = record_of(take_batch(track(), track(messageId="m-2"), track(messageId=...)))
    erased = msgspec.structs.replace(record, slices=(record.slices[0], None, *record.slices[2:]))
    assert [(item.slot, item.message_id) for item in read(erased)] == [(1, "m-2"), (2, "made-0")]


def test_a_record_without_its_envelope_is_still_read() -> None:
    record = record_of(take_batch(track(messageId=...)), logged_at="2026-03-01T12:00:07Z")
    (event,) = read(msgspec.structs.replace(record, slices=(None, *record.slices[1:])))
    assert isinstance(event, Event)
    assert (event.message_id, event.received_at) == ("7-0", moment("2026-03-01T12:00:07Z"))


def test_other_records_hold_no_events() -> None:
    record = record_of(take_batch(track()))
    assert read(msgspec.structs.replace(record, kind="control")) == []
    assert read(msgspec.structs.replace(record, slices=(), salts=())) == []


def test_a_rejected_event_says_which_rule_it_broke() -> None:
    (item,) = read(record_of(take_batch(track(event="x" * 256))))
    assert item == Rejected(
        position=7,
        slot=0,
        message_id="m-1",
        source_id="src_1",
        reason="too_large",
        params={"field": "event", "limit": 255},
    )


def test_the_clock_of_the_batch_counts_in_microseconds() -> None:
    event = event_of(track(timestamp="2026-03-01T11:59:59.123456Z"))
    assert event.event_at == moment(NOON) - SECOND + 123_456
    assert (HOUR, MINUTE) == (3_600 * SECOND, 60 * SECOND)


NUMBERS = st.integers(-(10**60), 10**60) | st.decimals(allow_nan=False, allow_infinity=False, places=4)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (b'{"a":1,"b":[1,2]}', b' {"b" : [1, 2], "a": 1 }', True),
        (b'{"a":1,"sentAt":"x","receivedAt":"y","_metadata":{"n":1},"writeKey":"k"}', b'{"a":1,"sentAt":"z"}', True),
        (b'{"a":{"sentAt":"x"}}', b'{"a":{"sentAt":"y"}}', False),
        (b'{"a":"\\u0061\\/"}', b'{"a":"a/"}', True),
        (b'{"a":1.0}', b'{"a":1}', True),
        (b'{"a":1e2}', b'{"a":100}', True),
        (b'{"a":0.10}', b'{"a":1e-1}', True),
        (b'{"a":-0.0}', b'{"a":0}', True),
        (b'{"a":1e50}', b'{"a":1' + b"0" * 50 + b"}", True),
        (b'{"a":1e50}', b'{"a":"1E+50"}', False),
        (b'{"a":1}', b'{"a":"1"}', False),
        (b'{"a":1}', b'{"a":true}', False),
        (b'{"a":0.1234567890123456789012345678901}', b'{"a":0.1234567890123456789012345678902}', False),
        (b'{"a":' + b"1" * 5_000 + b"}", b'{"a":' + b"1" * 4_999 + b"2}", False),
        (b'{"a":[1,2]}', b'{"a":[2,1]}', False),
        (b'{"a":null}', b"{}", False),
        (b'{"a":1,"a":2}', b'{"a":2}', True),
        (b'{"a":"\\ud800"}', b'{"a":"\\ud800"}', True),
        (b'{"a":"\\ud800"}', b'{"a":"\\ud801"}', False),
        (b"[" * 99 + b"]" * 99, b"[" * 98 + b"]" * 98, False),
    ],
)
def test_when_two_bodies_say_the_same(first: bytes, second: bytes, same: bool) -> None:
    assert (canonical_body(first) == canonical_body(second)) is same


@given(NUMBERS, NUMBERS)
def test_numbers_say_the_same_when_they_are_equal(left: int | Decimal, right: int | Decimal) -> None:
    first, second = canonical_body(b"[%s]" % str(left).encode()), canonical_body(b"[%s]" % str(right).encode())
    assert (first == second) is (Decimal(left) == Decimal(right))
    assert canonical_body(b"[%s]" % f"{Decimal(left):e}".encode()) == first
    assert Decimal(str(read_json(first)[0])) == Decimal(left)
