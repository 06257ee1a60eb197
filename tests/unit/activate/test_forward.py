"""Forwarding: which events and profile changes go to whom, in what shape, and what the gate and the filter keep back."""

import json
from typing import Any

import msgspec
import pytest

from conosco.activate.forward import Forwarding, make_forwarders
from conosco.activate.outbox import read_intent
from conosco.engines.memory.state import MemoryState
from conosco.model.definition import Source
from conosco.model.delivery import ProfileChange
from conosco.model.event import Event
from conosco.model.identifier import Identifier
from conosco.ports.tables import OUTBOX, TALLIES, PersonRow
from conosco.ports.work import Work
from conosco.rules.interest import interest_problems
from tests.unit.activate.test_stage import GATE, NOW, SECRET, a_destination

SOURCES = {"src_1": Source(key="shop", name="Shop", type="server", region="eu", id="src_1")}
PERSON = PersonRow(profile_id="pro_1", anchor=("user_id", "u1"), cells=[1], identifiers=[("user_id", "u1", NOW)])


def an_event(**fields: Any) -> Event:
    usual: dict[str, Any] = {
        "position": 5,
        "slot": 0,
        "message_id": "m1",
        "source_id": "src_1",
        "type": "track",
        "identifiers": (Identifier("user_id", "u1"),),
        "event_at": NOW,
        "received_at": NOW,
        "logged_at": NOW,
        "event": "Ordered",
        "properties": b'{"total":0.10,"id":12345678901234567890123,"items":[{"sku":"a"},{"sku":"b"}]}',
    }
    return Event(**{**usual, **fields})


def forwarded(event: Event | ProfileChange, **spec: Any) -> tuple[Work, list[dict[str, Any]]]:
    """What a destination with this spec is told of an event."""
    purpose = spec.setdefault("purpose", "operations")
    made = a_destination(purposes=(purpose,), spec={"url": "https://x.example", "events": ["event", "profile.changed"], **spec})
    work = Work(MemoryState())
    forwarding = Forwarding(work, make_forwarders([made], SOURCES), GATE, SECRET)
    if isinstance(event, Event):
        versions = forwarding.event(event, PERSON, NOW)
        assert forwarding.event(event, PERSON, NOW) == []
    else:
        versions = forwarding.profile(event, NOW, (5, 0))
    intents = [read_intent(work.get(OUTBOX, (version["delivery_id"],))) for version in versions]
    return work, [json.loads(intent.body) for intent in intents]


def test_an_event_is_told_whole_and_its_numbers_as_they_were_sent() -> None:
    work, (body,) = forwarded(an_event())
    assert (body["type"], body["profile_id"], body["position"]) == ("event", "pro_1", 5)
    assert (body["event"]["message_id"], body["event"]["source"]) == ("m1", "shop")
    (row,) = [row for _, row in work.scan(OUTBOX, (), None, 9)]
    assert b'{"total":0.10,"id":12345678901234567890123,' in read_intent(row).body
    assert read_intent(row).permit is not None


@pytest.mark.parametrize(
    ("filter_", "is_taken"),
    [
        ({}, True),
        ({"events": ["Ordered"]}, True),
        ({"events": ["Other"]}, False),
        ({"types": ["page"]}, False),
        ({"types": ["track"], "sources": ["shop"]}, True),
        ({"sources": ["other"]}, False),
        ({"where": [{"path": ["total"], "test": "is", "value": 0.1}]}, True),
        ({"where": [{"path": ["items", "sku"], "test": "is", "value": "B"}]}, True),
        ({"where": [{"path": ["items", "sku"], "test": "is", "value": "B", "case": True}]}, False),
        ({"where": [{"path": ["total"], "test": "exists"}, {"path": ["none"], "test": "exists"}]}, False),
    ],
)
def test_a_filter_keeps_back_what_does_not_pass_all_of_it(filter_: dict[str, Any], is_taken: bool) -> None:
    assert bool(forwarded(an_event(), filter=filter_)[1]) is is_taken


def test_a_mapping_makes_the_body_and_what_has_none_is_counted() -> None:
    mapping = {"object": {"order": {"path": ["event", "properties", "id"]}, "who": {"path": ["profile_id"]}}}
    _, bodies = forwarded(an_event(), mapping=mapping)
    assert bodies == [{"order": 12345678901234567890123, "who": "pro_1"}]
    work, bodies = forwarded(an_event(), mapping={"path": ["event", "properties", "none"]})
    assert (bodies, work.get(TALLIES, ("crm",)).codes["unmapped"] > 0) == ([], True)


def test_history_stays_home_unless_it_is_wanted() -> None:
    assert forwarded(an_event(historical=True))[1] == []
    assert len(forwarded(an_event(historical=True), historical=True)[1]) == 1


def test_unknown_consent_means_no_and_is_counted() -> None:
    work, bodies = forwarded(an_event(), purpose="marketing")
    tally = work.get(TALLIES, ("crm",))
    assert (bodies, tally.states["denied"], set(tally.codes)) == ([], 2, {"consent_unknown"})
    assert work.scan(OUTBOX, (), None, 9) == []


def test_a_destination_that_does_not_serve_the_purpose_is_given_nothing() -> None:
    spec = {"events": ["event"], "purpose": "marketing"}
    assert make_forwarders([a_destination(spec=spec)], SOURCES) == ()
    assert make_forwarders([a_destination(spec={**spec, "purpose": "operations"}, state="archived")], SOURCES) == ()
    assert make_forwarders([a_destination(spec={**spec, "purpose": "operations", "filter": 5})], SOURCES) == ()


def a_profile_change(**fields: Any) -> ProfileChange:
    usual: dict[str, Any] = {
        "profile_id": "pro_1",
        "anchor": "user_id:u1",
        "identifiers": (("user_id", "u1"), ("email", "a@example.org")),
        "added": (("email", "a@example.org"),),
        "removed": (),
        "traits": {"plan": (b'"free"', b'"gold"'), "diagnosis": (None, b'"secret"')},
        "former_ids": ("pro_0",),
        "because": {"cause": "event", "message_ids": ["m1"]},
        "position": 5,
        "live": True,
    }
    return ProfileChange(**{**usual, **fields})


def test_a_profile_change_names_what_changed_and_tells_declared_values_only() -> None:
    _, (body,) = forwarded(a_profile_change(), fields=["plan"])
    assert body["traits"] == ["plan", "diagnosis"]
    assert body["values"] == {"plan": {"old": "free", "new": "gold"}}
    assert body["identifiers_added"] == [{"namespace": "email", "value": "a@example.org"}]
    assert body["former_profile_ids"] == ["pro_0"]
    assert b"secret" not in msgspec.json.encode(body)
    assert forwarded(a_profile_change(live=False))[1] == []


def test_everything_wrong_is_said_at_once() -> None:
    spec = {"events": ["event"], "filter": {"sources": ["x"], "where": [{"path": [], "test": "like"}]}, "mapping": {"odd": 1}}
    found = interest_problems(a_destination(spec=spec), {"shop"})
    assert {problem.code for problem in found} >= {"forwarding_needs_purpose", "unknown_source", "unknown_test"}
    assert any(problem.pointer.startswith("/spec/mapping") for problem in found)
    spec = {"events": ["event"], "purpose": "marketing"}
    assert [problem.code for problem in interest_problems(a_destination(spec=spec), ())] == ["purpose_not_served"]
