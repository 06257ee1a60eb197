"""Bar R9: of five destinations one hangs, one is dead and one fails; the healthy ones must not notice, and nothing is dropped."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.running.installation import Installation, free_port, until
from tests.running.sink import Sink
from tests.running.test_destinations import a_webhook, buyers, order

PEOPLE = 400
HEALTHY = ("good_1", "good_2")


@contextmanager
def faulty(seconds: float, status: int) -> Iterator[str]:
    """A receiver that answers late and badly."""

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the library calls it so
            self.rfile.read(int(self.headers.get("content-length", "0")))
            time.sleep(seconds)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

        def handle_one_request(self) -> None:
            # A sender that does not wait any longer is expected here.
            try:
                super().handle_one_request()
            except OSError:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def p99_ms(folder: Path, bad: dict[str, str]) -> tuple[float, dict[str, Any]]:
    """The worse p99, in milliseconds, from the decision to the receipt, of two healthy destinations beside bad ones."""
    with Sink() as first, Sink() as second, Installation(folder) as installation:
        buyers(installation)
        for key, url in {**bad, "good_1": first.url, "good_2": second.url}.items():
            installation.post("/api/destinations", a_webhook(key, url))
        for number in range(PEOPLE // 20):
            order(installation, *(f"user-{number}-{each}" for each in range(20)))
            time.sleep(0.2)
        until(lambda: len(first.received()) >= PEOPLE and len(second.received()) >= PEOPLE, "the healthy ones have everything")
        installation.settled()
        waits = installation.sql(
            "select quantile_cont(epoch_us(updated_at) - epoch_us(created_at), 0.99) / 1000 from deliveries "
            "where starts_with(destination, 'good_') and state = 'delivered' group by destination"
        )
        healths = {key: installation.get(f"/api/destinations/{key}/health") for key in bad}
        return max(float(row[0]) for row in waits), healths


@pytest.mark.deep
def test_bad_destinations_do_not_delay_the_healthy_ones(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "beside").mkdir()
    # The same number of destinations, all of them healthy, is what the machine can do.
    with Sink() as more:
        alone, _ = p99_ms(tmp_path / "alone", dict.fromkeys(("third", "fourth", "fifth", "sixth"), more.url))
    with faulty(60, 200) as hanging, faulty(0, 500) as failing, faulty(0.5, 200) as slow:
        bad = {"hanging": hanging, "failing": failing, "slow": slow, "dead": f"http://127.0.0.1:{free_port()}/"}
        beside, healths = p99_ms(tmp_path / "beside", bad)
    print(f"p99 beside four healthy ones {alone:.1f} ms, beside four bad ones {beside:.1f} ms")
    assert beside <= max(1.5 * alone, alone + 20)
    for key in ("hanging", "failing", "dead"):
        assert healths[key]["deliveries"]["pending"] == PEOPLE, healths[key]
        assert healths[key]["deliveries"]["dead"] == 0
    assert healths["failing"]["breaker"] in ("open", "half_open")
    assert healths["dead"]["breaker"] in ("open", "half_open")
