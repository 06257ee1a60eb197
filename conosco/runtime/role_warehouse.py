"""The warehouse's process: keeps the warehouse up to date and answers questions until told to stop."""

import os
import threading
from collections.abc import Callable, Mapping
from threading import Event as Signal
from typing import Final

from sqlglot import exp

from conosco.model.event import Event
from conosco.model.record import Record
from conosco.ports.state import State
from conosco.ports.warehouse import Warehouse
from conosco.rules.compile import attribute_values
from conosco.rules.condition import AttributeSpec
from conosco.rules.values import canonical_json
from conosco.runtime.bootstrap import (
    INSTALLATION_SECRET,
    Folder,
    clock,
    open_archive,
    open_keys,
    open_log,
    open_state,
    required_secret,
)
from conosco.runtime.bootstrap_warehouse import open_warehouse, render_sql
from conosco.runtime.configuration import load
from conosco.runtime.journal import Journal
from conosco.runtime.meaning import Meaning, scan_of
from conosco.runtime.process import settings_of_role, stop_signal
from conosco.runtime.report import Reporter
from conosco.runtime.retention import Retention
from conosco.runtime.sealing import Sealing, identify_with
from conosco.runtime.settings import Settings
from conosco.runtime.warehouse import WarehouseRole, confine_memory

NICENESS: Final = 10
VIEWS_CHECK_S: Final = 0.5
# A moment in the year 2223 that stands for now while SQL is compiled, how far before it windows may reach, and a position
# beyond all others.
STAND_IN: Final = 8_000_000_000_000_000
STAND_IN_REACH: Final = 3_000_000_000_000_000
EVERYTHING: Final = 1 << 62


def understanding(state: State) -> Callable[[Record], list[Event]]:
    """How the warehouse reads records: as the worker does, with the definitions that State holds now."""
    meaning = Meaning(scan_of(state))
    configuration = load(state)
    read_at = state.offset()[0]

    def read(record: Record) -> list[Event]:
        nonlocal configuration, read_at
        if record.position > read_at or record.source_id not in configuration.definitions_by_id:
            configuration, read_at = load(state), state.offset()[0]
        return [item for item in meaning.items(record, configuration) if isinstance(item, Event)]

    return read


def run_warehouse(settings: Settings) -> None:
    """Keep the warehouse up to date and answer questions until told to stop."""
    stop = stop_signal(settings.supervisor)
    # The engine's own limit does not see everything that a question can make; beyond this wall the question fails.
    confine_memory((settings.warehouse_memory_mb + 2_048) << 20)
    # Whoever waits for an acknowledgement or a delivery goes first when processors are short.
    os.nice(NICENESS)
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
    archive, sealing_state = open_archive(settings), open_state(settings)
    secret = required_secret(open_keys(settings), INSTALLATION_SECRET)
    identify = identify_with(understanding(sealing_state), secret)
    # What the warehouse has not taken over yet must still be read from the log.
    retention = Retention(log, archive, sealing_state, settings.keep_raw_days, clock, lambda: role.status.as_of)
    sealing_job = Sealing(archive, identify, role.is_asked, journal.note, retention)
    sealing = threading.Thread(target=sealing_job.run, args=(stop,), name="sealing", daemon=True)
    sealing.start()
    reporter = Reporter(folder.run, "warehouse").start()
    role.run(stop, lambda trouble: reporter.turn(warehouse=trouble))
    reporter.close()
    keeping.join(5)
    sealing.join(5)
    for door in (warehouse, archive, sealing_state, state, log):
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


if __name__ == "__main__":
    run_warehouse(settings_of_role("warehouse"))
