"""Work: one micro-batch's view of State. Rows are decoded once, changed in place, and written together at the end."""

from collections.abc import Iterable, Mapping
from typing import Any

from conosco.ports.state import Key, State, Table
from conosco.ports.tables import Row, decode_row, encode_row, row_decoder


class Work:
    """A write-back overlay over a State door. Dropping it drops all changes; ``flush`` writes them."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._rows: dict[str, dict[Key, Any]] = {}
        self._dirty: dict[str, set[Key]] = {}
        self._tables: dict[str, Table] = {}

    def prefetch(self, table: Table, keys: Iterable[Key]) -> Mapping[Key, Any]:
        """Read many rows in one go; later gets of them cost a dictionary look-up. Returns the rows as they are, None for absent ones."""
        rows = self._rows.setdefault(table.name, {})
        missing = [key for key in keys if key not in rows]
        if missing:
            rows.update(dict.fromkeys(missing))
            decode = row_decoder(table)
            for key, raw in self._state.get_many(table, missing).items():
                rows[key] = decode(raw)
        return rows

    def get(self, table: Table, key: Key) -> Any:
        """The row, or None. To change it, change it in place and call ``put`` with it."""
        rows = self._rows.get(table.name)
        if rows is None:
            rows = self._rows[table.name] = {}
        try:
            return rows[key]
        except KeyError:
            raw = self._state.get_many(table, (key,)).get(key)
            row = rows[key] = None if raw is None else decode_row(table, raw)
            return row

    def put(self, table: Table, key: Key, row: Row) -> None:
        """Set a row."""
        name = table.name
        rows = self._rows.get(name)
        if rows is None:
            rows = self._rows[name] = {}
        rows[key] = row
        dirty = self._dirty.get(name)
        if dirty is None:
            dirty = self._dirty[name] = set()
            self._tables[name] = table
        dirty.add(key)

    def delete(self, table: Table, key: Key) -> None:
        """Delete a row; an absent one is no error."""
        self._rows.setdefault(table.name, {})[key] = None
        self._dirty.setdefault(table.name, set()).add(key)
        self._tables[table.name] = table

    def touched(self, table: Table) -> Iterable[Key]:
        """The keys of this table that were put or deleted."""
        return self._dirty.get(table.name, ())

    def scan(self, table: Table, start: Key, stop: Key | None, max_rows: int) -> list[tuple[Key, Any]]:
        """Rows in key order, this Work's changes included; as ``State.scan``, decoded."""
        changed = self._rows.get(table.name, {})
        dirty = self._dirty.get(table.name, set())
        stored = self._state.scan(table, start, stop, max_rows + len(dirty))
        merged = {key: changed[key] if key in changed else decode_row(table, raw) for key, raw in stored}
        for key in dirty:
            if key[: len(start)] >= start and (stop is None or key[: len(stop)] < stop):
                merged[key] = changed[key]
        return [(key, merged[key]) for key in sorted(merged) if merged[key] is not None][:max_rows]

    def flush(self) -> None:
        """Write every change to State, table by table. The caller holds State's transaction."""
        for name in sorted(self._dirty):
            table, rows = self._tables[name], self._rows[name]
            puts: dict[Key, bytes] = {}
            gone: list[Key] = []
            for key in self._dirty[name]:
                row = rows[key]
                if row is None:
                    gone.append(key)
                else:
                    puts[key] = encode_row(row)
            if puts:
                self._state.put_many(table, puts)
            if gone:
                self._state.delete(table, gone)
        self._dirty.clear()
