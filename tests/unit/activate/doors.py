"""The smallest doors that the outbox can be tested with: State, Log and Leases in memory."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from conosco.ports.state import Key, Table


class TinyState:
    """Tables as dictionaries; every write is seen at once."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[Key, bytes]] = {}

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, bytes]:
        rows = self.tables.get(table.name, {})
        return {key: rows[key] for key in keys if key in rows}

    def put_many(self, table: Table, rows: Mapping[Key, bytes]) -> None:
        self.tables.setdefault(table.name, {}).update(rows)

    def delete(self, table: Table, keys: Iterable[Key]) -> None:
        rows = self.tables.get(table.name, {})
        for key in keys:
            rows.pop(key, None)

    def scan(self, table: Table, start: Key = (), stop: Key | None = None, max_rows: int = 1_000) -> list[tuple[Key, bytes]]:
        rows = self.tables.get(table.name, {})
        keys = sorted(rows)
        first = bisect_left(keys, start)
        last = len(keys) if stop is None else bisect_left(keys, stop)
        return [(key, rows[key]) for key in keys[first : min(last, first + max_rows)]]

    def begin(self, epoch: int) -> None:
        """Writes are seen at once, so there is nothing to open."""

    def commit(self, position: int | None) -> None:
        """Nor to close."""

    def offset(self) -> tuple[int, int]:
        return (0, 0)

    def close(self) -> None:
        """There is nothing to release."""

    def digest(self) -> str:
        spelled = repr([(name, sorted(rows.items())) for name, rows in sorted(self.tables.items()) if rows])
        return hashlib.sha256(spelled.encode()).hexdigest()


class TinyLeases:
    """Leases in a dictionary, and a stop list of identifiers."""

    def __init__(self) -> None:
        self.until: dict[str, int] = {}
        self.denied: set[tuple[str, str]] = set()

    def lease(
        self, delivery_id: str, until: int, now: int, *, identifiers: Sequence[tuple[str, str]] = (), purpose: str | None = None
    ) -> bool:
        if self.until.get(delivery_id, 0) > now or self.denied & set(identifiers):
            return False
        self.until[delivery_id] = until
        return True

    def release(self, delivery_id: str) -> None:
        self.until.pop(delivery_id, None)

    def expired(self, now: int) -> list[str]:
        return [delivery_id for delivery_id, until in self.until.items() if until <= now]

    def stop(self, identifiers: Sequence[tuple[str, str]], purpose: str | None, position: int) -> None:
        self.denied.update(identifiers)

    def stopped(self, identifiers: Sequence[tuple[str, str]], purpose: str | None) -> bool:
        return bool(self.denied & set(identifiers))

    def close(self) -> None:
        """There is nothing to release."""
