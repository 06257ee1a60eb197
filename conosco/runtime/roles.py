"""The roles that work behind the front: worker, sender and warehouse. Each runs in a process of its own until told to stop."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Mapping
from threading import Event as Signal
from typing import Final

from sqlglot import exp

from conosco.collect.understand import understand
from conosco.connectors.outbound import Outbound
from conosco.model.definition import Destination, Source, read_definition
from conosco.model.event import Event
from conosco.model.record import Record
from conosco.ports.state import State
from conosco.ports.tables import DEFINITIONS, decode_row
from conosco.ports.warehouse import Warehouse
from conosco.rules.compile import attribute_values
from conosco.rules.condition import AttributeSpec
from conosco.rules.values import canonical_json
from conosco.runtime.bootstrap import (
    INSTALLATION_SECRET,
    Folder,
    clock,
    make_gate,
    open_keys,
    open_leases,
    open_log,
    open_state,
    open_warehouse,
    open_worker_state,
    render_sql,
    required_secret,
)
from conosco.runtime.configuration import load
from conosco.runtime.discover import destination_connectors
from conosco.runtime.journal import Journal
from conosco.runtime.sender import Sender
from conosco.runtime.settings import Settings
from conosco.runtime.warehouse import WarehouseRole, confine_memory
from conosco.runtime.worker import Worker

# How often the worker's log of writes is folded into State's file, off the commit path, and how often parents are checked.
CHECKPOINT_S: Final = 1.0
PARENT_CHECK_S: Final = 1.0
VIEWS_CHECK_S: Final = 0.5
# A moment in the year 2223 that stands for now while SQL is compiled, how far before it windows may reach, and a position
# beyond all others.
STAND_IN: Final = 8_000_000_000_000_000
STAND_IN_REACH: Final = 3_000_000_000_000_000
EVERYTHING: Final = 1 << 62


def stop_signal(*, with_parent: bool = True) -> Signal:
    """A signal that is set by SIGTERM, SIGINT, or, ``with_parent``, by the death of the process that started this one."""
    stop = Signal()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if not with_parent:
        return stop
    parent = os.getppid()

    def watch() -> None:
        while not stop.wait(PARENT_CHECK_S):
            if os.getppid() != parent:
                stop.set()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
    return stop


def run_worker(settings: Settings) -> None:
    """Apply the log to State until told to stop."""
    stop = stop_signal()
    journal = Journal("worker", clock)
    keys = open_keys(settings)
    log = open_log(settings)
    state, checkpoint = open_worker_state(settings)
    worker = Worker(log, state, required_secret(keys, INSTALLATION_SECRET), make_gate(keys), clock, journal.note)
    folding = threading.Thread(target=_checkpoint, args=(checkpoint, stop), name="checkpoint", daemon=True)
    folding.start()
    journal.note("started", {"position": worker.position})
    worker.run(stop)
    folding.join(5)
    state.close()
    log.close()
    journal.note("stopped", {"position": worker.position})


def _checkpoint(checkpoint: Callable[[], object], stop: Signal) -> None:
    """Fold State's write-ahead log into its file, beside the worker so that no commit waits for it."""
    while not stop.wait(CHECKPOINT_S):
        checkpoint()


def run_sender(settings: Settings) -> None:
    """Send what the outbox holds until told to stop."""
    stop = stop_signal()
    asyncio.run(_send(settings, stop))


async def _send(settings: Settings, stop: Signal) -> None:
    journal = Journal("sender", clock)
    keys, log, leases = open_keys(settings), open_log(settings), open_leases(settings)
    state = open_state(settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def relay() -> None:
        stop.wait()
        loop.call_soon_threadsafe(stopping.set)

    threading.Thread(target=relay, name="stop-relay", daemon=True).start()
    outbound = Outbound(allow_private_networks=settings.allow_private)
    try:
        sender = Sender(
            log,
            state,
            leases,
            lambda key: _destination(state, key),
            keys.secret,
            make_gate(keys),
            outbound,
            clock,
            connectors=destination_connectors(),
        )
        journal.note("started", {})
        await sender.run(stopping)
    finally:
        await outbound.close()
    for door in (state, leases, log):
        door.close()
    journal.note("stopped", {})


def _destination(state: State, key: str) -> Destination | None:
    raw = state.get_many(DEFINITIONS, [("destination", key)]).get(("destination", key))
    found = None if raw is None else read_definition(decode_row(DEFINITIONS, raw).body)
    return found if isinstance(found, Destination) else None


def understanding(state: State) -> Callable[[Record], list[Event]]:
    """How the warehouse reads records: as the worker does, with the definitions that State holds now."""
    configuration = load(state)
    read_at = state.offset()[0]

    def read(record: Record) -> list[Event]:
        nonlocal configuration, read_at
        if record.position > read_at or record.source_id not in configuration.definitions_by_id:
            configuration, read_at = load(state), state.offset()[0]
        source = configuration.definitions_by_id.get(record.source_id)
        if not isinstance(source, Source):
            source = Source(key="unknown", name="unknown", type="browser", region="", id=record.source_id)
        return [item for item in understand(record, source, configuration.rules) if isinstance(item, Event)]

    return read


def run_warehouse(settings: Settings) -> None:
    """Keep the warehouse up to date and answer questions until told to stop."""
    stop = stop_signal()
    # The engine's own limit does not see everything that a question can make; beyond this wall the question fails.
    confine_memory((settings.warehouse_memory_mb + 2_048) << 20)
    journal = Journal("warehouse", clock)
    folder = Folder(settings.data)
    log, state = open_log(settings), open_state(settings)
    warehouse = open_warehouse(settings)
    role = WarehouseRole(
        log=log,
        state=state,
        warehouse=warehouse,
        understand=understanding(state),
        canonical_json=canonical_json,
        socket_path=folder.socket,
        note=journal.note,
    )
    journal.note("started", {"batch": warehouse.last_batch()})
    keeping = threading.Thread(target=_keep_views, args=(state, warehouse, stop, journal), name="views", daemon=True)
    keeping.start()
    role.run(stop)
    keeping.join(5)
    for door in (warehouse, state, log):
        door.close()
    journal.note("stopped", {})


def _keep_views(state: State, warehouse: Warehouse, stop: Signal, journal: Journal) -> None:
    """Keep the computed traits of the `traits` table in step with their definitions."""
    defined: dict[str, str] | None = None
    while not stop.wait(VIEWS_CHECK_S):
        views = attribute_views(load(state).attributes)
        if views != defined:
            warehouse.define(views)
            defined = views
            journal.note("views_defined", {"count": len(views)})


def attribute_views(attributes: Mapping[str, AttributeSpec]) -> dict[str, str]:
    """SQL of each computed trait as it is whenever it is asked: compiled for a stand-in moment, which then becomes now."""

    def to_now(node: exp.Expression) -> exp.Expression:
        if isinstance(node, exp.Literal) and not node.is_string and node.this.isdigit():
            behind = STAND_IN - int(node.this)
            if 0 <= behind < STAND_IN_REACH:
                now = exp.func("epoch_us", exp.func("now"))
                return exp.paren(exp.Sub(this=now, expression=exp.Literal.number(behind)))
        return node

    return {
        key: render_sql(attribute_values(spec, true_at=STAND_IN, known_at=EVERYTHING).transform(to_now))
        for key, spec in attributes.items()
    }
