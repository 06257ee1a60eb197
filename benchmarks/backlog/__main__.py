"""How fast is a backlog caught up with, what do live clients notice, and how much memory does it take?"""

import os
import signal
import sys
import tempfile
import threading
import time
from itertools import islice
from pathlib import Path

import uvloop

from benchmarks.load import Load, batches, pace, post
from benchmarks.serving import Installation, memory_bytes
from benchmarks.stream import event_of, events, segments
from benchmarks.table import rewrite
from conosco.model.moment import HOUR
from conosco.runtime.bootstrap import clock

LIVE_PER_S = 50
PER_REQUEST = 10
CALM_S = 12.0
PEOPLE = 20_000
AWAY = ("worker", "sender", "warehouse")
LIMIT_S = 1_800.0


def live_requests(installation: Installation, first: int, seconds: float) -> list[bytes]:
    """The calm stream for so long: each event of a person of its own."""
    count, at = int(LIVE_PER_S * seconds), clock()
    made = (event_of(number, f"live-{number:09d}", at, "Event 00") for number in range(first, first + count))
    return [post("/v1/batch", body, installation.write_key) for body in batches(made, PER_REQUEST)]


def calm(installation: Installation, first: int, seconds: float) -> Load:
    """Send the calm stream and wait for its answers."""
    requests = live_requests(installation, first, seconds)
    return uvloop.run(pace(installation.port, requests, LIVE_PER_S / PER_REQUEST, 8, lambda number, at_ns: None))


class Watch(threading.Thread):
    """Looks at the roles' memory until told to stop; keeps the most that each held."""

    def __init__(self, roles: dict[str, int]) -> None:
        super().__init__(daemon=True)
        self._roles = roles
        self._stop_asked = threading.Event()
        self.most: dict[str, int] = {}

    def run(self) -> None:
        """Look twice a second."""
        while not self._stop_asked.wait(0.5):
            for role, pid in self._roles.items():
                try:
                    self.most[role] = max(self.most.get(role, 0), memory_bytes(pid)[0])
                except OSError:
                    continue

    def end(self) -> dict[str, int]:
        """Stop looking."""
        self._stop_asked.set()
        self.join()
        return self.most


def take_in(installation: Installation, count: int) -> None:
    """Fill the log while nobody applies it."""
    made = islice(events(11, PEOPLE, count, clock() - HOUR, HOUR), count)
    requests = [post("/v1/batch", body, installation.write_key) for body in batches(made, 200)]

    async def all_of_them() -> None:
        share = max(1, len(requests) // 8)
        for start in range(0, len(requests), share):
            part = requests[start : start + share]
            await pace(installation.port, part, 1e9, 16, lambda number, at_ns: None)

    uvloop.run(all_of_them())


def caught_up(installation: Installation) -> bool:
    status = installation.client.ask("GET", "/api/status")
    return bool(status["accepted"] == sum(status[name] for name in ("applied", "duplicates", "quarantined", "erased")))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 540_000
    with tempfile.TemporaryDirectory(prefix="bench-backlog-") as folder, Installation(Path(folder) / "data") as installation:
        for number, where in enumerate(segments(10)):
            spec = {"language": 1, "where": where}
            installation.define("segments", {"key": f"s{number}", "name": f"s{number}", "purpose": "operations", "spec": spec})
        calm(installation, 0, 3.0)
        before = calm(installation, 10_000, CALM_S)
        roles = installation.roles()
        for role in AWAY:
            os.kill(roles[role], signal.SIGSTOP)
        take_in(installation, count)
        watch = Watch(roles)
        watch.start()
        for role in AWAY:
            os.kill(roles[role], signal.SIGCONT)
        begun, number = time.monotonic(), 100_000
        meanwhile: list[Load] = []
        while not caught_up(installation) and time.monotonic() - begun < LIMIT_S:
            meanwhile.append(calm(installation, number, 4.0))
            number += 10_000
        seconds = time.monotonic() - begun
        installation.settle(300)
        most = watch.end()
    waits = sorted(wait for load in meanwhile for wait in load.waits_ms)
    failed = sum(load.failed for load in meanwhile)
    during = waits[min(len(waits) - 1, int(0.99 * len(waits)))] if waits else 0.0
    row = [
        f"{count:,}",
        f"{seconds:,.0f}",
        f"{count / seconds:,.0f}",
        f"{count / LIVE_PER_S / seconds:,.0f}",
        f"{before.percentile(0.99):,.1f}",
        f"{during:,.1f}",
        f"{during / before.percentile(0.99):.1f}",
        f"{max(most.values()) / 1e6:,.0f}",
        str(failed),
    ]
    header = [
        "events waiting", "caught up s", "events/s", "times real time", "p99 ms before", "p99 ms meanwhile", "ratio", "most MB of a role",
        "live requests refused",
    ]  # fmt: skip
    notes = ["Most memory, MB: " + ", ".join(f"{role} {held / 1e6:,.0f}" for role, held in sorted(most.items())) + "."]
    rewrite(Path(__file__).parent, header, [row], notes)


if __name__ == "__main__":
    main()
