"""The embedded Control: accounts, tokens, sessions and jobs in one small SQLite file that several processes share."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from conosco.engines.sqlite.connection import UNWRITABLE, connect, fetch, migrate, sync_folder
from conosco.ports.control import ControlFull

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS rows (
    kind TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL, expires_at INTEGER, PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rows_expiry ON rows (expires_at) WHERE expires_at IS NOT NULL;
"""


class SqliteControl:
    """The Control door on one file. Threads may share it."""

    def __init__(self, path: Path) -> None:
        """Open or make the file."""
        self._path = path
        self._using = threading.Lock()
        self._connection = connect(path)
        migrate(self._connection, _SCHEMA, ("rows",))
        sync_folder(path.parent)

    def put(self, kind: str, name: str, value: bytes, expires_at: int | None = None) -> None:
        """Insert or replace."""
        with self._trouble():
            self._connection.execute(
                "INSERT INTO rows VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at",
                (kind, name, value, expires_at),
            )

    def get(self, kind: str, name: str, now: int) -> bytes | None:
        """The value, unless absent or expired."""
        statement = "SELECT value FROM rows WHERE kind = ? AND name = ? AND (expires_at IS NULL OR expires_at > ?)"
        with self._trouble():
            found = fetch(self._connection, statement, (kind, name, now))
        return found[0][0] if found else None

    def take(self, kind: str, name: str, now: int) -> bytes | None:
        """The value, deleted by the statement that read it. What has expired, of any kind, is swept out on the way."""
        statement = "DELETE FROM rows WHERE kind = ? AND name = ? AND (expires_at IS NULL OR expires_at > ?) RETURNING value"
        with self._trouble():
            found = fetch(self._connection, statement, (kind, name, now))
            self._connection.execute("DELETE FROM rows WHERE expires_at <= ?", (now,))
        return found[0][0] if found else None

    def list(self, kind: str, now: int) -> list[tuple[str, bytes]]:
        """All unexpired rows of a kind, by name."""
        statement = "SELECT name, value FROM rows WHERE kind = ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY name"
        with self._trouble():
            return fetch(self._connection, statement, (kind, now))

    def delete(self, kind: str, name: str) -> None:
        """Delete."""
        with self._trouble():
            self._connection.execute("DELETE FROM rows WHERE kind = ? AND name = ?", (kind, name))

    def close(self) -> None:
        """Release the file."""
        with self._using:
            self._connection.close()

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        """One thread at a time, and trouble with the disk named as the door names it."""
        with self._using:
            try:
                yield
            except UNWRITABLE as error:
                raise ControlFull(f"{self._path.name}: {error}") from error
