"""The worker: batches, ticks, definitions that come late or are wrong, and a takeover that fences the old one."""

import gc
import json
from threading import Event as Signal
from typing import Any

import pytest

from conosco.engines.memory.state import MemoryState
from conosco.govern.gate import Gate
from conosco.model.record import Draft
from conosco.ports.state import Fenced, StateFull
from conosco.ports.tables import CURSORS, DEFINITION_VERSIONS, DEFINITIONS, FEED, MEMBERSHIPS, META, decode_row
from conosco.runtime import worker as worker_module
from conosco.runtime.replay import UpTo, rebuild
from conosco.runtime.worker import Worker
from tests.laws.harness import GATE_SECRET, SECRET, Installation
from tests.laws.histories import DAY, SECOND, destination, segment

BUYERS = {"kind": "did", "event": "Order Completed"}


def begun() -> Installation:
    installation = Installation()
    installation.define({"kind": "purpose", "key": "operations", "name": "o", "basis": "legitimate_interest", "id": "prp_1"})
    installation.define({"kind": "source", "key": "shop", "name": "s", "type": "server", "region": "eu", "id": "src_a"})
    installation.define(destination("hook", "operations"))
    installation.settle()
    return installation


def order(number: int, user: str = "u") -> dict[str, Any]:
    return {"type": "track", "event": "Order Completed", "messageId": f"m{number}", "userId": user}


def define(installation: Installation, where: dict[str, Any], key: str = "buyers", state: str = "active") -> int:
    return installation.define(segment(key, {"language": 1, "where": where}, state=state))


def steps(installation: Installation) -> list[int]:
    found = []
    while installation.worker.step():
        found.append(installation.worker.position)
    return found


def test_a_micro_batch_ends_when_it_is_full_and_before_a_definition() -> None:
    installation = begun()
    start = installation.worker.position
    installation.events_per_batch = 4
    installation.restart()
    for number in range(3):
        installation.send(order(2 * number), order(2 * number + 1))
    define(installation, BUYERS)
    installation.send(order(9))
    # An envelope counts as an event.
    assert [position - start for position in steps(installation)] == [2, 3, 4, 5]


def test_a_tick_comes_when_a_timer_is_due_and_nothing_else_does() -> None:
    installation = begun()
    define(installation, {**BUYERS, "within": "1d"})
    installation.send(order(1))
    installation.settle()
    head = installation.log.head().position
    assert not installation.worker.tick()
    installation.now += DAY - 1
    installation.settle()
    assert installation.log.head().position == head
    installation.now += 1
    assert installation.worker.tick()
    installation.settle()
    assert installation.log.read(head, 9)[0].kind == "tick"
    assert installation.stays() == set()
    installation.now += 90 * DAY
    installation.settle()
    assert installation.log.head().position == head + 1


def test_a_new_segment_knows_history_and_tells_nobody() -> None:
    installation = begun()
    for number in range(3):
        installation.now += SECOND
        installation.send(order(number, f"u{number % 2}"))
    installation.settle()
    feed = len(list(installation.rows(FEED)))
    position = define(installation, {**BUYERS, "times": {"min": 2}})
    installation.settle()
    ((key, row),) = list(installation.rows(MEMBERSHIPS))
    assert (row.entered_at, key[1], row.backfill) == (installation.now, position, True)
    assert installation.outbox() == {}
    assert len(list(installation.rows(FEED))) == feed + 1
    # From now on it is live.
    installation.now += SECOND
    installation.send(order(7, "u1"))
    installation.settle()
    assert [intent.type for _, intent in installation.outbox().values()] == ["segment.entered"]


def test_a_changed_and_an_archived_segment() -> None:
    installation = begun()
    define(installation, BUYERS)
    installation.send(order(1))
    installation.settle()
    second = define(installation, {"kind": "not", "of": BUYERS})
    installation.settle()
    assert installation.stays() == set()
    third = define(installation, BUYERS)
    installation.settle()
    assert len(installation.stays()) == 1
    define(installation, BUYERS, state="archived")
    installation.settle()
    assert installation.stays() == set()
    assert [intent.type for _, intent in installation.outbox().values()] == ["segment.entered"]
    versions = [key[2] for key, _ in installation.rows(DEFINITION_VERSIONS) if key[1] == "buyers"]
    assert len(versions) == 4
    assert {second, third} < set(versions)


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind":"segment","key":"x"}',
        b"{",
        json.dumps(segment("x", {"language": 1, "where": {"kind": "segment", "key": "nobody"}})).encode(),
        json.dumps(segment("x", {"language": 1, "where": {"kind": "zzz"}})).encode(),
    ],
)
def test_a_definition_that_cannot_be_is_passed_over(body: bytes) -> None:
    installation = begun()
    before = [key for key, _ in installation.rows(DEFINITIONS)]
    position = installation.log.append([Draft(kind="definition", slices=(body,))])[0].position
    installation.send(order(1))
    installation.settle()
    assert [key for key, _ in installation.rows(DEFINITIONS)] == before
    assert [fields["position"] for event, fields in installation.notes if event == "definition_refused"] == [position]
    assert installation.counters()["applied"] == 1
    again = MemoryState()
    head = installation.log.head().position
    rebuild(installation.log, again, head, SECRET, Gate(GATE_SECRET), lambda event, fields: None)
    assert again.offset()[0] == head


def test_an_older_worker_is_fenced() -> None:
    installation = begun()
    old = installation.worker
    assert isinstance(installation.state, MemoryState)
    installation.send(order(1))
    installation.restart()
    installation.settle()
    installation.send(order(2))
    with pytest.raises(Fenced):
        while old.step():
            pass
    installation.settle()
    assert installation.counters()["applied"] == 2


def test_run_waits_trouble_out(monkeypatch: pytest.MonkeyPatch) -> None:
    installation = begun()
    installation.send(order(1))
    stop, failures = Signal(), [StateFull("full"), StateFull("full")]
    sound = installation.worker.step

    def step() -> bool:
        if failures:
            raise failures.pop()
        if not sound():
            stop.set()
        return True

    monkeypatch.setattr(worker_module, "RETRY_S", 0.001)
    monkeypatch.setattr(installation.worker, "step", step)
    # Turning the collector off is for a process of its own.
    monkeypatch.setattr(gc, "disable", lambda: None)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    installation.worker.run(stop)
    assert installation.counters()["applied"] == 1
    assert [event for event, _ in installation.notes if event == "store_full"] == ["store_full"] * 2


def test_replay_reads_up_to_its_end_and_writes_nothing() -> None:
    installation = begun()
    installation.send(order(1))
    log = UpTo(installation.log, 2)
    assert [record.position for record in log.read(0, 10)] == [1, 2]
    assert log.read(2, 10) == []
    assert log.head().position == 2
    assert UpTo(installation.log, 99).head() == installation.log.head()
    for refused in (lambda: log.append([]), lambda: log.prune(1), lambda: log.erase([])):
        with pytest.raises(PermissionError):
            refused()
    assert log.verify() == []
    progress: list[int] = []
    state = MemoryState()
    rebuild(log, state, 2, SECRET, Gate(GATE_SECRET), lambda event, fields: None, progress.append)
    assert progress == [1, 2]


def test_the_feed_is_numbered_without_gaps() -> None:
    installation = begun()
    define(installation, BUYERS)
    for number in range(5):
        installation.send(order(number))
        installation.settle()
    numbers = [key[0] for key, _ in installation.rows(FEED)]
    assert numbers == list(range(1, 6))
    noted = {key: row.value for key, row in installation.rows(CURSORS)}
    assert noted == {("feed_sequence",): 5}
    raw = installation.state.get_many(META, [("now",)])[("now",)]
    assert decode_row(META, raw).value == installation.now


def test_a_worker_goes_on_where_another_left_off() -> None:
    installation = begun()
    define(installation, BUYERS)
    installation.send(order(1))
    installation.settle()
    other = Worker(
        installation.log, installation.state, SECRET, Gate(GATE_SECRET), lambda: installation.now, lambda event, fields: None
    )
    assert other.position == installation.worker.position
    assert not other.step()
    installation.send(order(2, "v"))
    assert other.step()
    assert len(installation.stays()) == 2
