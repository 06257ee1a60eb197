"""What does an event, and a profile, take on disk and in memory, and how large is the product itself?"""

import gzip
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.load import batches
from benchmarks.serving import Child, Installation, folder_bytes, memory_bytes
from benchmarks.stream import events, first_events, segments
from benchmarks.table import rewrite
from conosco.engines.sqlite.log import SqliteLog
from conosco.engines.sqlite.state import SqliteState
from conosco.model.definition import Segment, Source
from conosco.model.record import Draft, Envelope
from conosco.ports.state import scan_all
from conosco.ports.tables import PERSONS, TABLES
from conosco.runtime.bootstrap import Folder, clock
from conosco.runtime.settings import Settings
from conosco.runtime.supervisor import command_of

ROOT = Path(__file__).parents[2]
START = 1_750_000_000_000_000
SPAN = 20_000_000
PER_REQUEST = 100
SEGMENTS = 50
IDLE_S = 8.0
APPLIED_WITHIN_S = 180.0
MEGABYTE = 1_000_000


class Row(NamedTuple):
    """A line of the table: what, how much, the floor beside it, and what is aimed at."""

    what: str
    figure: str
    floor: str = ""
    ratio: str = ""
    target: str = ""


def stream(people: int, count: int) -> Iterator[bytes]:
    """Everybody once, then the published stream; ``count`` events in all."""
    return chain(first_events(people, START), events(1, people, count - people, START, SPAN))


def fill(settings: Settings, people: int, count: int) -> tuple[int, int]:
    """Put definitions and events into the log; the bytes of the events as JSON, plain and with gzip."""
    log = SqliteLog(Folder(settings.data).log, clock)
    made = [
        Source(key="bench", name="Bench", type="server", region="eu", id="src_bench"),
        *(
            Segment(key=f"s{number:03d}", name="s", purpose="operations", id=f"seg_{number}", spec={"language": 1, "where": where})
            for number, where in enumerate(segments(SEGMENTS))
        ),
    ]  # fmt: skip
    log.append([Draft(kind="definition", slices=(msgspec.json.encode(definition),)) for definition in made])
    envelope = msgspec.json.encode(Envelope(received_at=START))
    bodies = list(stream(people, count))
    for at in range(0, count, PER_REQUEST):
        log.append([Draft(kind="request", source_id="src_bench", slices=(envelope, *bodies[at : at + PER_REQUEST]))])
    log.close()
    zipped = sum(len(gzip.compress(body, 6)) for body in batches(bodies, PER_REQUEST))
    return sum(map(len, bodies)), zipped


def apply_all(settings: Settings) -> int:
    """Let a worker alone apply the log, so that its feed stays to be counted; its resident bytes at the end."""
    folder = Folder(settings.data)
    log = SqliteLog(folder.log, clock)
    head = log.head().position
    log.close()
    # As the supervisor starts it, so that its memory compares with that of an idle one.
    module, *arguments = command_of("worker", str(settings.data), settings.host, settings.port)[2:]
    with Child(module, *arguments) as worker:
        state = SqliteState(folder.state, read_only=True)
        deadline = time.monotonic() + APPLIED_WITHIN_S
        while state.offset()[0] < head:
            if time.monotonic() > deadline:
                raise SystemExit("the worker did not apply the log in time")
            time.sleep(0.2)
        resident, _ = memory_bytes(worker.pid)
        state.close()
    return resident


class Stored(NamedTuple):
    """State after a checkpoint: its file, the bytes of each table's rows, and how many people there are."""

    file_bytes: int
    row_bytes: dict[str, int]
    people: int

    def rows_of(self, beginning: str) -> int:
        """Bytes of the rows of all tables whose name begins so."""
        return sum(size for name, size in self.row_bytes.items() if name.startswith(beginning))


def inspect(settings: Settings) -> Stored:
    """Look into State once nobody writes it."""
    path = Folder(settings.data).state
    state = SqliteState(path)
    state.checkpoint(empty=True)
    sizes = {table.name: sum(len(raw) for _, raw in scan_all(state, table)) for table in TABLES}
    people = sum(1 for _ in scan_all(state, PERSONS))
    state.close()
    return Stored(folder_bytes(path), sizes, people)


class Idle(NamedTuple):
    """A whole installation that has nothing to do: seconds until it was ready, and (resident, proportional) bytes by role."""

    ready_s: float
    memory: dict[str, tuple[int, int]]

    @property
    def proportional(self) -> int:
        """Bytes of all roles together, shared pages counted once."""
        return sum(share for _, share in self.memory.values())


def idle(data: Path) -> Idle:
    """Start an installation, wait until its warehouse is filled and it has come to rest, and stop it."""
    with Installation(data) as installation:
        status = installation.settle(APPLIED_WITHIN_S)
        if status["warehoused"] != status["applied"]:
            raise SystemExit(f"not caught up in time: {status}")
        time.sleep(IDLE_S)
        memory = {role: memory_bytes(pid) for role, pid in installation.roles().items()}
    return Idle(installation.ready_s, memory)


def installed() -> tuple[int, int]:
    """Bytes and number of packages of a fresh environment that holds the product and what it needs, as locked."""
    uv = str(Path(sys.executable).with_name("uv"))
    with tempfile.TemporaryDirectory(prefix="bench-install-") as folder:
        run = [uv, "pip", "install", "--quiet", "--python", folder, "--constraint", str(ROOT / "requirements.lock"), str(ROOT)]
        subprocess.run([uv, "venv", "--quiet", "--clear", folder], check=True)
        subprocess.run(run, check=True)
        libraries = next(Path(folder).glob("lib/python*/site-packages"))
        return folder_bytes(libraries), len(list(libraries.glob("*.dist-info")))


def per(total: float, count: int, floor: float = 0) -> tuple[str, str, str]:
    """The three middle cells: bytes each, the floor's, and how many times the floor that is."""
    if not floor:
        return f"{total / count:,.0f} B", "", ""
    return f"{total / count:,.0f} B", f"{floor / count:,.0f} B", f"{total / floor:.2f}"


def measure(data: Path, people: int, count: int) -> tuple[list[Row], list[str]]:
    """All figures of one installation, from its first start on."""
    settings = Settings(data=data)
    folder = Folder(data)
    empty = idle(data)
    plain, zipped = fill(settings, people, count)
    resident = apply_all(settings)
    stored = inspect(settings)
    full = idle(data)
    feed, dedup = stored.rows_of("feed"), stored.rows_of("dedup")
    profiles = stored.file_bytes - feed - dedup
    grown = resident - empty.memory["worker"][0]
    rows = [
        Row("log, an event", *per(folder_bytes(folder.log), count, plain)),
        Row("warehouse, an event", *per(folder_bytes(folder.warehouse), count, zipped)),
        Row("change feed until it is drained, an event", *per(feed, count)),
        Row("keys that tell duplicates, an event", *per(dedup, count)),
        Row("State without these two, a profile", *per(profiles, stored.people)),
        Row("worker's memory grown by applying, a profile", *per(grown, stored.people)),
        Row("start to ready, empty folder", f"{empty.ready_s:.1f} s", target="3 s"),
        Row("start to ready, this folder", f"{full.ready_s:.1f} s", target="3 s"),
        Row("idle memory, empty folder", f"{empty.proportional / MEGABYTE:,.0f} MB", target="300 MB"),
        Row("idle memory, this folder", f"{full.proportional / MEGABYTE:,.0f} MB", target="300 MB"),
    ]
    notes = [
        f"{count:,} events of {stored.people:,} people, {SEGMENTS} live segments. Floors: the events as JSON for the log, and "
        f"with gzip in batches of {PER_REQUEST} for the warehouse.",
        "Rows of State, bytes a profile: "
        + ", ".join(f"{name} {size / stored.people:,.0f}" for name, size in stored.row_bytes.items() if size > stored.people)
        + ".",
        "Idle on this folder, proportional (resident) MB: "
        + ", ".join(
            f"{role} {share / MEGABYTE:,.0f} ({alone / MEGABYTE:,.0f})" for role, (alone, share) in sorted(full.memory.items())
        )
        + ".",
    ]
    return rows, notes


def main() -> None:
    people, count = (int(word) for word in (*sys.argv[1:3], *("50000", "200000")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory(prefix="bench-footprint-") as folder:
        rows, notes = measure(Path(folder) / "data", people, count)
    size, packages = installed()
    rows += [
        Row("core install", f"{size / MEGABYTE:,.0f} MB", target="220 MB"),
        Row("packages of the core install", str(packages), target="60"),
    ]
    rewrite(Path(__file__).parent, ["what", "figure", "floor", "times the floor", "target"], rows, notes)


if __name__ == "__main__":
    main()
