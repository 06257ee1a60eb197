"""The Control in memory: for tests and for runs that leave nothing behind."""

import threading


class MemoryControl:
    """The Control door on a dictionary. Threads may share it."""

    def __init__(self) -> None:
        self._using = threading.Lock()
        self._rows: dict[tuple[str, str], tuple[bytes, int | None]] = {}

    def put(self, kind: str, name: str, value: bytes, expires_at: int | None = None) -> None:
        """Insert or replace."""
        with self._using:
            self._rows[kind, name] = (value, expires_at)

    def get(self, kind: str, name: str, now: int) -> bytes | None:
        """The value, unless absent or expired."""
        with self._using:
            return _unexpired(self._rows.get((kind, name)), now)

    def take(self, kind: str, name: str, now: int) -> bytes | None:
        """The value, deleted in the same step."""
        with self._using:
            return _unexpired(self._rows.pop((kind, name), None), now)

    def list(self, kind: str, now: int) -> list[tuple[str, bytes]]:
        """All unexpired rows of a kind, by name."""
        with self._using:
            rows = ((name, _unexpired(row, now)) for (other, name), row in sorted(self._rows.items()) if other == kind)
            return [(name, value) for name, value in rows if value is not None]

    def delete(self, kind: str, name: str) -> None:
        """Delete."""
        with self._using:
            self._rows.pop((kind, name), None)

    def close(self) -> None:
        """Nothing to release: rows live as long as this object."""


def _unexpired(row: tuple[bytes, int | None] | None, now: int) -> bytes | None:
    return row[0] if row is not None and (row[1] is None or row[1] > now) else None
