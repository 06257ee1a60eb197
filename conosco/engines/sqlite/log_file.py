"""One file of the log: its records, and the record before its first one. Not thread-safe: one connection, one user."""

from collections.abc import Generator, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from conosco.engines.sqlite.connection import UNWRITABLE, connect, fetch, is_ready, migrate, roll_back, sync_folder, truncate_wal
from conosco.model.record import HASH_BYTES, Record, RecordKind

# Bodies are long, so large pages make a record cheaper; beyond 8 KB a small append pays for pages it hardly fills.
PAGE_BYTES: Final = 8192
# An append that fills this much WAL pays for the checkpoint. At 8 MB that is one append of 100 KB in eighty and a few
# milliseconds; at 16 MB and more the pause grew to 50 ms, and a thread of its own could fall behind without bound.
CHECKPOINT_BYTES: Final = 8_000_000
WAL_KEPT_BYTES: Final = 64_000_000
ERASE_RECORDS: Final = 200

LOG_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS records (
    position INTEGER PRIMARY KEY, kind TEXT NOT NULL, schema INTEGER NOT NULL, logged_at INTEGER NOT NULL,
    source_id TEXT NOT NULL, flags INTEGER NOT NULL, hashes BLOB NOT NULL, chain BLOB NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS file (
    id INTEGER PRIMARY KEY, sealed INTEGER NOT NULL,
    position INTEGER NOT NULL, logged_at INTEGER NOT NULL, chain BLOB NOT NULL
) STRICT;
"""
_TAIL: Final = (
    "SELECT file.sealed, coalesce(last.position, file.position), coalesce(last.logged_at, file.logged_at), "
    "coalesce(last.chain, file.chain) FROM file LEFT JOIN "
    "(SELECT position, logged_at, chain FROM records ORDER BY position DESC LIMIT 1) AS last"
)
_COLUMNS: Final = "position, kind, schema, logged_at, source_id, flags, hashes, chain, body"

Slices = tuple[bytes | None, ...]
_BODY: Final = msgspec.msgpack.Decoder(tuple[Slices, Slices])
_ENCODER: Final = msgspec.msgpack.Encoder()


class Mark(NamedTuple):
    """A place in the chain: a record's position, logged_at and chain value."""

    position: int
    logged_at: int
    chain: bytes


class Row(NamedTuple):
    """A record as stored; ``body`` is MessagePack of (salts, slices)."""

    position: int
    kind: RecordKind
    schema: int
    logged_at: int
    source_id: str
    flags: int
    hashes: bytes
    chain: bytes
    body: bytes


def encode_body(salts: Slices, slices: Slices) -> bytes:
    """Pack salts and slices as they are stored."""
    return _ENCODER.encode((salts, slices))


def decode_record(row: Row) -> Record:
    """Unpack a row. Raises msgspec.DecodeError if its body is damaged."""
    salts, slices = _BODY.decode(row.body)
    return Record(
        position=row.position,
        kind=row.kind,
        schema=row.schema,
        logged_at=row.logged_at,
        source_id=row.source_id,
        flags=row.flags,
        hashes=row.hashes,
        chain=row.chain,
        salts=salts,
        slices=slices,
    )


def read_record(row: Row) -> Record:
    """Unpack a row; slices of a damaged body are None, so that one record cannot stop those who read past it."""
    try:
        return decode_record(row)
    except msgspec.DecodeError:
        absent: Slices = (None,) * (len(row.hashes) // HASH_BYTES)
        return decode_record(row._replace(body=encode_body(absent, absent)))


class LogFile:
    """One file of the log. It is current until it is sealed; then the next file continues position and chain."""

    def __init__(self, path: Path) -> None:
        """Open an existing file; raises FileNotFoundError if it is absent or not finished being made."""
        self.path = path
        self._connection = connect(path, create=False, page_bytes=PAGE_BYTES, checkpoint_bytes=CHECKPOINT_BYTES)
        if not is_ready(self._connection):
            self._connection.close()
            raise FileNotFoundError(path)
        self._connection.pragma("journal_size_limit", WAL_KEPT_BYTES)

    @staticmethod
    def create(path: Path, base: Mark) -> "LogFile":
        """Make the file that follows ``base``, durably; a file that is there already is opened as it is.

        The caller holds the folder's lock.
        """
        connection = connect(path, page_bytes=PAGE_BYTES, checkpoint_bytes=CHECKPOINT_BYTES)
        try:
            if not is_ready(connection):
                first = f"INSERT INTO file VALUES (1, 0, {base.position}, {base.logged_at}, x'{base.chain.hex()}')"
                migrate(connection, LOG_SCHEMA + first, ("records", "file"))
                sync_folder(path.parent)
        finally:
            connection.close()
        return LogFile(path)

    def is_current(self) -> bool:
        """Whether this file still lies in its place."""
        return self.path.exists()

    def change_count(self) -> int:
        """A number that is another one once any other connection has written to this file."""
        return int(str(self._connection.pragma("data_version")))

    def begin(self) -> None:
        """Take the write lock of this file, waiting for other processes."""
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make what was written since begin durable."""
        self._connection.execute("COMMIT")

    def roll_back(self) -> None:
        """Drop what was written since begin, if anything is still open."""
        roll_back(self._connection)

    def insert(self, rows: Iterable[Row]) -> None:
        """Add rows; only between begin and commit."""
        self._connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def seal(self) -> None:
        """Declare that no record will follow here; only between begin and commit."""
        self._connection.execute("UPDATE file SET sealed = 1")

    def size_bytes(self) -> int:
        """Size of the file once the WAL has been moved into it."""
        return int(str(self._connection.pragma("page_count"))) * PAGE_BYTES

    def tail(self) -> tuple[bool, Mark]:
        """Whether the file is sealed, and its newest record (or the one before its first)."""
        sealed, position, logged_at, chain = fetch(self._connection, _TAIL)[0]
        return bool(sealed), Mark(position, logged_at, chain)

    def base(self) -> Mark:
        """The record before the first one of this file."""
        return Mark(*fetch(self._connection, "SELECT position, logged_at, chain FROM file")[0])

    def at_or_before(self, position: int) -> Mark:
        """The newest record here that is not after a position, else the base."""
        found = fetch(
            self._connection,
            "SELECT position, logged_at, chain FROM records WHERE position <= ? ORDER BY position DESC LIMIT 1",
            (position,),
        )
        return Mark(*found[0]) if found else self.base()

    def rows(self, after: int, max_records: int) -> Generator[Row, None, None]:
        """Walk rows with position > after. Close the iterator, or exhaust it, to let go of the snapshot."""
        cursor = self._connection.execute(
            f"SELECT {_COLUMNS} FROM records WHERE position > ? ORDER BY position LIMIT ?", (after, max_records)
        )
        try:
            row: Any
            for row in cursor:
                yield Row(*row)
        finally:
            cursor.close()

    def events_after(self, after: int) -> int:
        """How many events the requests after a position hold: their slices, less the envelope each."""
        found = fetch(
            self._connection,
            "SELECT coalesce(sum(length(hashes) / ? - 1), 0) FROM records WHERE position > ? AND kind = 'request'",
            (HASH_BYTES, after),
        )
        return int(found[0][0])

    def row(self, position: int) -> Row | None:
        """The row at a position."""
        found = fetch(self._connection, f"SELECT {_COLUMNS} FROM records WHERE position = ?", (position,))
        return Row(*found[0]) if found else None

    def count_before(self, before: int) -> int:
        """How many records lie before a position."""
        return int(fetch(self._connection, "SELECT count(*) FROM records WHERE position < ?", (before,))[0][0])

    def prune(self, before: int) -> int:
        """Delete records before a position and move the base along, in short transactions; returns how many."""
        pruned = 0
        while True:
            self.begin()
            last, count = fetch(
                self._connection,
                "SELECT max(position), count(*) FROM (SELECT position FROM records WHERE position < ? ORDER BY position LIMIT ?)",
                (before, ERASE_RECORDS),
            )[0]
            if not count:
                self.roll_back()
                return pruned
            self._connection.execute(
                "UPDATE file SET (position, logged_at, chain) = (SELECT position, logged_at, chain FROM records WHERE position = ?)",
                (last,),
            )
            self._connection.execute("DELETE FROM records WHERE position <= ?", (last,))
            self.commit()
            pruned += count

    def erase(self, wanted: dict[int, set[int]]) -> int:
        """Destroy slices with their salts, in short transactions, and empty the WAL; returns how many were there."""
        destroyed = 0
        positions = sorted(wanted)
        for start in range(0, len(positions), ERASE_RECORDS):
            self.begin()
            for position in positions[start : start + ERASE_RECORDS]:
                row = self.row(position)
                if row is not None:
                    destroyed += self._erase_row(row, wanted[position])
            self.commit()
        self.truncate_wal()
        return destroyed

    def _erase_row(self, row: Row, indexes: set[int]) -> int:
        try:
            record = decode_record(row)
            hit = {index for index in indexes if 0 <= index < len(record.slices) and record.slices[index] is not None}
        except msgspec.DecodeError:
            # Nobody can say which of the damaged bytes are whose, so all of them go.
            record = read_record(row)
            hit = {index for index in indexes if 0 <= index < len(record.slices)}
        if not hit:
            return 0
        salts = tuple(None if index in hit else salt for index, salt in enumerate(record.salts))
        slices = tuple(None if index in hit else body for index, body in enumerate(record.slices))
        # secure_delete zeroes what the shorter row no longer needs. Only rows that are moved between pages could leave copies
        # behind, and in a file that is appended to in key order none is.
        self._connection.execute("UPDATE records SET body = ? WHERE position = ?", (encode_body(salts, slices), row.position))
        return len(hit)

    def truncate_wal(self) -> None:
        """Move the WAL into the file and cut it to nothing."""
        truncate_wal(self._connection)

    def settle(self) -> None:
        """Move what can be moved of the WAL into the file without waiting for anybody; it is durable in either place."""
        with suppress(*UNWRITABLE):
            self._connection.wal_checkpoint()

    def close(self) -> None:
        """Roll back what is open and release the file."""
        self._connection.close()
