"""What do others notice of one source that sends far too much?"""

import asyncio
import sys
import tempfile
from pathlib import Path

import msgspec
import uvloop

from benchmarks.load import Connection, Load, connect, pace, post
from benchmarks.serving import Installation
from benchmarks.stream import event_of
from benchmarks.table import rewrite
from conosco.runtime.bootstrap import clock

QUIET_PER_S = 40
NOISY_CONNECTIONS = 50
BODY_BYTES = 1 << 20


def quiet_requests(installation: Installation, name: str, seconds: float) -> list[bytes]:
    """One event a request."""
    at = clock()
    made = (event_of(number, f"{name}-{number:06d}", at, "Event 00") for number in range(int(QUIET_PER_S * seconds)))
    return [post("/v1/batch", b'{"batch":[' + each + b"]}", installation.write_key) for each in made]


def noisy_request(write_key: str) -> bytes:
    """One event of a megabyte."""
    event = {"type": "track", "event": "Noise", "userId": "noisy", "properties": {"text": "x" * (BODY_BYTES - 1_000)}}
    return post("/v1/track", msgspec.json.encode(event), write_key)


async def shout(port: int, request: bytes, pause_s: float, stop: asyncio.Event) -> tuple[int, int]:
    """Keep many connections busy; (taken, sent away)."""
    taken = refused = 0

    async def keep_busy(connection: Connection) -> None:
        nonlocal taken, refused
        while not stop.is_set():
            status = await connection.exchange(request)
            if status == 200:
                taken += 1
                continue
            refused += 1
            if status == 0:
                (connection,) = await connect(port, 1)
            await asyncio.sleep(pause_s)

    await asyncio.gather(*(keep_busy(each) for each in await connect(port, NOISY_CONNECTIONS)))
    return taken, refused


async def beside(port: int, quiet: list[bytes], noise: bytes, pause_s: float) -> tuple[Load, int, int]:
    """The quiet stream while the noisy one goes on."""
    stop = asyncio.Event()
    shouting = asyncio.create_task(shout(port, noise, pause_s, stop))
    await asyncio.sleep(2)
    load = await pace(port, quiet, QUIET_PER_S, 16, lambda number, at_ns: None)
    stop.set()
    return load, *await shouting


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 15.0
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-noisy-") as folder, Installation(Path(folder) / "data") as installation:
        made = installation.client.ask(
            "POST", "/api/sources", {"key": "noisy", "name": "Noisy", "type": "server", "region": "eu"}
        )
        noise = noisy_request(made["write_key"])
        uvloop.run(
            pace(installation.port, quiet_requests(installation, "warm", 3.0), QUIET_PER_S, 16, lambda number, at_ns: None)
        )
        alone = uvloop.run(
            pace(installation.port, quiet_requests(installation, "alone", seconds), QUIET_PER_S, 16, lambda number, at_ns: None)
        )
        rows.append(["alone", f"{alone.percentile(0.5):.1f}", f"{alone.percentile(0.99):.1f}", "", str(alone.failed), "", ""])
        for name, pause_s in (("beside one that waits 1 s after a 429", 1.0), ("beside one that never waits", 0.0)):
            quiet = quiet_requests(installation, name.replace(" ", "-"), seconds)
            load, taken, refused = uvloop.run(beside(installation.port, quiet, noise, pause_s))
            ratio = load.percentile(0.99) / alone.percentile(0.99)
            rows.append(
                [
                    name,
                    f"{load.percentile(0.5):.1f}",
                    f"{load.percentile(0.99):.1f}",
                    f"{ratio:.1f}",
                    str(load.failed),
                    f"{taken:,}",
                    f"{refused:,}",
                ]
            )
    header = ["quiet source", "p50 ms", "p99 ms", "p99 to alone", "quiet refused", "noisy taken", "noisy sent away"]
    rewrite(Path(__file__).parent, header, rows)


if __name__ == "__main__":
    main()
