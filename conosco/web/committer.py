"""Group commit: the drafts of many requests go to the log in one append, by one thread, and each request hears of its own."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from conosco.model.record import Draft
from conosco.ports.log import Appended, Log

PENDING_BYTES_MAX: Final = 64 << 20
# One append holds at most so much, so that early requests need not wait for a long one.
APPEND_BYTES_MAX: Final = 16 << 20
# The part of the pending bytes that one source may hold, so that it cannot starve the others.
SOURCE_SHARE: Final = 0.5


class Overloaded(Exception):
    """Too much waits to be written, or the process is stopping. Nothing was kept; try again in a second."""


class SourceOverloaded(Exception):
    """This source has more than its share waiting. Nothing was kept; it may try again in a second."""


class _Waiting(NamedTuple):
    draft: Draft
    size: int
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[Appended]"


class Committer:
    """Appends drafts durably. Bounded by bytes; made for one log, shared by all requests of a process."""

    def __init__(self, log: Log, *, pending_bytes_max: int = PENDING_BYTES_MAX, source_share: float = SOURCE_SHARE) -> None:
        self._log = log
        self._pending_bytes_max = pending_bytes_max
        self._source_bytes_max = int(pending_bytes_max * source_share)
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._pending_bytes = 0
        self._source_bytes: dict[str, int] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()

    async def commit(self, draft: Draft) -> Appended:
        """Append a draft; returns once it is durable.

        Raises Overloaded or SourceOverloaded at once, and whatever the log raises (LogFull) for all drafts of that append.
        """
        loop = asyncio.get_running_loop()
        size = sum(map(len, draft.slices))
        waiting = _Waiting(draft, size, loop, loop.create_future())
        with self._changed:
            held = self._source_bytes.get(draft.source_id, 0)
            if self._closing:
                raise Overloaded
            # A single draft larger than the bound still goes in when nothing else waits.
            if self._pending_bytes and self._pending_bytes + size > self._pending_bytes_max:
                raise Overloaded
            if held and held + size > self._source_bytes_max:
                raise SourceOverloaded
            self._waiting.append(waiting)
            self._pending_bytes += size
            self._source_bytes[draft.source_id] = held + size
            self._changed.notify()
        return await waiting.answer

    async def close(self) -> None:
        """Take no more, append what waits, and stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while batch := self._next_batch():
            appended: list[Appended] = []
            trouble: Exception | None = None
            try:
                appended = self._log.append([waiting.draft for waiting in batch])
            except Exception as raised:  # noqa: BLE001  # whatever it is, every waiting request must hear of it
                trouble = raised
            self._release(batch)
            with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
                batch[0].loop.call_soon_threadsafe(_resolve, batch, appended, trouble)

    def _next_batch(self) -> list[_Waiting]:
        """What is appended next: all of one loop that waits, up to a size; empty when closed and done."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            size = count = 0
            for waiting in self._waiting:
                if count and (size + waiting.size > APPEND_BYTES_MAX or waiting.loop is not self._waiting[0].loop):
                    break
                size += waiting.size
                count += 1
            batch, self._waiting = self._waiting[:count], self._waiting[count:]
            return batch

    def _release(self, batch: Sequence[_Waiting]) -> None:
        with self._changed:
            for waiting in batch:
                source_id = waiting.draft.source_id
                self._pending_bytes -= waiting.size
                left = self._source_bytes[source_id] - waiting.size
                if left:
                    self._source_bytes[source_id] = left
                else:
                    del self._source_bytes[source_id]


def _resolve(batch: Sequence[_Waiting], appended: Sequence[Appended], trouble: Exception | None) -> None:
    for index, waiting in enumerate(batch):
        if waiting.answer.done():
            continue
        if trouble is not None:
            waiting.answer.set_exception(trouble)
        else:
            waiting.answer.set_result(appended[index])
