"""The warehouse process: what the feed names reaches the documented tables, and questions are answered over the socket."""

import asyncio
import socket
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conosco.collect.envelope import spell_envelope
from conosco.collect.understand import understand
from conosco.engines.duckdb.warehouse import DuckWarehouse
from conosco.engines.memory.log import MemoryLog
from conosco.engines.memory.state import MemoryState
from conosco.model.definition import Source, SourceSpec
from conosco.model.identifier import IdentityRules
from conosco.model.record import Draft, Envelope, Record
from conosco.ports.tables import CURSORS, FEED, FeedRow, MetaRow, encode_row
from conosco.ports.warehouse import QueryFailed
from conosco.rules.values import canonical_json
from conosco.runtime.answering import QUERIES_AT_ONCE, QUERIES_WAITING_MAX
from conosco.runtime.asking import Asking, AskingNow, WarehouseUnavailable
from conosco.runtime.warehouse import WarehouseRole

NOW = 1_700_049_600_000_000
SOURCE = Source(key="shop", name="Shop", type="server", region="eu", spec=SourceSpec(priority=3), id="src_shop")
RUNAWAY = "SELECT count(*) FROM range(1000000000) AS a, range(1000000) AS b"


class World:
    """A log and a State that a pretended worker writes, and the warehouse beside them."""

    def __init__(self, folder: Path) -> None:
        self.socket_path = folder / "warehouse.sock"
        self.log = MemoryLog(lambda: NOW)
        self.state = MemoryState()
        self.warehouse = DuckWarehouse(None, memory_limit_mb=256)
        self.sequence = 0
        self.notes: list[tuple[str, dict[str, Any]]] = []

    def role(self, **changes: Any) -> WarehouseRole:
        settings: dict[str, Any] = {
            "log": self.log,
            "state": self.state,
            "warehouse": self.warehouse,
            "understand": lambda record: understand(record, SOURCE, IdentityRules()),
            "canonical_json": canonical_json,
            "socket_path": self.socket_path,
            "note": lambda event, fields: self.notes.append((event, fields)),
        }
        return WarehouseRole(**{**settings, **changes})

    def receive(self, *events: dict[str, Any]) -> int:
        """Append a request; returns its position."""
        slices = (spell_envelope(Envelope(received_at=NOW)), *map(msgspec.json.encode, events))
        return self.log.append([Draft(kind="request", source_id=SOURCE.id, slices=slices)])[0].position

    def feed(self, position: int, **tables: Any) -> None:
        """What the worker tells of one micro-batch, with State's offset in the same commit."""
        self.sequence += 1
        row = encode_row(FeedRow(body=msgspec.msgpack.encode(tables), position=position))
        self.state.begin(1)
        self.state.put_many(FEED, {(self.sequence,): row})
        self.state.put_many(CURSORS, {("feed_sequence",): encode_row(MetaRow(value=self.sequence))})
        self.state.commit(position)

    def forget_feed(self, upto: int) -> None:
        self.state.begin(1)
        self.state.delete(FEED, [(sequence,) for sequence in range(1, upto + 1)])
        self.state.commit(None)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.warehouse.query(sql, (), max_rows=1_000, timeout_s=60, trusted=True).rows


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.warehouse.close()


def order(message_id: str, user: str = "ada", **properties: Any) -> dict[str, Any]:
    return {"type": "track", "event": "Order Completed", "messageId": message_id, "userId": user, "properties": properties}


def version_of(value: str, profile_id: str, position: int) -> dict[str, Any]:
    return {"namespace": "user_id", "value": value, "profile_id": profile_id, "first_seen_at": NOW, "position": position}


def drain(role: WarehouseRole) -> None:
    """Step until there is nothing more."""
    for _ in range(10):
        role.step()


# Draining ---------------------------------------------------------------------------------------------------------------


def test_applied_events_are_read_from_the_log(world: World) -> None:
    first = world.receive(order("m1", price=1.10), order("m2"), order("m3"))
    second = world.receive(
        {"type": "page", "name": "Home", "messageId": "m4", "anonymousId": "a1", "sentAt": "2023-11-15T12:00:00Z"}
    )
    world.feed(first, applied=[(first, 0), (first, 2)], identifiers=[version_of("ada", "pro_a", first)])
    world.feed(second, applied=[(second, 0)])
    role = world.role()
    drain(role)
    assert world.rows("SELECT position, slot, message_id, profile_id, home_namespace FROM main.events ORDER BY ALL") == [
        (first, 0, "m1", "pro_a", "user_id"),
        (first, 2, "m3", "pro_a", "user_id"),
        (second, 0, "m4", None, "anonymous_id"),
    ]
    assert world.rows("SELECT properties, property_keys, schema FROM store.events WHERE message_id = 'm1'") == [
        ('{"price":1.1}', canonical_json(b'{"price":1.1}'), 1)
    ]
    assert world.rows("SELECT message_id, outcome, reason, source_id FROM outcomes ORDER BY message_id") == [
        ("m1", "applied", "applied", "src_shop"),
        ("m3", "applied", "applied", "src_shop"),
        ("m4", "applied", "applied", "src_shop"),
    ]
    assert world.rows("SELECT value_keys FROM store.identifier_versions") == [(canonical_json(b'"ada"'),)]
    assert (role.status.warehoused, role.status.as_of, role.status.last_batch) == (3, second, 2)


def test_traits_of_identify_events_become_observations(world: World) -> None:
    traits = {"country": "IT", "tags": ["a", {"b": 1.50}], "gone": None}
    position = world.receive(
        {"type": "identify", "messageId": "m1", "userId": "ada", "traits": traits},
        {"type": "group", "messageId": "m2", "userId": "ada", "groupId": "g", "traits": {"size": 5}},
    )
    world.feed(position, applied=[(position, 0), (position, 1)], identifiers=[version_of("ada", "pro_a", position)])
    drain(world.role())
    assert world.rows(
        "SELECT name, value, value_keys, priority, home_value, message_id FROM store.observations ORDER BY name"
    ) == [
        ("country", '"IT"', canonical_json(b'"IT"'), 3, "ada", "m1"),
        ("gone", "null", canonical_json(b"null"), 3, "ada", "m1"),
        ("tags", '["a",{"b":1.5}]', canonical_json(b'["a",{"b":1.5}]'), 3, "ada", "m1"),
    ]
    assert world.rows("SELECT name, value FROM traits ORDER BY name") == [("country", '"IT"'), ("tags", '["a",{"b":1.5}]')]


def test_rows_of_the_feed_reach_their_tables(world: World) -> None:
    world.feed(
        9,
        links=[
            {
                "left_namespace": "user_id",
                "left_value": "ada",
                "right_namespace": "email",
                "right_value": "ada@mail.example",
                "kind": "observed",
                "first_seen_at": NOW,
                "position": 4,
                "evidence": "m1",
                "refused_by": "limit",
                "retracted_position": None,
                "link_id": "",
            }
        ],
        memberships=[
            {
                "profile_id": "pro_a",
                "segment": "buyers",
                "entered_at": NOW,
                "exited_at": None,
                "because": b'{"cause":"event"}',
                "backfill": True,
                "entered_position": 3,
                "ordinal": 1,
                "position": 9,
            }
        ],
        deliveries=[{"delivery_id": "dlv_1", "state": "pending", "attempts": 0, "created_at": NOW}],
        outcomes=[
            {
                "position": 2,
                "slot": 1,
                "message_id": "m9",
                "source_id": "src_shop",
                "outcome": "quarantined",
                "reason": "missing_field",
                "params": {"field": "event"},
                "decided_at": NOW,
                "attempts": 1,
            }
        ],
    )
    world.feed(11, deliveries=[{"delivery_id": "dlv_1", "state": "delivered", "attempts": 1, "created_at": NOW}])
    drain(world.role())
    assert world.rows("SELECT right_value, refused_by, position FROM links") == [("ada@mail.example", "limit", 4)]
    assert world.rows("SELECT profile_id, segment, because, backfill, position FROM memberships") == [
        ("pro_a", "buyers", '{"cause":"event"}', True, 3)
    ]
    assert world.rows("SELECT state, attempts, position FROM deliveries") == [("delivered", 1, 11)]
    assert world.rows("SELECT outcome, reason, params, position, slot FROM outcomes") == [
        ("quarantined", "missing_field", '{"field":"event"}', 2, 1)
    ]


def test_an_event_that_a_replay_applied_is_fetched_from_its_old_place(world: World) -> None:
    old = world.receive(order("m1"))
    for number in range(1_200):
        last = world.receive(order(f"later {number}"))
    outcome = {
        "position": old,
        "slot": 0,
        "message_id": "m1",
        "source_id": SOURCE.id,
        "params": {},
        "decided_at": NOW,
        "attempts": 1,
    }
    world.feed(old, outcomes=[{**outcome, "outcome": "quarantined", "reason": "processing_failed"}])
    world.feed(last, outcomes=[{**outcome, "outcome": "applied", "reason": "applied_after_replay"}], applied=[(last, 0)])
    role = world.role()
    drain(role)
    assert world.rows("SELECT position, message_id FROM main.events ORDER BY position") == [(old, "m1"), (last, "later 1199")]
    assert world.rows("SELECT outcome, reason FROM outcomes ORDER BY position LIMIT 1") == [("applied", "applied_after_replay")]
    assert role.status.warehoused == 2


def test_erased_events_are_passed_over(world: World) -> None:
    position = world.receive(order("m1"), order("m2"))
    world.log.erase([(position, 1)])
    world.feed(position, applied=[(position, 0), (position, 1)])
    drain(world.role())
    assert world.rows("SELECT message_id FROM main.events") == [("m2",)]


def test_a_restarted_role_goes_on_where_the_last_one_was(world: World) -> None:
    position = world.receive(order("m1"))
    world.feed(position, applied=[(position, 0)])
    drain(world.role())
    later = world.receive(order("m2"))
    world.feed(later, applied=[(later, 0)])
    role = world.role()
    drain(role)
    assert world.rows("SELECT message_id FROM main.events ORDER BY position") == [("m1",), ("m2",)]
    assert (role.status.warehoused, role.status.last_batch) == (2, 2)


def test_positions_that_changed_nothing_still_count_as_known(world: World) -> None:
    role = world.role()
    position = world.receive(order("m1"))
    world.feed(position, applied=[(position, 0)])
    drain(role)
    world.state.begin(1)
    world.state.commit(position + 40)
    drain(role)
    assert (role.status.as_of, role.status.last_batch) == (position + 40, 1)


def test_many_feed_rows_make_few_appends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    append = world.warehouse.append

    def counting(batch_id: int, tables: Any, as_of: int) -> None:
        batches.append(batch_id)
        append(batch_id, tables, as_of)

    monkeypatch.setattr(world.warehouse, "append", counting)
    for number in range(150):
        position = world.receive(order(f"m{number}"))
        world.feed(position, applied=[(position, 0)])
    drain(world.role())
    assert batches == [150]
    assert world.rows("SELECT count(*) FROM main.events") == [(150,)]


def test_a_value_that_cannot_be_indexed_stops_nothing(world: World) -> None:
    def fragile(raw: bytes) -> str:
        if b"poison" in raw:
            raise msgspec.DecodeError("unreadable")
        return canonical_json(raw)

    position = world.receive(order("m1", note="poison"), order("m2"))
    world.feed(position, applied=[(position, 0), (position, 1)])
    drain(world.role(canonical_json=fragile))
    assert world.rows("SELECT message_id, property_keys = '{}' FROM store.events ORDER BY slot")[0] == ("m1", True)
    assert [event for event, _ in world.notes] == ["unreadable_value"]


# A feed that does not fit ----------------------------------------------------------------------------------------------


def fill(world: World, count: int) -> None:
    for number in range(count):
        position = world.receive(order(f"m{number}"))
        world.feed(position, applied=[(position, 0)])


def test_a_lost_warehouse_is_filled_anew_from_a_whole_feed(world: World) -> None:
    fill(world, 3)
    drain(world.role())
    world.warehouse.clear()
    role = world.role()
    drain(role)
    assert (role.status.warehoused, role.status.needs_rebuild) == (3, "")


def test_a_feed_that_begins_too_late_calls_for_a_rebuild(world: World) -> None:
    fill(world, 3)
    world.forget_feed(2)
    calls: list[str] = []
    role = world.role(rebuild=lambda: calls.append("rebuild"))
    assert not role.step()
    assert role.status.needs_rebuild == "feed_begins_later"
    world.forget_feed(3)
    assert not role.step()
    assert role.status.needs_rebuild == "feed_is_gone"
    assert calls == ["rebuild", "rebuild"]
    assert [fields["reason"] for event, fields in world.notes if event == "warehouse_misfit"] == [
        "feed_begins_later",
        "feed_is_gone",
    ]
    assert world.rows("SELECT count(*) FROM main.events") == [(0,)]


def test_a_rebuild_that_absorbs_what_was_missing_ends_the_need(world: World) -> None:
    fill(world, 3)
    kept = [FeedRow(body=msgspec.msgpack.encode({"applied": [(number, 0)]}), position=number) for number in (1, 2)]
    world.forget_feed(2)
    roles: list[WarehouseRole] = []
    role = world.role(rebuild=lambda: roles[0].absorb(list(enumerate(kept, 1))))
    roles.append(role)
    drain(role)
    assert (role.status.warehoused, role.status.last_batch, role.status.needs_rebuild) == (3, 3, "")


@pytest.mark.parametrize("is_ahead", [True, False], ids=["ahead", "another"])
def test_a_warehouse_of_another_state_is_begun_anew(world: World, is_ahead: bool) -> None:
    position = world.receive(order("m1"))
    stranger: dict[str, list[dict[str, Any]]] = {"events": [], "outcome_versions": []}
    world.warehouse.append(9 if is_ahead else 1, stranger, 0)
    world.feed(position, applied=[(position, 0)])
    role = world.role()
    drain(role)
    assert world.rows("SELECT message_id FROM main.events") == [("m1",)]
    assert (role.status.last_batch, role.status.needs_rebuild) == (1, "")
    reasons = [fields["reason"] for event, fields in world.notes if event == "warehouse_misfit"]
    assert reasons == ["warehouse_is_ahead" if is_ahead else "feed_is_another"]


def test_a_broken_warehouse_is_taken_stock_of_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(world, 1)
    role = world.role()
    append = world.warehouse.append
    failures = [QueryFailed("warehouse_broken")]

    def breaking(batch_id: int, tables: Any, as_of: int) -> None:
        if failures:
            raise failures.pop()
        append(batch_id, tables, as_of)

    monkeypatch.setattr(world.warehouse, "append", breaking)
    drain(role)
    assert role.status.warehoused == 1
    failures.append(QueryFailed("query_out_of_memory"))
    fill(world, 1)
    with pytest.raises(QueryFailed):
        role.step()


# Questions --------------------------------------------------------------------------------------------------------------


class Running:
    """A role that runs in a thread."""

    def __init__(self, world: World) -> None:
        self.role = world.role()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.role.run, args=(self.stop,))
        self.thread.start()
        self.now = AskingNow(world.socket_path)
        while True:
            try:
                self.now.status()
                return
            except WarehouseUnavailable:
                assert self.thread.is_alive()

    def close(self) -> None:
        self.stop.set()
        self.thread.join()


@pytest.fixture
def running(world: World) -> Iterator[Running]:
    made = Running(world)
    yield made
    made.close()


def awaited(world: World, use: Callable[[Asking], Any]) -> Any:
    """Run a coroutine function with a client of its own."""

    async def with_client() -> Any:
        asking = Asking(world.socket_path)
        try:
            return await use(asking)
        finally:
            await asking.close()

    return asyncio.run(with_client())


def test_both_clients_ask_all_there_is_to_ask(world: World, running: Running) -> None:
    position = world.receive(order("m1"))
    world.feed(position, applied=[(position, 0)], identifiers=[version_of("ada", "pro_a", position)])
    assert running.now.wait(position, 30)
    running.now.define({"orders": "SELECT 'pro_a' AS profile_id, '1' AS value"})
    answer = running.now.query("SELECT profile_id, event_at FROM events WHERE message_id = ?", ["m1"])
    assert (answer.columns, answer.rows, answer.as_of) == (
        ("profile_id", "event_at"),
        [("pro_a", "2023-11-15T12:00:00Z")],
        position,
    )
    assert (running.now.status().warehoused, running.now.status().as_of) == (1, position)
    assert not running.now.wait(position + 1, 0)

    async def the_same(asking: Asking) -> None:
        assert await asking.wait(position, 30)
        assert (await asking.query("SELECT name, value FROM traits")).rows == [("orders", "1")]
        await asking.define({})
        assert (await asking.query("SELECT name FROM traits")).rows == []
        assert (await asking.query("SELECT warehoused FROM store.progress", trusted=True)).rows == [(1,)]
        assert await asking.status() == running.now.status()

    awaited(world, the_same)


def test_waiting_ends_when_the_position_arrives(world: World, running: Running) -> None:
    async def wait(asking: Asking) -> list[bool]:
        waits = [asyncio.create_task(asking.wait(1, 30)) for _ in range(20)]
        await asking.status()
        position = world.receive(order("m1"))
        world.feed(position, applied=[(position, 0)])
        return list(await asyncio.gather(*waits))

    assert awaited(world, wait) == [True] * 20


def test_failures_come_back_with_code_and_parameters(world: World, running: Running) -> None:
    with pytest.raises(QueryFailed) as failure:
        running.now.query("SELECT * FROM store.events")
    assert (failure.value.code, failure.value.params) == ("query_refused", {"what": "relation", "name": "store.events"})
    with pytest.raises(QueryFailed) as failure:
        running.now.query("SELECT * FROM range(11)", max_rows=10)
    assert (failure.value.code, failure.value.params) == ("too_many_rows", {"limit": 10})
    with pytest.raises(QueryFailed) as failure:
        running.now.define({"Not a key": "SELECT 1"})
    assert failure.value.code == "query_refused"


def test_numbers_cross_exactly(world: World, running: Running) -> None:
    big = 10**30 + 1
    exact = Decimal("12345678901234567890.123456")
    sql = f"SELECT {big}, CAST('{exact}' AS DECIMAL(38, 6)), 0.1, CAST(1 AS DOUBLE), ?, ?, ?"
    assert running.now.query(sql, [2**53 + 1, 0.25, "ż"]).rows == [(big, exact, 0.1, 1.0, 2**53 + 1, 0.25, "ż")]


def test_a_runaway_question_holds_up_neither_appends_nor_others(world: World, running: Running) -> None:
    async def ask(asking: Asking) -> None:
        slow = [asyncio.create_task(asking.query(RUNAWAY, timeout_s=1)) for _ in range(QUERIES_AT_ONCE - 1)]
        position = world.receive(order("m1"))
        world.feed(position, applied=[(position, 0)])
        assert await asking.wait(position, 30)
        assert (await asking.query("SELECT count(*) FROM events")).rows == [(1,)]
        failures = await asyncio.gather(*slow, return_exceptions=True)
        assert [failure.code for failure in failures if isinstance(failure, QueryFailed)] == ["query_timeout"] * len(slow)

    awaited(world, ask)


def test_more_questions_than_can_wait_are_told_busy(world: World, running: Running) -> None:
    async def ask(asking: Asking) -> list[str]:
        slow = [asyncio.create_task(asking.query(RUNAWAY, timeout_s=1)) for _ in range(QUERIES_AT_ONCE)]
        quick = [asyncio.create_task(asking.query("SELECT 1")) for _ in range(QUERIES_WAITING_MAX + 5)]
        found = await asyncio.gather(*slow, *quick, return_exceptions=True)
        return sorted(each.code if isinstance(each, QueryFailed) else "answered" for each in found)

    expected = ["answered"] * QUERIES_WAITING_MAX + ["busy"] * 5 + ["query_timeout"] * QUERIES_AT_ONCE
    assert awaited(world, ask) == expected


def test_no_warehouse_is_told_as_such_and_a_new_one_is_found(world: World) -> None:
    with pytest.raises(WarehouseUnavailable):
        AskingNow(world.socket_path).status()

    async def ask(asking: Asking) -> None:
        with pytest.raises(WarehouseUnavailable) as failure:
            await asking.status()
        assert failure.value.code == "warehouse_unavailable"
        for _ in range(2):
            running = await asyncio.to_thread(Running, world)
            assert (await asking.query("SELECT 1")).rows == [(1,)]
            await asyncio.to_thread(running.close)
        with pytest.raises(WarehouseUnavailable):
            await asking.query("SELECT 1")

    awaited(world, ask)


def test_a_question_under_way_is_told_that_the_process_went(world: World) -> None:
    running = Running(world)

    async def ask(asking: Asking) -> None:
        waiting = asyncio.create_task(asking.wait(99, 60))
        await asking.status()
        await asyncio.to_thread(running.close)
        with pytest.raises(WarehouseUnavailable):
            await waiting

    awaited(world, ask)


@pytest.mark.parametrize(
    "noise", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x02{}", b"\x00\x00\x00\x04nope", b"GET / HTTP/1.1\r\n\r\n", b""]
)
def test_noise_on_the_socket_harms_nobody(world: World, running: Running, noise: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(world.socket_path))
        stranger.sendall(noise)
        stranger.shutdown(socket.SHUT_WR)
        assert stranger.recv(1) == b""
    assert running.now.query("SELECT 1").rows == [(1,)]


def test_only_the_owner_may_ask(world: World, running: Running) -> None:
    assert stat.S_IMODE(world.socket_path.stat().st_mode) == 0o600


def test_the_socket_may_lie_deep_and_is_removed(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-folder-with-a-rather-long-name"] * 5)
    deep.mkdir(parents=True)
    world = World(deep)
    running = Running(world)
    assert running.now.query("SELECT 1").rows == [(1,)]
    running.close()
    assert not world.socket_path.exists()
    world.warehouse.close()


def test_a_process_of_confined_memory_lives_on(tmp_path: Path) -> None:
    script = """
        from conosco.engines.duckdb.warehouse import DuckWarehouse
        from conosco.ports.warehouse import QueryFailed
        from conosco.runtime.warehouse import confine_memory
        confine_memory(1_000_000_000)
        warehouse = DuckWarehouse(None, memory_limit_mb=128)
        steps = ["s0 AS (SELECT repeat('x', 100000) AS text)"]
        steps += [f"s{n} AS MATERIALIZED (SELECT text || text || text || text AS text FROM s{n - 1})" for n in range(1, 8)]
        sql = f"WITH {', '.join(steps)} SELECT length(text) FROM s7"
        try:
            warehouse.query(sql, (), max_rows=10, timeout_s=60, trusted=False)
        except QueryFailed as failure:
            print(failure.code)
        print(warehouse.query("SELECT 1", (), max_rows=10, timeout_s=60, trusted=False).rows)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True)
    assert done.stdout == "query_out_of_memory\n[(1,)]\n"


def test_records_of_other_kinds_are_no_events(world: World) -> None:
    def never(record: Record) -> list[object]:
        raise AssertionError(record.kind)

    world.log.append([Draft(kind="tick")])
    world.feed(1, deliveries=[{"delivery_id": "dlv_1", "state": "dead"}])
    drain(world.role(understand=never))
    assert world.rows("SELECT state FROM deliveries") == [("dead",)]
