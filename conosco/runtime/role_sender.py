"""The sender's process: sends what the outbox holds until told to stop."""

import asyncio
import contextlib
import threading
from pathlib import Path
from threading import Event as Signal
from typing import Final

from uvloop import new_event_loop

from conosco.connectors.outbound import Context, Outbound
from conosco.model.definition import Destination, read_definition
from conosco.ports.state import State
from conosco.ports.tables import DEFINITIONS, decode_row
from conosco.runtime.bootstrap import Folder, clock, make_gate, open_keys, open_leases, open_log, open_state
from conosco.runtime.bootstrap_files import to_parquet
from conosco.runtime.discover import destination_connectors
from conosco.runtime.journal import Journal
from conosco.runtime.process import settings_of_role, stop_signal
from conosco.runtime.report import EVERY_S, Reporter
from conosco.runtime.sender import Sender
from conosco.runtime.settings import Settings
from conosco.runtime.standing import standing_of, write_standing

TELL_S: Final = 1.0


def run_sender(settings: Settings) -> None:
    """Send what the outbox holds until told to stop."""
    stop = stop_signal(settings.supervisor)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_send(settings, stop))


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
    reporter = Reporter(Folder(settings.data).run, "sender").start()
    turning = asyncio.create_task(_turn(reporter))
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
            context=lambda out, now: Context(outbound=out, now=now, files=settings.files, to_parquet=to_parquet),
        )
        journal.note("started", {})
        telling = asyncio.create_task(_tell(sender, Folder(settings.data).sender_standing))
        await sender.run(stopping)
        telling.cancel()
    finally:
        turning.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await turning
        reporter.close()
        await outbound.close()
    for door in (state, leases, log):
        door.close()
    journal.note("stopped", {})


async def _turn(reporter: Reporter) -> None:
    """Tell that the loop comes round; while anything blocks it, it does not."""
    while True:
        reporter.turn()
        await asyncio.sleep(EVERY_S / 2)


async def _tell(sender: Sender, path: Path) -> None:
    """Tell other processes every second how the sender stands."""
    loop = asyncio.get_running_loop()
    while True:
        await loop.run_in_executor(None, write_standing, path, standing_of(sender, clock()))
        await asyncio.sleep(TELL_S)


def _destination(state: State, key: str) -> Destination | None:
    raw = state.get_many(DEFINITIONS, [("destination", key)]).get(("destination", key))
    found = None if raw is None else read_definition(decode_row(DEFINITIONS, raw).body)
    return found if isinstance(found, Destination) else None


if __name__ == "__main__":
    run_sender(settings_of_role("sender"))
