"""How many rows a second does an import read, map and log durably, and how many does one worker then apply?"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event as Signal
from typing import Any

import duckdb
import msgspec

from benchmarks.table import rewrite
from conosco.engines.memory.control import MemoryControl
from conosco.engines.sqlite.log import SqliteLog
from conosco.engines.sqlite.state import SqliteState
from conosco.govern.gate import Gate
from conosco.model.definition import Identity, Purpose, Source
from conosco.model.importing import ImportAsked, ImportRun
from conosco.model.record import Draft
from conosco.runtime.bootstrap import Folder, clock
from conosco.runtime.imports.records import Imports
from conosco.runtime.imports.running import Running
from conosco.runtime.worker import Worker

ROWS = 200_000
SECRET = bytes(range(32))
PATIENT = 1 << 60
MAPPING = [
    {
        "type": "track",
        "event": "Order Completed",
        "user_id": {"path": ["customer"], "as": "text"},
        "timestamp": {"path": ["at"]},
        "context": {"traits": {"object": {"email": {"path": ["email"], "as": "email"}}}},
        "properties": {"rest": True},
    }
]


def _lines(rows: int) -> Iterator[str]:
    yield "order,at,customer,email,product,quantity,price,country\n"
    for row in range(rows):
        person = row * 7_919 % 50_000
        at = f"2025-{row % 12 + 1:02d}-{row % 28 + 1:02d} {row % 24:02d}:{row % 60:02d}:00"
        yield f"o{row},{at},c{person},c{person}@example.com,Product number {row % 4_000},{row % 9 + 1},{row % 100}.{row % 90 + 10},Italy\n"


def _note(event: str, fields: dict[str, Any]) -> None:
    """Nobody reads it."""


def _run(name: str, path: Path) -> tuple[str, ...]:
    folder = Path(tempfile.mkdtemp())
    try:
        log, state = SqliteLog(folder / "log", clock), SqliteState(folder / "state.sqlite")
        made = [
            Identity(id="idr_bench"),
            Purpose(key="operations", name="Operations", basis="legitimate_interest", id="prp_bench"),
            Source(key="bench", name="Bench", type="server", region="eu", id="src_bench"),
        ]
        log.append([Draft(kind="definition", slices=(msgspec.json.encode(definition),)) for definition in made])
        worker = Worker(log, state, SECRET, Gate(SECRET), clock, _note)
        while worker.step():
            pass
        (folder / "uploads").mkdir()
        imports = Imports(MemoryControl(), Folder(folder))
        asked = ImportAsked(path=str(path), source="bench", basis="contract", note="benchmark", mapping=MAPPING)
        run = ImportRun(
            import_id="imp_bench",
            asked=asked,
            source_id="src_bench",
            file_name=path.name,
            file_digest="00",
            file_bytes=path.stat().st_size,
            mapping_digest="",
            created_at=clock(),
            position_before=worker.position,
        )
        begun = time.perf_counter()
        ended = Running(imports, log, state, SECRET, clock, _note, Signal(), lag_max=PATIENT).run(run, path)
        logged_s = time.perf_counter() - begun
        assert (ended.status, ended.accepted) == ("done", ROWS), ended
        begun = time.perf_counter()
        while worker.step():
            pass
        applied_s = time.perf_counter() - begun
        state.close()
        log.close()
        return name, f"{path.stat().st_size / 1e6:.0f}", f"{ROWS / logged_s:,.0f}", f"{ROWS / applied_s:,.0f}"
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Measure every kind of file and write the table."""
    folder = Path(tempfile.mkdtemp())
    try:
        text = folder / "orders.csv"
        text.write_text("".join(_lines(ROWS)))
        columns = folder / "orders.parquet"
        duckdb.connect().execute(f"COPY (SELECT * FROM read_csv('{text}')) TO '{columns}' (FORMAT parquet)")
        rows = [_run("CSV", text), _run("Parquet", columns)]
    finally:
        shutil.rmtree(folder)
    header = ("file", "MB", "rows/s read, mapped and logged", "rows/s applied")
    notes = (f"{ROWS:,} rows of 8 columns, 50,000 people, all of them new, each with an e-mail address.",)
    rewrite(Path(__file__).parent, header, rows, notes)


if __name__ == "__main__":
    main()
