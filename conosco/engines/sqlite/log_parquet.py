"""Parquet as the form in which finished files of the log are kept: one row a slice, in order of position.

The library that reads and writes it is loaded when the first sealed record is touched, so that a process which never
looks back does not pay for it.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from conosco.engines.sqlite.log_file import Row, decode_record, encode_body
from conosco.model.record import HASH_BYTES
from conosco.ports.log import LogFull

# Slices of a row group: what is unpacked to read one record.
GROUP_SLICES: Final = 2_048
INDEX_GROUP: Final = 8_192
# Bytes that are handed over at once while a part is written.
CHUNK_BYTES: Final = 8_000_000
MEMORY: Final = "256MB"
_COPY: Final = f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP_SLICES})"
_COPY_INDEX: Final = f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {INDEX_GROUP})"
_COLUMNS: Final[tuple[tuple[str, str], ...]] = (
    ("position", "BIGINT"),
    ("slot", "INTEGER"),
    ("kind", "VARCHAR"),
    ("schema", "INTEGER"),
    ("logged_at", "BIGINT"),
    ("source_id", "VARCHAR"),
    ("flags", "INTEGER"),
    ("chain", "BLOB"),
    ("hash", "BLOB"),
    ("salt", "BLOB"),
    ("body", "BLOB"),
)
_NAMES: Final = ", ".join(name for name, _ in _COLUMNS)
Slice = tuple[Any, ...]
Entry = tuple[int, int, int]


class UnreadablePart(Exception):
    """A sealed file cannot be unpacked where it was asked."""


class Parquet:
    """Reads and writes sealed files. Threads may share it; nothing is held open between calls."""

    def __init__(self) -> None:
        # Told the name of each file that had to be mended to be read.
        self.on_mended: Callable[[str], None] = lambda name: None
        self._making = threading.Lock()
        self._database: Any = None

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """A cursor of its own. What the library refuses becomes UnreadablePart, and a full disk LogFull."""
        import duckdb  # noqa: PLC0415  # loaded only where sealed records are touched

        with self._making:
            if self._database is None:
                self._database = duckdb.connect(
                    ":memory:",
                    config={"threads": 1, "memory_limit": MEMORY, "temp_directory": "", "autoinstall_known_extensions": False},
                )
        cursor = self._database.cursor()
        try:
            yield cursor
        except duckdb.Error as error:
            text = str(error)
            if "No space left" in text or "Could not write" in text or "File too large" in text:
                raise LogFull(text) from error
            raise UnreadablePart(text) from error
        finally:
            cursor.close()

    def close(self) -> None:
        """Release the library's memory."""
        with self._making:
            if self._database is not None:
                self._database.close()
                self._database = None

    # Records.

    def write(self, path: Path, rows: Iterator[Row]) -> None:
        """Write rows, all of them, into a new file. It is not yet durable."""
        columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS)
        with self._cursor() as cursor:
            cursor.execute(f"CREATE OR REPLACE TEMP TABLE part ({columns})")
            waiting: list[Slice] = []
            size = 0
            for row in rows:
                waiting += _slices(row)
                size += len(row.body)
                if size >= CHUNK_BYTES:
                    _insert(cursor, waiting)
                    waiting, size = [], 0
            _insert(cursor, waiting)
            cursor.execute(f"COPY part TO {_quoted(path)} {_COPY}")
            cursor.execute("DROP TABLE part")

    def rows(self, path: Path, after: int, until: int) -> list[Row]:
        """The records after a position, up to another one."""
        with self._cursor() as cursor:
            found = cursor.execute(
                f"SELECT {_NAMES} FROM read_parquet({_quoted(path)}) WHERE position > ? AND position <= ?", [after, until]
            ).fetchall()
        return list(_records(found))

    def count(self, path: Path, where: str, params: Sequence[Any]) -> int:
        """How many slices a condition holds for."""
        with self._cursor() as cursor:
            question = f"SELECT count(*) FROM read_parquet({_quoted(path)}) WHERE {where}"
            return int(cursor.execute(question, list(params)).fetchone()[0])

    def erase(self, path: Path, made: Path, wanted: Sequence[tuple[int, int]]) -> int:
        """Write a copy without the wanted slices and their salts, compare the two, and return how many were there."""
        with self._cursor() as cursor:
            _take_wanted(cursor, wanted)
            source, target = f"read_parquet({_quoted(path)})", f"read_parquet({_quoted(made)})"
            hit = "EXISTS (SELECT 1 FROM wanted w WHERE w.position = s.position AND w.slot = s.slot)"
            destroyed = int(cursor.execute(f"SELECT count(*) FROM {source} s WHERE body IS NOT NULL AND {hit}").fetchone()[0])
            if not destroyed:
                return 0
            kept = ", ".join(name for name, _ in _COLUMNS[:-2])
            gone = ", ".join(f"CASE WHEN {hit} THEN NULL ELSE {name} END AS {name}" for name in ("salt", "body"))
            cursor.execute(f"COPY (SELECT {kept}, {gone} FROM {source} s) TO {_quoted(made)} {_COPY}")
            total = int(cursor.execute(f"SELECT count(*) FROM {source}").fetchone()[0])
            same = " AND ".join(f"n.{name} IS NOT DISTINCT FROM s.{name}" for name, _ in _COLUMNS)
            alike, bare = cursor.execute(
                f"SELECT count(*) FILTER ({same}), count(*) FILTER ({hit} AND n.body IS NULL AND n.salt IS NULL "
                f"AND n.hash = s.hash AND s.body IS NOT NULL) FROM {source} s JOIN {target} n USING (position, slot)"
            ).fetchone()
            if alike != total - destroyed or bare != destroyed:
                raise UnreadablePart(f"{made.name}: the copy without the erased slices is not what it should be")
            return destroyed

    def keep_from(self, path: Path, made: Path, first: int) -> None:
        """Write a copy that begins at a position."""
        with self._cursor() as cursor:
            cursor.execute(
                f"COPY (SELECT * FROM read_parquet({_quoted(path)}) WHERE position >= {int(first)}) TO {_quoted(made)} {_COPY}"
            )

    # The index.

    def write_index(self, path: Path, entries: Sequence[Entry]) -> None:
        """Write (hash, position, slot) in order of hash into a new file. It is not yet durable."""
        with self._cursor() as cursor:
            cursor.execute("CREATE OR REPLACE TEMP TABLE part (hash UBIGINT, position BIGINT, slot INTEGER)")
            if entries:
                columns = [list(column) for column in zip(*entries, strict=True)]
                cursor.execute("INSERT INTO part SELECT unnest(?::UBIGINT[]), unnest(?::BIGINT[]), unnest(?::INTEGER[])", columns)
            cursor.execute(f"COPY (FROM part ORDER BY hash, position, slot) TO {_quoted(path)} {_COPY_INDEX}")
            cursor.execute("DROP TABLE part")

    def find(self, path: Path, hashes: Sequence[int]) -> list[tuple[int, int]]:
        """Addresses of slices with one of these hashes."""
        with self._cursor() as cursor:
            found: list[tuple[int, int]] = []
            for begin in range(0, len(hashes), 500):
                some = ", ".join(str(int(each)) for each in hashes[begin : begin + 500])
                found += cursor.execute(
                    f"SELECT position, slot FROM read_parquet({_quoted(path)}) WHERE hash IN ({some})"
                ).fetchall()
            return found

    def thin_index(self, path: Path, made: Path, wanted: Sequence[tuple[int, int]], first: int) -> None:
        """Write a copy of an index without the wanted slices and without what lies before a position."""
        with self._cursor() as cursor:
            _take_wanted(cursor, wanted)
            cursor.execute(
                f"COPY (SELECT * FROM read_parquet({_quoted(path)}) AS i WHERE position >= {int(first)} AND NOT EXISTS "
                f"(SELECT 1 FROM wanted w WHERE w.position = i.position AND w.slot = i.slot) ORDER BY hash, position, slot) "
                f"TO {_quoted(made)} {_COPY_INDEX}"
            )


def _take_wanted(cursor: Any, wanted: Sequence[tuple[int, int]]) -> None:
    cursor.execute("CREATE OR REPLACE TEMP TABLE wanted (position BIGINT, slot INTEGER)")
    if wanted:
        columns = [[position for position, _ in wanted], [slot for _, slot in wanted]]
        cursor.execute("INSERT INTO wanted SELECT DISTINCT unnest(?::BIGINT[]), unnest(?::INTEGER[])", columns)


def _insert(cursor: Any, slices: list[Slice]) -> None:
    if slices:
        values = ", ".join(f"unnest(?::{kind}[])" for _, kind in _COLUMNS)
        cursor.execute(f"INSERT INTO part SELECT {values}", [list(column) for column in zip(*slices, strict=True)])


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _slices(row: Row) -> Iterator[Slice]:
    """A record as rows: what it says of itself lies on the first one. A record without slices is one row, slot -1."""
    record = decode_record(row)
    head: tuple[Any, ...] = (row.schema, row.logged_at, row.source_id, row.flags, row.chain)
    if not record.slices:
        yield (row.position, -1, row.kind, *head, None, None, None)
    for slot, (salt, body) in enumerate(zip(record.salts, record.slices, strict=True)):
        hashed = row.hashes[slot * HASH_BYTES : (slot + 1) * HASH_BYTES]
        yield (row.position, slot, row.kind, *head, hashed, salt, body)
        head = (None,) * 5


def _records(slices: Sequence[Slice]) -> Iterator[Row]:
    """Rows of a sealed file put together to records."""
    at, end = 0, len(slices)
    while at < end:
        position, slot, kind, schema, logged_at, source_id, flags, chain = slices[at][:8]
        stop = at + 1
        while stop < end and slices[stop][0] == position:
            stop += 1
        if schema is None or chain is None:
            raise UnreadablePart(f"record {position} has no beginning")
        mine = slices[at:stop] if slot >= 0 else ()
        yield Row(
            position,
            kind,
            schema,
            logged_at,
            source_id,
            flags,
            b"".join([each[8] for each in mine]),
            chain,
            encode_body(tuple([each[9] for each in mine]), tuple([each[10] for each in mine])),
        )
        at = stop
