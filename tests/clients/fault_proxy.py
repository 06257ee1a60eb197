"""A proxy that spoils requests on purpose: as planned for the first ones, then it passes everything on."""

import asyncio
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Literal, Self

Fault = Literal["pass", "500", "503", "429", "close_before", "close_after"]

_STATUS = {"500": b"500 Internal Server Error", "503": b"503 Service Unavailable", "429": b"429 Too Many Requests"}


class FaultProxy:
    """Listens on ``port`` in a thread of its own. ``done`` lists what was done to each request."""

    def __init__(self, upstream_port: int, plan: Iterable[Fault]) -> None:
        self._upstream_port = upstream_port
        self._plan = list(plan)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server: asyncio.Server | None = None
        self.done: list[Fault] = []
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        others = asyncio.all_tasks() - {task for task in (asyncio.current_task(),) if task}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read_message(reader)) is not None:
                fault = self._plan.pop(0) if self._plan else "pass"
                self.done.append(fault)
                if not await self._treat(fault, request, writer):
                    break
        except (ConnectionError, asyncio.CancelledError):
            # The client went away, or the test is over while it keeps its connection.
            pass
        finally:
            writer.close()

    async def _treat(self, fault: Fault, request: bytes, writer: asyncio.StreamWriter) -> bool:
        """Do to a request what is planned; False if the connection is to be closed."""
        match fault:
            case "close_before":
                return False
            case "close_after":
                # The answer is waited for, so that the events surely are stored when the client sends them again.
                await self._forward(request)
                return False
            case "pass":
                writer.write(await self._forward(request))
            case "500" | "503" | "429":
                retry = b"retry-after: 1\r\n" if fault != "500" else b""
                writer.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\n%b\r\n" % (_STATUS[fault], retry))
        await writer.drain()
        return True

    async def _forward(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        try:
            writer.write(request)
            await writer.drain()
            answer = await _read_message(reader)
        finally:
            writer.close()
        assert answer is not None
        return answer


async def _read_message(reader: asyncio.StreamReader) -> bytes | None:
    """A request or answer with its body, whose length or chunks its head announces; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    fields = dict(line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:] if b":" in line)
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        body = b""
        while not body.endswith(b"0\r\n\r\n"):
            size_line = await reader.readuntil(b"\r\n")
            body += size_line + await reader.readexactly(int(size_line, 16) + 2)
        return head + body
    return head + await reader.readexactly(int(fields.get(b"content-length", b"0")))
