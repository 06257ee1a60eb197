"""The wiring of the warehouse: which engine stands behind its door, and how it spells SQL."""

from pathlib import Path

from sqlglot import exp

from conosco.engines.duckdb.column_file import ParquetFile
from conosco.engines.duckdb.rendering import render
from conosco.engines.duckdb.warehouse import DuckWarehouse
from conosco.ports.columns import ColumnFile
from conosco.ports.warehouse import WholeWarehouse
from conosco.runtime.bootstrap import Folder
from conosco.runtime.settings import Settings


def open_warehouse(settings: Settings) -> WholeWarehouse:
    """The warehouse of this installation; one process owns it."""
    return DuckWarehouse(Folder(settings.data).warehouse, memory_limit_mb=settings.warehouse_memory_mb)


def render_sql(tree: exp.Expression) -> str:
    """Spell a neutral SQL tree as the warehouse of this installation wants it."""
    return render(tree)


def open_column_file(path: Path, *, columns_max: int, footer_bytes_max: int) -> ColumnFile:
    """A file of typed columns that somebody gave us, for a process that is confined."""
    return ParquetFile(path, columns_max=columns_max, footer_bytes_max=footer_bytes_max)
