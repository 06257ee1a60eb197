"""A client that does not finish its request is sent away; the others notice nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from conosco.web.slow_clients import Patience, patient_protocol

QUICK = Patience(header_seconds_max=0.2, body_seconds_max=0.4, half_open_max=50, early_answer_seconds=0.1)
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body unless the path says otherwise, and tells its size."""
    size = 0
    more = scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"%d" % size
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def served(work: Callable[[int], Awaitable[None]], patience: Patience = QUICK) -> None:
    async def run() -> None:
        config = uvicorn.Config(
            application,
            port=0,
            http=patient_protocol(patience),
            ws="none",
            lifespan="off",
            log_level="error",
            timeout_keep_alive=5,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            await asyncio.wait_for(work(server.servers[0].sockets[0].getsockname()[1]), 20)
        finally:
            server.should_exit = True
            await task

    asyncio.run(run())


async def said(port: int, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """Everything that the server says until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(pause_s)
    found = await reader.read(-1)
    writer.close()
    return found


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    size = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    return await reader.readexactly(size)


def test_headers_that_do_not_end() -> None:
    async def work(port: int) -> None:
        assert await said(port) == b""
        assert (await said(port, b"GET / HTTP/1.1\r\nhost: x\r\nx-a: ")).startswith(b"HTTP/1.1 408 ")
        # A byte now and then does not buy time.
        assert (await said(port, *(b"GET / HTTP/1.1\r\nhost: x\r\n", *(b"x-a: 1\r\n",) * 3), pause_s=0.06)).startswith(
            b"HTTP/1.1 408 "
        )

    served(work)


def test_a_body_that_does_not_end() -> None:
    async def work(port: int) -> None:
        found = await said(port, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1234")
        assert found.startswith(b"HTTP/1.1 408 ") and b"Send it again" in found

    served(work)


def test_a_request_in_pieces_and_many_on_one_connection() -> None:
    async def work(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            for piece in (b"POST / HTTP/1.1\r\nhost: x\r\n", b"content-length: 6\r\n\r\n123", b"456"):
                writer.write(piece)
                await asyncio.sleep(0.05)
            assert await answer(reader) == b"6"
            # Idle for longer than headers may take: that is the keep-alive limit's business.
            await asyncio.sleep(0.3)
        writer.write(GET + GET)
        assert [await answer(reader), await answer(reader)] == [b"0", b"0"]
        # The beginning of a next request is due like the first one's.
        writer.write(b"GET / HT")
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 408 ")
        writer.close()

    served(work)


def test_blank_lines_are_no_request() -> None:
    async def work(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert await answer(reader) == b"0"
        writer.write(b"\r\n")
        assert b"200" not in await reader.read(-1)
        writer.close()

    served(work)


def test_an_upgrade_is_not_made_and_the_request_is_answered() -> None:
    async def work(port: int) -> None:
        for protocol in (b"websocket", b"h2c"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: " + protocol + b"\r\n\r\n")
            assert await answer(reader) == b"0"
            writer.close()

    served(work)


def test_an_early_answer_leaves_the_connection_usable() -> None:
    async def work(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n")
        assert await answer(reader) == b"0"
        writer.write(bytes(3_000_000))
        await writer.drain()
        writer.write(GET)
        assert await answer(reader) == b"0"
        writer.close()

    served(work)


def test_half_open_connections_do_not_stand_in_the_way() -> None:
    async def work(port: int) -> None:
        half = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        for _, writer in half:
            writer.write(b"GET / HTTP/1.1\r\nx: ")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert await answer(reader) == b"0"
        writer.close()
        # The oldest ones had to go for the newest at once, and all of them after a while.
        ends = await asyncio.gather(*(reader.read(-1) for reader, _ in half))
        assert len(ends) == 60
        for _, writer in half:
            writer.close()

    served(work)
