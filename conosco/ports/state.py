"""The State door: typed tables that one worker writes, one transaction per micro-batch, the log offset with them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec

Column = Literal["int", "text", "bytes"]
Key = tuple[Any, ...]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table: named key columns and one encoded row. ``digest`` says whether law 1's digest covers it.

    Keys compare column by column: integers by value, texts by their UTF-8 bytes, bytes as bytes.
    """

    name: str
    key: tuple[tuple[str, Column], ...]
    digest: bool = True


class Fenced(Exception):
    """Another writer has taken over (its epoch is higher): this one must stop without writing."""


class StateFull(Exception):
    """State could not be written (disk full, read-only). The transaction was rolled back; try again later."""


class StateAbsent(Exception):
    """There is no State to read yet: the worker, who alone makes it, has not started. Try again later."""


class State(Protocol):
    """Typed tables of (key, bytes). Reads of a writer see its own uncommitted writes; other readers see the last commit."""

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, bytes]:
        """The rows that exist among these keys."""

    def put_many(self, table: Table, rows: Mapping[Key, bytes]) -> None:
        """Insert or replace rows. Only between begin and commit."""

    def delete(self, table: Table, keys: Iterable[Key]) -> None:
        """Delete rows; absent ones are no error. Only between begin and commit."""

    def scan(self, table: Table, start: Key = (), stop: Key | None = None, max_rows: int = 1_000) -> list[tuple[Key, bytes]]:
        """Rows with start <= key < stop in key order; a bound may be a prefix of the key; stop None is the end."""

    def begin(self, epoch: int) -> None:
        """Open the write transaction as this epoch. Raises Fenced if a higher epoch has committed.

        A transaction that was begun and never committed is dropped first: that is how a batch is started over.
        Raises StateFull if the write lock cannot be had.
        """

    def commit(self, position: int | None) -> None:
        """Commit everything since begin together with the offset (None keeps it). Durable on return.

        Raises StateFull if it could not be made so; then nothing of the transaction is kept.
        """

    def offset(self) -> tuple[int, int]:
        """(position of the last applied record, epoch of the last commit)."""

    def close(self) -> None:
        """Roll back what is open and release files."""


DIGEST_ORDER: Final = "tables by name, rows by key"


def scan_all(state: State, table: Table, start: Key = (), page: int = 2_000) -> Iterator[tuple[Key, bytes]]:
    """Walk a table from ``start`` to its end in pages, so that no reader holds a snapshot for long."""
    while True:
        rows = state.scan(table, start, None, page)
        yield from rows
        if len(rows) < page:
            return
        start = (*rows[-1][0][:-1], _successor(rows[-1][0][-1]))


def _successor(value: Any) -> Any:
    """The smallest key value greater than this one."""
    if isinstance(value, int):
        return value + 1
    return value + ("\x00" if isinstance(value, str) else b"\x00")
