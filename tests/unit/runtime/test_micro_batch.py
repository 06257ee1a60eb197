"""Micro-batches over a small installation: events ahead of time, replays of quarantine, timers, links, and what doors cannot do."""

from typing import Any

import pytest

from conosco.engines.memory.state import MemoryState
from conosco.model.command import LinkIdentifiers, ReplayQuarantined
from conosco.model.identifier import Identifier
from conosco.ports.log import LogFull
from conosco.ports.state import StateFull
from conosco.ports.tables import IDENTIFIERS, MEMBERSHIPS, PERSONS, QUARANTINE, TIMERS
from conosco.runtime import flow, meaning
from tests.laws.harness import Installation
from tests.laws.histories import DAY, MINUTE, SECOND, segment, spell

SEGMENTS = {
    "buyers": {"kind": "did", "event": "Order Completed"},
    "idle": {"kind": "not", "of": {"kind": "did", "event": "Order Completed", "within": "1d"}},
    "reachable": {"kind": "identifier", "namespace": "email"},
}


@pytest.fixture
def shop() -> Installation:
    installation = Installation()
    installation.define({"kind": "purpose", "key": "operations", "name": "o", "basis": "legitimate_interest", "id": "prp_1"})
    installation.define({"kind": "source", "key": "shop", "name": "s", "type": "server", "region": "eu", "id": "src_a"})
    for key, where in SEGMENTS.items():
        installation.define(segment(key, {"language": 1, "where": where}))
    installation.settle()
    return installation


def order(installation: Installation, message_id: str, ahead: int = 0, **names: Any) -> dict[str, Any]:
    at = spell(installation.now + ahead)
    return {"type": "track", "event": "Order Completed", "messageId": message_id, "timestamp": at, **names}


def stays(installation: Installation) -> dict[str, int]:
    return {stay.segment: stay.entered_at for stay in installation.stays()}


def test_an_event_ahead_of_time_takes_effect_at_its_time(shop: Installation) -> None:
    began = shop.now
    shop.send(order(shop, "m1", ahead=2 * MINUTE, userId="u", context={"traits": {"email": "u@mail.example"}}))
    shop.settle()
    assert shop.counters()["applied"] == 1
    assert stays(shop) == {}
    shop.now += 10 * MINUTE
    shop.settle()
    assert stays(shop) == {"buyers": began + 2 * MINUTE, "reachable": began + 2 * MINUTE}
    assert shop.log.head().logged_at == began + 10 * MINUTE
    shop.now += 2 * DAY
    shop.settle()
    assert stays(shop)["idle"] == began + 2 * MINUTE + DAY


def test_someone_known_only_from_ahead_is_born_then(shop: Installation) -> None:
    began = shop.now
    page = {"type": "page", "messageId": "m1", "timestamp": spell(shop.now + MINUTE), "userId": "u"}
    shop.send(page)
    shop.settle()
    assert [key[0] for key, _ in shop.rows(TIMERS)] == [began + MINUTE]
    assert stays(shop) == {}
    shop.now += MINUTE
    shop.settle()
    assert stays(shop) == {"idle": began + MINUTE}


def test_an_earlier_event_moves_the_birth(shop: Installation) -> None:
    began = shop.now
    shop.send({"type": "page", "messageId": "m1", "timestamp": spell(began), "userId": "u"})
    shop.settle()
    shop.send({"type": "page", "messageId": "m2", "timestamp": spell(began - DAY), "userId": "u"})
    shop.settle()
    assert stays(shop) == {"idle": began - DAY}


def test_a_replayed_event_takes_effect_where_it_is_replayed(shop: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = vars(flow)["fold"]

    def fold(work: Any, person: int, cell: int, event: Any, *args: Any) -> Any:
        if event.message_id == "m2":
            raise ZeroDivisionError
        return broken(work, person, cell, event, *args)

    with monkeypatch.context() as patch:
        patch.setattr(flow, "fold", fold)
        first = shop.send(order(shop, "m1", anonymousId="a"), order(shop, "m2", userId="u"))
        shop.settle()
    assert [key for key, _ in shop.rows(QUARANTINE)] == [(first, 1)]
    shop.now += DAY
    again = shop.command(ReplayQuarantined(addresses=((first, 1), (first, 0), (999, 0))))
    shop.settle()
    assert list(shop.rows(QUARANTINE)) == []
    assert shop.counters() == {"accepted": 2, "applied": 2, "duplicates": 0, "quarantined": 0, "erased": 0}
    # The row of the one who was there stands; the other's is opened at the position of the replay, valid from the event on.
    rows = [(row.segment, key[1], row.entered_at) for key, row in shop.rows(MEMBERSHIPS) if row.segment == "buyers"]
    assert sorted(rows) == [("buyers", first, shop.now - DAY), ("buyers", again, shop.now - DAY)]


def test_a_record_is_read_once_however_many_of_its_events_are_replayed(
    shop: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [order(shop, f"m{number}", userId="") for number in range(50)]
    first = shop.send(*bad)
    shop.settle()
    read = vars(meaning)["understand"]
    calls: list[int] = []

    def counted(record: Any, *arguments: Any) -> Any:
        calls.append(record.position)
        return read(record, *arguments)

    monkeypatch.setattr(meaning, "understand", counted)
    shop.command(ReplayQuarantined(addresses=tuple((first, slot) for slot in range(50))))
    shop.settle()
    assert calls == [first]
    assert len(list(shop.rows(QUARANTINE))) == 50


def test_a_link_that_the_rules_refuse_by_now_changes_nothing(shop: Installation) -> None:
    left, right = Identifier("user_id", "u"), Identifier("user_id", "guest")
    shop.command(LinkIdentifiers(link_id="lnk_1", kind="manual_same", left=left, right=right))
    shop.send(order(shop, "m1", userId="u"))
    shop.settle()
    assert shop.counters()["applied"] == 1
    assert [key for key, _ in shop.rows(IDENTIFIERS)] == [("user_id", "u")]


def test_timers_fire_in_order_however_few_are_fetched(shop: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        shop.now += SECOND
        shop.send(order(shop, f"m{number}", userId=f"u{number % 4}"))
    shop.settle()
    monkeypatch.setattr("conosco.runtime.micro_batch.TIMERS_PAGE", 2)
    shop.now += 3 * DAY
    shop.settle()
    entered = [(key[1], key[2], row.entered_at) for key, row in shop.rows(MEMBERSHIPS) if row.segment == "idle"]
    # Rows are numbered in the order in which they were opened.
    assert [at for _, _, at in sorted(entered)] == sorted(at for _, _, at in entered)
    assert len(entered) == 4


@pytest.mark.parametrize("trouble", [StateFull, LogFull])
def test_trouble_with_a_door_is_no_fault_of_an_event(
    shop: Installation, monkeypatch: pytest.MonkeyPatch, trouble: type[Exception]
) -> None:
    sound, left = vars(flow)["fold"], [4]

    def fold(*args: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise trouble("full")
        return sound(*args)

    monkeypatch.setattr(flow, "fold", fold)
    shop.send(order(shop, "m1", userId="u"))
    for _ in range(4):
        with pytest.raises(trouble):
            shop.settle()
    shop.settle()
    assert shop.counters()["applied"] == 1
    assert list(shop.rows(QUARANTINE)) == []
    assert isinstance(shop.state, MemoryState)
    assert len(list(shop.rows(PERSONS))) == 1
