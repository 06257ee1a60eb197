"""How long do the backup and the restore of a log of so many events take?"""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from benchmarks.apply.__main__ import PER_REQUEST, START
from benchmarks.stream import events, first_events
from benchmarks.table import rewrite
from conosco.model.record import Draft, Envelope
from conosco.runtime.backup import back_up
from conosco.runtime.backup_restore import restore
from conosco.runtime.bootstrap import (
    INSTALLATION_SECRET,
    clock,
    make_gate,
    open_keys,
    open_log,
    open_worker_state,
    prepare,
    required_secret,
)
from conosco.runtime.settings import Settings
from conosco.runtime.worker import Worker

PEOPLE_SHARE = 10


def _fill(settings: Settings, count: int) -> None:
    """A log of so many events of the published stream, applied."""
    log = open_log(settings)
    source = next(
        msgspec.json.decode(body)["id"]
        for record in log.read(0, 100)
        if record.kind == "definition" and (body := record.slices[0]) and b'"write_key_hash"' in body
    )
    envelope = msgspec.json.encode(Envelope(received_at=START))
    people = max(1, count // PEOPLE_SHARE)
    bodies: Iterator[bytes] = iter((*first_events(people, START), *events(1, people, count - people, START, 20_000_000)))
    while chunk := tuple(islice(bodies, PER_REQUEST * 5)):
        parts = (chunk[at : at + PER_REQUEST] for at in range(0, len(chunk), PER_REQUEST))
        log.append([Draft(kind="request", source_id=source, slices=(envelope, *part)) for part in parts])
    keys = open_keys(settings)
    state, checkpoint = open_worker_state(settings)
    worker = Worker(log, state, required_secret(keys, INSTALLATION_SECRET), make_gate(keys), clock, lambda event, fields: None)
    while worker.step():
        pass
    checkpoint()
    state.close()
    log.close()


def main() -> None:
    """Fill, back up, restore; one row."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    folder = Path(tempfile.mkdtemp(prefix="bench-backup-"))
    try:
        settings = Settings(data=folder / "data")
        prepare(settings)
        _fill(settings, count)
        key: list[str] = []
        begun, begun_cpu = time.perf_counter(), time.process_time()
        made = back_up(settings, folder / "one.backup", clock, key.append)
        backed_up, backed_up_cpu = time.perf_counter(), time.process_time()
        restored = restore(made.path, folder / "new", key[0])
        done, done_cpu = time.perf_counter(), time.process_time()
        log = open_log(Settings(data=folder / "new"))
        kept = log.count(0)
        log.close()
        held = sum(entry.size for entry in made.manifest.files)
        row = [
            f"{count:,}",
            f"{held / 1e6:,.0f}",
            f"{made.size / 1e6:,.0f}",
            f"{backed_up - begun:.1f} ({backed_up_cpu - begun_cpu:.1f})",
            f"{done - backed_up:.1f} ({done_cpu - backed_up_cpu:.1f})",
            f"{count - kept:,}",
        ]
        assert restored.position == made.manifest.position
        rewrite(
            Path(__file__).parent,
            ["events", "MB in the folder", "MB of the backup", "backup s (CPU)", "restore s (CPU)", "events lost"],
            [row],
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
