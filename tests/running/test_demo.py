"""The demo as a newcomer runs it: everything comes through the real tracking endpoint, so its sums must be the sample's."""

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

from tests.running.installation import REPOSITORY, free_port
from tests.running.online_retail.sample import read_answers

PATIENCE_S = 90.0


@contextmanager
def demo(folder: Path) -> Iterator[tuple[Path, int, Path]]:
    """Run the demo until its tour is over; its data folder, its port and what it printed."""
    data, said, port = folder / "data", folder / "said", free_port()
    command = [sys.executable, "-m", "conosco.cli.main", "demo", "--data", str(data), "--port", str(port)]
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


def test_the_demo_shows_the_sums_of_its_sample(tmp_path: Path) -> None:
    answers = read_answers()
    with demo(tmp_path) as (data, port, said):
        # What the live shoppers do is told apart by its message ids.
        orders = "from events where event in ('Order Completed', 'Order Cancelled') and message_id like 'demo-%'"
        revenue = "sum(cast(json_extract_string(properties, '$.revenue') as decimal(38, 6)))"
        assert ask(data, port, f"select {revenue}, count(*) {orders}") == [[Decimal(answers.net_sum), answers.invoices]]
        cancelled = f"select {revenue}, count(*) {orders} and event = 'Order Cancelled'"
        assert ask(data, port, cancelled) == [[Decimal(answers.cancelled_sum), answers.cancelled_invoices]]
        assert ask(data, port, f"select count(distinct user_id) {orders}") == [[answers.customers]]
        assert ask(data, port, f"select count(*) {orders} and user_id is null") == [[answers.guest_invoices]]
        # Each customer is one person.
        people = "select count(distinct profile_id) from identifiers where namespace = 'user_id' and value not like 'new-%'"
        assert ask(data, port, people) == [[answers.customers]]
        assert ask(data, port, "select count(*) > 0 from outcomes where outcome = 'duplicate'") == [[True]]
        text = said.read_text()
        assert re.search(r"ready http://127\.0\.0\.1:\d+", text)
        for key in ("best_customers", "came_back", "left_the_cart", "gone_quiet", "abroad_with_email"):
            assert key in text
        assert "in best_customers? yes" in text
