"""The embedded Leases: leases and the stop list in one small SQLite file that front and sender share."""

import hashlib
import hmac
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from conosco.engines.sqlite.connection import UNWRITABLE, UnfitFile, connect, fetch, migrate, roll_back, sync_folder
from conosco.ports.leases import RunOut, Take
from conosco.ports.state import StateFull

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS leases (
    delivery_id TEXT PRIMARY KEY, until INTEGER NOT NULL, batch TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stops (
    identifier BLOB NOT NULL, purpose TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (identifier, purpose)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secret (id INTEGER PRIMARY KEY, proof BLOB NOT NULL) STRICT;
"""
# No purpose has an empty key, so the empty one can stand for every purpose.
_EVERY: Final = ""
_Write = Callable[[str, tuple[Any, ...]], list[Any]]


class SqliteLeases:
    """The Leases door on one file. The stop list keeps hashes only, so it names nobody, not even after an erasure."""

    def __init__(self, path: Path, *, secret: bytes = b"") -> None:
        """Open or make the file. ``secret`` keys the hashes and must be the same in every process.

        Raises UnfitFile for another secret: with a wrong one the stop list would deny nobody.
        """
        self._path = path
        self._secret = hashlib.blake2b(b"stop list", digest_size=32, key=hashlib.sha256(secret).digest()).digest()
        self._using = threading.Lock()
        self._connection = connect(path)
        migrate(self._connection, _SCHEMA, ("leases", "stops", "secret"))
        self._add_batch()
        sync_folder(path.parent)
        proof = hashlib.blake2b(b"proof", digest_size=16, key=self._secret).digest()
        self._connection.execute("INSERT OR IGNORE INTO secret VALUES (1, ?)", (proof,))
        if not hmac.compare_digest(fetch(self._connection, "SELECT proof FROM secret")[0][0], proof):
            self._connection.close()
            raise UnfitFile(f"{path}: the stop list was made with another secret; restore the secrets that belong to this folder")

    def lease(self, takes: Sequence[Take], until: int, now: int) -> list[bool]:
        """Take deliveries, unless they are leased or stopped: both asked inside the one write."""
        statement = (
            "INSERT INTO leases VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET until = excluded.until "
            "WHERE until <= ? AND batch = excluded.batch RETURNING 1"
        )
        with self._write() as write:
            return [
                not self._stopped(take.identifiers, take.purpose)
                and bool(write(statement, (take.delivery_id, until, take.batch, now)))
                for take in takes
            ]

    def release(self, delivery_ids: Iterable[str]) -> None:
        """Give leases up."""
        with self._write() as write:
            for delivery_id in delivery_ids:
                write("DELETE FROM leases WHERE delivery_id = ?", (delivery_id,))

    def expired(self, now: int) -> list[RunOut]:
        """Leases that have run out, longest ago first."""
        with self._using:
            statement = "SELECT delivery_id, batch FROM leases WHERE until <= ? ORDER BY until, delivery_id"
            return [RunOut(*row) for row in fetch(self._connection, statement, (now,))]

    def stop(self, identifiers: Sequence[tuple[str, str]], purpose: str | None, position: int) -> None:
        """Deny identifiers for a purpose, or for every purpose."""
        with self._write() as write:
            for identifier in identifiers:
                write(
                    "INSERT INTO stops VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET position = max(position, excluded.position)",
                    (self._hash(identifier), _EVERY if purpose is None else purpose, position),
                )

    def stopped(self, identifiers: Sequence[tuple[str, str]], purpose: str | None) -> bool:
        """Whether any of the identifiers is denied."""
        with self._using:
            return self._stopped(identifiers, purpose)

    def close(self) -> None:
        """Release the file."""
        with self._using:
            self._connection.close()

    def _add_batch(self) -> None:
        """Files made before there were batches lack the column."""
        names = {name for _, name, *_ in fetch(self._connection, "PRAGMA table_info(leases)")}
        if "batch" not in names:
            with self._write() as write:
                write("ALTER TABLE leases ADD COLUMN batch TEXT NOT NULL DEFAULT ''", ())

    def _stopped(self, identifiers: Sequence[tuple[str, str]], purpose: str | None) -> bool:
        statement = "SELECT 1 FROM stops WHERE identifier = ? AND purpose IN (?, ?)"
        named = _EVERY if purpose is None else purpose
        return any(fetch(self._connection, statement, (self._hash(identifier), _EVERY, named)) for identifier in identifiers)

    def _hash(self, identifier: tuple[str, str]) -> bytes:
        namespace, value = (part.encode() for part in identifier)
        framed = len(namespace).to_bytes(4, "big") + namespace + value
        return hashlib.blake2b(framed, digest_size=16, key=self._secret).digest()

    @contextmanager
    def _write(self) -> Iterator[_Write]:
        """One durable transaction."""
        with self._using:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield lambda statement, bindings: fetch(self._connection, statement, bindings)
                self._connection.execute("COMMIT")
            except UNWRITABLE as error:
                raise StateFull(f"{self._path.name}: {error}") from error
            finally:
                roll_back(self._connection)
