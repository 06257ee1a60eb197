"""The progress desk: counts, readiness, and waiting for one's own writes."""

import asyncio
from collections.abc import Callable
from typing import Literal

from conosco.model.answer import Job, Page, Readiness, Status
from conosco.model.moment import SECOND, spell_moment
from conosco.ports.tables import CURSORS
from conosco.runtime.asking import WarehouseUnavailable
from conosco.runtime.office.reading import POLL_S, Reading


class ProgressDesk:
    """Implements ``web.office.Progress``. ``probe`` makes a real durable write and says whether it succeeded."""

    def __init__(self, reading: Reading, probe: Callable[[], bool]) -> None:
        self._reading = reading
        self._probe = probe

    async def status(self) -> Status:
        """The counts as of now. Accepted events that the worker has not reached are counted from the log's headers."""
        reading = self._reading
        counters = reading.meta("counters", {})
        position = reading.state.offset()[0]
        head = reading.log.head()
        waiting = reading.log.count(position) if head.position > position else 0
        lag_us = reading.clock() - reading.meta("now", head.logged_at) if waiting else 0
        return Status(
            accepted=counters.get("accepted", 0) + waiting,
            applied=counters.get("applied", 0),
            duplicates=counters.get("duplicates", 0),
            quarantined=counters.get("quarantined", 0),
            erased=counters.get("erased", 0),
            warehoused=await self._warehoused(),
            lag_seconds=max(0.0, lag_us / SECOND),
            position=position,
        )

    async def _warehoused(self) -> int:
        try:
            return (await self._reading.asking.status()).warehoused
        except WarehouseUnavailable:
            return 0

    async def readiness(self) -> Readiness:
        """Whether this process can serve: a real read of State, a real durable write, and a warehouse that answers."""
        loop = asyncio.get_running_loop()
        checks = {"state": self._can_read(), "disk": await loop.run_in_executor(None, self._probe)}
        return Readiness(ready=all(checks.values()), checks=checks)

    def _can_read(self) -> bool:
        try:
            self._reading.log.head()
            # Before the first definitions are applied no write key is known, and a good client would be turned away.
            return self._reading.definition("source", "default") is not None
        except Exception:  # noqa: BLE001  # whatever a broken store raises, the answer is the same: not ready
            return False

    async def wait(self, position: int, wait_ms: int, where: Literal["state", "warehouse"]) -> bool:
        """Wait until State, or the warehouse, includes a position."""
        if where == "state":
            return await self._reading.applied(position, wait_ms)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_ms / 1_000
        while True:
            try:
                if (await self._reading.asking.status()).as_of >= position:
                    return True
            except WarehouseUnavailable:
                pass
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(POLL_S * 5)

    async def position_at(self, moment: int) -> int:
        """The newest position logged at or before a moment, found by halving."""
        low, high = 0, self._reading.log.head().position
        while low < high:
            middle = (low + high + 1) // 2
            records = self._reading.log.read(middle - 1, 1, 1)
            if records and records[0].logged_at <= moment:
                low = middle
            else:
                high = middle - 1
        return low

    async def jobs(self, cursor: str, limit: int) -> Page[Job]:
        """Long work under way: putting a definition in force over all history is the only kind so far."""
        row = self._reading.row(CURSORS, ("backfill",))
        if row is None or cursor:
            return Page(items=[])
        people = int(self._reading.meta("identifier_count", 0)) or 1
        share = max(0, row.value["cursor"]) / people if row.value["step"] == "people" else 0.0
        job = Job(
            job_id=row.value["job_id"],
            type="backfill",
            status="running",
            progress=min(1.0, share),
            created_at=spell_moment(row.value["begun_at"]),
        )
        return Page(items=[job])
