"""Backfill: a new definition over all history, in chunks, resumed after a kill, and told only when it is whole."""

from typing import Any

import pytest

from conosco.engines.memory.state import MemoryState
from conosco.ports.tables import BACKFILL_FEED, CURSORS, FEED, MEMBERSHIPS
from conosco.runtime import backfill
from conosco.runtime.backfill import is_computing
from tests.laws.harness import Installation
from tests.laws.histories import DAY, MINUTE, SECOND, segment, spell

PEOPLE = 6


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.setattr(backfill, "RECORDS_PER_CHUNK", 2)
    monkeypatch.setattr(backfill, "PEOPLE_PER_CHUNK", 2)
    installation = Installation()
    installation.define({"kind": "purpose", "key": "operations", "name": "o", "basis": "legitimate_interest", "id": "prp_1"})
    installation.define({"kind": "source", "key": "shop", "name": "s", "type": "server", "region": "eu", "id": "src_a"})
    for number in range(2 * PEOPLE):
        installation.now += SECOND
        installation.send(order(installation, number, number % PEOPLE), order(installation, number, number % PEOPLE))
    installation.settle()
    return installation


def order(installation: Installation, number: int, user: int, ahead: int = 0) -> dict[str, Any]:
    at = spell(installation.now + ahead)
    return {"type": "track", "event": "Order", "messageId": f"m{number}", "userId": f"u{user}", "timestamp": at}


def define(installation: Installation, times: dict[str, int], key: str = "buyers") -> int:
    where = {"kind": "did", "event": "Order", "times": times}
    return installation.define(segment(key, {"language": 1, "where": where}))


def test_duplicates_count_once(shop: Installation) -> None:
    define(shop, {"min": 2, "max": 2})
    define(shop, {"min": 3}, "often")
    shop.settle()
    assert len(shop.members("buyers")) == PEOPLE
    assert shop.members("often") == set()
    assert {row.backfill for _, row in shop.rows(MEMBERSHIPS)} == {True}


def test_an_event_ahead_counts_from_its_time_on(shop: Installation) -> None:
    shop.send(order(shop, 99, 0, ahead=MINUTE))
    define(shop, {"min": 3}, "often")
    shop.settle()
    assert shop.members("often") == set()
    shop.now += 2 * MINUTE
    shop.settle()
    ((stay),) = shop.stays()
    assert stay.entered_at == shop.now - MINUTE


def test_after_a_kill_it_goes_on_and_is_told_only_when_whole(shop: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(shop.state, MemoryState)
    told_before = len(list(shop.rows(FEED)))
    position = define(shop, {"min": 2})
    kills = 0
    sound = MemoryState.commit

    def commit(state: MemoryState, position: int | None) -> None:
        sound(state, position)
        if state.get_many(CURSORS, [("backfill",)]):
            raise Killed

    monkeypatch.setattr(MemoryState, "commit", commit)
    cursors: list[dict[str, Any]] = []
    while shop.state.offset()[0] < position:
        try:
            shop.settle()
        except Killed:
            kills += 1
        shop.state = shop.state.writer()
        shop.restart()
        if shop.state.offset()[0] < position:
            assert len(list(shop.rows(FEED))) == told_before
            cursors += [row.value for key, row in shop.rows(CURSORS) if key == ("backfill",)]
            assert is_computing(shop.state, "buyers") is bool(cursors)
    monkeypatch.setattr(MemoryState, "commit", sound)
    # Both steps were interrupted, more than once, and no chunk was done twice.
    assert kills > 6
    for step in ("history", "people"):
        done = [cursor["cursor"] for cursor in cursors if cursor["step"] == step]
        assert len(done) > 2
        assert done == sorted(set(done))
    assert {cursor["job_id"] for cursor in cursors} == {cursors[0]["job_id"]}
    assert len(shop.members("buyers")) == PEOPLE
    assert [key[0] for key, _ in shop.rows(FEED)] == list(range(1, told_before + 4))
    assert list(shop.rows(BACKFILL_FEED)) == []
    assert not is_computing(shop.state, "buyers")
    assert {key for key, _ in shop.rows(CURSORS)} == {("feed_sequence",)}


def test_what_a_segment_refers_to_changes_it_too(shop: Installation) -> None:
    define(shop, {"min": 3})
    shop.define(segment("others", {"language": 1, "where": {"kind": "not", "of": {"kind": "segment", "key": "buyers"}}}))
    shop.settle()
    assert (len(shop.members("buyers")), len(shop.members("others"))) == (0, PEOPLE)
    define(shop, {"min": 2})
    shop.now += DAY
    shop.settle()
    assert (len(shop.members("buyers")), len(shop.members("others"))) == (PEOPLE, 0)
    shop.now += DAY
    shop.send(order(shop, 99, 99))
    shop.settle()
    assert (len(shop.members("buyers")), len(shop.members("others"))) == (PEOPLE, 1)
