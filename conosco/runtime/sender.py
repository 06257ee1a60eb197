"""The sender: takes due deliveries from the outbox, leases and sends them, and appends what came of them to the log.

It decides nothing: what may be sent to whom stands in the outbox with the gate's permit, and only the worker changes it.
Each destination has a lane with a breaker, bounds and walks of its own, so that none waits for another.
"""

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex
from typing import Final, NamedTuple

from conosco.activate.outbox import URGENT, read_intent
from conosco.connectors.outbound import Context, Outbound
from conosco.govern.gate import Gate
from conosco.model import ids
from conosco.model.definition import Destination
from conosco.model.delivery import Attempt, Parcel, Reply
from conosco.model.problem import Refused
from conosco.ports.leases import Leases, RunOut, Take
from conosco.ports.log import Log
from conosco.ports.state import Key, State
from conosco.ports.tables import OUTBOX, OUTBOX_DUE, OutboxRow, decode_row
from conosco.runtime.sender_breaker import Breaker
from conosco.runtime.sender_lane import BATCH, ONCE, Batch, Connector, Due, Lane, Load, Route
from conosco.runtime.sender_pace import BackOff, Pace, Patience
from conosco.runtime.sender_results import Results

# Refusals of one delivery, for now; they say nothing about the destination.
_OWN_FAULT: Final = frozenset({"http_409", "http_425"})
URGENT_ROOM: Final = 8
RUN_OUT_PAGE: Final = 1_000
BATCHES_AT_ONCE: Final = 16
FORGOTTEN_S: Final = 60.0


class _Chosen(NamedTuple):
    """A load that has a place, and the way it goes."""

    lane: Lane
    load: Load
    route: Route


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
        patience: Patience | None = None,
        pace: Pace | None = None,
        chance: random.Random | None = None,
        context: Callable[[Outbound, int], Context] = lambda outbound, now: Context(outbound=outbound, now=now),
    ) -> None:
        """``destinations`` gives the current definition by key, ``secrets`` a secret by name, ``clock`` microseconds UTC.

        ``connectors`` are found by a destination's type. ``chance`` draws the random part of the back-off. ``context``
        makes what connectors are given, from the way out and the time.
        """
        self._state: Final = state_reader
        self._destinations: Final = destinations
        self._secrets: Final = secrets
        self._gate: Final = gate
        self._outbound: Final = outbound
        self._clock: Final = clock
        self._connectors: Final = connectors
        self._back_off: Final = back_off or BackOff()
        self._patience: Final = patience or Patience()
        self._pace: Final = pace or Pace()
        self._chance: Final = chance or random.Random()
        self._context: Final = context
        self.lanes: Final[dict[str, Lane]] = {}
        self._results: Final = Results(log, state_reader, leases, self._pace)
        self._put_off: deque[tuple[float, str]] = deque()
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._wake: Final = asyncio.Event()
        self._run_out_at = 0

    @property
    def in_flight(self) -> int:
        """How many attempts are being made right now."""
        return len(self._tasks)

    async def run(self, stop: asyncio.Event) -> None:
        """Send until ``stop`` is set, then let attempts in flight finish and log their results, for 5 s at most.

        What is cut off keeps its lease, and is sent again under the same id once that has run out.
        """
        loop = asyncio.get_running_loop()
        keeper = asyncio.create_task(self._results.keep_log())
        others = [asyncio.create_task(self._wake_on(stop)), asyncio.create_task(self._results.keep_leases())]
        next_look = next_recall = busy_until = 0.0
        try:
            while not stop.is_set():
                now = loop.time()
                if now >= next_look:
                    self._forget_put_off(now)
                    if now >= next_recall:
                        await self._recall(now)
                        next_recall = now + self._pace.recall_s
                    self._look(now)
                    if self._results.held:
                        busy_until = now + self._pace.busy_s
                    spent = loop.time() - now
                    poll = self._pace.busy_poll_s if now < busy_until else self._pace.idle_poll_s
                    next_look = loop.time() + max(poll, spent / self._pace.look_share)
                self._wake.clear()
                await self._dispatch()
                await self._sleep(next_look - loop.time())
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

    # Looking for what is due ------------------------------------------------------------------------------------------

    def _look(self, now_s: float) -> None:
        """Visit every destination that has something in the index. One that is left alone costs one step, whatever waits."""
        start: Key = ()
        while rows := self._state.scan(OUTBOX_DUE, start, None, 1):
            key, due, _ = rows[0][0]
            start = (key + "\x00",)
            lane = self.lanes.get(key)
            if lane is None:
                lane = self.lanes[key] = Lane(key, Breaker(self._patience, self._pace))
            self._look_at(lane, due == URGENT, now_s)

    def _look_at(self, lane: Lane, is_urgent: bool, now_s: float) -> None:
        now = self._clock()
        if is_urgent:
            lane.breaker.probe()
        if lane.breaker.places(now) == 0:
            return
        lane.seen_s = now_s
        if is_urgent:
            # What is urgent lies before everything that the walks have passed.
            self._walk(lane, (lane.key,), now, URGENT_ROOM, ())
        lane.edge = self._walk(lane, lane.edge, now, self._room(lane), (lane.key, now - self._pace.overlap_us))
        if now_s >= lane.next_sweep:
            # Slowly over everything due, round and round, for rows that the edge has passed or that were put off.
            lane.sweep = self._walk(lane, lane.sweep, now, self._room(lane), (lane.key,))
            lane.next_sweep = now_s + self._pace.sweep_s

    def _walk(self, lane: Lane, start: Key, now: int, room: int, at_end: Key) -> Key:
        """Queue what is due from a place in the index on; where to go on, which is ``at_end`` once there is no more."""
        most = min(room, self._pace.page_rows)
        if most <= 0:
            return start
        keys = [key for key, _ in self._state.scan(OUTBOX_DUE, start, (lane.key, now + 1), most)]
        self._take_in(lane, [key[2] for key in keys], now)
        return _after(keys[-1]) if len(keys) == most else at_end

    def _room(self, lane: Lane) -> int:
        """How many more deliveries this lane may queue."""
        queued = sum(len(each.queue) for each in self.lanes.values())
        most = min(
            self._pace.queued_per_destination_max,
            max(self._pace.queued_per_destination_least, self._pace.queued_max - queued + len(lane.queue)),
        )
        return most - len(lane.queue)

    def _take_in(self, lane: Lane, delivery_ids: Sequence[str], now: int) -> None:
        """Queue the due deliveries that this process does not have in hand and has not sent already."""
        held = self._results.held
        fresh = [(each,) for each in delivery_ids if each not in held and each not in lane.bound]
        if not fresh:
            return
        urgent: list[Due] = []
        for (delivery_id,), raw in self._state.get_many(OUTBOX, fresh).items():
            row: OutboxRow = decode_row(OUTBOX, raw)
            # The two reads may see two commits of the worker; the row itself is what counts.
            if row.state != "pending" or row.due_at > now or self._results.is_sent(delivery_id, row.attempts):
                continue
            if not lane.queue:
                lane.waiting_since = now
            due = Due(read_intent(row), row.attempts + 1, len(row.intent))
            (urgent if row.due_at == URGENT else lane.queue).append(due)
            held.add(delivery_id)
        lane.queue.extendleft(reversed(urgent))

    def _forget_put_off(self, now: float) -> None:
        while self._put_off and self._put_off[0][0] <= now:
            self._results.held.discard(self._put_off.popleft()[1])

    async def _recall(self, now_s: float) -> None:
        """Once in a while: forget idle lanes, try destinations that were mended, and see to leases that have run out."""
        for key, lane in list(self.lanes.items()):
            if lane.breaker.state == "open":
                made = self._destinations(key)
                if (made.version if made is not None else 0) != lane.version:
                    lane.breaker.probe()
            elif lane.is_idle and now_s - lane.seen_s > FORGOTTEN_S:
                del self.lanes[key]
        now = self._clock()
        singles: list[RunOut] = []
        batches: dict[str, list[str]] = {}
        for lease in await self._results.run_out(now):
            if lease.batch.startswith(BATCH):
                batches.setdefault(lease.batch, []).append(lease.delivery_id)
            elif lease.delivery_id not in self._results.held:
                singles.append(lease)
        # In turn, so that those about which nothing can be done yet do not hide the others.
        self._run_out_at = self._run_out_at if self._run_out_at < len(singles) else 0
        page = singles[self._run_out_at : self._run_out_at + RUN_OUT_PAGE]
        self._run_out_at += RUN_OUT_PAGE
        known = {name for lane in self.lanes.values() for name in lane.batches}
        ended = self._see_to(page, now)
        for name in [name for name in batches if name not in known][:BATCHES_AT_ONCE]:
            ended.extend(self._form_again(name, batches[name], now))
        await self._results.release(ended)

    def _see_to(self, run_out: Sequence[RunOut], now: int) -> list[str]:
        """Leases left over: what may not be repeated is set aside; those that are to be given up are returned."""
        ended: list[str] = []
        found = self._state.get_many(OUTBOX, [(lease.delivery_id,) for lease in run_out])
        for lease in run_out:
            raw = found.get((lease.delivery_id,))
            row: OutboxRow | None = None if raw is None else decode_row(OUTBOX, raw)
            if row is None or row.state != "pending":
                ended.append(lease.delivery_id)
            elif not lease.batch.startswith(ONCE) or self._results.is_sent(lease.delivery_id, row.attempts):
                continue
            elif row.attempts >= int(lease.batch.split("_")[1]):
                # What became of it has been accounted for, and a person asked to try again.
                ended.append(lease.delivery_id)
            else:
                # It was sent, or was about to be: nobody knows, and this must not happen twice.
                self._results.held.add(lease.delivery_id)
                self._results.add([_told(lease.delivery_id, row.attempts + 1, Reply("unknown", "lease_expired"), now, now, 0)])
        return ended

    def _form_again(self, name: str, members: Sequence[str], now: int) -> list[str]:
        """Bring a batch together again, whole, from the leases that it left; those of members that have ended are returned."""
        found = self._state.get_many(OUTBOX, [(delivery_id,) for delivery_id in members])
        rows: dict[str, OutboxRow] = {key[0]: decode_row(OUTBOX, raw) for key, raw in found.items()}
        pending = [each for each in members if each in rows and rows[each].state == "pending"]
        ended = [each for each in members if each not in pending]
        if not pending:
            return ended
        key = read_intent(rows[pending[0]]).destination
        lane = self.lanes.setdefault(key, Lane(key, Breaker(self._patience, self._pace)))
        # Queued or put off on their own they can be had; those that are under way, or just were, cannot.
        free = {due.intent.delivery_id for due in lane.queue} | {delivery_id for _, delivery_id in self._put_off}
        under_way = self._results.held - free
        if any(each in under_way or self._results.is_sent(each, rows[each].attempts) for each in pending):
            return ended
        bound = set(pending)
        lane.queue = deque(due for due in lane.queue if due.intent.delivery_id not in bound)
        self._put_off = deque(each for each in self._put_off if each[1] not in bound)
        self._results.held -= bound
        attempt = max(rows[each].attempts for each in pending) + 1
        lane.bind(name, Batch(tuple(pending), attempt, now, now))
        return ended

    # Sending ----------------------------------------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        """Start as many attempts as there are places for, in turn for each destination, once they are leased."""
        now = self._clock()
        chosen = self._choose(now)
        if not chosen:
            return
        leased: dict[str, bool] = {}
        fresh = [each for each in chosen if not each.load.until]
        takes = [_take(due, each.load.batch) for each in fresh for due in each.load.dues]
        results = await self._results.lease(takes, now + self._pace.lease_us, now) if takes else []
        leased.update(zip([take.delivery_id for take in takes], results, strict=True))
        for each in chosen:
            if each.load.until:
                # Our own lease of a batch that was tried before: taken again as of its end.
                takes = [_take(due, each.load.batch) for due in each.load.dues]
                ours = await self._results.lease(takes, now + self._pace.lease_us, max(now, each.load.until))
                leased.update(zip([take.delivery_id for take in takes], ours, strict=True))
        # Only now is it certain that nobody else has it in hand, so only now does State tell whether it is still due.
        found = self._state.get_many(OUTBOX, [(delivery_id,) for delivery_id, ours in leased.items() if ours])
        stale: list[str] = []
        for each in chosen:
            ready = self._keep_ready(each, leased, found, stale)
            if not ready:
                each.lane.in_flight -= 1
                each.lane.unbind(each.load.batch)
                continue
            task = asyncio.create_task(self._attempt(each.lane, each.load._replace(dues=ready), each.route))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await self._results.release(stale)

    def _keep_ready(self, chosen: _Chosen, leased: Mapping[str, bool], found: Mapping[Key, bytes], stale: list[str]) -> list[Due]:
        """Of a load, what is leased and still due; the rest is put off, and its leases are noted as stale."""
        ready: list[Due] = []
        put_off_until = asyncio.get_running_loop().time() + self._pace.put_off_s
        for due in chosen.load.dues:
            delivery_id = due.intent.delivery_id
            if leased[delivery_id] and _still_due(found.get((delivery_id,)), due):
                ready.append(due)
                continue
            self._put_off.append((put_off_until, delivery_id))
            # Of a batch that was tried before, and is ours, what cannot be leased is stopped: it leaves the batch for good.
            if leased[delivery_id] or (chosen.load.until and any(leased[each.intent.delivery_id] for each in chosen.load.dues)):
                stale.append(delivery_id)
        return ready

    def _choose(self, now: int) -> list[_Chosen]:
        """Fill the free places, one load a destination in each turn."""
        room = self._pace.in_flight_max - len(self._tasks)
        if self._results.is_choked:
            return []
        chosen: list[_Chosen] = []
        routes: dict[str, Route] = {}
        lanes = [lane for lane in self.lanes.values() if lane.queue or lane.batches]
        while lanes and len(chosen) < room:
            waiting = []
            for lane in lanes:
                if len(chosen) >= room or lane.in_flight >= lane.breaker.places(now):
                    continue
                route = routes.get(lane.key)
                if route is None:
                    route = routes[lane.key] = self._route(lane.key)
                load = self._next_load(lane, route, now)
                if load is not None:
                    lane.version = route.version
                    lane.in_flight += 1
                    chosen.append(_Chosen(lane, load, route))
                    waiting.append(lane)
            lanes = waiting
        return chosen

    def _next_load(self, lane: Lane, route: Route, now: int) -> Load | None:
        """A batch that was tried before and is due again, else a new batch or the next delivery."""
        for name, batch in list(lane.batches.items()):
            if batch.due_at <= now and not self._results.held.intersection(batch.delivery_ids):
                load = self._load_again(lane, name, batch, now)
                if load is not None:
                    return load
        if not lane.queue:
            return None
        if route.limits is None:
            due = lane.queue.popleft()
            is_once = route.connector is not None and not route.connector.is_idempotent
            return Load([due], f"{ONCE}_{due.attempt}_{token_hex(8)}" if is_once else "")
        dues = sorted(lane.fresh(route.limits, now), key=_order)
        if not dues:
            return None
        return Load(dues, _batch_name(dues))

    def _load_again(self, lane: Lane, name: str, batch: Batch, now: int) -> Load | None:
        """The batch as it was, without what has ended meanwhile; None while the worker has not applied its last attempt."""
        found = self._state.get_many(OUTBOX, [(delivery_id,) for delivery_id in batch.delivery_ids])
        dues: list[Due] = []
        for delivery_id in batch.delivery_ids:
            raw = found.get((delivery_id,))
            row: OutboxRow | None = None if raw is None else decode_row(OUTBOX, raw)
            if row is None or row.state != "pending":
                continue
            if row.attempts + 1 < batch.attempt or row.due_at > now:
                return None
            dues.append(Due(read_intent(row), row.attempts + 1))
        if not dues:
            lane.unbind(name)
            return None
        self._results.held.update(batch.delivery_ids)
        return Load(sorted(dues, key=_order), name, max(batch.until, 1))

    def _route(self, key: str) -> Route:
        """Find the way to a destination as it is defined now, so that a mended URL serves what was decided before."""
        destination = self._destinations(key)
        if destination is None or destination.state != "active":
            version = 0 if destination is None else destination.version
            return Route(None, None, b"", version, "dead", "destination_gone")
        connector = self._connectors.get(destination.type)
        if connector is None:
            return Route(None, None, b"", destination.version, "retry", "connector_missing")
        secret = self._secrets(destination.secret_name) if destination.secret_name else b""
        if secret is None:
            return Route(None, None, b"", destination.version, "retry", "secret_missing")
        try:
            settings = connector.read_settings(destination.spec)
        except Refused:
            return Route(None, None, b"", destination.version, "retry", "settings_invalid")
        limits = connector.batch_limits(settings)
        return Route(connector, settings, secret, destination.version, limits=limits)

    async def _attempt(self, lane: Lane, load: Load, route: Route) -> None:
        """Make one attempt and keep its results for the log."""
        started_at = self._clock()
        permitted = [due for due in load.dues if self._is_permitted(due)]
        forged = [due for due in load.dues if due not in permitted]
        if forged:
            told = [
                _told(due.intent.delivery_id, due.attempt, Reply("dead", "permit_invalid"), started_at, started_at, 0)
                for due in forged
            ]
            self._results.add(told)
        reply = Reply(route.result, route.code)
        if route.connector is not None and permitted:
            parcel = Parcel(id=load.id, intents=tuple(due.intent for due in permitted))
            context = self._context(self._outbound, started_at)
            try:
                reply = await route.connector.deliver(parcel, route.settings, route.secret, context)
            except Exception:  # noqa: BLE001  # A connector's mistake must not stop the deliveries of others.
                reply = Reply("retry" if route.connector.is_idempotent else "unknown", "connector_failed")
        lane.in_flight -= 1
        if permitted:
            self._settle(lane, load, permitted, reply, started_at)
        # Places are filled several at a time, so that leases are taken several at a time.
        if lane.queue and lane.in_flight <= lane.breaker.window // 2:
            self._wake.set()

    def _is_permitted(self, due: Due) -> bool:
        permit = due.intent.permit
        return permit is not None and permit.delivery_id == due.intent.delivery_id and self._gate.check(permit)

    def _settle(self, lane: Lane, load: Load, dues: Sequence[Due], reply: Reply, started_at: int) -> None:
        """What an attempt means for the destination, for the batch, and for each delivery in it."""
        ended_at = self._clock()
        if reply.result != "retry" or reply.code in _OWN_FAULT:
            lane.breaker.succeeded()
        else:
            lane.breaker.failed(ended_at, self._chance.random(), reply.wait_us)
        due_at = 0
        if reply.result == "retry":
            attempt = max(due.attempt for due in dues)
            # A delivery dies of its own failures only: while the destination itself fails, all of them wait.
            if attempt >= self._back_off.attempts_max and lane.breaker.state == "closed":
                reply = reply._replace(result="dead")
            else:
                due_at = ended_at + max(self._back_off.wait_us(attempt, self._chance.random()), reply.wait_us)
        stays = reply.result == "retry" and load.batch.startswith(BATCH)
        if stays:
            members = tuple(due.intent.delivery_id for due in dues)
            lane.bind(load.batch, Batch(members, dues[0].attempt + 1, due_at, started_at + self._pace.lease_us))
        else:
            lane.unbind(load.batch)
        told = [_told(due.intent.delivery_id, due.attempt, reply, started_at, ended_at, due_at) for due in dues]
        self._results.add(told, is_released=not stays)

    async def _finish(self, keeper: "asyncio.Task[None]") -> None:
        """Let attempts in flight end and their results reach the log, within the time allowed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._pace.stop_s
        if self._tasks:
            _, cut_off = await asyncio.wait(self._tasks, timeout=self._pace.stop_s)
            for task in cut_off:
                task.cancel()
        await self._results.finish(keeper, max(0.1, deadline - loop.time()), self._tasks)


def _order(due: Due) -> tuple[int, str]:
    """The order inside a batch, which anybody who forms it again finds again."""
    return due.intent.created_at, due.intent.delivery_id


def _batch_name(dues: Sequence[Due]) -> str:
    """A name for exactly these deliveries; names sort by the time of the first of them."""
    digest = hashlib.blake2b("\n".join(due.intent.delivery_id for due in dues).encode(), digest_size=10).digest()
    return ids.encode(BATCH, (dues[0].intent.created_at // 1_000).to_bytes(6, "big") + digest)


def _take(due: Due, batch: str) -> Take:
    intent = due.intent
    return Take(intent.delivery_id, intent.identifiers, intent.permit.purpose if intent.permit else None, batch)


def _told(delivery_id: str, attempt: int, reply: Reply, started_at: int, ended_at: int, due_at: int) -> Attempt:
    return Attempt(
        delivery_id=delivery_id,
        attempt=attempt,
        result=reply.result,
        code=reply.code,
        at=ended_at,
        latency_us=max(0, ended_at - started_at),
        due_at=due_at,
    )


def _still_due(raw: bytes | None, due: Due) -> bool:
    """True if State still asks for exactly this attempt."""
    if raw is None:
        return False
    row: OutboxRow = decode_row(OUTBOX, raw)
    return row.state == "pending" and row.attempts + 1 == due.attempt


def _after(key: Key) -> Key:
    """The smallest key of the index of due deliveries that is greater than this one."""
    return (key[0], key[1], key[2] + "\x00")


__all__ = ["BackOff", "Connector", "Pace", "Patience", "Sender"]
