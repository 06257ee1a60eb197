"""Makes the sample of Online Retail that tests use and its known answers: ``python -m tools.make_online_retail``.

Reads ``online_retail.parquet`` from the folder in CONOSCO_TEST_DATA (default ../shared/data). The same source gives the same bytes.
"""

import csv
import gzip
import io
import os
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec

ROOT: Final = Path(__file__).parents[1]
TARGET: Final = ROOT / "tests" / "running" / "online_retail"
COLUMNS: Final = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")

# Every sixth customer, all of three countries, whose languages the screens speak, and all with more than one country; one in forty
# of the orders without a customer.
CHOSEN: Final = """
    CustomerID % 6 = 0
    OR (CustomerID IS NOT NULL AND Country IN ('Italy', 'Poland', 'Portugal'))
    OR CustomerID IN (SELECT CustomerID FROM lines GROUP BY 1 HAVING count(DISTINCT Country) > 1)
    OR (CustomerID IS NULL AND TRY_CAST(ltrim(InvoiceNo, 'C') AS BIGINT) % 40 = 0)
"""
# The value of a line: prices have at most three decimals, so this is exact.
NET: Final = "sum(Quantity * CAST(UnitPrice AS DECIMAL(18, 3)))"


def make(source: Path, target: Path) -> dict[str, Any]:
    """Write the sample and its answers into ``target``; returns the answers, which are counted in the source, not the sample."""
    database = duckdb.connect()
    database.execute(f"CREATE VIEW lines AS SELECT * FROM read_parquet('{source.as_posix()}', file_row_number = true)")
    database.execute(f"CREATE VIEW chosen AS SELECT * FROM lines WHERE {CHOSEN}")
    rows = database.execute(f"SELECT {', '.join(COLUMNS)} FROM chosen ORDER BY file_row_number").fetchall()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    target.mkdir(parents=True, exist_ok=True)
    # Without a time and a name in its head the file is the same on every run.
    (target / "online_retail_sample.csv.gz").write_bytes(gzip.compress(text.getvalue().encode(), 9, mtime=0))
    answers = _answers(database)
    (target / "answers.json").write_bytes(msgspec.json.format(msgspec.json.encode(answers), indent=2) + b"\n")
    return answers


def _answers(database: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    questions = {
        "rows": "SELECT count(*) FROM chosen",
        "duplicate_rows": f"SELECT count(*) - (SELECT count(*) FROM (SELECT DISTINCT {', '.join(COLUMNS)} FROM chosen)) FROM chosen",
        "invoices": "SELECT count(DISTINCT InvoiceNo) FROM chosen",
        "cancelled_invoices": "SELECT count(DISTINCT InvoiceNo) FROM chosen WHERE InvoiceNo LIKE 'C%'",
        "guest_invoices": "SELECT count(DISTINCT InvoiceNo) FROM chosen WHERE CustomerID IS NULL",
        "cancelled_rows": "SELECT count(*) FROM chosen WHERE InvoiceNo LIKE 'C%'",
        "customers": "SELECT count(DISTINCT CustomerID) FROM chosen",
        "countries": "SELECT count(DISTINCT Country) FROM chosen",
        "units": "SELECT CAST(sum(Quantity) AS BIGINT) FROM chosen",
        "net_sum": f"SELECT CAST({NET} AS VARCHAR) FROM chosen",
        "cancelled_sum": f"SELECT CAST({NET} AS VARCHAR) FROM chosen WHERE InvoiceNo LIKE 'C%'",
        "first": "SELECT CAST(min(InvoiceDate) AS VARCHAR) FROM chosen",
        "last": "SELECT CAST(max(InvoiceDate) AS VARCHAR) FROM chosen",
        "best_customer": f"SELECT CustomerID FROM chosen WHERE CustomerID IS NOT NULL GROUP BY 1 ORDER BY {NET} DESC, 1 LIMIT 1",
    }
    return {name: _one(database, question) for name, question in questions.items()}


def _one(database: duckdb.DuckDBPyConnection, question: str) -> Any:
    row = database.execute(question).fetchone()
    assert row is not None
    return row[0]


if __name__ == "__main__":
    folder = Path(os.environ.get("CONOSCO_TEST_DATA", ROOT.parent / "shared" / "data"))
    for name, value in make(folder / "online_retail.parquet", TARGET).items():
        print(f"{name}\t{value}")
