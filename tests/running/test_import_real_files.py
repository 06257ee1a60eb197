"""Whole public data sets imported into a running installation, with the exact figures that are known of them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running.installation import REPOSITORY, Installation
from tests.running.test_imports import ended, send, undo

DATA = Path(os.environ.get("CONOSCO_TEST_DATA", str(REPOSITORY.parent / "shared" / "data")))
RETAIL = [
    {
        "type": "track",
        "event": {"path": ["InvoiceNo"], "as": "text", "default": "Line"},
        "user_id": {"first": [{"path": ["CustomerID"], "as": "text"}, {"template": "invoice {InvoiceNo}"}]},
        "timestamp": {"path": ["InvoiceDate"]},
        "properties": {"rest": True, "customer": {"path": ["CustomerID"]}, "invoice": {"path": ["InvoiceNo"]}},
    }
]
JOURNEY = [
    {
        "type": "track",
        "event": "Product Bought",
        "user_id": {"path": ["household_id"], "as": "text"},
        "timestamp": {"path": ["transaction_timestamp"]},
        "properties": {"rest": True},
    }
]
PATIENT_S = 900.0
pytestmark = [pytest.mark.deep, pytest.mark.timeout(1_800)]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path) as made:
        yield made


def bring(installation: Installation, name: str, mapping: Any) -> dict[str, Any]:
    path = DATA / name
    assert path.exists(), f"{path}: set CONOSCO_TEST_DATA to the folder of the public data sets"
    upload = send(installation, path.read_bytes(), path.name)
    asked = {"upload": upload, "source": "default", "mapping": mapping, "basis": "legitimate_interest", "note": "public data"}
    answer = installation.api("POST", "/api/imports", asked)
    assert answer.status == 202, answer
    made = ended(installation, answer.json()["import_id"], patience_s=PATIENT_S)
    installation.settled(600)
    return made


def test_online_retail_comes_in_exactly_and_goes_again(installation: Installation) -> None:
    made = bring(installation, "online_retail.parquet", RETAIL)
    assert (made["rows_read"], made["accepted"], made["rejected"]) == (541_909, 541_909, 0)
    quantity = "cast(properties->>'Quantity' as bigint)"
    amount = f"sum({quantity} * cast(properties->>'UnitPrice' as decimal(18,3)))"
    (row,) = installation.sql(
        f"select count(*), count(distinct properties->>'invoice'), count(distinct properties->>'customer'), "
        f"count(distinct properties->>'Country'), sum({quantity}), {amount} from events"
    )
    assert [*row[:4], int(row[4])] == [541_909, 25_900, 4_372, 38, 5_176_450]
    assert abs(float(row[5]) - 9_747_747.934) < 0.001
    (row,) = installation.sql(f"select count(*), {amount} from events where properties->>'invoice' like 'C%'")
    assert row[0] == 9_288 and abs(float(row[1]) + 896_812.490) < 0.001
    customers = "select count(distinct profile_id) from events where properties->>'customer' is not null"
    assert installation.sql(customers) == [[4_372]]
    undo(installation, made["import_id"], PATIENT_S)
    installation.settled(600)
    assert installation.sql("select count(*) from events") == [[0]]
    assert installation.sql("select count(*) from profiles") == [[0]]


def test_complete_journey_comes_in_exactly(installation: Installation) -> None:
    made = bring(installation, "complete_journey/transactions.parquet", JOURNEY)
    assert (made["rows_read"], made["accepted"], made["rejected"]) == (1_469_307, 1_469_307, 0)
    sales = "sum(cast(properties->>'sales_value' as decimal(18,2)))"
    (row,) = installation.sql(
        f"select count(*), count(distinct profile_id), count(distinct properties->>'basket_id'), {sales}, "
        "sum(cast(properties->>'quantity' as bigint)) from events"
    )
    assert [*row[:3], int(row[4])] == [1_469_307, 2_469, 155_848, 152_923_108]
    assert abs(float(row[3]) - 4_596_039.58) < 0.01
