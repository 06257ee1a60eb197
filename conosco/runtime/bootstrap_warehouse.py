"""The wiring of the warehouse: which engine stands behind its door, and how it spells SQL."""

from sqlglot import exp

from conosco.engines.duckdb.rendering import render
from conosco.engines.duckdb.warehouse import DuckWarehouse
from conosco.ports.warehouse import Warehouse
from conosco.runtime.bootstrap import Folder
from conosco.runtime.settings import Settings


def open_warehouse(settings: Settings) -> Warehouse:
    """The warehouse of this installation; one process owns it."""
    return DuckWarehouse(Folder(settings.data).warehouse, memory_limit_mb=settings.warehouse_memory_mb)


def render_sql(tree: exp.Expression) -> str:
    """Spell a neutral SQL tree as the warehouse of this installation wants it."""
    return render(tree)
