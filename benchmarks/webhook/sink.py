"""The receiver of the webhook benchmark: answers 204 at once and notes when each body had arrived in full.

``python -m benchmarks.webhook.sink PORT FILE`` writes (nanoseconds of the monotonic clock, webhook-id, body) of every request
to the file when it is asked to stop.
"""

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httptools
import msgspec
import uvloop

ANSWER = b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n"
Arrival = tuple[int, str, bytes]


class Receiver(asyncio.Protocol):
    """One connection; requests on it follow one another."""

    def __init__(self, arrivals: list[Arrival]) -> None:
        self._arrivals = arrivals
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._id = ""
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection is up."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came."""
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a header."""
        if name.lower() == b"webhook-id":
            self._id = value.decode()

    def on_body(self, body: bytes) -> None:
        """httptools: a part of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """httptools: the request is whole."""
        self._arrivals.append((time.monotonic_ns(), self._id, self._body))
        self._id, self._body = "", b""
        self._transport.write(ANSWER)


async def serve(port: int, arrivals: list[Arrival]) -> None:
    """Receive until asked to stop."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(lambda: Receiver(arrivals), "127.0.0.1", port, backlog=1_024)
    await stop.wait()
    server.close()


def main() -> None:
    arrivals: list[Arrival] = []
    uvloop.run(serve(int(sys.argv[1]), arrivals))
    Path(sys.argv[2]).write_bytes(msgspec.msgpack.encode(arrivals))


if __name__ == "__main__":
    main()
