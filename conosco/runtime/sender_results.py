"""What came of attempts, on its way to the log, and the leases that are kept until State knows it."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from conosco.activate.outbox import attempts_draft
from conosco.model.delivery import Attempt
from conosco.ports.leases import Leases, RunOut, Take
from conosco.ports.log import Log, LogFull
from conosco.ports.state import State, StateFull
from conosco.ports.tables import OUTBOX, decode_row
from conosco.runtime.sender_pace import Pace

ATTEMPTS_PER_APPEND: Final = 256


class Results:
    """Results wait here until they are in the log, and leases until the worker has applied them.

    Results of one batch go into one record, so that they are known all together or not at all.
    """

    def __init__(self, log: Log, state: State, leases: Leases, pace: Pace) -> None:
        self._log: Final = log
        self._state: Final = state
        self._leases: Final = leases
        self._pace: Final = pace
        # Queued, in flight, put off or with a result that is not yet in the log.
        self.held: set[str] = set()
        # In the log, not yet seen to be applied by the worker, and still leased: what must not be sent again meanwhile.
        # The value says whether the lease is given up then; that of a batch which is tried again is not.
        self._sent: Final[dict[tuple[str, int], bool]] = {}
        self._waiting: Final[deque[tuple[Sequence[Attempt], bool]]] = deque()
        self._count = 0
        self._news: Final = asyncio.Event()
        self._stopping = False
        self._log_thread: Final = ThreadPoolExecutor(1, thread_name_prefix="sender-log")
        self._lease_thread: Final = ThreadPoolExecutor(1, thread_name_prefix="sender-lease")

    @property
    def is_choked(self) -> bool:
        """True while so much waits for the log or the worker that nothing more may be sent."""
        return self._count > self._pace.unlogged_max or len(self._sent) > self._pace.unapplied_max

    def is_sent(self, delivery_id: str, attempts: int) -> bool:
        """Whether the next attempt has been made already, or the one before is still leased; State knows ``attempts``."""
        return (delivery_id, attempts + 1) in self._sent or (delivery_id, attempts) in self._sent

    def add(self, attempts: Sequence[Attempt], *, is_released: bool = True) -> None:
        """Take the results of one parcel. Their leases are kept for good unless ``is_released``."""
        self._waiting.append((attempts, is_released))
        self._count += len(attempts)
        self._news.set()

    async def keep_log(self) -> None:
        """Append results to the log, all that have gathered in one go; a log that is full is tried again and again."""
        loop = asyncio.get_running_loop()
        while self._waiting or not self._stopping:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                units: list[tuple[Sequence[Attempt], bool]] = []
                count = 0
                for unit in self._waiting:
                    if units and count + len(unit[0]) > ATTEMPTS_PER_APPEND:
                        break
                    units.append(unit)
                    count += len(unit[0])
                draft = attempts_draft([attempt for attempts, _ in units for attempt in attempts])
                try:
                    await loop.run_in_executor(self._log_thread, self._log.append, [draft])
                except LogFull:
                    await asyncio.sleep(self._pace.log_retry_s)
                    continue
                self._count -= count
                for attempts, is_released in units:
                    self._waiting.popleft()
                    self._sent.update(((attempt.delivery_id, attempt.attempt), is_released) for attempt in attempts)
                    self.held.difference_update(attempt.delivery_id for attempt in attempts)

    async def keep_leases(self) -> None:
        """Give up leases whose result the worker has applied: State itself now keeps these attempts from being made again.

        Given up any earlier, another sender could take the delivery before it can see what became of it.
        """
        while True:
            await asyncio.sleep(self._pace.sweep_s)
            applied = self._applied()
            for at in range(0, len(applied), self._pace.released_at_once):
                part = applied[at : at + self._pace.released_at_once]
                await self.release([delivery_id for (delivery_id, _), is_released in part if is_released])
                for key, _ in part:
                    del self._sent[key]

    def _applied(self) -> list[tuple[tuple[str, int], bool]]:
        """Of the attempts logged longest ago, those that State knows; the others go to the end of the queue."""
        oldest = [item for item, _ in zip(self._sent.items(), range(2 * self._pace.page_rows), strict=False)]
        found = self._state.get_many(OUTBOX, [(delivery_id,) for (delivery_id, _), _ in oldest])
        applied = []
        for key, is_released in oldest:
            raw = found.get((key[0],))
            if raw is None or decode_row(OUTBOX, raw).attempts >= key[1]:
                applied.append((key, is_released))
            else:
                del self._sent[key]
                self._sent[key] = is_released
        return applied

    async def lease(self, takes: Sequence[Take], until: int, now: int) -> list[bool]:
        """Take leases in their own thread. What cannot be leased for want of disk is simply not leased."""

        def take() -> list[bool]:
            try:
                return self._leases.lease(takes, until, now)
            except StateFull:
                return [False] * len(takes)

        return await asyncio.get_running_loop().run_in_executor(self._lease_thread, take)

    async def release(self, delivery_ids: Sequence[str]) -> None:
        """Give leases up in their own thread. What cannot be released runs out by itself."""

        def release() -> None:
            with suppress(StateFull):
                self._leases.release(delivery_ids)

        if delivery_ids:
            await asyncio.get_running_loop().run_in_executor(self._lease_thread, release)

    async def run_out(self, now: int) -> list[RunOut]:
        """Leases that have run out."""
        return await asyncio.get_running_loop().run_in_executor(self._lease_thread, self._leases.expired, now)

    async def finish(self, keeper: "asyncio.Task[None]", seconds: float, tasks: Iterable["asyncio.Task[None]"]) -> None:
        """Let results reach the log, within the time allowed, and end the threads."""
        self._stopping = True
        self._news.set()
        await asyncio.wait([keeper], timeout=seconds)
        keeper.cancel()
        await asyncio.gather(keeper, *tasks, return_exceptions=True)
        self._log_thread.shutdown(wait=True, cancel_futures=True)
        self._lease_thread.shutdown(wait=True, cancel_futures=True)
