"""The client side of the warehouse process: asks over its local socket, for code that awaits and for code that blocks."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from conosco.ports.warehouse import Answer, Extracted, QueryFailed
from conosco.runtime.questions import (
    LENGTH_BYTES,
    REPLY_BYTES_MAX,
    Answered,
    Asked,
    Define,
    Done,
    Extract,
    ExtractedTo,
    Failed,
    Query,
    Question,
    Reply,
    StatusQuestion,
    Wait,
    WarehouseStatus,
    connect,
    frame,
    read_reply,
)

MAX_ROWS: Final = 10_000
TIMEOUT_S: Final = 30.0
CONNECT_S: Final = 2.0
# A question may wait for its turn behind others before its own time begins.
PATIENCE_S: Final = 120.0
# Every question may be asked again: asking changes nothing, defining and waiting twice is defining and waiting once.
_TRIES: Final = 2
_Kind = TypeVar("_Kind", Answered, ExtractedTo, WarehouseStatus, Done)


class WarehouseUnavailable(QueryFailed):
    """The warehouse process is not up, or went away while it was asked."""

    def __init__(self) -> None:
        super().__init__("warehouse_unavailable")


class _Line:
    """One connection of an event loop, shared by all who ask at the same time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.loop = asyncio.get_running_loop()
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self.is_open = True
        self._listening = self.loop.create_task(self._listen())

    async def ask(self, question: Question) -> Reply:
        """Raises ConnectionError if the line breaks."""
        number = next(self._numbers)
        reply: asyncio.Future[Reply] = self.loop.create_future()
        self._waiting[number] = reply
        try:
            self._writer.write(frame(Asked(number=number, question=question)))
            await self._writer.drain()
            return await reply
        finally:
            self._waiting.pop(number, None)

    async def _listen(self) -> None:
        try:
            while True:
                length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES), "big")
                if length > REPLY_BYTES_MAX:
                    break
                reply = read_reply(await self._reader.readexactly(length))
                waiting = self._waiting.get(reply.number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(reply)
        except (OSError, EOFError, msgspec.DecodeError):
            pass  # Whoever waits is told below.
        finally:
            self.is_open = False
            self._writer.close()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionResetError())

    async def close(self) -> None:
        """Hang up."""
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)


class Asking:
    """Asks without blocking the event loop; connects when first asked, and again when the warehouse process was restarted.

    All methods raise WarehouseUnavailable while it is not up, and QueryFailed as ``Warehouse.query`` does; ``busy`` if too
    many questions are waiting already.
    """

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path
        self._line: _Line | None = None
        self._connecting = asyncio.Lock()

    async def query(
        self,
        sql: str,
        params: Sequence[Any] = (),
        *,
        max_rows: int = MAX_ROWS,
        timeout_s: float = TIMEOUT_S,
        trusted: bool = False,
    ) -> Answer:
        """Answer a question; its time begins when its turn comes."""
        question = Query(sql=sql, params=list(params), trusted=trusted, max_rows=max_rows, timeout_s=timeout_s)
        return _expect(await self._ask(question, timeout_s + PATIENCE_S), Answered).answer

    async def status(self) -> WarehouseStatus:
        """How far the warehouse is."""
        return _expect(await self._ask(StatusQuestion(), PATIENCE_S), WarehouseStatus)

    async def define(self, views: Mapping[str, str]) -> None:
        """Replace the computed traits: name to SQL."""
        _expect(await self._ask(Define(views=dict(views)), PATIENCE_S), Done)

    async def wait(self, position: int, timeout_s: float) -> bool:
        """Wait until the warehouse includes a log position; False if it does not in time."""
        return _expect(await self._ask(Wait(position=position, timeout_s=timeout_s), timeout_s + PATIENCE_S), Done).reached

    async def close(self) -> None:
        """Hang up."""
        if self._line is not None and self._line.is_open:
            await self._line.close()
        self._line = None

    async def _ask(self, question: Question, timeout_s: float) -> Reply:
        for _ in range(_TRIES):
            line = await self._connected()
            try:
                return await asyncio.wait_for(line.ask(question), timeout_s)
            except TimeoutError:
                break
            except ConnectionError:
                line.is_open = False
        raise WarehouseUnavailable

    async def _connected(self) -> _Line:
        async with self._connecting:
            line = self._line
            if line is None or not line.is_open or line.loop is not asyncio.get_running_loop():
                try:
                    opened = connect(self._socket_path, CONNECT_S)
                    opened.setblocking(False)
                    line = self._line = _Line(*await asyncio.open_unix_connection(sock=opened))
                except OSError:
                    raise WarehouseUnavailable from None
            return line


class AskingNow:
    """Asks and blocks until the reply is there; may be shared by threads. As ``Asking`` otherwise."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path

    def query(
        self,
        sql: str,
        params: Sequence[Any] = (),
        *,
        max_rows: int = MAX_ROWS,
        timeout_s: float = TIMEOUT_S,
        trusted: bool = False,
    ) -> Answer:
        """Answer a question."""
        question = Query(sql=sql, params=list(params), trusted=trusted, max_rows=max_rows, timeout_s=timeout_s)
        return _expect(self._ask(question, timeout_s + PATIENCE_S), Answered).answer

    def extract(self, sql: str, params: Sequence[Any], name: str, *, timeout_s: float) -> Extracted:
        """Have the rows of a trusted question written to a new file of this name in the folder for extracts."""
        question = Extract(sql=sql, params=list(params), name=name, timeout_s=timeout_s)
        return _expect(self._ask(question, timeout_s + PATIENCE_S), ExtractedTo).extracted

    def status(self) -> WarehouseStatus:
        """How far the warehouse is."""
        return _expect(self._ask(StatusQuestion(), PATIENCE_S), WarehouseStatus)

    def define(self, views: Mapping[str, str]) -> None:
        """Replace the computed traits: name to SQL."""
        _expect(self._ask(Define(views=dict(views)), PATIENCE_S), Done)

    def wait(self, position: int, timeout_s: float) -> bool:
        """Wait until the warehouse includes a log position; False if it does not in time."""
        return _expect(self._ask(Wait(position=position, timeout_s=timeout_s), timeout_s + PATIENCE_S), Done).reached

    def _ask(self, question: Question, timeout_s: float) -> Reply:
        # A connection of its own for each question costs some 50 microseconds, and there is none to grow stale.
        try:
            with connect(self._socket_path, timeout_s) as line, line.makefile("rb") as stream:
                line.sendall(frame(Asked(number=1, question=question)))
                length = int.from_bytes(stream.read(LENGTH_BYTES), "big")
                if 0 < length <= REPLY_BYTES_MAX:
                    return read_reply(stream.read(length))
        except (OSError, msgspec.DecodeError):
            pass  # Told below: whatever broke, there is no reply.
        raise WarehouseUnavailable


def _expect(reply: Reply, kind: type[_Kind]) -> _Kind:
    """The reply's content, if it is what was asked for."""
    content = reply.reply
    if isinstance(content, Failed):
        raise QueryFailed(content.code, **content.params)
    if not isinstance(content, kind):
        raise WarehouseUnavailable
    return content
