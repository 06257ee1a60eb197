"""A proxy that spoils requests on purpose: as planned for the first bodies of a client, then it passes everything on."""

import asyncio
import gzip
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import msgspec

# ``502_after`` is what a gateway says that no longer waits for the server, which has stored everything.
Fault = Literal["500", "503", "429", "close_before", "close_after", "502_after", "slow"]

# Longer than clients that can be told to be impatient wait for an answer.
SLOW_S = 4.0
_STATUS = {
    "500": b"500 Internal Server Error",
    "502_after": b"502 Bad Gateway",
    "503": b"503 Service Unavailable",
    "429": b"429 Too Many Requests",
}


class Message(NamedTuple):
    """A request or an answer."""

    raw: bytes
    first_line: bytes
    fields: dict[bytes, bytes]
    body: bytes

    @property
    def path(self) -> str:
        """Where a request goes."""
        return self.first_line.split(b" ")[1].decode()


class Lane:
    """What one client sends on a port of its own. A body is known again by its first message id, however often it is sent."""

    def __init__(self, upstream_port: int, plan: Iterable[Sequence[Fault]]) -> None:
        self._upstream_port = upstream_port
        self._plan = list(plan)
        self._waiting: dict[str, list[Fault]] = {}
        self.port = 0
        # What was done, what the server acknowledged of each message, one body a copy, and all requests with events.
        self.done: list[Fault] = []
        self.stored: defaultdict[str, list[Any]] = defaultdict(list)
        self.requests: list[Message] = []
        self.forwarding = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Treat one connection."""
        try:
            while (request := await _read_message(reader)) is not None:
                if not await self._treat(request, writer):
                    break
        except (ConnectionError, asyncio.CancelledError):
            # The client went away, or the test is over while it keeps its connection.
            pass
        finally:
            writer.close()

    async def _treat(self, request: Message, writer: asyncio.StreamWriter) -> bool:
        """Do to a request what is planned; False if the connection is to be closed."""
        events = _events_of(request)
        fault = self._next_fault(events[0]["messageId"]) if events else None
        if events:
            self.requests.append(request)
        if fault is not None:
            self.done.append(fault)
        match fault:
            case "close_before":
                return False
            case "close_after":
                # The answer is waited for, so that the events surely are stored when the client sends them again.
                await self._forward(request, events)
                return False
            case "slow":
                answer = await self._forward(request, events)
                await asyncio.sleep(SLOW_S)
                writer.write(answer)
            case "502_after":
                await self._forward(request, events)
                writer.write(_refusal(fault, request.fields.get(b"origin")))
            case "500" | "503" | "429":
                writer.write(_refusal(fault, request.fields.get(b"origin")))
            case None:
                writer.write(await self._forward(request, events))
        await writer.drain()
        return True

    def _next_fault(self, first_id: str) -> Fault | None:
        if first_id not in self._waiting:
            self._waiting[first_id] = list(self._plan.pop(0)) if self._plan else []
        faults = self._waiting[first_id]
        return faults.pop(0) if faults else None

    async def _forward(self, request: Message, events: list[Any]) -> bytes:
        self.forwarding += 1
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            try:
                writer.write(request.raw)
                await writer.drain()
                answer = await _read_message(reader)
            finally:
                writer.close()
            assert answer is not None
            if b" 200 " in answer.first_line:
                for event in events:
                    self.stored[event["messageId"]].append(event)
            return answer.raw
        finally:
            self.forwarding -= 1


class FaultProxy:
    """Holds lanes in a thread of its own while it is entered."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._servers: list[asyncio.Server] = []

    def lane(self, plan: Iterable[Sequence[Fault]] = ()) -> Lane:
        """Open a port for one client. The n-th body that is new gets the n-th faults of the plan, one a time it is sent."""
        lane = Lane(self._upstream_port, plan)
        opened = asyncio.start_server(lane.serve, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(opened, self._loop).result(10)
        self._servers.append(server)
        lane.port = server.sockets[0].getsockname()[1]
        return lane

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        others = asyncio.all_tasks() - {task for task in (asyncio.current_task(),) if task}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def _refusal(fault: Fault, origin: bytes | None) -> bytes:
    retry = b"retry-after: 1\r\n" if fault in {"503", "429"} else b""
    # As the server does it: a page may read the status of an answer to its own origin only.
    allowed = b"" if origin is None else b"access-control-allow-origin: %b\r\naccess-control-allow-credentials: true\r\n" % origin
    exposed = b"" if origin is None else b"access-control-expose-headers: retry-after\r\n"
    return b"HTTP/1.1 %b\r\ncontent-length: 0\r\n%b%b%b\r\n" % (_STATUS[fault], retry, allowed, exposed)


def read_body(request: Message) -> Any:
    """The JSON of a request's body, whatever its content type says."""
    raw = gzip.decompress(request.body) if request.body[:2] == b"\x1f\x8b" else request.body
    return msgspec.json.decode(raw)


def _events_of(request: Message) -> list[Any]:
    """The events of a request; none if it is not one that carries events."""
    if not request.first_line.startswith(b"POST "):
        return []
    body = read_body(request)
    events: list[Any] = body.get("batch", [body])
    return events


async def _read_message(reader: asyncio.StreamReader) -> Message | None:
    """A request or answer with its body, whose length or chunks its head announces; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first_line, *lines = head.split(b"\r\n")
    parts = (line.partition(b":") for line in lines if b":" in line)
    fields = {name.strip().lower(): value.strip() for name, _, value in parts}
    if b"chunked" in fields.get(b"transfer-encoding", b"").lower():
        raw = body = b""
        size = -1
        while size:
            size_line = await reader.readuntil(b"\r\n")
            size = int(size_line.partition(b";")[0], 16)
            chunk = await reader.readexactly(size + 2)
            raw, body = raw + size_line + chunk, body + chunk[:-2]
        return Message(head + raw, first_line, fields, body)
    body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
    return Message(head + body, first_line, fields, body)
