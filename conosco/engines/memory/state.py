"""The State in memory: a committed part that readers see, and the writer's changes laid over it until they commit."""

import threading
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from conosco.ports.state import Fenced, Key, Table
from conosco.ports.tables import TABLES

# So many new keys are put in their place one by one; for more, sorting everything is cheaper.
_INSERTS: Final = 64


class _Rows:
    """The committed rows of one table. Keys are kept sorted lazily: those of new rows wait until somebody scans."""

    def __init__(self) -> None:
        self.rows: dict[Key, bytes] = {}
        self._order: list[Key] = []
        self._fresh: set[Key] = set()
        self._gone: set[Key] = set()

    def put(self, key: Key, row: bytes) -> None:
        if key not in self.rows:
            if key in self._gone:
                self._gone.discard(key)
            else:
                self._fresh.add(key)
        self.rows[key] = row

    def delete(self, key: Key) -> None:
        if self.rows.pop(key, None) is not None:
            if key in self._fresh:
                self._fresh.discard(key)
            else:
                self._gone.add(key)

    def walk(self, start: Key, stop: Key | None) -> Iterator[Key]:
        """Keys with start <= key < stop, in order; tuples compare with their prefixes as the door promises."""
        self._sort()
        order, rows = self._order, self.rows
        end = len(order) if stop is None else bisect_left(order, stop)
        return (key for key in islice(order, bisect_left(order, start), end) if key in rows)

    def _sort(self) -> None:
        if len(self._gone) > len(self.rows):
            self._order = [key for key in self._order if key not in self._gone]
            self._gone.clear()
        if len(self._fresh) <= _INSERTS:
            for key in self._fresh:
                insort(self._order, key)
        else:
            self._order += sorted(self._fresh)
            self._order.sort()
        self._fresh.clear()


class _Committed:
    """What has been committed, shared by the writer and its readers."""

    def __init__(self) -> None:
        self.using = threading.Lock()
        self.tables = {table.name: _Rows() for table in TABLES}
        self.position = 0
        self.epoch = 0


class MemoryState:
    """The State door on dictionaries. ``reader`` and ``writer`` give further doors on the same tables."""

    def __init__(self, committed: _Committed | None = None, *, read_only: bool = False) -> None:
        self._committed = committed or _Committed()
        self._read_only = read_only
        # None outside begin and commit; a row of None is deleted.
        self._changes: dict[str, dict[Key, bytes | None]] | None = None
        self._epoch = 0

    def reader(self) -> "MemoryState":
        """A door on the same tables that sees commits only and writes nothing."""
        return MemoryState(self._committed, read_only=True)

    def writer(self) -> "MemoryState":
        """Another writer on the same tables, as a second worker would be."""
        return MemoryState(self._committed)

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, bytes]:
        """The rows that exist among these keys."""
        changed = self._changed(table)
        with self._committed.using:
            rows = self._committed.tables[table.name].rows
            found = ((key, changed[key] if key in changed else rows.get(key)) for key in keys)
            return {key: row for key, row in found if row is not None}

    def put_many(self, table: Table, rows: Mapping[Key, bytes]) -> None:
        """Insert or replace rows."""
        self._begun().setdefault(table.name, {}).update(rows)

    def delete(self, table: Table, keys: Iterable[Key]) -> None:
        """Delete rows."""
        self._begun().setdefault(table.name, {}).update(dict.fromkeys(keys))

    def scan(self, table: Table, start: Key = (), stop: Key | None = None, max_rows: int = 1_000) -> list[tuple[Key, bytes]]:
        """Rows with start <= key < stop in key order."""
        changed = self._changed(table)
        merged: dict[Key, bytes | None] = {}
        with self._committed.using:
            stored = self._committed.tables[table.name]
            # Each change can hide at most one stored row, so these are enough.
            merged.update((key, stored.rows[key]) for key in islice(stored.walk(start, stop), max(max_rows, 0) + len(changed)))
        merged.update((key, row) for key, row in changed.items() if start <= key and (stop is None or key < stop))
        return [(key, row) for key in sorted(merged) if (row := merged[key]) is not None][: max(max_rows, 0)]

    def begin(self, epoch: int) -> None:
        """Open the write transaction; one that is still open is dropped."""
        if self._read_only:
            raise RuntimeError("this State was opened to be read")
        self._changes = None
        self._fence(epoch)
        self._epoch, self._changes = epoch, {}

    def commit(self, position: int | None) -> None:
        """Make the changes those of everybody, unless a higher epoch has committed since begin."""
        changes = self._begun()
        self._changes = None
        self._fence(self._epoch)
        with self._committed.using:
            for name, rows in changes.items():
                table = self._committed.tables[name]
                for key, row in rows.items():
                    if row is None:
                        table.delete(key)
                    else:
                        table.put(key, row)
            self._committed.epoch = self._epoch
            if position is not None:
                self._committed.position = position

    def offset(self) -> tuple[int, int]:
        """(position of the last applied record, epoch of the last commit)."""
        with self._committed.using:
            return self._committed.position, self._committed.epoch

    def close(self) -> None:
        """Drop what is open; the tables live as long as a door on them."""
        self._changes = None

    def _changed(self, table: Table) -> dict[Key, bytes | None]:
        return {} if self._changes is None else self._changes.get(table.name, {})

    def _begun(self) -> dict[str, dict[Key, bytes | None]]:
        if self._changes is None:
            raise RuntimeError("State is written between begin and commit only")
        return self._changes

    def _fence(self, epoch: int) -> None:
        if self._committed.epoch > epoch:
            raise Fenced(f"epoch {self._committed.epoch} has taken over from {epoch}")
