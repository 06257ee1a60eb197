"""The sender: takes due deliveries from the outbox, leases and sends them, and appends what came of them to the log.

It decides nothing: what may be sent to whom stands in the outbox with the gate's permit, and only the worker changes it.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from conosco.activate.stage import attempts_draft, read_intent
from conosco.connectors.outbound import Context, Outbound
from conosco.govern.gate import Gate
from conosco.model.definition import Destination
from conosco.model.delivery import Attempt, AttemptResult, Intent
from conosco.model.moment import HOUR, SECOND
from conosco.model.problem import Refused
from conosco.ports.leases import Leases, Take
from conosco.ports.log import Log, LogFull
from conosco.ports.state import Key, State, StateFull
from conosco.ports.tables import OUTBOX, OUTBOX_DUE, OutboxRow, decode_row


class Connector(Protocol):
    """What the sender needs of a destination's connector; a module is one if it has these names."""

    @property
    def read_settings(self) -> Callable[[dict[str, Any]], Any]:
        """Check a destination's spec and give its settings; raises Refused."""

    @property
    def spell_secret(self) -> Callable[[bytes], str]:
        """Spell fresh random bytes as the secret that a destination of this type is given."""

    @property
    def deliver(self) -> Callable[[Intent, Any, bytes, Context], Awaitable[tuple[AttemptResult, str]]]:
        """Make one attempt; what came of it, and a closed word for it."""


class BackOff(msgspec.Struct, frozen=True, kw_only=True):
    """When to try again: after a random part of a wait that doubles from ``base_us`` to ``cap_us``.

    60 attempts take about a day. After ``attempts_max`` a delivery is dead, and is kept until a person tries it again.
    """

    base_us: int = SECOND
    cap_us: int = HOUR
    attempts_max: int = 60

    def wait_us(self, attempt: int, fraction: float) -> int:
        """The wait after this many attempts (at least 1), for a fraction drawn from 0 to 1."""
        return int(min(self.cap_us, self.base_us << min(attempt - 1, 40)) * fraction)


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How much at once and how often: counts of deliveries and rows; seconds, or microseconds where said."""

    in_flight_max: int = 128
    in_flight_per_destination_max: int = 32
    queued_per_destination_max: int = 1_000
    unlogged_max: int = 1_024
    unapplied_max: int = 50_000
    page_rows: int = 256
    # New leases wait behind those that are being given up, so not too many of these at once.
    released_at_once: int = 32
    lease_us: int = 30 * SECOND
    # Rows become visible a little after their due time; so much of the recent past is looked at again and again.
    overlap_us: int = SECOND // 2
    busy_poll_s: float = 0.005
    idle_poll_s: float = 0.02
    # So long after the last delivery that was found the sender still counts as busy.
    busy_s: float = 0.25
    sweep_s: float = 0.05
    put_off_s: float = 1.0
    log_retry_s: float = 0.5
    stop_s: float = 5.0
    # A destination that has failed so often in a row gets one attempt at a time, so that it holds no other's place.
    failures_until_narrow: int = 8


class _Due(NamedTuple):
    """A delivery to be attempted, and the number that the attempt will have."""

    intent: Intent
    attempt: int


class _Route(NamedTuple):
    """How to reach a destination, or, where there is no way, the result and code of every attempt."""

    connector: Connector | None
    settings: Any
    secret: bytes
    result: AttemptResult = "delivered"
    code: str = ""


class _Lane:
    """The deliveries of one destination: queued and in flight."""

    def __init__(self) -> None:
        self.queue: deque[_Due] = deque()
        self.in_flight = 0
        self.failures = 0


class Sender:
    """One loop for all destinations. Several senders may run side by side: the lease decides who sends."""

    def __init__(
        self,
        log: Log,
        state_reader: State,
        leases: Leases,
        destinations: Callable[[str], Destination | None],
        secrets: Callable[[str], bytes | None],
        gate: Gate,
        outbound: Outbound,
        clock: Callable[[], int],
        *,
        connectors: Mapping[str, Connector],
        back_off: BackOff | None = None,
        pace: Pace | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """``destinations`` gives the current definition by key, ``secrets`` a secret by name, ``clock`` microseconds UTC.

        ``connectors`` are found by a destination's type. ``chance`` draws the random part of the back-off.
        """
        self._log: Final = log
        self._state: Final = state_reader
        self._leases: Final = leases
        self._destinations: Final = destinations
        self._secrets: Final = secrets
        self._gate: Final = gate
        self._outbound: Final = outbound
        self._clock: Final = clock
        self._connectors: Final = connectors
        self._back_off: Final = back_off or BackOff()
        self._pace: Final = pace or Pace()
        self._chance: Final = chance or random.Random()
        self._lanes: Final[dict[str, _Lane]] = {}
        # Queued, in flight, put off or with a result that is not yet in the log.
        self._held: Final[set[str]] = set()
        # In the log, not yet seen to be applied by the worker, and still leased: what must not be sent again meanwhile.
        self._sent: Final[dict[tuple[str, int], None]] = {}
        self._put_off: Final[deque[tuple[float, str]]] = deque()
        self._results: Final[deque[Attempt]] = deque()
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._stopping = False
        self._wake: Final = asyncio.Event()
        self._has_results: Final = asyncio.Event()
        self._edge: Key = ()
        self._sweep: Key = ()
        self._log_thread: Final = ThreadPoolExecutor(1, thread_name_prefix="sender-log")
        self._lease_thread: Final = ThreadPoolExecutor(1, thread_name_prefix="sender-lease")

    @property
    def in_flight(self) -> int:
        """How many attempts are being made right now."""
        return len(self._tasks)

    async def run(self, stop: asyncio.Event) -> None:
        """Send until ``stop`` is set, then let attempts in flight finish and log their results, for 5 s at most.

        What is cut off keeps its lease, and is sent again under the same id once that has run out.
        """
        loop = asyncio.get_running_loop()
        keeper = asyncio.create_task(self._keep_log())
        others = [asyncio.create_task(self._wake_on(stop)), asyncio.create_task(self._keep_leases())]
        next_scan = next_sweep = busy_until = 0.0
        try:
            while not stop.is_set():
                now = loop.time()
                if now >= next_scan:
                    self._forget_put_off(now)
                    self._scan_edge()
                    if now >= next_sweep:
                        self._scan_sweep()
                        next_sweep = loop.time() + self._pace.sweep_s
                    if self._held:
                        busy_until = now + self._pace.busy_s
                    next_scan = loop.time() + (self._pace.busy_poll_s if now < busy_until else self._pace.idle_poll_s)
                self._wake.clear()
                await self._dispatch()
                await self._sleep(next_scan - loop.time())
                for task in (keeper, *others):
                    if task.done():
                        task.result()
        finally:
            for task in others:
                task.cancel()
            await self._finish(keeper)
            await asyncio.gather(*others, return_exceptions=True)

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _sleep(self, seconds: float) -> None:
        """Sleep until it is time to look for due deliveries, or until places have become free for queued ones."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                return
        else:
            await asyncio.sleep(0)

    def _scan_edge(self) -> None:
        """Look at what has become due lately, or go on through a backlog page by page."""
        now = self._clock()
        rows = self._state.scan(OUTBOX_DUE, self._edge, (now + 1,), self._pace.page_rows)
        self._edge = _after(rows[-1][0]) if len(rows) == self._pace.page_rows else (now - self._pace.overlap_us,)
        self._take_in([key[1] for key, _ in rows], now)

    def _scan_sweep(self) -> None:
        """Walk slowly over everything due, round and round, for rows that the edge has passed or had no room for."""
        now = self._clock()
        rows = self._state.scan(OUTBOX_DUE, self._sweep, (now + 1,), self._pace.page_rows)
        self._sweep = _after(rows[-1][0]) if len(rows) == self._pace.page_rows else ()
        self._take_in([key[1] for key, _ in rows], now)

    def _take_in(self, delivery_ids: Sequence[str], now: int) -> None:
        """Queue the due deliveries that this process does not have in hand and has not sent already."""
        fresh = [(delivery_id,) for delivery_id in delivery_ids if delivery_id not in self._held]
        if not fresh:
            return
        for (delivery_id,), raw in self._state.get_many(OUTBOX, fresh).items():
            row: OutboxRow = decode_row(OUTBOX, raw)
            attempt = row.attempts + 1
            # The two reads may see two commits of the worker; the row itself is what counts.
            if row.state != "pending" or row.due_at > now:
                continue
            # This attempt has been made, or the one before is still leased.
            if (delivery_id, attempt) in self._sent or (delivery_id, row.attempts) in self._sent:
                continue
            intent = read_intent(row)
            lane = self._lanes.get(intent.destination)
            if lane is None:
                lane = self._lanes[intent.destination] = _Lane()
            if len(lane.queue) < self._pace.queued_per_destination_max:
                lane.queue.append(_Due(intent, attempt))
                self._held.add(delivery_id)

    def _forget_put_off(self, now: float) -> None:
        while self._put_off and self._put_off[0][0] <= now:
            self._held.discard(self._put_off.popleft()[1])

    async def _keep_leases(self) -> None:
        """Give up leases whose result the worker has applied: State itself now keeps these attempts from being made again.

        Given up any earlier, another sender could take the delivery before it can see what became of it.
        """
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._pace.sweep_s)
            applied = self._applied()
            for at in range(0, len(applied), self._pace.released_at_once):
                part = applied[at : at + self._pace.released_at_once]
                await loop.run_in_executor(self._lease_thread, self._release, [delivery_id for delivery_id, _ in part])
                for key in part:
                    del self._sent[key]

    def _applied(self) -> list[tuple[str, int]]:
        """Of the attempts logged longest ago, those that State knows; the others go to the end of the queue."""
        oldest = [key for key, _ in zip(self._sent, range(2 * self._pace.page_rows), strict=False)]
        found = self._state.get_many(OUTBOX, [(delivery_id,) for delivery_id, _ in oldest])
        applied = []
        for delivery_id, attempt in oldest:
            raw = found.get((delivery_id,))
            if raw is None or decode_row(OUTBOX, raw).attempts >= attempt:
                applied.append((delivery_id, attempt))
            else:
                del self._sent[delivery_id, attempt]
                self._sent[delivery_id, attempt] = None
        return applied

    async def _dispatch(self) -> None:
        """Start as many queued attempts as there are places for, in turn for each destination, once they are leased."""
        chosen = self._choose()
        if not chosen:
            return
        loop = asyncio.get_running_loop()
        dues = [due for _, due in chosen]
        leased = await loop.run_in_executor(self._lease_thread, self._lease, dues, self._clock())
        started = [pair for pair, ours in zip(chosen, leased, strict=True) if ours]
        # Only now is it certain that nobody else has it in hand, so only now does State tell whether it is still due.
        found = self._state.get_many(OUTBOX, [(due.intent.delivery_id,) for _, due in started])
        routes: dict[str, _Route] = {}
        stale: list[str] = []
        for (lane, due), ours in zip(chosen, leased, strict=True):
            delivery_id = due.intent.delivery_id
            if not ours or not _still_due(found.get((delivery_id,)), due):
                lane.in_flight -= 1
                self._put_off.append((loop.time() + self._pace.put_off_s, delivery_id))
                stale.extend([delivery_id] if ours else [])
                continue
            key = due.intent.destination
            if key not in routes:
                routes[key] = self._route(key)
            task = asyncio.create_task(self._attempt(lane, due, routes[key]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if stale:
            await loop.run_in_executor(self._lease_thread, self._release, stale)

    def _choose(self) -> list[tuple[_Lane, _Due]]:
        room = self._pace.in_flight_max - len(self._tasks)
        if len(self._results) > self._pace.unlogged_max or len(self._sent) > self._pace.unapplied_max:
            return []
        chosen: list[tuple[_Lane, _Due]] = []
        lanes = [lane for lane in self._lanes.values() if lane.queue]
        while lanes and len(chosen) < room:
            waiting = []
            for lane in lanes:
                narrow = lane.failures >= self._pace.failures_until_narrow
                if lane.in_flight < (1 if narrow else self._pace.in_flight_per_destination_max) and len(chosen) < room:
                    lane.in_flight += 1
                    chosen.append((lane, lane.queue.popleft()))
                    if lane.queue:
                        waiting.append(lane)
            lanes = waiting
        return chosen

    def _lease(self, dues: Sequence[_Due], now: int) -> list[bool]:
        """Runs in the lease thread. What cannot be leased for want of disk is simply not leased."""
        takes = [
            Take(
                due.intent.delivery_id,
                [(each["namespace"], each["value"]) for each in due.intent.payload["identifiers"]],
                due.intent.permit.purpose if due.intent.permit else None,
            )
            for due in dues
        ]
        try:
            return self._leases.lease(takes, now + self._pace.lease_us, now)
        except StateFull:
            return [False] * len(takes)

    def _release(self, delivery_ids: Sequence[str]) -> None:
        """Runs in the lease thread. What cannot be released runs out by itself."""
        with suppress(StateFull):
            self._leases.release(delivery_ids)

    def _route(self, key: str) -> _Route:
        """Find the way to a destination as it is defined now, so that a mended URL serves what was decided before."""
        destination = self._destinations(key)
        if destination is None or destination.state != "active":
            return _Route(None, None, b"", "dead", "destination_gone")
        connector = self._connectors.get(destination.type)
        if connector is None:
            return _Route(None, None, b"", "retry", "connector_missing")
        secret = self._secrets(destination.secret_name) if destination.secret_name else b""
        if secret is None:
            return _Route(None, None, b"", "retry", "secret_missing")
        try:
            return _Route(connector, connector.read_settings(destination.spec), secret)
        except Refused:
            return _Route(None, None, b"", "retry", "settings_invalid")

    async def _attempt(self, lane: _Lane, due: _Due, route: _Route) -> None:
        """Make one attempt and keep its result for the log."""
        started_at = self._clock()
        result, code = route.result, route.code
        permit = due.intent.permit
        if permit is None or permit.delivery_id != due.intent.delivery_id or not self._gate.check(permit):
            result, code = "dead", "permit_invalid"
        elif route.connector is not None:
            context = Context(outbound=self._outbound, now=started_at)
            try:
                result, code = await route.connector.deliver(due.intent, route.settings, route.secret, context)
            except Exception:  # noqa: BLE001  # A connector's mistake must not stop the deliveries of others.
                result, code = "retry", "connector_failed"
        ended_at = self._clock()
        lane.in_flight -= 1
        lane.failures = lane.failures + 1 if result == "retry" else 0
        due_at = 0
        if result == "retry" and due.attempt >= self._back_off.attempts_max:
            result = "dead"
        elif result == "retry":
            due_at = ended_at + self._back_off.wait_us(due.attempt, self._chance.random())
        self._results.append(
            Attempt(
                delivery_id=due.intent.delivery_id,
                attempt=due.attempt,
                result=result,
                code=code,
                at=ended_at,
                latency_us=max(0, ended_at - started_at),
                due_at=due_at,
            )
        )
        self._has_results.set()
        # Places are filled several at a time, so that leases are taken several at a time.
        if lane.queue and lane.in_flight <= self._pace.in_flight_per_destination_max // 2:
            self._wake.set()

    async def _keep_log(self) -> None:
        """Append results to the log, all that have gathered in one go; a log that is full is tried again and again."""
        loop = asyncio.get_running_loop()
        while self._results or not self._stopping:
            await self._has_results.wait()
            self._has_results.clear()
            while self._results:
                batch = [result for result, _ in zip(self._results, range(256), strict=False)]
                try:
                    await loop.run_in_executor(self._log_thread, self._log.append, [attempts_draft(batch)])
                except LogFull:
                    await asyncio.sleep(self._pace.log_retry_s)
                    continue
                for _ in batch:
                    self._results.popleft()
                self._sent.update(((attempt.delivery_id, attempt.attempt), None) for attempt in batch)
                self._held.difference_update(attempt.delivery_id for attempt in batch)

    async def _finish(self, keeper: "asyncio.Task[None]") -> None:
        """Let attempts in flight end and their results reach the log, within the time allowed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._pace.stop_s
        if self._tasks:
            _, cut_off = await asyncio.wait(self._tasks, timeout=self._pace.stop_s)
            for task in cut_off:
                task.cancel()
        self._stopping = True
        self._has_results.set()
        await asyncio.wait([keeper], timeout=max(0.1, deadline - loop.time()))
        keeper.cancel()
        await asyncio.gather(keeper, *self._tasks, return_exceptions=True)
        self._log_thread.shutdown(wait=True, cancel_futures=True)
        self._lease_thread.shutdown(wait=True, cancel_futures=True)


def _still_due(raw: bytes | None, due: _Due) -> bool:
    """True if State still asks for exactly this attempt."""
    if raw is None:
        return False
    row: OutboxRow = decode_row(OUTBOX, raw)
    return row.state == "pending" and row.attempts + 1 == due.attempt


def _after(key: Key) -> Key:
    """The smallest key of the index of due deliveries that is greater than this one."""
    return (key[0], key[1] + "\x00")
