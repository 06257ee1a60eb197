"""The front: one process that answers all HTTP, tracking and management alike. It reads State and appends to the log."""

import asyncio
import os
import resource
import signal
from typing import Final

import uvicorn
from prometheus_client import CollectorRegistry
from uvicorn.loops.auto import auto_loop_factory

from conosco.collect.mapped import WEBHOOK
from conosco.model.definition import Identity, Source, read_definition
from conosco.model.identifier import IdentityRules
from conosco.ports.tables import DEFINITIONS
from conosco.runtime.bootstrap import INSTALLATION_SECRET, clock, open_log, required_secret
from conosco.runtime.discover import destination_connectors
from conosco.runtime.journal import Journal
from conosco.runtime.office.desks import Desks
from conosco.runtime.office.hooks import source_secret
from conosco.runtime.office.reading import Reading
from conosco.runtime.process import settings_of_role, watch_supervisor
from conosco.runtime.reserve import ReservedLog, reserve_check
from conosco.runtime.settings import Settings
from conosco.web.api import create_api
from conosco.web.app import create_app
from conosco.web.committer import Committer
from conosco.web.forwarded import behind_proxies
from conosco.web.hook_sources import HookSources
from conosco.web.hooks import HookMetrics, Hooks
from conosco.web.slow_clients import Patience, patient_protocol
from conosco.web.tracking import Limits, SourceEntry, SourceTable, Tracking, TrackingMetrics

# How old the table of write keys may be: a new source works, and an archived one stops, within this time.
SOURCES_FRESH_US: Final = 20_000
STOP_S: Final = 5


class SourceDesk:
    """The write keys that are valid now, read again from State when the table has grown old."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._table = SourceTable(by_key_hash={})
        self._read_at = -SOURCES_FRESH_US

    def __call__(self) -> SourceTable:
        """Write key hash to source, and the identity rules."""
        now = clock()
        if now - self._read_at >= SOURCES_FRESH_US or now < self._read_at:
            found = self._reading.scan(DEFINITIONS, ("source",), ("source\x00",), 10_000)
            sources = [made for _, row in found if isinstance(made := read_definition(row.body), Source)]
            entries = {
                made.write_key_hash: SourceEntry(made.id, made.type, made.state == "active")
                for made in sources
                if made.write_key_hash and made.type != WEBHOOK
            }
            identity = self._reading.definition("identity", "identity")
            rules = identity.rules if isinstance(identity, Identity) else IdentityRules()
            self._table = SourceTable(by_key_hash=entries, rules=rules)
            self._read_at = now
        return self._table


def run_front(settings: Settings) -> None:
    """Serve HTTP until told to stop."""
    # The server is asked to serve inside a loop that runs already, so it cannot choose the loop itself.
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    journal = Journal("front", clock)
    desks = Desks(settings, destination_connectors())
    registry = CollectorRegistry()
    log = open_log(settings)
    # Only events are held up by it: definitions, commands and erasures use the reserve.
    missing = reserve_check(settings.data, settings.disk_reserve_mb)
    committer = Committer(ReservedLog(log, missing), pending_bytes_max=settings.pending_bytes_max)
    tracking = Tracking(
        sources=SourceDesk(desks.reading),
        committer=committer,
        limits=Limits(),
        clock=clock,
        metrics=TrackingMetrics(registry),
    )
    hooks = Hooks(
        sources=HookSources(desks.reading, clock, SOURCES_FRESH_US),
        secret=lambda name: desks.reading.keys.secret(source_secret(name)),
        hash_key=required_secret(desks.reading.keys, INSTALLATION_SECRET),
        committer=committer,
        clock=clock,
        metrics=HookMetrics(registry),
    )
    app = create_app(create_api(desks, registry, note=journal.note), tracking, note=journal.note, hooks=hooks)
    if settings.trusted_proxies:
        app = behind_proxies(app, settings.trusted_proxies)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="none",
        http=patient_protocol(Patience()),
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=4_096,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=STOP_S,
    )
    server = uvicorn.Server(config)
    _stop_by_signal(server)
    _allow_connections()
    watch_supervisor(settings.supervisor, lambda: os.kill(os.getpid(), signal.SIGTERM))
    journal.note("started", {"port": settings.port})
    await server.serve()
    await tracking.close()
    desks.close()
    log.close()
    journal.note("stopped", {})


def _allow_connections() -> None:
    """Use as many files as the system permits: each connection is one, and the usual bound is a thousand."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _stop_by_signal(server: uvicorn.Server) -> None:
    """Stop when told to. The server takes the signals while it serves and raises them again after: there is work left then."""

    def stop(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


if __name__ == "__main__":
    run_front(settings_of_role("front"))
