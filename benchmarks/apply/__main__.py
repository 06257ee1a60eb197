"""How many events a second does one worker apply durably, all stages on?"""

import gc
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from benchmarks.stream import events, first_events, segments
from benchmarks.table import rewrite
from conosco.engines.sqlite.log import SqliteLog
from conosco.engines.sqlite.state import SqliteState
from conosco.govern.gate import Gate
from conosco.model.definition import Destination, Identity, Purpose, Segment, Source
from conosco.model.record import Draft, Envelope
from conosco.ports.tables import CELLS, FEED
from conosco.runtime.worker import Worker

START = 1_750_000_000_000_000
SPAN = 20_000_000
PER_REQUEST = 20
SECRET = bytes(range(32))


class _Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


def _requests(bodies: Iterator[bytes]) -> Iterator[Draft]:
    envelope = msgspec.json.encode(Envelope(received_at=START))
    while chunk := tuple(islice(bodies, PER_REQUEST)):
        yield Draft(kind="request", source_id="src_bench", slices=(envelope, *chunk))


def _define(log: SqliteLog, count: int) -> None:
    made = [
        Identity(id="idr_bench"),
        Purpose(key="operations", name="Operations", basis="legitimate_interest", id="prp_bench"),
        Source(key="bench", name="Bench", type="server", region="eu", id="src_bench"),
        Destination(
            key="hook", name="Hook", purposes=("operations",), region="eu", type="webhook", id="dst_bench",
            spec={"url": "https://example.com/", "segments": ["s000"]},
        ),
        *(
            Segment(key=f"s{number:03d}", name="s", purpose="operations", id=f"seg_{number}", spec={"language": 1, "where": where})
            for number, where in enumerate(segments(count))
        ),
    ]  # fmt: skip
    log.append([Draft(kind="definition", slices=(msgspec.json.encode(definition),)) for definition in made])


def _fill(log: SqliteLog, clock: _Clock, bodies: Iterator[bytes], span: int, total: int) -> None:
    begun, done = clock.now, 0
    pending: list[Draft] = []
    for draft in _requests(bodies):
        pending.append(draft)
        done += len(draft.slices) - 1
        if len(pending) == 5:
            clock.now = begun + span * done // total
            log.append(pending)
            pending = []
    if pending:
        log.append(pending)


class Run:
    """One measured run: wall and processor seconds, microseconds a step, bytes and transitions."""

    def __init__(self, people: int, count: int, segment_count: int) -> None:
        folder = Path(tempfile.mkdtemp(prefix="bench-apply-"))
        try:
            self._measure(folder, people, count, segment_count)
        finally:
            shutil.rmtree(folder)

    def _measure(self, folder: Path, people: int, count: int, segment_count: int) -> None:
        clock = _Clock()
        log, state = SqliteLog(folder / "log", clock), SqliteState(folder / "state.sqlite")
        _define(log, segment_count)
        worker = Worker(log, state, SECRET, Gate(SECRET), clock, lambda event, fields: None)
        _fill(log, clock, first_events(people, START), SPAN, people)
        # History before the measured seconds, so that counters are neither empty nor all at their first threshold.
        _fill(log, clock, events(1, people, count, START, SPAN), SPAN, count)
        while worker.step():
            pass
        _fill(log, clock, events(2, people, count, clock.now, SPAN), SPAN, count)
        state.checkpoint(empty=True)
        gc.collect()
        gc.freeze()
        gc.disable()
        worker.step_ns.clear()
        feed_before = len(state.scan(FEED, (), None, 10_000_000))
        wall, processor = time.perf_counter(), time.process_time()
        while worker.step():
            pass
        self.wall, self.processor = time.perf_counter() - wall, time.process_time() - processor
        self.count = count
        self.step_us = {name: spent / 1000 / count for name, spent in worker.step_ns.items()}
        self.batches = len(state.scan(FEED, (), None, 10_000_000)) - feed_before
        self.rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.floor = _floor(folder, state, self.batches, count)
        state.close()
        log.close()


def _floor(folder: Path, state: SqliteState, batches: int, count: int) -> float:
    """The bare engine doing the same writes: as many transactions, each reading and rewriting as many cells and appending
    as much feed; no decoding, no identity, no rules. Returns events a second."""
    rows = state.scan(CELLS, (), None, 200_000)
    feed = state.scan(FEED, (), None, 3)[-1][1]
    bare = SqliteState(folder / "bare.sqlite")
    bare.begin(1)
    bare.put_many(CELLS, dict(rows))
    bare.commit(1)
    per_batch = max(1, count // max(1, batches))
    begun = time.perf_counter()
    for number in range(batches):
        start = number * 7919 % max(1, len(rows) - per_batch)
        chosen = rows[start : start + per_batch]
        bare.get_many(CELLS, [key for key, _ in chosen])
        bare.begin(1)
        bare.put_many(CELLS, dict(chosen))
        bare.put_many(FEED, {(number,): feed})
        bare.commit(number + 2)
    spent = time.perf_counter() - begun
    bare.close()
    return count / spent


def main() -> None:
    people, count = (int(argument) for argument in (*sys.argv[1:3], *("100000", "100000")[len(sys.argv) - 1 :]))
    rows: list[list[str]] = []
    steps: dict[str, float] = {}
    for segment_count in (0, 10, 50, 1_000):
        run = Run(people, count, segment_count)
        if segment_count == 50:
            steps = run.step_us
        rows.append(
            [
                str(segment_count),
                f"{count / run.wall:,.0f}",
                f"{count / run.processor:,.0f}",
                f"{1e6 * run.processor / count:.1f}",
                f"{run.floor:,.0f}",
                f"{run.wall and count / run.wall / run.floor:.2f}",
                f"{run.rss_mb:,.0f}",
            ]
        )
    header = [
        "live segments",
        "events/s wall",
        "events/s CPU",
        "us CPU an event",
        "floor events/s",
        "of the floor",
        "peak RSS MB",
    ]
    notes = [
        f"{people:,} people, {count:,} events measured, requests of {PER_REQUEST}.",
        "us an event by step, 50 segments: "
        + ", ".join(f"{name} {spent:.1f}" for name, spent in steps.items())
        + "; the rest is reading, decoding, reading ahead and the commit.",
    ]
    rewrite(Path(__file__).parent, header, rows, notes)


if __name__ == "__main__":
    main()
