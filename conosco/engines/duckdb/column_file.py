"""The column-file door on Parquet: an engine in memory that may read this one file, load no extension and reach nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb

from conosco.model.problem import refuse

MEMORY_MB: Final = 512
BATCH_ROWS: Final = 2_048
_MAGIC: Final = b"PAR1"


class ParquetFile:
    """One Parquet file. The sizes of footer and columns are checked before the engine reads any of them."""

    def __init__(self, path: Path, *, columns_max: int, footer_bytes_max: int) -> None:
        """Open it. Refuses file_damaged (kind), too_many_columns (limit, count), file_too_large (limit)."""
        _check_footer(path, footer_bytes_max)
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "threads": 1,
                "memory_limit": f"{MEMORY_MB}MB",
                "max_temp_directory_size": "0KB",
                "autoload_known_extensions": False,
                "autoinstall_known_extensions": False,
                "allow_community_extensions": False,
                "allow_unsigned_extensions": False,
                "preserve_insertion_order": True,
                "python_enable_replacements": False,
            },
        )
        self._path = str(path)
        try:
            # In this order: afterwards neither can be taken back.
            self._connection.execute(f"SET allowed_paths = ['{_quoted(self._path)}']")
            self._connection.execute("SET enable_external_access = false")
            self._connection.execute("SET lock_configuration = true")
            found = self._connection.execute("SELECT num_rows FROM parquet_file_metadata(?)", [self._path]).fetchone()
            self._row_count = int(found[0]) if found else 0
            described = self._connection.execute("SELECT column_name FROM (DESCRIBE SELECT * FROM read_parquet(?))", [self._path])
            self._names = [str(name) for (name,) in described.fetchall()]
        except duckdb.Error:
            self._connection.close()
            raise refuse("file_damaged", kind="parquet") from None
        if len(self._names) > columns_max:
            self._connection.close()
            raise refuse("too_many_columns", limit=columns_max, count=len(self._names))

    @property
    def names(self) -> list[str]:
        """The names of its columns."""
        return self._names

    @property
    def row_count(self) -> int:
        """How many rows the footer tells of."""
        return self._row_count

    def batches(self, after: int) -> Iterator[list[tuple[Any, ...]]]:
        """Rows in file order; those before are passed over by the engine."""
        try:
            cursor = self._connection.execute("SELECT * FROM read_parquet(?) OFFSET ?", [self._path, after])
            while rows := cursor.fetchmany(BATCH_ROWS):
                yield rows
        except duckdb.Error:
            raise refuse("file_damaged", kind="parquet") from None

    def close(self) -> None:
        """Release the file."""
        self._connection.close()


def _check_footer(path: Path, footer_bytes_max: int) -> None:
    """A footer is decoded as a whole, so its size is asked first."""
    with path.open("rb") as file:
        file.seek(0, 2)
        size = file.tell()
        if size < 12:
            raise refuse("file_damaged", kind="parquet")
        file.seek(size - 8)
        tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or length > size - 12:
        raise refuse("file_damaged", kind="parquet")
    if length > footer_bytes_max:
        raise refuse("file_too_large", limit=footer_bytes_max)


def _quoted(text: str) -> str:
    return text.replace("'", "''")
