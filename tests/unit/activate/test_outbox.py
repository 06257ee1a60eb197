"""The outbox over time: what leaves State and when, what is counted, and what is sent again because a person asked."""

from typing import Any

import msgspec

from conosco.activate.outbox import CODES_KEPT, KEPT_US, LATENCIES_KEPT, OTHER_CODE, prune, read_intent, retry, settle
from conosco.activate.stage import activate, make_test, replay
from conosco.engines.memory.state import MemoryState
from conosco.model.delivery import Attempt, AttemptResult
from conosco.ports.tables import OUTBOX, OUTBOX_DUE, OUTBOX_ENDED, TALLIES, OutboxRow, TallyRow
from conosco.ports.work import Work
from tests.unit.activate.test_stage import GATE, NOW, SECRET, a_change, a_destination


def attempt(
    delivery_id: str, number: int = 1, result: AttemptResult = "delivered", code: str = "http_200", **fields: Any
) -> Attempt:
    return Attempt(delivery_id=delivery_id, attempt=number, result=result, code=code, at=NOW, **fields)


def decided(work: Work, *people: int, purpose: str = "operations") -> list[str]:
    """Deliveries that tell of these people, to a destination of that purpose."""
    changes = [
        a_change(position=person, anchor=f"user_id:u{person}", profile_id=f"pro_{person}", purpose=purpose) for person in people
    ]
    made = activate(work, changes, [a_destination(purposes=(purpose,))], GATE, SECRET, NOW)
    return [version["delivery_id"] for version in made]


def tally(work: Work) -> TallyRow:
    row: TallyRow = work.get(TALLIES, ("crm",))
    return row


def states(work: Work) -> list[str]:
    return sorted(row.state for _, row in work.scan(OUTBOX, (), None, 1_000))


def test_what_ended_leaves_state_after_its_time_and_not_before() -> None:
    work = Work(MemoryState())
    delivered, dead, pending = decided(work, 1, 2, 3)
    (denied,) = decided(work, 4, purpose="marketing")
    settle(work, attempt(delivered), NOW + 5)
    settle(work, attempt(dead, result="dead"), NOW + 5)
    assert prune(work, NOW + KEPT_US - 1) == NOW
    assert len(states(work)) == 4
    assert prune(work, NOW + KEPT_US) == NOW + 5
    assert work.get(OUTBOX, (denied,)) is None
    assert prune(work, NOW + KEPT_US + 5) is None
    assert states(work) == ["dead", "pending"]
    assert work.scan(OUTBOX_ENDED, (), None, 9) == []
    # Old news of it changes nothing, and makes nothing anew.
    assert settle(work, attempt(delivered, 2), NOW) == []
    assert replay(work, [delivered], a_destination(), GATE, SECRET, 99, NOW) == []
    assert work.get(OUTBOX, (pending,)).state == "pending"
    assert tally(work).states["delivered"] == 1


def test_much_that_ended_leaves_bit_by_bit() -> None:
    work = Work(MemoryState())
    for person in range(120):
        (delivery_id,) = decided(work, person)
        settle(work, attempt(delivery_id), NOW + person)
    left = []
    while states(work):
        prune(work, NOW + 2 * KEPT_US)
        left.append(len(states(work)))
    assert left == [70, 20, 0]


def test_tallies_count_states_codes_and_the_latest_latencies() -> None:
    work = Work(MemoryState())
    made = decided(work, *range(300))
    for number, delivery_id in enumerate(made[:290]):
        settle(work, attempt(delivery_id, latency_us=number), NOW)
    settle(work, attempt(made[290], result="retry", code="http_503"), NOW)
    settle(work, attempt(made[290], result="retry", code="http_503"), NOW)
    found = tally(work)
    assert {state: count for state, count in found.states.items() if count} == {"pending": 10, "delivered": 290}
    assert found.codes == {"http_200": 290, "http_503": 1}
    assert found.latencies_us == list(range(290 - LATENCIES_KEPT, 290))
    assert (found.failed_code, found.failed_at, found.delivered_at) == ("http_503", NOW, NOW)


def test_codes_without_end_are_counted_together() -> None:
    work = Work(MemoryState())
    (delivery_id,) = decided(work, 1)
    for number in range(CODES_KEPT + 20):
        settle(work, attempt(delivery_id, number + 1, "retry", f"odd_{number}"), NOW)
    assert len(tally(work).codes) == CODES_KEPT + 1
    assert tally(work).codes[OTHER_CODE] == 20


def test_what_was_delivered_goes_out_in_a_new_round_that_says_so() -> None:
    work = Work(MemoryState())
    (first,) = decided(work, 1)
    settle(work, attempt(first), NOW)
    (version,) = replay(work, [first, first], a_destination(), GATE, SECRET, 50, NOW + 9)
    again = read_intent(work.get(OUTBOX, (version["delivery_id"],)))
    was = read_intent(work.get(OUTBOX, (first,)))
    assert again.delivery_id != first
    assert (again.replay_of, again.payload, again.identifiers) == (first, was.payload, was.identifiers)
    assert again.permit is not None
    assert again.permit.delivery_id == again.delivery_id
    # Asked twice in one record it is sent once; asked in another record it is another round, of the same delivery.
    assert replay(work, [first], a_destination(), GATE, SECRET, 50, NOW + 9)[0]["delivery_id"] == again.delivery_id
    (third,) = replay(work, [first], a_destination(), GATE, SECRET, 51, NOW + 9)
    assert third["delivery_id"] not in (first, again.delivery_id)
    settle(work, attempt(again.delivery_id), NOW)
    (fourth,) = replay(work, [again.delivery_id], a_destination(), GATE, SECRET, 52, NOW)
    assert read_intent(work.get(OUTBOX, (fourth["delivery_id"],))).replay_of == first


def test_what_never_arrived_is_put_back_under_its_own_id() -> None:
    work = Work(MemoryState())
    dead, unknown, pending = decided(work, 1, 2, 3)
    settle(work, attempt(dead, result="dead"), NOW)
    settle(work, attempt(unknown, result="unknown"), NOW)
    versions = replay(work, [dead, unknown, pending, "dlv_none"], a_destination(), GATE, SECRET, 50, NOW)
    assert [version["delivery_id"] for version in versions] == [dead, unknown]
    assert states(work) == ["pending"] * 3


def test_a_new_destination_is_given_what_it_wants_of_what_it_missed() -> None:
    work = Work(MemoryState())
    made = decided(work, 1, 2)
    late = a_destination(key="late", id="dst_2")
    versions = replay(work, made, late, GATE, SECRET, 50, NOW)
    assert [version["destination"] for version in versions] == ["late", "late"]
    picky = a_destination(key="picky", id="dst_3", spec={"segments": ["others"]})
    assert replay(work, made, picky, GATE, SECRET, 51, NOW) == []
    ads = a_destination(key="ads", id="dst_4", purposes=("marketing",))
    assert replay(work, made, ads, GATE, SECRET, 52, NOW) == []


def test_the_gate_is_asked_again() -> None:
    work = Work(MemoryState())
    (first,) = decided(work, 1)
    row: OutboxRow = work.get(OUTBOX, (first,))
    row.intent = msgspec.msgpack.encode(msgspec.structs.replace(read_intent(row), purpose="marketing"))
    settle(work, attempt(first), NOW)
    (version,) = replay(work, [first], a_destination(), GATE, SECRET, 50, NOW)
    assert (version["state"], version["code"]) == ("denied", "consent_unknown")


def test_a_test_is_marked_goes_first_and_is_not_sent_again() -> None:
    work = Work(MemoryState())
    decided(work, 1)
    (version,) = make_test(work, a_destination(), GATE, SECRET, 60, NOW)
    intent = read_intent(work.get(OUTBOX, (version["delivery_id"],)))
    assert (intent.payload["test"], intent.identifiers, intent.profile_id) == (True, (), "")
    assert work.scan(OUTBOX_DUE, (), None, 9)[0][0] == ("crm", 0, version["delivery_id"])
    settle(work, attempt(version["delivery_id"]), NOW)
    assert replay(work, [version["delivery_id"]], a_destination(), GATE, SECRET, 61, NOW) == []
    assert retry(work, version["delivery_id"], NOW) == []
