"""A process of its own that makes one Parquet file out of JSON Lines of texts: ``parquet_child IN OUT``. Nothing else is read."""

import sys
from pathlib import Path
from typing import Final

import duckdb
import msgspec

MEMORY: Final = "512MB"
LINE_BYTES_MAX: Final = 64_000_000


def make_parquet(lines: Path, made: Path, columns_of_none: str = "{}") -> None:
    """Write every line as a row; the members of the first one are the columns, all of them texts; without lines those of ``columns_of_none``."""
    with lines.open("rb") as file:
        names = list(msgspec.json.decode(file.readline() or columns_of_none, type=dict[str, str | None]))
    columns = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in names)
    connection = duckdb.connect(config={"memory_limit": MEMORY, "threads": 1, "autoinstall_known_extensions": False})
    connection.execute(
        f"COPY (SELECT * FROM read_json({_text(str(lines))}, format = 'newline_delimited', columns = {{{columns}}}, "
        f"maximum_object_size = {LINE_BYTES_MAX})) TO {_text(str(made))} (FORMAT parquet, COMPRESSION zstd)"
    )
    connection.close()


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


if __name__ == "__main__":
    make_parquet(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
