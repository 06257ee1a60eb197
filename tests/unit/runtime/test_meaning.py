"""What bodies of webhooks mean: by the mappings in force where they lie, or by those that mapped them later; for every reader alike."""

import json
from typing import Any

import msgspec
import pytest

from conosco.collect.envelope import spell_envelope
from conosco.collect.hook import take
from conosco.engines.memory.state import MemoryState
from conosco.govern.gate import Gate
from conosco.model.command import ReplayQuarantined
from conosco.model.record import MAPPED, Draft, Envelope
from conosco.ports.tables import MAPPED_BY, QUARANTINE
from conosco.runtime import micro_batch
from conosco.runtime.digest import digest
from conosco.runtime.flow import FLOW
from conosco.runtime.replay import rebuild
from conosco.runtime.role_warehouse import understanding
from tests.laws.harness import GATE_SECRET, SECRET, Installation
from tests.laws.histories import MINUTE, segment, spell

BOUGHT: dict[str, Any] = {
    "type": "track",
    "event": "Order Completed",
    "user_id": {"path": ["who"]},
    "message_id": {"path": ["id"]},
    "timestamp": {"path": ["at"]},
    "properties": {"total": {"path": ["total"], "as": "number"}},
}
KNOWN: dict[str, Any] = {"type": "identify", "user_id": {"path": ["who"]}, "traits": {"vip": True}}
RENAMED: dict[str, Any] = {**BOUGHT, "event": "Sale"}


class Shop(Installation):
    """An installation with a webhook source."""

    def __init__(self, events_per_batch: int = 1_000) -> None:
        super().__init__(events_per_batch=events_per_batch)
        self.define({"kind": "purpose", "key": "operations", "name": "o", "basis": "legitimate_interest", "id": "prp_1"})

    def map(self, *mappings: dict[str, Any]) -> None:
        spec = {"mappings": list(mappings)}
        self.define({"kind": "source", "key": "h", "name": "h", "type": "webhook", "region": "eu", "id": "src_h", "spec": spec})

    def hook(self, body: Any, each: list[Any] | None = None, body_id: str = "") -> int:
        taken = take(json.dumps(body).encode(), False, each or [])
        given = body_id or f"body-{self.log.head().position}"
        envelope = Envelope(received_at=self.now, call="webhook", shared=msgspec.Raw(taken.rest), body_id=given, each=taken.each)
        slices = (spell_envelope(envelope), *taken.slices)
        return self.log.append([Draft(kind="request", source_id="src_h", flags=MAPPED, slices=slices)])[0].position

    def replay_all(self) -> None:
        self.command(ReplayQuarantined(addresses=tuple((key[0], key[1]) for key, _ in self.rows(QUARANTINE))))

    def counts(self) -> tuple[int, int, int, int]:
        """(accepted, applied, duplicates, quarantined), which always add up."""
        counters = self.counters()
        found = tuple(counters[name] for name in ("accepted", "applied", "duplicates", "quarantined"))
        assert found[0] == sum(found[1:])
        return found  # type: ignore[return-value]  # four names give four numbers

    def read_again(self) -> list[tuple[str, str]]:
        """(user, event or type) of all that was applied, as the warehouse reads it again at the end."""
        read = understanding(self.state)
        applied = {address for address, told in self.outcomes().items() if told[-1] == "applied"}
        return sorted(
            (str(event.user_id), event.event or event.type)
            for record in self.log.read(0, 10_000)
            for event in read(record)
            if (event.position, event.slot) in applied
        )

    def assert_rebuilds(self) -> None:
        """Law 1: any other way through the log gives the same digest."""
        for events_per_batch in (1, 3, 1_000):
            rebuilt = MemoryState()
            rebuild(
                self.log,
                rebuilt,
                self.log.head().position,
                SECRET,
                Gate(GATE_SECRET),
                lambda *_: None,
                lambda _: None,
                events_per_batch,
            )
            assert digest(rebuilt) == digest(self.state), events_per_batch


def members(shop: Shop) -> set[str]:
    ids = {profile: name[1] for name, profile in shop.profiles().items()}
    return {f"{stay.segment}:{ids[stay.profile_id]}" for stay in shop.stays()}


def test_a_new_mapping_counts_from_its_position_on_and_never_before() -> None:
    shop = Shop(events_per_batch=2)
    shop.map(BOUGHT)
    for number in range(3):
        shop.hook({"id": f"a{number}", "who": f"u{number}", "total": 1})
    shop.map(RENAMED)
    shop.hook({"id": "b", "who": "u9", "total": 1})
    shop.settle()
    expected = [("u0", "Order Completed"), ("u1", "Order Completed"), ("u2", "Order Completed"), ("u9", "Sale")]
    assert shop.read_again() == expected
    # A segment that comes later reads history: by the mappings in force there.
    shop.define(segment("buyers", {"language": 1, "where": {"kind": "did", "event": "Order Completed"}}))
    shop.settle()
    assert members(shop) == {"buyers:u0", "buyers:u1", "buyers:u2"}
    shop.assert_rebuilds()


def test_what_was_not_mapped_is_mapped_by_what_is_there_when_it_is_replayed() -> None:
    shop = Shop()
    shop.map({**BOUGHT, "when": [{"path": ["kind"], "test": "is", "value": "order"}]})
    shop.hook(
        [
            {"id": "a", "who": "u1", "total": "1"},
            {"id": "b", "who": "u2", "total": "x", "kind": "order"},
            {"kind": "order", "id": "c"},
        ]
    )
    shop.settle()
    assert shop.counts() == (3, 0, 0, 3)
    shop.map(BOUGHT, KNOWN)
    shop.replay_all()
    shop.settle()
    # One body has become two events; of the others one cannot be read still, and one points to nobody.
    assert shop.counts() == (4, 2, 0, 2)
    assert [(key, row.reason, row.attempts) for key, row in shop.rows(QUARANTINE)] == [
        ((3, 1), "mapping_cannot_read", 2),
        ((3, 2), "no_usable_identifier", 2),
    ]
    assert [key for key, _ in shop.rows(MAPPED_BY)] == [(3, 1)]
    assert shop.read_again() == [("u1", "Order Completed"), ("u1", "identify")]
    shop.map({**BOUGHT, "properties": {"rest": True}})
    shop.replay_all()
    shop.settle()
    assert shop.counts() == (4, 3, 0, 1)
    # What was mapped keeps the meaning that it was given, whatever came after.
    assert shop.read_again() == [("u1", "Order Completed"), ("u1", "identify"), ("u2", "Order Completed")]
    shop.define(segment("buyers", {"language": 1, "where": {"kind": "did", "event": "Order Completed"}}))
    shop.settle()
    assert members(shop) == {"buyers:u1", "buyers:u2"}
    shop.assert_rebuilds()


def test_an_event_ahead_of_its_time_keeps_the_meaning_it_came_with() -> None:
    shop = Shop()
    shop.map(BOUGHT)
    shop.define(segment("buyers", {"language": 1, "where": {"kind": "did", "event": "Order Completed"}}))
    shop.settle()
    shop.hook({"id": "a", "who": "u", "total": 1, "at": spell(shop.now + 2 * MINUTE)})
    shop.map(RENAMED)
    shop.settle()
    assert members(shop) == set()
    shop.now += 3 * MINUTE
    shop.settle()
    assert members(shop) == {"buyers:u"}
    shop.assert_rebuilds()


def test_ids_that_collide_because_of_a_mapping_are_told_apart_by_a_better_one() -> None:
    shop = Shop()
    shop.map(BOUGHT)
    shop.hook({"id": "o1", "who": "u", "total": 1, "status": "paid"})
    shop.hook({"id": "o1", "who": "u", "total": 1, "status": "sent"})
    shop.hook({"id": "o1", "who": "u", "total": 1, "status": "paid"})
    shop.settle()
    assert shop.counts() == (3, 1, 1, 1)
    assert [row.reason for _, row in shop.rows(QUARANTINE)] == ["conflicting_duplicate"]
    shop.map({**BOUGHT, "message_id": {"template": "{id}-{status}"}})
    shop.replay_all()
    shop.settle()
    assert shop.counts() == (3, 2, 1, 0)
    shop.assert_rebuilds()


def test_a_body_of_which_something_was_applied_is_replayed_as_it_was_mapped() -> None:
    shop = Shop()
    other = {**KNOWN, "message_id": {"path": ["other"]}}
    shop.map(BOUGHT, other)
    shop.hook({"id": "o1", "who": "u", "total": 1, "other": "x1"})
    shop.hook({"id": "o2", "who": "u", "total": 2, "other": "x1"})
    shop.settle()
    assert shop.counts() == (4, 3, 0, 1)
    shop.map(RENAMED)
    shop.replay_all()
    shop.settle()
    assert shop.counts() == (4, 3, 0, 1)
    assert shop.read_again() == [("u", "Order Completed"), ("u", "Order Completed"), ("u", "identify")]
    shop.assert_rebuilds()


def test_elements_of_one_body_are_mended_one_by_one() -> None:
    mapping = {**BOUGHT, "each": ["list"], "user_id": {"path": ["item", "who"]}, "message_id": {"path": ["item", "id"]}}
    mapping["properties"] = {"total": {"path": ["item", "total"], "as": "number"}}
    shop = Shop()
    shop.map(mapping)
    shop.hook({"list": [{"id": "1", "who": "u1", "total": 1}, {"id": "2", "who": "u2", "total": "x"}]}, [("list",)])
    shop.settle()
    assert shop.counts() == (2, 1, 0, 1)
    shop.map({**mapping, "properties": {}})
    shop.replay_all()
    shop.settle()
    assert shop.counts() == (2, 2, 0, 0)
    assert shop.read_again() == [("u1", "Order Completed"), ("u2", "Order Completed")]
    shop.assert_rebuilds()


@pytest.mark.parametrize("failing", [0, 1])
def test_an_event_that_fails_after_it_was_mapped_anew_is_kept_and_mended(failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop()
    shop.map()
    shop.hook({"id": "a", "who": "u", "total": 1})
    shop.settle()
    shop.map(BOUGHT, KNOWN)
    shop.replay_all()
    whole = FLOW
    seen: list[int] = []

    def fails(subject: Any, around: Any) -> Any:
        if subject.event.slot == failing:
            seen.append(1)
            raise ValueError
        return whole[0][1](subject, around)

    monkeypatch.setattr(micro_batch, "FLOW", ((whole[0][0], fails), *whole[1:]))
    shop.settle()
    assert len(seen) == 3
    assert shop.counts() == (2, 1, 0, 1)
    monkeypatch.setattr(micro_batch, "FLOW", whole)
    shop.replay_all()
    shop.settle()
    assert shop.counts() == (2, 2, 0, 0)
    assert shop.read_again() == [("u", "Order Completed"), ("u", "identify")]
