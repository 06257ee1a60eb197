"""The real tracking application on uvicorn over a real log, and what is asserted of every client."""

import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import uvicorn
from prometheus_client import CollectorRegistry

from conosco.collect.understand import Rejected, canonical_body, understand
from conosco.engines.sqlite.log import SqliteLog
from conosco.model.definition import Source
from conosco.model.event import Event
from conosco.model.identifier import IdentityRules
from conosco.web.committer import Committer
from conosco.web.tracking import Limits, SourceEntry, SourceTable, Tracking, TrackingMetrics, key_hash

WRITE_KEY = "client-tests"
SOURCE = Source(key="clients", name="Clients", type="server", region="eu", id="src_clients")


class Station:
    """Serves on ``port`` while it is entered."""

    def __init__(self, folder: Path) -> None:
        self.log = SqliteLog(folder, lambda: time.time_ns() // 1_000)
        table = SourceTable(by_key_hash={key_hash(WRITE_KEY): SourceEntry(SOURCE.id, SOURCE.type)})
        self._committer = Committer(self.log)
        app = Tracking(
            sources=lambda: table,
            committer=self._committer,
            limits=Limits(),
            clock=lambda: time.time_ns() // 1_000,
            metrics=TrackingMetrics(CollectorRegistry()),
        )
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._server = uvicorn.Server(uvicorn.Config(app, lifespan="off", access_log=False, log_level="warning"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        self._socket.close()
        self.log.close()

    def stored(self) -> dict[str, list[tuple[Event, bytes]]]:
        """Every event in the log with its bytes, by message id. None may have been rejected."""
        found: dict[str, list[tuple[Event, bytes]]] = {}
        for record in self.log.read(0, 10_000):
            for event in understand(record, SOURCE, IdentityRules()):
                assert not isinstance(event, Rejected), event
                raw = record.slices[event.slot + 1]
                assert raw is not None
                found.setdefault(event.message_id, []).append((event, raw))
        return found


def assert_exactly_once(station: Station, sent: dict[str, dict[str, Any]], copies_min: int) -> None:
    """All that was sent is there and nothing else; what is there more than once says the same each time.

    ``sent`` is what each event must say, by message id; ``copies_min`` is how many duplicates the faults surely caused.
    """
    stored = station.stored()
    assert set(stored) == set(sent)
    for message_id, expected in sent.items():
        assert len({canonical_body(raw) for _, raw in stored[message_id]}) == 1
        body = msgspec.json.decode(stored[message_id][0][1])
        told = {name: body.get(name) for name in expected}
        assert told == expected, (told, expected)
    assert sum(len(copies) - 1 for copies in stored.values()) >= copies_min
