"""The Warehouse door on one DuckDB file. The file is owned by one process and may be lost: its owner fills it again."""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import duckdb
import msgspec

from conosco.engines.duckdb.answers import rows_outside, size_of
from conosco.engines.duckdb.lockdown import DETAIL_CHARACTERS_MAX, admit, refused
from conosco.engines.duckdb.schema import TABLES, StoreTable, copied_tables, layout, statements, traits_view
from conosco.model.definition import KEY
from conosco.model.ids import ALPHABET
from conosco.ports.warehouse import Answer, Extracted, QueryFailed

FILE: Final = "warehouse.duckdb"
BROKEN: Final = ".broken"
THREADS: Final = 2
SPILL_MB_MAX: Final = 2_048
FETCH_ROWS: Final = 10_000
ANSWER_BYTES_MAX: Final = 64_000_000
# Above it the rows of an append are given to the engine in several statements of one transaction.
INSERT_BYTES_MAX: Final = 8 << 20
# An interrupt that falls between two steps of a question is lost, so it is repeated.
INTERRUPT_EVERY_S: Final = 0.1
_SAMPLE_DIGITS: Final = 6
_ENCODER: Final = msgspec.json.Encoder()
_ZONED: Final = "TIMESTAMP WITH TIME ZONE"


class WarehouseInUse(Exception):
    """Another process owns this warehouse."""


class DuckWarehouse:
    """Append-only tables and read-only questions; with ``folder`` None it lies in memory and ends with the process.

    A file that cannot be opened is moved aside (``.broken``) and an empty one begun, so that ``last_batch`` is 0 again.
    Raises WarehouseInUse if another process has the folder open.
    """

    def __init__(self, folder: Path | None, memory_limit_mb: int = 512) -> None:
        self._memory_limit_mb = memory_limit_mb
        self._path = folder / FILE if folder else None
        self._lock: TextIO | None = None
        if folder is not None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _own(folder / f"{FILE}.lock")
            self._path_beside(".next").unlink(missing_ok=True)
        # One writer at a time; questions run beside it, but none while the file is exchanged.
        self._writing = threading.Lock()
        self._gate = threading.Condition()
        self._asking: set[duckdb.DuckDBPyConnection] = set()
        self._is_shut = False
        self._root = self._open()

    # The door ----------------------------------------------------------------------------------------------------------

    def append(self, batch_id: int, tables: Mapping[str, Sequence[Mapping[str, Any]]], as_of: int) -> None:
        """Add rows of several tables of schema ``store`` at once: moments as microseconds, JSON as text.

        A batch_id not above the last one is ignored: appending is idempotent. Raises ValueError for a table or column
        that there is not, QueryFailed (``warehouse_broken``) if the file turned out to be unusable and was begun anew.
        """
        for name, rows in tables.items():
            _check_columns(name, rows)
        with self._writing, self._repairing(), self._root.cursor() as cursor:
            last_id, _, warehoused, version = _progress(cursor)
            if batch_id <= last_id:
                return
            cursor.begin()
            try:
                for name, rows in tables.items():
                    if rows:
                        version = _insert(cursor, TABLES[name], rows, version)
                warehoused += len(tables.get("events", ()))
                cursor.execute(
                    "UPDATE store.progress SET batch_id = ?, as_of = ?, warehoused = ?, version = ?",
                    [batch_id, as_of, warehoused, version],
                )
                cursor.commit()
            except BaseException:
                with contextlib.suppress(duckdb.Error):
                    cursor.rollback()
                raise

    def last_batch(self) -> int:
        """The batch_id of the last append that is durable; 0 for an empty warehouse."""
        with self._repairing(), self._question() as cursor:
            return _progress(cursor)[0]

    def query(self, sql: str, params: Sequence[Any], *, max_rows: int, timeout_s: float, trusted: bool) -> Answer:
        """Answer a question in one snapshot. Not ``trusted``: one SELECT over the documented views only.

        Raises QueryFailed: query_unreadable, query_refused, query_failed (detail), query_timeout (seconds),
        query_out_of_memory, too_many_rows (limit), answer_too_large (limit), warehouse_broken.
        """
        with self._repairing(), self._question() as cursor, _interrupting(cursor, timeout_s) as is_late:
            try:
                statement = sql if trusted else admit(cursor, sql)
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                as_of = _progress(cursor)[1]
                cursor.execute(statement, list(params))
                result = _without_zones(cursor, sql, params)
                columns = tuple(str(described[0]) for described in result.description)
                return Answer(columns=columns, rows=_fetch(result, max_rows), as_of=as_of)
            except duckdb.InterruptException:
                raise QueryFailed("query_timeout", seconds=round(timeout_s)) from None
            except duckdb.OutOfMemoryException:
                raise QueryFailed("query_out_of_memory") from None
            except duckdb.Error as error:
                if is_late.is_set():
                    raise QueryFailed("query_timeout", seconds=round(timeout_s)) from None
                if _is_broken(error):
                    raise
                raise QueryFailed("query_failed", detail=_detail(error)) from None

    def extract(self, sql: str, params: Sequence[Any], path: Path, *, timeout_s: float) -> Extracted:
        """Write the rows of one trusted question to a new file, as they come out of one snapshot: a JSON array a line.

        Raises QueryFailed as ``query``; then there is no file.
        """
        with self._repairing(), self._question() as cursor, _interrupting(cursor, timeout_s) as is_late:
            try:
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                as_of = _progress(cursor)[1]
                cursor.execute(sql, list(params))
                return Extracted(rows=_spill(cursor, path), as_of=as_of)
            except duckdb.InterruptException:
                path.unlink(missing_ok=True)
                raise QueryFailed("query_timeout", seconds=round(timeout_s)) from None
            except duckdb.Error as error:
                path.unlink(missing_ok=True)
                if is_late.is_set():
                    raise QueryFailed("query_timeout", seconds=round(timeout_s)) from None
                if isinstance(error, duckdb.OutOfMemoryException):
                    raise QueryFailed("query_out_of_memory") from None
                if _is_broken(error):
                    raise
                raise QueryFailed("query_failed", detail=_detail(error)) from None
            except OSError as error:
                path.unlink(missing_ok=True)
                raise QueryFailed("query_failed", detail=error.strerror or "") from None

    def define(self, views: Mapping[str, str]) -> None:
        """Replace all computed traits: name to a SELECT of (profile_id, value), the value as JSON text or a plain one.

        Raises QueryFailed: query_refused for a name that is no key, query_failed (detail) for SQL that cannot be bound;
        then nothing changed.
        """
        if wrong := [name for name in views if KEY.match(name) is None]:
            raise refused("name", wrong[0])
        with self._writing, self._repairing(), self._root.cursor() as cursor:
            cursor.begin()
            try:
                _define(cursor, views)
                cursor.execute("DELETE FROM store.definitions")
                if views:
                    cursor.executemany("INSERT INTO store.definitions VALUES (?, ?)", list(views.items()))
                cursor.commit()
            except duckdb.Error as error:
                cursor.rollback()
                if _is_broken(error):
                    raise
                raise QueryFailed("query_failed", detail=_detail(error)) from None

    def delete_person(self, identifiers: Sequence[tuple[str, str]]) -> int:
        """Remove every row with these home identifiers and write the file anew, so that no byte of them stays behind.

        Memberships and deliveries go with the profile ids that no other identifier has. Of Outcomes the row stays, for
        the counts, without the message id. Returns how many rows were removed. Questions wait meanwhile.
        """
        with self._writing, self._repairing(), self._exclusively():
            with self._root.cursor() as cursor:
                removed = _remove(cursor, identifiers)
            if self._path is not None:
                self._rewrite(self._path)
            return removed

    def sample(self, fraction: float) -> str:
        """A SQL predicate over profile_id that keeps this fraction of people, always the same ones.

        Profile ids are keyed hashes, so that a bound on their digits is a fair draw; a larger sample contains a smaller one.
        The first digit carries 3 bits only and is passed over.
        """
        bound = round(fraction * 32**_SAMPLE_DIGITS)
        if bound >= 32**_SAMPLE_DIGITS:
            return "TRUE"
        digits = "".join(ALPHABET[max(bound, 0) >> shift & 31] for shift in range(5 * (_SAMPLE_DIGITS - 1), -1, -5))
        return f"substring(profile_id, {len('pro_0') + 1}, {_SAMPLE_DIGITS}) < '{digits}'"

    def clear(self) -> None:
        """Forget everything; ``last_batch`` is 0 again and the owner appends from the start."""
        with self._writing, self._exclusively():
            self._root.close()
            self._remove_files()
            self._root = self._open()

    def close(self) -> None:
        """Interrupt what is being asked and release the file."""
        with self._writing, self._exclusively():
            self._root.close()
        if self._lock is not None:
            self._lock.close()

    # Opening and repairing ---------------------------------------------------------------------------------------------

    def _path_beside(self, suffix: str) -> Path:
        assert self._path is not None
        return self._path.with_name(self._path.name + suffix)

    def _open(self) -> duckdb.DuckDBPyConnection:
        """Open the file, or begin a new one in place of one that cannot be read."""
        if self._path is not None and self._path_beside(BROKEN + ".now").exists():
            self._move_aside()
        try:
            return self._connect()
        except duckdb.CatalogException:
            # Laid out by another version. Nothing in it is to be kept: its owner fills it again.
            self._remove_files()
            return self._connect()
        except duckdb.Error as error:
            if self._path is None or "No space left" in str(error) or isinstance(error, duckdb.PermissionException):
                raise
            self._move_aside()
            return self._connect()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        root = duckdb.connect(
            ":memory:" if self._path is None else str(self._path),
            config={
                "enable_external_access": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "allow_community_extensions": "false",
                "python_enable_replacements": "false",
                "memory_limit": f"{self._memory_limit_mb}MB",
                "max_temp_directory_size": f"{SPILL_MB_MAX}MB",
                "threads": str(THREADS),
            },
        )
        try:
            root.execute("SET GLOBAL TimeZone = 'UTC'")
            root.execute("SET GLOBAL lock_configuration = true")
            if not root.execute("SELECT 1 FROM duckdb_schemas() WHERE schema_name = 'computed'").fetchone():
                root.begin()
                for statement in statements():
                    root.execute(statement)
                _mark(root)
                root.commit()
            _check_layout(root)
            _progress(root)
        except BaseException:
            root.close()
            raise
        return root

    def _move_aside(self) -> None:
        """Keep the newest unreadable file for a post-mortem; older ones are replaced."""
        assert self._path is not None
        self._path_beside(BROKEN + ".now").unlink(missing_ok=True)
        for suffix in ("", ".wal"):
            found = self._path_beside(suffix)
            if found.exists():
                found.replace(self._path_beside(suffix + BROKEN))

    def _remove_files(self) -> None:
        if self._path is not None:
            for suffix in ("", ".wal"):
                self._path_beside(suffix).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _repairing(self) -> Iterator[None]:
        """Open the file again, or begin anew, if DuckDB reports that the database cannot go on."""
        broken = self._root
        try:
            yield
        except duckdb.Error as error:
            if not _is_broken(error):
                raise
            with self._exclusively():
                if self._root is broken:
                    broken.close()
                    if self._path is not None and _is_corrupt(error):
                        self._path_beside(BROKEN + ".now").touch()
                    self._root = self._open()
            raise QueryFailed("warehouse_broken") from error

    # Questions and the exchange of the file ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _question(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor of one's own, while the file stays what it is."""
        with self._gate:
            self._gate.wait_for(lambda: not self._is_shut)
            cursor = self._root.cursor()
            self._asking.add(cursor)
        try:
            yield cursor
        finally:
            with contextlib.suppress(duckdb.Error):
                cursor.close()
            with self._gate:
                self._asking.discard(cursor)
                self._gate.notify_all()

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """No question runs meanwhile: those that run are interrupted, new ones wait."""
        with self._gate:
            self._gate.wait_for(lambda: not self._is_shut)
            self._is_shut = True
            while self._asking:
                for cursor in self._asking:
                    cursor.interrupt()
                self._gate.wait(INTERRUPT_EVERY_S)
        try:
            yield
        finally:
            with self._gate:
                self._is_shut = False
                self._gate.notify_all()

    def _rewrite(self, path: Path) -> None:
        """Write all rows to a fresh file and put it in place of this one; a kill at any moment leaves one of the two."""
        self._root.execute("CHECKPOINT")
        self._root.close()
        fresh = self._path_beside(".next")
        fresh.unlink(missing_ok=True)
        try:
            with duckdb.connect(
                str(fresh), config={"memory_limit": f"{self._memory_limit_mb}MB", "threads": str(THREADS)}
            ) as new:
                for statement in statements():
                    new.execute(statement)
                _mark(new)
                new.execute("DELETE FROM store.progress")
                new.execute(f"ATTACH '{str(path).replace(chr(39), chr(39) * 2)}' AS old (READ_ONLY)")
                for name in copied_tables():
                    new.execute(f"INSERT INTO store.{name} SELECT * FROM old.store.{name}")
                new.execute("DETACH old")
                _define(new, dict(new.execute("SELECT name, body FROM store.definitions").fetchall()))
                new.execute("CHECKPOINT")
            _sync(fresh)
            fresh.replace(path)
            _sync(path.parent)
        finally:
            self._root = self._open()


def _mark(root: duckdb.DuckDBPyConnection) -> None:
    """Write down which layout a fresh file has."""
    root.execute("CREATE TABLE store.layout (digest VARCHAR)")
    root.execute("INSERT INTO store.layout VALUES (?)", [layout()])


def _check_layout(root: duckdb.DuckDBPyConnection) -> None:
    """Raises duckdb.CatalogException for a file that another version of the product laid out."""
    row = root.execute("SELECT digest FROM store.layout").fetchone()
    if row is None or row[0] != layout():
        raise duckdb.CatalogException("the warehouse was laid out by another version")


def _own(path: Path) -> TextIO:
    """Lock a file for the life of this process; DuckDB's own lock tells another process no reason."""
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise WarehouseInUse(f"another process owns {path.parent}") from None
    return lock


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_columns(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what would be dropped silently."""
    table = TABLES.get(name)
    if table is None:
        raise ValueError(f"there is no table store.{name}")
    columns = {column for column, _ in table.columns}
    for row in rows:
        if not row.keys() <= columns:
            raise ValueError(f"store.{name} has no column {min(row.keys() - columns)!r}")


def _insert(cursor: duckdb.DuckDBPyConnection, table: StoreTable, rows: Sequence[Mapping[str, Any]], version: int) -> int:
    """Append rows, one parameter for all of them, and say which older versions they supersede; returns the newest version."""
    if not table.key:
        _insert_in_parts(cursor, table, rows)
        return version
    _insert_in_parts(cursor, table, [{**row, "version": version + at} for at, row in enumerate(rows, 1)])
    cursor.execute(table.supersede, [version])
    return version + len(rows)


def _insert_in_parts(cursor: duckdb.DuckDBPyConnection, table: StoreTable, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows in statements of a bounded size: one takes several times its own size of memory, and must fit the limit."""
    body = _ENCODER.encode(rows)
    if len(body) > INSERT_BYTES_MAX and len(rows) > 1:
        half = len(rows) // 2
        _insert_in_parts(cursor, table, rows[:half])
        _insert_in_parts(cursor, table, rows[half:])
        return
    cursor.execute(table.insert, [body.decode()])


def _progress(cursor: duckdb.DuckDBPyConnection) -> tuple[int, int, int, int]:
    """(batch_id, as_of, warehoused, version)."""
    row = cursor.execute("SELECT batch_id, as_of, warehoused, version FROM store.progress").fetchone()
    assert row is not None
    return int(row[0]), int(row[1]), int(row[2]), int(row[3])


def _define(cursor: duckdb.DuckDBPyConnection, views: Mapping[str, str]) -> None:
    """Make the computed views anew, and ``traits`` from them."""
    for (name,) in cursor.execute("SELECT view_name FROM duckdb_views() WHERE schema_name = 'computed'").fetchall():
        cursor.execute(f'DROP VIEW computed."{name}"')
    values = {}
    for name, body in views.items():
        cursor.execute(f'CREATE VIEW computed."{name}" AS {body}')
        described = cursor.execute(f'SELECT value FROM computed."{name}" LIMIT 0').description
        values[name] = "value" if str(described[0][1]) in ("VARCHAR", "JSON") else "CAST(to_json(value) AS VARCHAR)"
    cursor.execute(traits_view(values))


def _remove(cursor: duckdb.DuckDBPyConnection, identifiers: Sequence[tuple[str, str]]) -> int:
    """Delete the rows of these identifiers, and those of profiles that have no other; returns how many."""
    cursor.begin()
    try:
        cursor.execute("CREATE TEMP TABLE gone (namespace VARCHAR, value VARCHAR)")
        cursor.executemany("INSERT INTO gone VALUES (?, ?)", [list(pair) for pair in identifiers] or [["", ""]])
        cursor.execute(
            "CREATE TEMP TABLE gone_profiles AS SELECT DISTINCT profile_id FROM store.identifier_versions SEMI JOIN gone "
            "USING (namespace, value) WHERE profile_id NOT IN (SELECT profile_id FROM store.identifiers_now ANTI JOIN gone "
            "USING (namespace, value))"
        )
        cursor.execute(
            "UPDATE store.outcome_versions SET message_id = NULL, params = NULL WHERE (position, slot) IN "
            "(SELECT (position, slot) FROM store.events WHERE (home_namespace, home_value) IN (SELECT (namespace, value) FROM gone))"
        )
        home = "(home_namespace, home_value) IN (SELECT (namespace, value) FROM gone)"
        wheres = {
            "events": home,
            "observations": home,
            "touches": home,
            "object_mentions": home,
            "object_observations": home,
            "identifier_versions": "(namespace, value) IN (SELECT (namespace, value) FROM gone)",
            "link_versions": (
                "(left_namespace, left_value) IN (SELECT (namespace, value) FROM gone) "
                "OR (right_namespace, right_value) IN (SELECT (namespace, value) FROM gone)"
            ),
            "membership_versions": "profile_id IN (SELECT profile_id FROM gone_profiles)",
            "delivery_versions": "profile_id IN (SELECT profile_id FROM gone_profiles)",
        }
        counts = {
            name: cursor.execute(f"DELETE FROM store.{name} WHERE {where}").fetchall()[0][0] for name, where in wheres.items()
        }
        cursor.execute("UPDATE store.progress SET warehoused = warehoused - ?", [counts["events"]])
        cursor.execute("DROP TABLE gone")
        cursor.execute("DROP TABLE gone_profiles")
        cursor.commit()
    except BaseException:
        cursor.rollback()
        raise
    return sum(counts.values())


@contextlib.contextmanager
def _interrupting(cursor: duckdb.DuckDBPyConnection, timeout_s: float) -> Iterator[threading.Event]:
    """Interrupt what the cursor does once the time is over; the event says whether it was."""
    is_over, is_late = threading.Event(), threading.Event()

    def watch() -> None:
        if is_over.wait(timeout_s):
            return
        is_late.set()
        while not is_over.wait(INTERRUPT_EVERY_S):
            cursor.interrupt()

    watcher = threading.Thread(target=watch, name="question-watch", daemon=True)
    watcher.start()
    try:
        yield is_late
    finally:
        is_over.set()
        watcher.join()


def _without_zones(cursor: duckdb.DuckDBPyConnection, sql: str, params: Sequence[Any]) -> duckdb.DuckDBPyConnection:
    """Ask once more, for moments with a zone as moments in UTC: they could not be fetched otherwise."""
    kinds = [str(described[1]) for described in cursor.description]
    if _ZONED not in kinds:
        return cursor
    names = [f"c{index}" for index in range(len(kinds))]
    chosen = ", ".join(
        f"timezone('UTC', {name}) AS {_quoted(described[0])}" if kind == _ZONED else f"{name} AS {_quoted(described[0])}"
        for name, kind, described in zip(names, kinds, cursor.description, strict=True)
    )
    inner = sql.rstrip().rstrip(";")
    return cursor.execute(f"SELECT {chosen} FROM (\n{inner}\n) AS answer({', '.join(names)})", list(params))


def _quoted(name: str) -> str:
    return '"' + str(name).replace('"', '""') + '"'


def _fetch(cursor: duckdb.DuckDBPyConnection, max_rows: int) -> list[tuple[Any, ...]]:
    """All rows in their outside form, unless they are too many or too long."""
    kinds = [str(described[1]) for described in cursor.description]
    rows: list[tuple[Any, ...]] = []
    bytes_so_far = 0
    while chunk := cursor.fetchmany(min(FETCH_ROWS, max_rows + 1)):
        rows.extend(rows_outside(chunk, kinds))
        bytes_so_far += size_of(chunk)
        if len(rows) > max_rows:
            raise QueryFailed("too_many_rows", limit=max_rows)
        if bytes_so_far > ANSWER_BYTES_MAX:
            raise QueryFailed("answer_too_large", limit=ANSWER_BYTES_MAX)
    return rows


def _spill(cursor: duckdb.DuckDBPyConnection, path: Path) -> int:
    """Write all rows to a new file; how many there are."""
    kinds = [str(described[1]) for described in cursor.description]
    encoder, count = msgspec.json.Encoder(decimal_format="number"), 0
    with path.open("xb") as file:
        while chunk := cursor.fetchmany(FETCH_ROWS):
            count += len(chunk)
            file.write(b"".join(encoder.encode(row) + b"\n" for row in rows_outside(chunk, kinds)))
    return count


def _is_broken(error: duckdb.Error) -> bool:
    """Whether the database cannot go on as it is."""
    return isinstance(error, duckdb.FatalException) or _is_corrupt(error)


def _is_corrupt(error: duckdb.Error) -> bool:
    return "Corrupt database file" in str(error)


def _detail(error: duckdb.Error) -> str:
    """The first line of what DuckDB says."""
    return str(error).split("\n", 1)[0][:DETAIL_CHARACTERS_MAX]
