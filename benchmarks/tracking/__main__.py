"""How many events a second does one core accept durably over HTTP, and how long does a request wait?"""

import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import uvloop

from benchmarks.load import Load, batches, post, saturate
from benchmarks.serving import Child, free_port, processor_seconds
from benchmarks.stream import events
from benchmarks.table import rewrite
from conosco.govern.gate import Gate
from conosco.runtime.bootstrap import INSTALLATION_SECRET, clock, open_keys, open_log, open_worker_state, prepare, required_secret
from conosco.runtime.settings import Settings
from conosco.runtime.worker import Worker

START = 1_750_000_000_000_000
WRITE_KEY = "bench-write-key"
# So many different events are sent round and round: the log and what stands before it do not look for repetitions.
EVENTS = 20_000
CONNECTIONS = {1: 64, 100: 16}
WARM_UP_S = 1.0


class Case(NamedTuple):
    """What is sent, and what is aimed at (events a second and p99 in milliseconds; 0 where nothing was set)."""

    per_request: int
    zipped: bool
    added_ms: float
    target: int
    p99_ms_target: int


CASES = (
    Case(1, False, 0, 0, 0),
    Case(1, True, 0, 0, 0),
    Case(100, False, 0, 120_000, 50),
    Case(100, True, 0, 70_000, 50),
    Case(1, False, 2, 0, 0),
    Case(100, False, 2, 120_000, 50),
    Case(100, True, 2, 70_000, 50),
)


def processors() -> tuple[list[int], list[int]]:
    """One processor for what is measured, the others for the load."""
    first, *others = sorted(os.sched_getaffinity(0))
    return [first], others or [first]


def requests_of(per_request: int, *, zipped: bool) -> list[bytes]:
    """Ready requests of the published stream."""
    bodies = batches(events(3, 50_000, EVENTS, START, 20_000_000), per_request)
    return [post("/v1/batch", body, WRITE_KEY, zipped=zipped) for body in bodies]


def prepare_folder(folder: Path) -> Settings:
    """An installation's folder whose State knows the write key; nothing else runs on it."""
    settings = Settings(data=folder, write_key=WRITE_KEY)
    prepare(settings)
    log, (state, _) = open_log(settings), open_worker_state(settings)
    secret = required_secret(open_keys(settings), INSTALLATION_SECRET)
    worker = Worker(log, state, secret, Gate(secret), clock, lambda event, fields: None)
    while worker.step():
        pass
    state.close()
    log.close()
    return settings


class Measured(NamedTuple):
    """What one case came to: events a second by wall clock and by processor time, and the load's own account."""

    events_per_second: float
    events_per_processor_second: float
    load: Load


def measure(case: Case, seconds: float) -> Measured:
    """Load the real front, and count what its log holds afterwards."""
    requests = requests_of(case.per_request, zipped=case.zipped)
    connections = CONNECTIONS[case.per_request]
    with tempfile.TemporaryDirectory(prefix="bench-tracking-") as folder:
        settings, port = prepare_folder(Path(folder)), free_port()
        arguments = ("front", folder, str(port), str(case.added_ms))
        with Child("benchmarks.tracking.front", *arguments, processors=processors()[0]) as front:
            front.wait_for_port(port)
            uvloop.run(saturate(port, requests, connections, min(WARM_UP_S, seconds)))
            log = open_log(settings)
            before, used = log.head().position, processor_seconds(front.pid)
            load = uvloop.run(saturate(port, requests, connections, seconds))
            used = processor_seconds(front.pid) - used
        held = log.count(before)
        log.close()
    if load.failed or held != load.answered * case.per_request:
        raise SystemExit(f"{case}: {load.failed} requests failed, {load.answered} were answered, the log holds {held} events")
    return Measured(held / load.seconds, held / used, load)


def bare_http(case: Case, seconds: float) -> float:
    """Events a second that the HTTP stack alone could pass on."""
    requests, port = requests_of(case.per_request, zipped=case.zipped), free_port()
    with Child("benchmarks.tracking.front", "sink", str(port), processors=processors()[0]) as sink:
        sink.wait_for_port(port)
        load = uvloop.run(saturate(port, requests, CONNECTIONS[case.per_request], seconds))
    return load.answered * case.per_request / load.seconds


def bare_log(per_request: int, seconds: float) -> float:
    """Events a second that the log alone takes from one thread."""
    arguments = (str(per_request), str(CONNECTIONS[per_request]), str(seconds))
    with Child("benchmarks.tracking.floor", *arguments, processors=processors()[0]) as floor:
        return float(floor.line())


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    os.sched_setaffinity(0, processors()[1])
    logs = {per_request: bare_log(per_request, seconds / 2) for per_request in CONNECTIONS}
    rows = []
    for case in CASES:
        measured, http = measure(case, seconds), bare_http(case, seconds / 3)
        log = logs[case.per_request]
        rows.append(
            [
                str(case.per_request),
                "gzip" if case.zipped else "plain",
                f"{case.added_ms:g}",
                f"{measured.events_per_second:,.0f}",
                f"{case.target:,}" if case.target else "",
                f"{measured.events_per_processor_second:,.0f}",
                f"{measured.load.percentile(0.5):.1f}",
                f"{measured.load.percentile(0.99):.1f}",
                f"{case.p99_ms_target}" if case.p99_ms_target else "",
                f"{measured.events_per_second / log:.2f}",
                f"{measured.events_per_second / http:.2f}",
            ]
        )
    header = [
        "events a request",
        "body",
        "ms added to a sync",
        "events/s",
        "target",
        "events/s CPU",
        "p50 ms",
        "p99 ms",
        "target",
        "of the bare log",
        "of the bare HTTP stack",
    ]
    connections = " and ".join(f"{count} connections at {per_request} a request" for per_request, count in CONNECTIONS.items())
    floors = ", ".join(f"{log:,.0f} events/s at {per_request} a request" for per_request, log in logs.items())
    notes = [f"{seconds:g} s a case after a warm-up, {connections}.", f"The bare log: {floors}."]
    rewrite(Path(__file__).parent, header, rows, notes)


if __name__ == "__main__":
    main()
