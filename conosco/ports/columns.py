"""The door of column files: a file of typed columns (Parquet), read row by row and nothing but read."""

from collections.abc import Iterator
from typing import Any, Protocol


class ColumnFile(Protocol):
    """One open file. What opens it refuses (Refused) file_damaged, too_many_columns and file_too_large."""

    @property
    def names(self) -> list[str]:
        """The names of its columns, in order."""

    @property
    def row_count(self) -> int:
        """How many rows it says it has."""

    def batches(self, after: int) -> Iterator[list[tuple[Any, ...]]]:
        """Rows beyond the first ``after``, in file order, some at a time, as Python's own values. Refuses file_damaged."""

    def close(self) -> None:
        """Release the file."""
