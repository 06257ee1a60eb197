"""A real HTTP server on the loopback address, which answers as a test tells it and keeps what it was sent."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple


class Received(NamedTuple):
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes


Answering = Callable[[Received, asyncio.StreamWriter], Awaitable[bool]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Receiver:
    """``requests`` in order of arrival; ``connections`` counts how many were opened."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.requests: list[Received] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def ids(self) -> list[str]:
        return [request.headers.get("webhook-id", "") for request in self.requests]


def saying(answer: bytes, *, stay: bool = True) -> Answering:
    """Answer every request with these bytes, and stay connected or not."""

    async def answering(_: Received, writer: asyncio.StreamWriter) -> bool:
        writer.write(answer)
        return stay

    return answering


def status(code: int, *head: str) -> Answering:
    """Answer every request with this status and no body."""
    lines = [f"HTTP/1.1 {code} Said", "content-length: 0", *head]
    return saying("\r\n".join(lines).encode() + b"\r\n\r\n")


@asynccontextmanager
async def receiving(answering: Answering | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Serve on a free port until the block ends."""
    receiver = Receiver()
    answer = answering or saying(OK)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        receiver.connections += 1
        try:
            while True:
                received = await _read(reader)
                receiver.requests.append(received)
                stay = await answer(received, writer)
                await writer.drain()
                if not stay:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Received(first.split(" ")[1], headers, body)
