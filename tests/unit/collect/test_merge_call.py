"""RudderStack's merge: two identifiers of one person, as an alias or an identify would say it."""

from typing import Any

import pytest

from conosco.collect.understand import Rejected
from conosco.model.event import Event
from tests.unit.collect.requests import event_of, read, record_of, take


def merge(*named: tuple[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "type": "merge",
        "messageId": "m-1",
        "mergeProperties": [{"type": kind, "value": value} for kind, value in named],
        **fields,
    }


@pytest.mark.parametrize(
    ("named", "kind", "identifiers", "previous"),
    [
        ([("user_id", "a"), ("user_id", "b")], "alias", ["user_id:a"], "b"),
        ([("userId", "a"), ("anonymousId", "v")], "alias", ["user_id:a"], "v"),
        ([("anonymous_id", "v"), ("user_id", 7)], "alias", ["user_id:7"], "v"),
        ([("user_id", "a"), ("email", "A@x.it")], "identify", ["user_id:a", "email:a@x.it"], None),
        ([("email", "a@x.it"), ("mobile", "+39 06 1234567")], "identify", ["email:a@x.it", "phone:+39061234567"], None),
        ([("email", "a@x.it"), ("email", "b@x.it")], "identify", ["email:a@x.it", "email:b@x.it"], None),
        ([("anonymousId", "v"), ("phone", "06 1234567")], "identify", ["phone:061234567", "anonymous_id:v"], None),
    ],
)
@pytest.mark.parametrize("call", ["merge", ""])
def test_it_joins_what_it_names(
    named: list[tuple[str, Any]], kind: str, identifiers: list[str], previous: str | None, call: str
) -> None:
    event = event_of(merge(*named, userId="somebody", traits={"email": "other@x.it"}), call=call)
    assert isinstance(event, Event)
    assert (event.type, event.previous_id) == (kind, previous)
    assert [f"{each.namespace}:{each.value}" for each in event.identifiers] == identifiers


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mergeProperties": ...}, "missing_field"),
        ({"mergeProperties": []}, "missing_field"),
        ({"mergeProperties": [{"type": "email", "value": "a@x.it"}]}, "missing_field"),
        ({"mergeProperties": "email"}, "wrong_field_type"),
        ({"mergeProperties": [{"type": "shoe", "value": "42"}, {"type": "email", "value": "a@x.it"}]}, "wrong_field_type"),
        ({"mergeProperties": [{"type": "user_id", "value": ""}, {"type": "email", "value": "a@x.it"}]}, "wrong_field_type"),
        ({"mergeProperties": [{"type": "anonymous_id", "value": v} for v in "vw"]}, "no_usable_identifier"),
        ({"mergeProperties": [{"type": "user_id", "value": v} for v in ("a", "null")]}, "no_usable_identifier"),
    ],
)
def test_one_that_names_no_two_is_kept_aside(fields: dict[str, Any], reason: str) -> None:
    event = {name: value for name, value in (merge() | fields).items() if value is not ...}
    accepted = take({"batch": [event]})
    assert [told.code for told in accepted.events] == [reason]
    (rejected,) = read(record_of(accepted))
    assert isinstance(rejected, Rejected) and rejected.reason == reason
