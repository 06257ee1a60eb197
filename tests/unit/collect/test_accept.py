"""Accepting: what is stored, rejected and refused, and that one bad event harms no other."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conosco.collect.accept import BODY_BYTES_MAX, BODY_CODES, EVENTS_MAX
from conosco.collect.understand import Rejected
from conosco.model.event import EventType
from conosco.model.identifier import IdentityRules
from conosco.model.outcome import Reason
from conosco.model.problem import Refused
from tests.unit.collect.requests import NOON, read, record_of, take, take_batch, track

TEXTS = st.text(st.characters(exclude_categories=()), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | TEXTS | st.just("2026-03-01T12:00:00Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.sampled_from(
    "type event messageId userId anonymousId groupId previousId timestamp originalTimestamp sentAt name properties traits"
    " context integrations writeKey email".split()
)
TYPES = st.sampled_from(["track", "identify", "page", "screen", "group", "alias", "other"])
EVENTS = st.dictionaries(MEMBERS, VALUES, max_size=8) | st.fixed_dictionaries(
    {"type": TYPES, "userId": st.sampled_from(["u", "", None, 5]), "event": st.just("Viewed")},
    optional={"timestamp": VALUES, "traits": st.dictionaries(st.sampled_from(["email", "phone"]), VALUES), "context": VALUES},
)


def codes(*events: Any, **members: Any) -> list[str | None]:
    return [event.code for event in take_batch(*events, **members).events]


def refusal(body: Any, call: str = "") -> tuple[str, int]:
    with pytest.raises(Refused) as caught:
        take(body, call)
    return caught.value.problems[0].code, caught.value.status


def test_a_batch_is_split_into_the_bytes_of_its_events() -> None:
    body = b'{"batch": [ {"type" : "track","event":"A","userId":"u","properties":{"n":1.50}} ,{"type":"identify","userId":7}], "sentAt":"x"}'
    accepted = take(body)
    assert accepted.slices == (
        b'{"type" : "track","event":"A","userId":"u","properties":{"n":1.50}}',
        b'{"type":"identify","userId":7}',
    )
    assert [(event.index, event.status, event.code) for event in accepted.events] == [(0, "stored", None), (1, "stored", None)]
    assert (accepted.sent_at, accepted.shared) == ("x", b'{"sentAt":"x"}')


def test_a_call_for_one_event_is_that_event() -> None:
    accepted = take(b' {"event":"A","userId":"u","writeKey":"secret", "messageId":"m"}\n', "track")
    assert accepted.slices == (b'{"event":"A","userId":"u","messageId":"m"}',)
    assert (accepted.write_key, accepted.shared) == ("secret", b"{}")
    assert accepted.events[0].message_id == "m"


def test_the_path_names_the_type_whatever_the_body_says() -> None:
    assert take(track(type="identify", event=...), "track").events[0].code == "missing_field"


@pytest.mark.parametrize("odd", [{}, {"colour": "red"}, {"colour": "\ud800"}])
def test_the_write_key_is_nowhere_in_what_is_stored(odd: dict[str, Any]) -> None:
    accepted = take_batch(track(writeKey="secret"), track(messageId="m-2"), writeKey="secret", context={"a": 1}, **odd)
    assert accepted.write_key == "secret"
    assert b"secret" not in b"".join((accepted.shared, *accepted.slices))
    assert json.loads(accepted.shared) == {"context": {"a": 1}, **odd}
    assert b"secret" not in take(track(writeKey="secret", x="\ud800"), "track").slices[0]
    assert take(track(writeKey="secret", x="\ud800"), "track").write_key == "secret"


def test_a_nested_member_of_that_name_is_not_the_write_key() -> None:
    kept = json.dumps(track(properties={"writeKey": "mine"})).encode()
    assert take(b'{"batch":[' + kept + b"]}").slices == (kept,)


@pytest.mark.parametrize(
    ("body", "call", "expected"),
    [
        (b"", "", ("empty_body", 400)),
        (b" \n", "track", ("empty_body", 400)),
        (b'{"batch":[', "", ("invalid_json", 400)),
        (b'{"event":', "track", ("invalid_json", 400)),
        (b'{"batch":[{"a":NaN}]}', "", ("invalid_json", 400)),
        (b'{"batch":[{"a":"\xff"}]}', "", ("invalid_json", 400)),
        (b'{"batch":[{"a":"\xed\xa0\x80"}]}', "", ("invalid_json", 400)),
        (b'{"batch":[]} x', "", ("invalid_json", 400)),
        ('{"batch":[]}'.encode("utf-16"), "", ("invalid_json", 400)),
        (b"event=A&userId=u", "", ("invalid_json", 400)),
        (b"[1]", "", ("not_an_object", 400)),
        (b"{}", "", ("missing_batch", 400)),
        (b'{"batch":{}}', "", ("missing_batch", 400)),
        (b'{"batch":null}', "", ("missing_batch", 400)),
        (b'{"batch":[]}', "", ("empty_batch", 400)),
    ],
)
def test_bodies_that_are_refused_whole(body: bytes, call: str, expected: tuple[str, int]) -> None:
    assert refusal(body, call) == expected
    assert expected[0] in BODY_CODES


def test_limits_of_a_body() -> None:
    assert refusal(b" " * (BODY_BYTES_MAX + 1)) == ("body_too_large", 413)
    assert refusal({"batch": [1] * (EVENTS_MAX + 1)}) == ("too_many_events", 413)
    assert refusal(b'{"batch":[' + b"1," * 1_000_000 + b"1]}") == ("too_many_events", 413)
    assert refusal(b'{"batch":[' + b"[" * 250_001 + b"]" * 250_001 + b"]}") == ("body_too_large", 413)
    assert len(take({"batch": [track()] * EVENTS_MAX}).events) == EVENTS_MAX
    large = take({"batch": [track(properties={"n": "x" * 400_000})] * 12})
    assert (len(large.slices), large.stored_count) == (12, 12)


def test_a_byte_order_mark_is_passed_over() -> None:
    assert take(b"\xef\xbb\xbf" + json.dumps({"batch": [track()]}).encode()).stored_count == 1


def test_elements_that_are_no_objects_are_refused_and_not_stored() -> None:
    accepted = take_batch(1, track(), None, "x", [track()], track(messageId=...))
    assert [event.status for event in accepted.events] == ["refused", "stored", "refused", "refused", "refused", "stored"]
    assert {event.code for event in accepted.events if event.status == "refused"} == {"not_an_object"}
    assert len(accepted.slices) == 2
    # Ids are given to slots, not to places in the batch.
    assert accepted.message_ids == {1: "made-0"}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"type": ...}, "missing_field"),
        ({"type": None}, "missing_field"),
        ({"type": ""}, "missing_field"),
        ({"type": "Track"}, "unknown_type"),
        ({"type": 5}, "wrong_field_type"),
        ({"event": ...}, "missing_field"),
        ({"event": ""}, "missing_field"),
        ({"event": None}, "missing_field"),
        ({"event": 5}, "wrong_field_type"),
        ({"event": "x" * 255}, None),
        ({"event": "x" * 256}, "too_large"),
        ({"event": "é" * 255}, None),
        ({"type": "group"}, "missing_field"),
        ({"type": "group", "groupId": ""}, "missing_field"),
        ({"type": "group", "groupId": 5}, None),
        ({"type": "alias"}, "missing_field"),
        ({"type": "alias", "previousId": "p"}, None),
        ({"type": "alias", "previousId": "p", "userId": ...}, "missing_field"),
        ({"type": "alias", "previousId": "p", "userId": "", "anonymousId": "a"}, "missing_field"),
        ({"type": "alias", "previousId": "null"}, "no_usable_identifier"),
        ({"type": "alias", "previousId": "p", "userId": "guest", "anonymousId": "a"}, "no_usable_identifier"),
        ({"type": "page", "event": ...}, None),
        ({"type": "page", "name": "n" * 1_025}, "too_large"),
        ({"type": "page", "name": None, "category": None}, None),
        ({"type": "screen", "name": 5}, None),
        ({"userId": ...}, "no_usable_identifier"),
        ({"userId": None}, "no_usable_identifier"),
        ({"userId": ""}, "no_usable_identifier"),
        ({"userId": "", "anonymousId": "a"}, None),
        ({"userId": "NULL "}, "no_usable_identifier"),
        ({"userId": "0000"}, "no_usable_identifier"),
        ({"userId": 0}, "no_usable_identifier"),
        ({"userId": -1}, "no_usable_identifier"),
        ({"userId": 42}, None),
        ({"userId": 10**40}, None),
        ({"userId": 1.5}, "wrong_field_type"),
        ({"userId": True}, "wrong_field_type"),
        ({"userId": {"id": 1}}, "wrong_field_type"),
        ({"userId": ["a"]}, "wrong_field_type"),
        ({"userId": "u" * 1_024}, None),
        ({"userId": "u" * 1_025}, "too_large"),
        ({"userId": ..., "traits": {"email": "ada@example.com"}, "type": "identify"}, None),
        ({"userId": ..., "traits": {"email": "ada@example.com"}}, None),
        ({"userId": ..., "context": {"traits": {"phone": "+39 06 1234567"}}}, None),
        ({"userId": ..., "context": {"traits": {"phone": "none"}}}, "no_usable_identifier"),
        ({"userId": ..., "context": {"traits": ["email"]}}, "no_usable_identifier"),
        ({"userId": ..., "type": "group", "groupId": "g", "traits": {"email": "firm@example.com"}}, "no_usable_identifier"),
        ({"properties": []}, "wrong_field_type"),
        ({"properties": "x"}, "wrong_field_type"),
        ({"properties": None, "traits": None, "context": None, "integrations": None}, None),
        ({"traits": 1}, "wrong_field_type"),
        ({"context": []}, "wrong_field_type"),
        ({"integrations": True}, "wrong_field_type"),
        ({"timestamp": "yesterday"}, "unreadable_time"),
        ({"timestamp": 1_700_000_000}, "unreadable_time"),
        ({"timestamp": {}}, "unreadable_time"),
        ({"timestamp": "2026-02-30T00:00:00Z"}, "unreadable_time"),
        ({"timestamp": ""}, None),
        ({"timestamp": None, "originalTimestamp": None}, None),
        ({"originalTimestamp": "soon"}, "unreadable_time"),
        ({"originalTimestamp": 5}, "unreadable_time"),
        ({"timestamp": "2026-03-01T00:00:00Z", "originalTimestamp": "soon"}, None),
        ({"sentAt": "soon"}, None),
        ({"sentAt": 5}, None),
        ({"messageId": 5}, None),
        ({"messageId": "m" * 255}, None),
        ({"messageId": "m" * 256}, "too_large"),
        ({"messageId": {}}, "wrong_field_type"),
        ({"properties": {"a": "\0"}, "event": "a\0b", "userId": "u\0"}, None),
        ({"properties": {"a": "\ud800"}}, "unreadable_text"),
        ({"properties": {"\udc00": 1}}, "unreadable_text"),
        ({"userId": "\ud83d"}, "unreadable_text"),
        ({"properties": {"a": "\ud83d\ude00"}}, None),
        ({"unknownMember": [1, {"a": None}]}, None),
    ],
)
def test_rules_of_an_event(fields: dict[str, Any], code: str | None) -> None:
    accepted = take_batch(track(messageId="before"), track(**fields), track(messageId="after"))
    assert [event.code for event in accepted.events] == [None, code, None]
    assert [event.status for event in accepted.events] == ["stored", "rejected" if code else "stored", "stored"]
    assert len(accepted.slices) == 3
    assert code is None or code in get_args(Reason)
    worker = read(record_of(accepted))
    assert [item.reason if isinstance(item, Rejected) else None for item in worker] == [None, code, None]


def nested(depth: int) -> bytes:
    inner = depth - 2
    return b'{"type":"track","event":"E","userId":"u","properties":{"a":' + b"[" * inner + b"]" * inner + b"}}"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (nested(64), None),
        (nested(65), "too_deep"),
        (nested(900), "too_deep"),
        (nested(5_000), "too_deep"),
        (nested(100_000), "too_deep"),
        (json.dumps(track(properties={"s": '[{"' * 200, "list": [{}] * 200})).encode(), None),
        (json.dumps(track(properties={str(n): n for n in range(1_995)})).encode(), None),
        (json.dumps(track(properties={str(n): n for n in range(1_996)})).encode(), "too_many_keys"),
        (json.dumps(track(properties={"s": '"a":' * 5_000})).encode(), None),
        (json.dumps(track(properties={"s": "x" * 1_000_000})).encode(), None),
        (json.dumps(track(properties={"s": "x" * 1_048_576})).encode(), "too_large"),
        (b'{"type":"track","event":"E","userId":"u","properties":{"n":1e999}}', None),
        (b'{"type":"track","event":"E","userId":"u","properties":{"n":1e99999999999999999999}}', None),
        (b'{"type":"track","event":"E","userId":"u","properties":{"n":' + b"9" * 6_000 + b"}}", None),
        (b'{"type":"track","event":"E","userId":' + b"9" * 6_000 + b"}", "too_large"),
        (b'{"type":"track","event":"E","userId":"u","userId":"v"}', None),
    ],
)
def test_odd_bytes_harm_no_other_event(raw: bytes, code: str | None) -> None:
    other = json.dumps(track()).encode()
    accepted = take(b'{"batch":[' + b",".join((other, raw, other)) + b"]}")
    assert [event.code for event in accepted.events] == [None, code, None]
    assert accepted.slices == (other, raw, other)


def test_a_rejected_event_keeps_its_message_id_if_it_has_one() -> None:
    accepted = take_batch(
        track(messageId="kept", event=...),
        track(messageId="text", x="\ud800"),
        track(messageId=9, properties=[]),
        track(messageId="m" * 256),
        track(messageId="\ud800"),
    )
    assert [event.message_id for event in accepted.events] == ["kept", "text", "9", "made-0", "made-1"]
    assert accepted.message_ids == {3: "made-0", 4: "made-1"}
    assert [item.message_id for item in read(record_of(accepted))] == ["kept", "text", "9", "made-0", "made-1"]


@pytest.mark.parametrize("absent", [..., None, ""])
def test_an_event_without_a_message_id_gets_one(absent: Any) -> None:
    body = {"batch": [track(messageId=absent), track(messageId="own"), track(messageId=absent)]}
    assert take(body).message_ids == {0: "made-0", 2: "made-1"}
    keyed = take(body, idempotency_key="order-5")
    assert [event.message_id for event in keyed.events] == ["order-5-0", "own", "order-5-2"]
    assert [item.message_id for item in read(record_of(keyed))] == ["order-5-0", "own", "order-5-2"]


def test_a_long_idempotency_key_still_gives_a_valid_message_id() -> None:
    first, second = (take_batch(track(messageId=...), track(messageId=...)) for _ in range(2))
    assert first.message_ids == second.message_ids
    long = take({"batch": [track(messageId=...)]}, idempotency_key="k" * 1_000).events[0].message_id
    assert long is not None and len(long) <= 255
    assert long == take({"batch": [track(messageId=...)]}, idempotency_key="k" * 1_000).events[0].message_id


def test_the_header_s_anonymous_id_identifies_where_nothing_else_does() -> None:
    body = {"batch": [track(userId="")]}
    assert take(body).events[0].code == "no_usable_identifier"
    assert take(body, header_anonymous_id="anon").events[0].code is None
    assert take(body, header_anonymous_id="null").events[0].code == "no_usable_identifier"


def test_identity_rules_decide_what_identifies() -> None:
    only_mail = IdentityRules(namespaces=tuple(rule for rule in IdentityRules().namespaces if rule.namespace == "email"))
    assert take({"batch": [track()]}, rules=only_mail).events[0].code == "no_usable_identifier"
    assert take({"batch": [track(traits={"email": "a@example.com"})]}, rules=only_mail).events[0].code is None
    blocking = IdentityRules(blocked=("ada",))
    assert take({"batch": [track()]}, rules=blocking).events[0].code == "no_usable_identifier"


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"context": []}, "wrong_field_type"),
        ({"integrations": "x"}, "wrong_field_type"),
        ({"context": {"a": "\ud800"}}, "unreadable_text"),
        ({"context": {str(n): n for n in range(2_001)}}, "too_many_keys"),
        ({"context": None, "integrations": None}, None),
        ({"context": {"a": 1}, "other": [1]}, None),
    ],
)
def test_what_the_batch_shares_is_every_event_s(members: dict[str, Any], code: str | None) -> None:
    accepted = take_batch(track(timestamp=NOON), track(event=...), **members)
    assert [event.code for event in accepted.events] == [code, "missing_field"]
    worker = read(record_of(accepted))
    assert [item.reason if isinstance(item, Rejected) else None for item in worker] == [code, "missing_field"]


def test_a_batch_nested_beyond_all_measure_still_has_an_envelope() -> None:
    body = b'{"context":' + b"[" * 3_000 + b"]" * 3_000 + b',"batch":[' + json.dumps(track()).encode() + b"]}"
    accepted = take(body)
    assert [event.code for event in accepted.events] == ["too_deep"]
    (item,) = read(record_of(accepted))
    assert isinstance(item, Rejected) and item.reason == "too_deep"


@given(st.lists(EVENTS | VALUES, min_size=1, max_size=5), st.dictionaries(MEMBERS, VALUES, max_size=3), st.booleans())
def test_every_object_is_stored_or_rejected_and_the_worker_agrees(
    batch: list[Any], members: dict[str, Any], spaced: bool
) -> None:
    raw = json.dumps({**members, "batch": batch}, indent=1 if spaced else None).encode()
    try:
        accepted = take(raw)
    except Refused as refused:
        assert refused.problems[0].code == "invalid_json"  # the only way in which such a body can be refused
        assert b"NaN" in raw or b"Infinity" in raw
        return
    assert [event.status == "refused" for event in accepted.events] == [not isinstance(item, dict) for item in batch]
    kept = [json.loads(raw) for raw in accepted.slices]
    assert kept == [
        {name: value for name, value in item.items() if name != "writeKey"} for item in batch if isinstance(item, dict)
    ]
    answered = [(event.message_id, event.code) for event in accepted.events if event.status != "refused"]
    understood = read(record_of(accepted))
    assert [(item.message_id, item.reason if isinstance(item, Rejected) else None) for item in understood] == answered


# One of these in each member of a usual event: whatever is told of it must not depend on what lies beside it in the batch.
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -5, 10**30, 1.5, "", " ", "0", "guest", "x", "x" * 256, "x" * 1_025, "\ud800", "2026-03-01", "2026-02-30T00:00:00Z"),
    *("9999-12-31T23:59:59-01:00", "2026-03-01T12:00:00.1234567890123Z", [], [1], {}, {"traits": {"email": "a@example.com"}}),
    {"writeKey": "k"},
    {"a": [[[[[{"b": 1}]]]]]},
    json.loads("[" * 70 + "]" * 70),
    {"a": json.loads('{"a":' * 64 + "1" + "}" * 64)},
    {str(number): number for number in range(2_001)},
)  # fmt: skip


@pytest.mark.parametrize("kind", get_args(EventType))
@pytest.mark.parametrize(
    "home", [{"userId": "ada"}, {"anonymousId": "a-1"}, {"userId": "guest", "traits": {"phone": "12345678"}}, {}]
)
def test_an_event_is_judged_alike_alone_and_beside_an_unusual_one(kind: str, home: dict[str, Any]) -> None:
    unusual = track(userId=1.5)
    members = "type event messageId userId anonymousId groupId previousId timestamp originalTimestamp sentAt".split()
    for member in (*members, *"name properties traits context integrations writeKey other".split()):
        for value in ODD_VALUES:
            event = {"type": kind, "event": "Viewed", "messageId": "m-1", "timestamp": NOON, **home, member: value}
            alone, beside = take_batch(event), take_batch(event, unusual)
            assert beside.events[1].code == "wrong_field_type"
            assert (alone.events[0], alone.slices[0]) == (beside.events[0], beside.slices[0]), event


@given(
    st.binary(max_size=60) | st.text('[]{},:"\\u0123456789abcdeftrnls -.', max_size=40).map(str.encode),
    st.sampled_from(["", "track", "alias"]),
)
def test_arbitrary_bytes_never_raise_anything_but_a_refusal(raw: bytes, call: str) -> None:
    try:
        accepted = take(raw, call)
    except Refused as refused:
        assert refused.problems[0].code in BODY_CODES  # nothing else may come out
        return
    assert len(read(record_of(accepted, call=call))) == len(accepted.slices)
