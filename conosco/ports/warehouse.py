"""The Warehouse door: all history for questions, rebuildable from the log at any time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a question, and the log position up to which it was answered."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    as_of: int


class Extracted(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows an extract has, and the log position up to which it tells."""

    rows: int
    as_of: int


class QueryFailed(Exception):
    """The question could not be answered; ``code`` is one of the API's error codes, the rest its parameters."""

    def __init__(self, code: str, **params: str | int) -> None:
        super().__init__(code)
        self.code = code
        self.params = params


class Warehouse(Protocol):
    """Append-only tables and read-only questions. One process owns it."""

    def append(self, batch_id: int, tables: Mapping[str, Sequence[Mapping[str, Any]]], as_of: int) -> None:
        """Add rows of several tables at once. A batch_id not above the last one is ignored: appending is idempotent."""

    def last_batch(self) -> int:
        """The batch_id of the last append that is durable; 0 for an empty warehouse."""

    def query(self, sql: str, params: Sequence[Any], *, max_rows: int, timeout_s: float, trusted: bool) -> Answer:
        """Answer a question. Not ``trusted``: one SELECT over documented tables only. Raises QueryFailed."""

    def define(self, views: Mapping[str, str]) -> None:
        """Replace derived views (name to SQL made by rules.compile)."""

    def delete_person(self, identifiers: Sequence[tuple[str, str]]) -> int:
        """Remove every row with these home identifiers, from the files too; returns how many."""

    def sample(self, fraction: float) -> str:
        """A SQL predicate over profile_id that keeps this fraction of people, always the same ones."""

    def clear(self) -> None:
        """Forget everything; ``last_batch`` is 0 again, and the owner appends from the start."""

    def close(self) -> None:
        """Release files."""


class Extracting(Protocol):
    """Answers that are too long for memory."""

    def extract(self, sql: str, params: Sequence[Any], path: Path, *, timeout_s: float) -> Extracted:
        """Write the rows of one trusted question, as of one moment, to a new file: a JSON array a line. Raises QueryFailed."""


class WholeWarehouse(Warehouse, Extracting, Protocol):
    """A warehouse that also extracts."""
