"""The embedded State: one SQLite file with the tables of ports.tables, written by one worker and read by many processes."""

import threading
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from conosco.engines.sqlite.connection import UNWRITABLE, connect, fetch, is_ready, migrate, roll_back, sync_folder, truncate_wal
from conosco.ports.state import Fenced, Key, StateAbsent, StateFull, Table
from conosco.ports.tables import TABLES

WRITER_CACHE_BYTES: Final = 256_000_000
READER_CACHE_BYTES: Final = 32_000_000
# Above this much WAL a checkpoint may hold up the writer: reading through a longer one would slow everybody down.
WAL_BYTES_MAX: Final = 1_000_000_000
# From so many keys on, one statement over an array beats one statement a key.
_ARRAY_KEYS: Final = 8
_TYPES: Final = {"int": "INTEGER", "text": "TEXT", "bytes": "BLOB"}
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS progress (id INTEGER PRIMARY KEY, position INTEGER NOT NULL, epoch INTEGER NOT NULL) STRICT;
INSERT OR IGNORE INTO progress VALUES (1, 0, 0);
"""


class _Statements:
    """The SQL of one table, made once, so that every call finds its statement prepared."""

    def __init__(self, table: Table) -> None:
        names = [f'"{name}"' for name, _ in table.key]
        self.table, self.names = f'"{table.name}"', names
        match = " AND ".join(f"{name} = ?" for name in names)
        marks = ", ".join("?" * (len(names) + 1))
        self.get = f"SELECT row FROM {self.table} WHERE {match}"
        self.get_each = f"SELECT ({self.get})"
        self.get_array = f"SELECT (SELECT row FROM {self.table} WHERE {names[0]} = wanted.value) FROM carray(?) AS wanted"
        self.put = f"INSERT INTO {self.table} VALUES ({marks}) ON CONFLICT DO UPDATE SET row = excluded.row"
        self.delete = f"DELETE FROM {self.table} WHERE {match}"
        # Texts may hold NUL, at which an array of texts would cut them off.
        single = table.key[0][1] if len(names) == 1 else "text"
        self.to_array: Callable[[Sequence[Key]], Any] | None = {"int": _integers, "bytes": _blobs}.get(single)
        self.scans: dict[tuple[int, int], str] = {}

    def scan(self, start: int, stop: int) -> str:
        """The statement for a scan whose bounds have so many columns."""
        statement = self.scans.get((start, stop))
        if statement is None:
            bounds = [
                f"({', '.join(self.names[:columns])}) {test} ({', '.join('?' * columns)})"
                for columns, test in ((start, ">="), (stop, "<"))
                if columns
            ]
            where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
            order = ", ".join(self.names)
            statement = f"SELECT {order}, row FROM {self.table}{where} ORDER BY {order} LIMIT ?"
            self.scans[start, stop] = statement
        return statement


def _integers(keys: Sequence[Key]) -> Any:
    return apsw.carray(array("q", [key[0] for key in keys]))


def _blobs(keys: Sequence[Key]) -> Any:
    return apsw.carray(tuple(key[0] for key in keys))


def _create_table(table: Table) -> str:
    columns = ", ".join(f'"{name}" {_TYPES[column]} NOT NULL' for name, column in table.key)
    if [column for _, column in table.key] == ["int"]:
        name = table.key[0][0]
        return f'CREATE TABLE IF NOT EXISTS "{table.name}" ("{name}" INTEGER PRIMARY KEY, row BLOB NOT NULL) STRICT;'
    names = ", ".join(f'"{name}"' for name, _ in table.key)
    return (
        f'CREATE TABLE IF NOT EXISTS "{table.name}" ({columns}, row BLOB NOT NULL, PRIMARY KEY ({names})) STRICT, WITHOUT ROWID;'
    )


class SqliteState:
    """The State door on one file. Threads may share a reader; a writer belongs to the worker's one thread.

    The writer never checkpoints inside a commit: whoever owns it calls ``checkpoint`` from another thread, about once a
    second. Rows are written sorted by key.
    """

    def __init__(self, path: Path, *, read_only: bool = False, cache_bytes: int | None = None) -> None:
        """Open, and unless ``read_only`` make what is missing.

        A reader raises StateAbsent at once if there is no State to read yet; it never waits and never makes the file.
        """
        self._path = path
        self._read_only = read_only
        self._using = threading.RLock()
        self._checkpointing = threading.Lock()
        self._checkpointer: apsw.Connection | None = None
        self._statements = {table.name: _Statements(table) for table in TABLES}
        if cache_bytes is None:
            cache_bytes = READER_CACHE_BYTES if read_only else WRITER_CACHE_BYTES
        try:
            self._connection = connect(path, create=not read_only, cache_bytes=cache_bytes, checkpoint_bytes=0)
        except FileNotFoundError as error:
            raise StateAbsent(f"{path.name} does not exist yet") from error
        except UNWRITABLE as error:
            raise StateFull(f"{path.name}: {error}") from error
        if read_only:
            if not is_ready(self._connection):
                self._connection.close()
                raise StateAbsent(f"{path.name} is being made")
            self._connection.pragma("query_only", True)
        else:
            schema = _SCHEMA + "".join(_create_table(table) for table in TABLES)
            migrate(self._connection, schema, ("progress", *self._statements))
            sync_folder(path.parent)

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, bytes]:
        """The rows that exist among these keys, all as of one commit."""
        statements = self._statements[table.name]
        with self._using:
            if len(keys) == 1:
                found = fetch(self._connection, statements.get, keys[0])
                return {keys[0]: found[0][0]} if found else {}
            ordered = sorted(keys)
            if statements.to_array is not None and len(ordered) >= _ARRAY_KEYS:
                rows = self._connection.execute(statements.get_array, (statements.to_array(ordered),))
                return {key: row for key, (row,) in zip(ordered, rows, strict=True) if row is not None}
            # Many statements see one commit only inside a transaction; the writer's reads are in one where it matters.
            alone = not self._connection.in_transaction
            if alone:
                self._connection.execute("BEGIN")
            try:
                rows = self._connection.executemany(statements.get_each, ordered)
                return {key: row for key, (row,) in zip(ordered, rows, strict=True) if row is not None}
            finally:
                if alone:
                    self._connection.execute("COMMIT")

    def put_many(self, table: Table, rows: Mapping[Key, bytes]) -> None:
        """Insert or replace rows."""
        self._write(self._statements[table.name].put, ((*key, row) for key, row in sorted(rows.items())))

    def delete(self, table: Table, keys: Iterable[Key]) -> None:
        """Delete rows."""
        self._write(self._statements[table.name].delete, sorted(keys))

    def _write(self, statement: str, bindings: Iterable[tuple[Any, ...]]) -> None:
        with self._using:
            self._check_begun()
            try:
                self._connection.executemany(statement, bindings)
            except UNWRITABLE as error:
                roll_back(self._connection)
                raise StateFull(f"{self._path.name}: {error}") from error

    def scan(self, table: Table, start: Key = (), stop: Key | None = None, max_rows: int = 1_000) -> list[tuple[Key, bytes]]:
        """Rows with start <= key < stop in key order."""
        if stop == ():
            return []
        stop = stop or ()
        statement = self._statements[table.name].scan(len(start), len(stop))
        with self._using:
            return [(row[:-1], row[-1]) for row in fetch(self._connection, statement, (*start, *stop, max(max_rows, 0)))]

    def begin(self, epoch: int) -> None:
        """Take the write lock as this epoch, waiting at most 10 s for another writer."""
        if self._read_only:
            raise RuntimeError("this State was opened to be read")
        with self._using:
            roll_back(self._connection)
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                stored = self.offset()[1]
                if stored <= epoch:
                    self._connection.execute("UPDATE progress SET epoch = ?", (epoch,))
                    return
            except UNWRITABLE as error:
                roll_back(self._connection)
                raise StateFull(f"{self._path.name}: {error}") from error
            roll_back(self._connection)
            raise Fenced(f"epoch {stored} has taken over from {epoch}")

    def commit(self, position: int | None) -> None:
        """Commit with the offset, synced."""
        with self._using:
            self._check_begun()
            try:
                if position is not None:
                    self._connection.execute("UPDATE progress SET position = ?", (position,))
                self._connection.execute("COMMIT")
            except BaseException as error:
                roll_back(self._connection)
                if isinstance(error, UNWRITABLE):
                    raise StateFull(f"{self._path.name}: {error}") from error
                raise

    def _check_begun(self) -> None:
        if not self._connection.in_transaction:
            raise RuntimeError("State is written between begin and commit only")

    def offset(self) -> tuple[int, int]:
        """(position of the last applied record, epoch of the last commit)."""
        with self._using:
            position, epoch = fetch(self._connection, "SELECT position, epoch FROM progress")[0]
            return position, epoch

    def checkpoint(self, *, empty: bool = False) -> int:
        """Move committed pages from the WAL into the file, from any thread; returns the bytes still to be moved.

        The writer goes on meanwhile, unless ``empty`` is asked for or the WAL has passed WAL_BYTES_MAX: then it waits
        while the rest is moved and the WAL is cut to nothing. What cannot be moved now is durable in the WAL and moved by
        a later call; only ``empty`` raises StateFull.
        """
        with self._checkpointing:
            connection = self._checkpointer
            if connection is None:
                connection = self._checkpointer = connect(self._path, create=False, checkpoint_bytes=0)
            try:
                frames, moved = connection.wal_checkpoint()
                page_bytes = int(str(connection.pragma("page_size")))
                if empty or (frames - moved) * page_bytes > WAL_BYTES_MAX:
                    truncate_wal(connection)
                    return 0
                return (frames - moved) * page_bytes
            except UNWRITABLE as error:
                if empty:
                    raise StateFull(f"{self._path.name}: {error}") from error
                return self._path.with_name(self._path.name + "-wal").stat().st_size

    def rewrite(self) -> None:
        """Write the file anew and empty the WAL, so that no page keeps a trace of a row that was deleted.

        Deleting zeroes the row, but pages that were balanced earlier may keep a copy of it in their gaps: an erasure is
        complete only after this. Takes time and free space for the whole file, and the writer waits; StateFull as above.
        """
        with self._using:
            if self._connection.in_transaction:
                raise RuntimeError("State is rewritten outside begin and commit only")
            try:
                self._connection.execute("VACUUM")
            except UNWRITABLE as error:
                raise StateFull(f"{self._path.name}: {error}") from error
        self.checkpoint(empty=True)

    def copy_to(self, path: Path) -> None:
        """Copy everything as of the last commit into a new file; a writer may go on meanwhile. Raises StateFull."""
        target = connect(path, checkpoint_bytes=0)
        try:
            with self._using, target.backup("main", self._connection, "main") as copying:
                copying.step()
        except UNWRITABLE as error:
            raise StateFull(f"{path.name}: {error}") from error
        finally:
            target.close()

    def replace_from(self, path: Path) -> None:
        """Take the content of another State's file as this one's, in one durable transaction. Raises StateFull.

        Whoever reads goes on seeing the old content until then; other processes need not open the file again.
        """
        source = connect(path, create=False, checkpoint_bytes=0)
        try:
            with self._using, self._connection.backup("main", source, "main") as copying:
                copying.step()
        except UNWRITABLE as error:
            raise StateFull(f"{self._path.name}: {error}") from error
        finally:
            source.close()

    def close(self) -> None:
        """Roll back what is open and release files."""
        with self._using, self._checkpointing:
            if self._checkpointer is not None:
                self._checkpointer.close()
            self._connection.close()
