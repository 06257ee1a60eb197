"""More than the front can take: clients that never finish their requests, and clients that send faster than is written."""

import asyncio
import http.client
import json
import resource
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.running.installation import Installation, is_settled

GIGABYTE = 1 << 30
HEADER_S_MAX = 10.0
SLACK_S = 20.0
CLIENTS = 12
EVENT_BYTES = 20_000
EVENTS_PER_BATCH = 200
CONNECTIONS_EACH = 3


def half_open(installation: Installation, count: int) -> float:
    """Hold so many requests without an end open, while others are answered; seconds until the last one was closed."""
    host, port = "127.0.0.1", installation.port
    beginnings = (b"", b"GET / HTTP/1.1\r\nhost: x\r\nx: ", b"POST /v1/batch HTTP/1.1\r\nhost: x\r\n")
    answered: list[int] = []

    async def hold(number: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(beginnings[number % len(beginnings)])
        await reader.read(-1)
        writer.close()

    async def hold_all() -> float:
        begun = time.monotonic()
        holding = asyncio.gather(*(hold(number) for number in range(count)))
        while not holding.done() and time.monotonic() - begun < HEADER_S_MAX / 2:
            event = {"type": "track", "event": "Beside", "userId": "u", "messageId": f"beside-{count}-{len(answered)}"}
            answered.append((await asyncio.to_thread(installation.track, {"batch": [event]})).status)
        await asyncio.wait_for(holding, HEADER_S_MAX + SLACK_S)
        return time.monotonic() - begun

    took_s = asyncio.run(hold_all())
    assert set(answered) == {200}
    assert is_settled(installation.settled())
    return took_s


def test_requests_without_an_end_are_closed_and_the_others_go_on(folder: Path) -> None:
    with Installation(folder) as installation:
        print(f"closed after {half_open(installation, 300):.1f} s")


@pytest.mark.deep
def test_two_thousand_requests_without_an_end(folder: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8_192, hard), hard))
    with Installation(folder) as installation:
        print(f"closed after {half_open(installation, 2_000):.1f} s")


class Pressing:
    """Clients that send one batch after the other, whatever they are answered; no client that behaves would."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self.statuses: Counter[int] = Counter()
        self.stored: set[str] = set()

    def press(self, seconds: float) -> None:
        threads = [threading.Thread(target=self._send, args=(number,)) for number in range(CLIENTS * CONNECTIONS_EACH)]
        for thread in threads:
            thread.start()
        self._ending.wait(seconds)
        self._ending.set()
        for thread in threads:
            thread.join()

    def _send(self, client: int) -> None:
        filling = "x" * EVENT_BYTES
        number = 0
        while not self._ending.is_set():
            number += 1
            ids = [f"{client}-{number}-{index}" for index in range(EVENTS_PER_BATCH)]
            events: list[dict[str, Any]] = [
                {"type": "track", "event": "P", "userId": "u", "messageId": each, "properties": {"f": filling}} for each in ids
            ]
            try:
                answer = self._installation.track(json.dumps({"batch": events}).encode())
            except (TimeoutError, OSError, http.client.HTTPException):
                # Sent away in the middle: it was not acknowledged, but may have been stored all the same.
                with self._lock:
                    self.statuses[0] += 1
                continue
            with self._lock:
                self.statuses[answer.status] += 1
                if answer.status == 200:
                    self.stored.update(ids)


def pressed(folder: Path, seconds: float) -> None:
    """Under far more than can be written, and in little memory, the front says "not now" and keeps what it acknowledged."""
    with Installation(folder) as installation:
        roles = installation.pids()
        resource.prlimit(roles["front"], resource.RLIMIT_AS, (GIGABYTE, GIGABYTE))
        pressing = Pressing(installation)
        pressing.press(seconds)
        print(f"answers: {dict(pressing.statuses)}")
        assert installation.pids() == roles
        assert set(pressing.statuses) <= {0, 200, 429, 503}, pressing.statuses
        # 429 is said to the source that has more than its share waiting, 503 to all once too much waits altogether.
        assert pressing.statuses[200] and pressing.statuses[429] + pressing.statuses[503], pressing.statuses
        status = installation.settled(300.0)
        assert (status["applied"], status["quarantined"]) == (status["accepted"], 0)
        found = installation.sql("select count(distinct message_id), count(*) from events")
        assert found[0][0] == found[0][1] == status["accepted"] >= len(pressing.stored)
        kept = {
            row[0]
            for row in installation.sql(
                "select distinct split_part(message_id, '-', 1) || '-' || split_part(message_id, '-', 2) from events"
            )
        }
        assert {each.rpartition("-")[0] for each in pressing.stored} <= kept


def test_clients_that_send_too_much_hear_so_and_nothing_acknowledged_is_lost(folder: Path) -> None:
    pressed(folder, 4.0)


@pytest.mark.deep
@pytest.mark.timeout(900)
def test_a_minute_of_too_much(folder: Path) -> None:
    pressed(folder, 60.0)
