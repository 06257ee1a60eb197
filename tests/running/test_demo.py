"""The demo as a newcomer runs it: everything comes through the real tracking endpoint, so its sums must be those of its truth."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from conosco.cli.shop.definitions import SEGMENTS
from tests.running.installation import REPOSITORY, free_port

PATIENCE_S = 90.0


@contextmanager
def demo(folder: Path) -> Iterator[tuple[Path, int, Path]]:
    """Run the demo until its tour is over; its data folder, its port and what it printed."""
    data, said, port = folder / "data", folder / "said", free_port()
    command = [sys.executable, "-m", "conosco.cli.main", "demo", "--data", str(data), "--port", str(port)]
    command += ["--people", "120", "--truth", str(folder / "truth.jsonl")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}
    with said.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=folder)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while "webhook:" not in said.read_text():
                assert process.poll() is None, said.read_text()
                assert time.monotonic() < deadline, said.read_text()
                time.sleep(0.1)
            yield data, port, said
        finally:
            process.send_signal(signal.SIGINT)
            try:
                assert process.wait(30) == 0
            finally:
                process.kill()


def ask(data: Path, port: int, sql: str) -> list[list[Any]]:
    """Rows of a question; numbers as exact as they were told."""
    token = (data / "admin-token").read_text().strip()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/sql",
        json.dumps({"sql": sql, "params": []}).encode(),
        {"authorization": f"Bearer {token}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        rows: list[list[Any]] = json.loads(answer.read(), parse_float=Decimal)["rows"]
        return rows


def books_of(truth: Path) -> dict[str, Any]:
    """The sums in the last line of the file with the truth."""
    lines = truth.read_text().splitlines()
    books: dict[str, Any] = json.loads(lines[-1], parse_float=Decimal)["books"]
    return books


def test_the_demo_shows_the_sums_of_its_shop_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    with demo(tmp_path) as (data, port, said):
        books = books_of(tmp_path / "truth.jsonl")
        # What happens live is told apart by its message ids.
        past = "from events where message_id like 'shop-%'"
        assert ask(data, port, f"select count(*) {past}") == [[books["outcomes"]["applied"]]]
        revenue = "sum(cast(json_extract_string(properties, '$.revenue') as decimal(38, 6)))"
        polish = (
            f"select {revenue} {past} and event = 'Order Completed' and json_extract_string(properties, '$.currency') = 'PLN'"
        )
        assert ask(data, port, polish) == [[books["revenue"]["PL"]]]
        set_aside = "select count(*) from outcomes where message_id like 'shop-%' and outcome = 'quarantined'"
        assert ask(data, port, set_aside) == [[books["outcomes"]["quarantined"]]]
        text = said.read_text()
        assert re.search(r"ready http://127\.0\.0\.1:\d+", text)
        for segment in SEGMENTS:
            assert segment["key"] in text
        assert "in regulars? yes" in text
        assert (data / "shop" / "crm-customers.csv").stat().st_mode & 0o077 == 0
    with demo(tmp_path) as (data, port, _):
        # The past is not told again, and what is live uses the keys that were made at the first start.
        assert ask(data, port, f"select count(*) {past}") == [[books["outcomes"]["applied"]]]
        assert books_of(tmp_path / "truth.jsonl") == books
        [[live]] = ask(data, port, "select count(*) from events where message_id like 'live-%'")
        assert live > 0
