"""Load over HTTP on this machine: requests made beforehand, sent on kept connections, each answer waited for and timed."""

import asyncio
import gzip
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, islice

import msgspec

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent in ``seconds``: requests answered 2xx, others, and the milliseconds that each answer took, ascending."""

    seconds: float
    answered: int
    failed: int
    waits_ms: list[float]

    def percentile(self, share: float) -> float:
        """The wait in milliseconds that this share of requests did not exceed."""
        return percentile(self.waits_ms, share)


def percentile(ascending: Sequence[float], share: float) -> float:
    """The value that this share of the sorted values does not exceed; 0 of none."""
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))] if ascending else 0.0


def is_good(status: int) -> bool:
    """Whether an HTTP status says that all went well."""
    return 200 <= status < 300


def batches(events: Iterable[bytes], per_request: int) -> list[bytes]:
    """Bodies as server SDKs send them."""
    walk = iter(events)
    bodies = []
    while chunk := list(islice(walk, per_request)):
        bodies.append(b'{"batch":[' + b",".join(chunk) + b"]}")
    return bodies


def post(path: str, body: bytes, write_key: str = "", *, zipped: bool = False) -> bytes:
    """The bytes of a POST request, head and body."""
    if zipped:
        body = gzip.compress(body, 6, mtime=0)
    head = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json", f"content-length: {len(body)}"]
    if zipped:
        head.append("content-encoding: gzip")
    if write_key:
        head.append("authorization: Basic " + b64encode(f"{write_key}:".encode()).decode())
    return "\r\n".join(head).encode() + _END_OF_HEAD + body


class Connection(asyncio.Protocol):
    """A kept connection with at most one request under way."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection is up."""
        self._transport = transport  # type: ignore[assignment]  # a stream's transport can be written to

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes of the answer came."""
        self._received += data
        head = self._received.find(_END_OF_HEAD)
        if head < 0 or self._answer is None:
            return
        low = bytes(self._received[:head]).lower()
        at = low.find(_LENGTH)
        length = int(low[at + len(_LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._received) >= head + len(_END_OF_HEAD) + length:
            status = int(self._received[9:12])
            self._received.clear()
            answer, self._answer = self._answer, None
            answer.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the server left; whoever waits hears status 0."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(0)

    async def exchange(self, request: bytes) -> int:
        """Send a request; the status of its answer, 0 if there was none."""
        if self._transport is None:
            return 0
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer


async def connect(port: int, count: int) -> list[Connection]:
    """Open connections to a port of this machine."""
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(count)]


async def saturate(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Load:
    """Keep every connection busy for so long: each sends its next request as soon as its last one is answered."""
    opened = await connect(port, connections)
    waits: list[float] = []
    failed = 0
    upcoming = cycle(requests)
    begun = time.perf_counter()

    async def keep_busy(connection: Connection) -> None:
        nonlocal failed
        while time.perf_counter() - begun < seconds:
            sent = time.perf_counter()
            if is_good(await connection.exchange(next(upcoming))):
                waits.append(1_000 * (time.perf_counter() - sent))
            else:
                failed += 1
                await asyncio.sleep(0.01)

    await asyncio.gather(*map(keep_busy, opened))
    return Load(seconds=time.perf_counter() - begun, answered=len(waits), failed=failed, waits_ms=sorted(waits))


async def pace(
    port: int, requests: Sequence[bytes], per_second: float, connections: int, sent: Callable[[int, int], None]
) -> Load:
    """Send each request at its time, evenly, whether or not earlier ones are answered.

    ``sent`` is told of (number of the request, nanoseconds of the monotonic clock) just before the bytes go out. When all
    connections are busy a request waits for one, and that wait is part of its milliseconds.
    """
    free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    for connection in await connect(port, connections):
        free.put_nowait(connection)
    waits: list[float] = []
    failed = 0
    under_way = set()

    async def send(number: int) -> None:
        nonlocal failed
        at = time.monotonic_ns()
        connection = await free.get()
        sent(number, at)
        status = await connection.exchange(requests[number])
        free.put_nowait(connection)
        if is_good(status):
            waits.append((time.monotonic_ns() - at) / 1e6)
        else:
            failed += 1

    begun = time.perf_counter()
    for number in range(len(requests)):
        pause = begun + number / per_second - time.perf_counter()
        if pause > 0:
            await asyncio.sleep(pause)
        task = asyncio.create_task(send(number))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    seconds = time.perf_counter() - begun
    await asyncio.gather(*under_way)
    return Load(seconds=seconds, answered=len(waits), failed=failed, waits_ms=sorted(waits))
