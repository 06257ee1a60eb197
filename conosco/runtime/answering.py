"""The serving side of the warehouse process: takes questions from its local socket and has them answered beside the appends."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from conosco.ports.warehouse import Answer, Extracted, QueryFailed, WholeWarehouse
from conosco.runtime.questions import (
    LENGTH_BYTES,
    QUESTION_BYTES_MAX,
    Answered,
    Asked,
    Define,
    Done,
    Extract,
    ExtractedTo,
    Query,
    Reply,
    StatusQuestion,
    Wait,
    WarehouseStatus,
    failed,
    frame,
    read_asked,
    socket_address,
)

QUERIES_AT_ONCE: Final = 4
QUERIES_WAITING_MAX: Final = 32
TIMEOUT_S_MAX: Final = 300.0
EXTRACT_S_MAX: Final = 3_600.0
# The folder beside the socket into which extracts are written.
EXTRACTS: Final = "extracts"
ROWS_MAX: Final = 1_000_000
# Some work inside the engine cannot be interrupted at once; whoever asked is answered after this much more.
GRACE_S: Final = 2.0
START_S: Final = 10.0
_BACKLOG: Final = 64


class Standing:
    """How far the warehouse is, told by the one thread that fills it and read by all that answer."""

    def __init__(self, status: WarehouseStatus) -> None:
        self.status = status
        self.on_change: Callable[[], None] = lambda: None

    def tell(self, status: WarehouseStatus) -> None:
        """Replace the status; those who wait for a position are woken if it changed."""
        if status != self.status:
            self.status = status
            self.on_change()


class Answering:
    """Serves one socket from a thread of its own, with mode 0600: whoever may write the folder may ask."""

    def __init__(self, warehouse: WholeWarehouse, standing: Standing, socket_path: Path) -> None:
        self._warehouse = warehouse
        self._standing = standing
        self._socket_path = socket_path
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._is_up = threading.Event()
        self._threads = ThreadPoolExecutor(QUERIES_AT_ONCE, thread_name_prefix="question")
        self._defining = ThreadPoolExecutor(1, thread_name_prefix="definition")
        self._extracting = ThreadPoolExecutor(1, thread_name_prefix="extract")
        self._queries = 0
        self._talking: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="answering", daemon=True)

    @property
    def is_busy(self) -> bool:
        """Whether questions are being answered or wait for it."""
        return self._queries > 0

    def start(self) -> None:
        """Returns once questions are taken. Raises OSError if the socket cannot be made."""
        listener = self._listen()
        self._standing.on_change = self._wake
        self._loop.create_task(self._serve(listener))
        self._thread.start()
        if not self._is_up.wait(START_S):
            raise TimeoutError("the warehouse's socket was not served in time")

    def stop(self) -> None:
        """Take no more questions; those that run are left to their own timeouts and no longer answered."""
        self._standing.on_change = lambda: None
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        for pool in (self._threads, self._defining, self._extracting):
            pool.shutdown(wait=False, cancel_futures=True)
        self._socket_path.unlink(missing_ok=True)

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._changed.set)

    def _listen(self) -> socket.socket:
        self._socket_path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with socket_address(self._socket_path) as address:
            listener.bind(address)
        self._socket_path.chmod(0o600)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        return listener

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    async def _serve(self, listener: socket.socket) -> None:
        server = await asyncio.start_unix_server(self._talk, sock=listener)
        self._is_up.set()
        await self._stopping.wait()
        server.close()
        for task in (talking := list(self._talking)):
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
        self._loop.stop()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: questions are taken as they come and answered as they are ready."""
        replying: set[asyncio.Task[None]] = set()
        task = asyncio.current_task()
        assert task is not None
        self._talking.add(task)
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
                if length > QUESTION_BYTES_MAX:
                    break
                asked = read_asked(await reader.readexactly(length))
                reply = self._loop.create_task(self._reply(asked, writer))
                replying.add(reply)
                reply.add_done_callback(replying.discard)
        except (EOFError, OSError, msgspec.DecodeError):
            pass  # The client hung up, or is none of ours.
        finally:
            for reply in replying:
                reply.cancel()
            self._talking.discard(task)
            writer.close()

    async def _reply(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        body = await self._answer(asked)
        try:
            writer.write(body)
            await writer.drain()
        except OSError:
            pass  # The client hung up meanwhile.

    async def _answer(self, asked: Asked) -> bytes:
        try:
            match asked.question:
                case Query() as query:
                    return await self._query(asked.number, query)
                case Extract() as extract:
                    return await self._extract(asked.number, extract)
                case StatusQuestion():
                    return frame(Reply(number=asked.number, reply=self._standing.status))
                case Define(views=views):
                    await self._loop.run_in_executor(self._defining, self._warehouse.define, views)
                    return frame(Reply(number=asked.number, reply=Done()))
                case Wait(position=position, timeout_s=timeout_s):
                    reached = await self._reached(position, min(timeout_s, TIMEOUT_S_MAX))
                    return frame(Reply(number=asked.number, reply=Done(reached=reached)))
        except QueryFailed as failure:
            return frame(Reply(number=asked.number, reply=failed(failure)))

    async def _query(self, number: int, query: Query) -> bytes:
        """Ask in a thread, at most a few at once; the reply is framed there too, for it may be long."""
        if self._queries >= QUERIES_AT_ONCE + QUERIES_WAITING_MAX:
            raise QueryFailed("busy")
        timeout_s = min(query.timeout_s, TIMEOUT_S_MAX)
        begun = self._loop.create_future()

        def ask() -> bytes:
            self._loop.call_soon_threadsafe(_resolve, begun)
            as_of = self._standing.status.as_of
            try:
                answer = self._warehouse.query(
                    query.sql,
                    query.params,
                    max_rows=min(query.max_rows, ROWS_MAX),
                    timeout_s=timeout_s,
                    trusted=query.trusted,
                )
            except QueryFailed as failure:
                return frame(Reply(number=number, reply=failed(failure)))
            # Records that changed nothing reach the warehouse as a position alone.
            known = Answer(columns=answer.columns, rows=answer.rows, as_of=max(as_of, answer.as_of))
            return frame(Reply(number=number, reply=Answered(answer=known)))

        self._queries += 1
        running = self._loop.run_in_executor(self._threads, ask)
        running.add_done_callback(self._finished)
        await asyncio.wait((begun, running), return_when=asyncio.FIRST_COMPLETED)
        try:
            return await asyncio.wait_for(asyncio.shield(running), timeout_s + GRACE_S)
        except TimeoutError:
            raise QueryFailed("query_timeout", seconds=round(timeout_s)) from None

    async def _extract(self, number: int, extract: Extract) -> bytes:
        """Write an extract in a thread of its own, one at a time: it may take as long as many questions."""

        def write() -> Extracted:
            folder = self._socket_path.parent / EXTRACTS
            path = folder / Path(extract.name).name
            as_of = self._standing.status.as_of
            made = self._warehouse.extract(extract.sql, extract.params, path, timeout_s=min(extract.timeout_s, EXTRACT_S_MAX))
            return Extracted(rows=made.rows, as_of=max(as_of, made.as_of))

        extracted = await self._loop.run_in_executor(self._extracting, write)
        return frame(Reply(number=number, reply=ExtractedTo(extracted=extracted)))

    def _finished(self, running: Awaitable[bytes]) -> None:
        self._queries -= 1

    async def _reached(self, position: int, timeout_s: float) -> bool:
        deadline = self._loop.time() + timeout_s
        while self._standing.status.as_of < position:
            left_s = deadline - self._loop.time()
            if left_s <= 0:
                return False
            self._changed.clear()
            if self._standing.status.as_of < position:
                try:
                    await asyncio.wait_for(self._changed.wait(), left_s)
                except TimeoutError:
                    continue
        return True


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
