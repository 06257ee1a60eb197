"""The floor under tracking: the bare log, given ready slices, in groups as large as the load's connections allow.

``python -m benchmarks.tracking.floor PER_REQUEST GROUP SECONDS`` prints events a second.
"""

import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

import msgspec

from benchmarks.stream import events
from conosco.engines.sqlite.log import SqliteLog
from conosco.model.record import Draft, Envelope
from conosco.runtime.bootstrap import clock

START = 1_750_000_000_000_000
EVENTS = 20_000


def events_per_second(folder: Path, per_request: int, group: int, seconds: float) -> float:
    """Append groups of requests for so long; counts what the log holds."""
    bodies = list(events(3, 50_000, EVENTS, START, 20_000_000))
    envelope = msgspec.json.encode(Envelope(received_at=START))
    drafts = [
        Draft(kind="request", source_id="src_bench", slices=(envelope, *bodies[at : at + per_request]))
        for at in range(0, EVENTS, per_request)
    ]
    groups = cycle([drafts[at : at + group] for at in range(0, len(drafts), group)])
    log = SqliteLog(folder, clock)
    begun = time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        log.append(next(groups))
    counted = log.count(0)
    log.close()
    return counted / spent


def main() -> None:
    per_request, group, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    with tempfile.TemporaryDirectory(prefix="bench-floor-") as folder:
        print(events_per_second(Path(folder), per_request, group, seconds), flush=True)


if __name__ == "__main__":
    main()
