"""What the activate stage puts into the outbox, and how attempts settle it."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conosco.activate.outbox import DeliveryVersion, attempts_draft, park, read_intent, retry, settle
from conosco.activate.stage import activate
from conosco.engines.memory.state import MemoryState
from conosco.govern.gate import Gate
from conosco.model import ids
from conosco.model.definition import Destination
from conosco.model.delivery import Attempt, AttemptResult, MembershipChange
from conosco.ports.tables import OUTBOX, OUTBOX_DUE, OutboxRow, decode_row
from conosco.ports.work import Work

SECRET = b"installation secret of 32 bytes."
GATE = Gate(SECRET)
NOW = 1_700_000_000_000_000


def a_change(**fields: Any) -> MembershipChange:
    usual: dict[str, Any] = {
        "type": "segment.entered",
        "segment": "big_spenders",
        "purpose": "operations",
        "profile_id": "pro_1",
        "anchor": "user_id:u1",
        "identifiers": (("user_id", "u1"), ("email", "ada@example.com")),
        "at": 1_699_999_999_500_000,
        "because": {"cause": "event", "message_ids": ["m1"]},
        "position": 7,
        "live": True,
    }
    return MembershipChange(**{**usual, **fields})


def a_destination(**fields: Any) -> Destination:
    usual: dict[str, Any] = {
        "key": "crm",
        "id": "dst_1",
        "name": "CRM",
        "purposes": ("operations",),
        "region": "eu",
        "type": "webhook",
        "version": 3,
        "spec": {"url": "https://crm.example/hook"},
    }
    return Destination(**{**usual, **fields})


def commit(state: MemoryState, work: Work) -> None:
    state.begin(1)
    work.flush()
    state.commit(None)


def run(state: MemoryState, changes: list[MembershipChange], destinations: list[Destination]) -> list[DeliveryVersion]:
    work = Work(state)
    versions = activate(work, changes, destinations, GATE, SECRET, NOW)
    commit(state, work)
    return versions


def settled(state: MemoryState, attempt: Attempt, now: int = NOW + 1) -> list[DeliveryVersion]:
    work = Work(state)
    versions = settle(work, attempt, now)
    commit(state, work)
    return versions


def row_of(state: MemoryState, delivery_id: str) -> OutboxRow:
    row: OutboxRow = decode_row(OUTBOX, state.get_many(OUTBOX, [(delivery_id,)])[delivery_id,])
    return row


def rows(state: MemoryState) -> list[tuple[Any, bytes]]:
    return state.scan(OUTBOX) + state.scan(OUTBOX_DUE)


def due(state: MemoryState) -> list[tuple[int, str]]:
    return [(key[1], key[2]) for key, _ in state.scan(OUTBOX_DUE)]


def an_attempt(delivery_id: str, number: int, result: AttemptResult, due_at: int = 0) -> Attempt:
    return Attempt(delivery_id=delivery_id, attempt=number, result=result, code="http_500", at=NOW, due_at=due_at)


def test_a_live_change_becomes_a_pending_delivery_with_the_promised_body() -> None:
    state = MemoryState()
    (version,) = run(state, [a_change()], [a_destination()])
    row = row_of(state, version["delivery_id"])
    intent = read_intent(row)
    assert ids.is_id("dlv", intent.delivery_id)
    assert (row.state, row.attempts, row.due_at) == ("pending", 0, NOW)
    assert due(state) == [(NOW, intent.delivery_id)]
    assert intent.permit is not None
    assert GATE.check(intent.permit)
    assert (intent.destination, intent.destination_version, intent.position) == ("crm", 3, 7)
    assert intent.payload == {
        "type": "segment.entered",
        "segment": "big_spenders",
        "profile_id": "pro_1",
        "identifiers": [{"namespace": "user_id", "value": "u1"}, {"namespace": "email", "value": "ada@example.com"}],
        "at": "2023-11-14T22:13:19.500000Z",
        "because": {"cause": "event", "message_ids": ["m1"]},
        "position": 7,
    }
    assert version == {
        "delivery_id": intent.delivery_id,
        "destination": "crm",
        "profile_id": "pro_1",
        "segment": "big_spenders",
        "type": "segment.entered",
        "state": "pending",
        "attempts": 0,
        "code": "",
        "created_at": NOW,
        "updated_at": NOW,
    }


@pytest.mark.parametrize(
    ("change", "destination", "deliveries"),
    [
        ({"live": False}, {}, 0),
        ({}, {"state": "archived"}, 0),
        ({}, {"purposes": ("marketing",)}, 0),
        ({}, {"purposes": ()}, 0),
        ({}, {"purposes": ("marketing", "operations")}, 1),
        ({}, {"spec": {"events": ["segment.exited"]}}, 0),
        ({"type": "segment.exited"}, {"spec": {"events": ["segment.exited"]}}, 1),
        ({"type": "segment.exited"}, {}, 1),
        ({}, {"spec": {"segments": ["other"]}}, 0),
        ({}, {"spec": {"segments": ["other", "big_spenders"]}}, 1),
        ({}, {"spec": {"segments": "all"}}, 1),
        ({}, {"spec": {"segments": []}}, 0),
    ],
)
def test_a_delivery_is_made_only_for_what_the_destination_wants(
    change: dict[str, Any], destination: dict[str, Any], deliveries: int
) -> None:
    state = MemoryState()
    assert len(run(state, [a_change(**change)], [a_destination(**destination)])) == deliveries
    assert len(due(state)) == len(state.scan(OUTBOX)) == deliveries


def test_what_the_gate_denies_is_kept_with_its_reason_and_never_due() -> None:
    state = MemoryState()
    (version,) = run(state, [a_change(purpose="marketing")], [a_destination(purposes=("marketing",))])
    row = row_of(state, version["delivery_id"])
    assert (row.state, row.code) == (version["state"], version["code"]) == ("denied", "consent_unknown")
    assert read_intent(row).permit is None
    assert due(state) == []
    work = Work(state)
    assert retry(work, version["delivery_id"], NOW) == []
    assert settle(work, an_attempt(version["delivery_id"], 1, "delivered"), NOW) == []


def test_delivery_ids_are_stable_and_differ_by_each_of_their_parts() -> None:
    def delivery_id(change: MembershipChange, destination: Destination) -> str:
        return run(MemoryState(), [change], [destination])[0]["delivery_id"]

    first = delivery_id(a_change(), a_destination())
    assert first == delivery_id(a_change(profile_id="pro_2", at=5, because={}), a_destination(version=9))
    others = {
        delivery_id(a_change(), a_destination(id="dst_2")),
        delivery_id(a_change(segment="s2"), a_destination()),
        delivery_id(a_change(anchor="user_id:u2"), a_destination()),
        delivery_id(a_change(type="segment.exited"), a_destination()),
        delivery_id(a_change(position=8), a_destination()),
    }
    assert len(others | {first}) == 6


def test_transitions_within_one_record_are_deliveries_of_their_own() -> None:
    state = MemoryState()
    entered, left = a_change(), a_change(type="segment.exited")
    versions = run(state, [entered, left, entered], [a_destination()])
    versions += run(state, [left], [a_destination()])
    assert len({version["delivery_id"] for version in versions}) == 4
    again = MemoryState()
    apart = [version for change in (entered, left, entered, left) for version in run(again, [change], [a_destination()])]
    assert [version["delivery_id"] for version in apart] == [version["delivery_id"] for version in versions]


def test_attempts_move_a_delivery_until_it_is_delivered() -> None:
    state = MemoryState()
    delivery_id = run(state, [a_change()], [a_destination()])[0]["delivery_id"]
    (version,) = settled(state, an_attempt(delivery_id, 1, "retry", NOW + 500))
    assert (version["state"], version["attempts"], version["code"]) == ("pending", 1, "http_500")
    assert due(state) == [(NOW + 500, delivery_id)]
    (version,) = settled(state, an_attempt(delivery_id, 2, "delivered"))
    assert (version["state"], version["attempts"], version["updated_at"]) == ("delivered", 2, NOW + 1)
    assert due(state) == []


@pytest.mark.parametrize("result", ["dead", "unknown"])
def test_dead_and_unknown_deliveries_wait_for_a_person_and_keep_their_count(result: AttemptResult) -> None:
    state = MemoryState()
    delivery_id = run(state, [a_change()], [a_destination()])[0]["delivery_id"]
    settled(state, an_attempt(delivery_id, 4, result))
    assert (row_of(state, delivery_id).state, due(state)) == (result, [])
    work = Work(state)
    (version,) = retry(work, delivery_id, NOW + 9)
    assert retry(work, delivery_id, NOW + 10) == []
    commit(state, work)
    assert (version["state"], version["attempts"]) == ("pending", 4)
    assert due(state) == [(NOW + 9, delivery_id)]
    assert settled(state, an_attempt(delivery_id, 4, result)) == []
    assert settled(state, an_attempt(delivery_id, 5, "delivered"))[0]["state"] == "delivered"


def test_an_attempt_of_a_delivery_that_is_not_there_changes_nothing() -> None:
    state = MemoryState()
    assert settled(state, an_attempt("dlv_gone", 1, "delivered")) == []
    assert retry(Work(state), "dlv_gone", NOW) == []
    assert state.scan(OUTBOX) == []


def test_success_is_taken_even_when_a_failure_of_the_same_attempt_came_first() -> None:
    state = MemoryState()
    delivery_id = run(state, [a_change()], [a_destination()])[0]["delivery_id"]
    settled(state, an_attempt(delivery_id, 2, "retry", NOW + 5))
    assert settled(state, an_attempt(delivery_id, 1, "delivered"))[0]["state"] == "delivered"
    assert row_of(state, delivery_id).attempts == 2
    assert due(state) == []


RESULTS: tuple[AttemptResult, ...] = ("delivered", "retry", "dead", "unknown")


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(RESULTS), st.integers(0, 9)), max_size=12), st.randoms())
def test_settling_twice_is_settling_once_and_old_news_never_wins(
    story: list[tuple[int, AttemptResult, int]], chance: random.Random
) -> None:
    state = MemoryState()
    delivery_id = run(state, [a_change()], [a_destination()])[0]["delivery_id"]
    told: list[Attempt] = []
    for number, result, wait in story:
        attempt = an_attempt(delivery_id, number, result, NOW + wait)
        before = row_of(state, delivery_id).attempts
        settled(state, attempt)
        told.append(attempt)
        after = rows(state)
        settled(state, attempt, NOW + 2)
        settled(state, chance.choice(told), NOW + 3)
        row = row_of(state, delivery_id)
        assert rows(state) == after
        assert row.attempts == max(before, number) or row.state == "delivered"
        assert due(state) == ([(row.due_at, delivery_id)] if row.state == "pending" else [])
    if any(attempt.result == "delivered" for attempt in told):
        assert row_of(state, delivery_id).state == "delivered"


def test_parking_sets_aside_what_was_decided_up_to_a_position() -> None:
    state = MemoryState()
    run(state, [a_change(position=position) for position in range(1, 6)], [a_destination()])
    work = Work(state)
    versions = park(work, 3, NOW + 2)
    assert park(work, 3, NOW + 2) == []
    commit(state, work)
    assert [(version["state"], version["code"]) for version in versions] == [("unknown", "parked")] * 3
    left = [read_intent(row_of(state, delivery_id)).position for _, delivery_id in due(state)]
    assert sorted(left) == [4, 5]


def test_a_record_carries_several_attempts() -> None:
    attempts = [an_attempt("dlv_1", 1, "delivered"), an_attempt("dlv_2", 3, "retry", NOW)]
    draft = attempts_draft(attempts)
    assert draft.kind == "delivery"
    assert [msgspec.json.decode(body, type=Attempt) for body in draft.slices] == attempts
