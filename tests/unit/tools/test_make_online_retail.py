"""The tool that makes the sample of Online Retail chooses what it says, and made the sample that the tests use."""

import gzip
import os
from pathlib import Path

import duckdb
import pytest

from tests.running.online_retail.sample import SAMPLE_DATA
from tools.make_online_retail import ROOT, make

SOURCE = Path(os.environ.get("CONOSCO_TEST_DATA", ROOT.parent / "shared" / "data")) / "online_retail.parquet"
SAMPLE = "online_retail_sample.csv.gz"
# Invoice, customer, country, and whether the line is chosen.
LINES = [
    ("1", "12", "France", True),
    ("2", "13", "France", False),
    ("3", "13", "Italy", True),
    ("C3", "7", "Poland", True),
    ("4", "7", "Poland", True),
    ("40", "NULL", "France", True),
    ("C80", "NULL", "France", True),
    ("41", "NULL", "Italy", False),
    ("A120", "NULL", "France", False),
]


def test_a_small_source(tmp_path: Path) -> None:
    # Customer 13 has two countries, so all of its lines are chosen, the French one too.
    chosen = [line[:3] for line in LINES if line[3] or line[1] == "13"]
    values = ", ".join(
        f"('{invoice}', 'X', NULL, 2, TIMESTAMP '2011-01-01 10:00:00', 0.125, {customer}, '{country}')"
        for invoice, customer, country, _ in LINES
    )
    columns = "InvoiceNo, StockCode, Description, Quantity, InvoiceDate, UnitPrice, CustomerID, Country"
    source = tmp_path / "source.parquet"
    duckdb.execute(f"COPY (SELECT * FROM (VALUES {values}) AS lines({columns})) TO '{source.as_posix()}'")
    answers = make(source, tmp_path)
    rows = gzip.decompress((tmp_path / SAMPLE).read_bytes()).decode().splitlines()
    assert rows[0] == columns.replace(" ", "")
    assert rows[1:] == [
        f"{invoice},X,,2,2011-01-01 10:00:00,0.125,{customer.replace('NULL', '')},{country}"
        for invoice, customer, country in chosen
    ]
    assert answers["rows"] == len(chosen)
    assert answers["net_sum"] == f"{len(chosen) / 4:.3f}"
    assert answers["cancelled_invoices"] == 2
    assert answers["guest_invoices"] == 2


@pytest.mark.skipif(not SOURCE.exists(), reason="the whole of Online Retail is not here; set CONOSCO_TEST_DATA")
def test_the_sample_comes_from_the_source(tmp_path: Path) -> None:
    make(SOURCE, tmp_path)
    assert (tmp_path / "answers.json").read_bytes() == (SAMPLE_DATA / "answers.json").read_bytes()
    assert gzip.decompress((tmp_path / SAMPLE).read_bytes()) == gzip.decompress((SAMPLE_DATA / SAMPLE).read_bytes())
