"""A warehouse in memory, filled from an installation as the product fills its own, and asked by compiled conditions."""

from pathlib import Path
from typing import Any

from conosco.engines.duckdb.warehouse import DuckWarehouse
from conosco.rules.catalogue import Catalogue
from conosco.rules.compile import people
from conosco.rules.parse import parse_where
from conosco.rules.values import canonical_json
from conosco.runtime.role_warehouse import understanding
from conosco.runtime.warehouse import WarehouseRole
from tests.laws.harness import Installation


class Store:
    """A warehouse in memory, filled from an installation's change feed by the product's own warehouse role."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self.warehouse = DuckWarehouse(None)
        self._role = WarehouseRole(
            log=installation.log,
            state=installation.state,
            warehouse=self.warehouse,
            understand=understanding(installation.state),
            canonical_json=canonical_json,
            socket_path=folder / "socket",
        )

    def fill(self) -> None:
        """Append all that the feed holds."""
        while self._role.step():
            pass

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a question."""
        return self.warehouse.query(sql, (), max_rows=1_000_000, timeout_s=60, trusted=True).rows

    def people(self, spec: Any, catalogue: Catalogue, true_at: int, known_at: int) -> set[str]:
        """Everyone who satisfies a condition by SQL."""
        select = people(parse_where(spec, catalogue), true_at=true_at, known_at=known_at)
        return {row[0] for row in self.rows(select.sql(dialect="duckdb"))}

    def close(self) -> None:
        """Release the engine."""
        self.warehouse.close()
