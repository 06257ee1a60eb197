"""The outgoing desk: how each destination fares, trying one out, and sending again what went out in a range of time."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from conosco.activate.outbox import KEPT_US, read_intent
from conosco.activate.stage import TEST
from conosco.model import ids
from conosco.model.answer import DeliveryError, DestinationHealth, Latency, ReplayedDeliveries, ReplayRange, TestResult
from conosco.model.command import ReplayDeliveries, TryDestination
from conosco.model.definition import Definition
from conosco.model.delivery import DeliveryState
from conosco.model.moment import spell_moment
from conosco.model.problem import refuse
from conosco.ports.tables import DEFINITIONS, OUTBOX, OUTBOX_DUE, TALLIES, OutboxRow, TallyRow
from conosco.runtime.bootstrap import INSTALLATION_SECRET, required_secret
from conosco.runtime.office.history import History
from conosco.runtime.office.reading import APPLIED_WITHIN_MS, Reading
from conosco.runtime.standing import SenderStanding, read_standing

# The oldest pending delivery is looked for among so many that are due first.
OLDEST_AMONG: Final = 2_000
REPLAY_MOST: Final = 50_000
IDS_PER_COMMAND: Final = 2_000
DESTINATIONS_MOST: Final = 10_000
POLL_S: Final = 0.02
STATES: Final[tuple[DeliveryState, ...]] = ("pending", "delivered", "dead", "denied", "unknown", "cancelled")

_IN_RANGE: Final = """
select delivery_id, state from deliveries
where destination = ? and created_at >= make_timestamp(?) and created_at < make_timestamp(?)
  and list_contains(?::varchar[], state) and type <> 'test'
order by created_at, delivery_id limit ?
"""


class OutgoingDesk:
    """Implements ``web.office.Outgoing``. ``standing`` is the file in which the sender tells how it stands."""

    def __init__(self, reading: Reading, history: History, standing: Path) -> None:
        self._reading = reading
        self._history = history
        self._standing = standing

    async def health(self, ref: str) -> DestinationHealth:
        """How a destination fares."""
        return self._health(self._reading.required("destination", ref).key, self._told())

    async def healths(self) -> list[DestinationHealth]:
        """How all destinations fare, by key."""
        told = self._told()
        found = self._reading.scan(DEFINITIONS, ("destination",), ("destination\x00",), DESTINATIONS_MOST)
        return [self._health(key[1], told) for key, _ in found]

    def _told(self) -> SenderStanding | None:
        return read_standing(self._standing, self._reading.clock())

    def _health(self, key: str, told: SenderStanding | None) -> DestinationHealth:
        tally: TallyRow = self._reading.row(TALLIES, (key,)) or TallyRow()
        lane = told.lanes.get(key) if told else None
        breaker = ("closed" if lane is None else lane.breaker) if told else "unknown"
        failed = DeliveryError(code=tally.failed_code, at=spell_moment(tally.failed_at)) if tally.failed_at else None
        return DestinationHealth(
            destination=key,
            breaker=breaker,
            open_until=spell_moment(lane.until) if lane is not None and lane.breaker == "open" else None,
            failures_in_a_row=lane.failures if lane is not None else 0,
            queued=lane.queued if lane is not None else 0,
            in_flight=lane.in_flight if lane is not None else 0,
            deliveries={state: tally.states.get(state, 0) for state in STATES},
            attempts=dict(sorted(tally.codes.items())),
            oldest_pending_at=self._oldest_pending(key),
            latency=latency_of(tally.latencies_us),
            last_delivered_at=spell_moment(tally.delivered_at) if tally.delivered_at else None,
            last_error=failed,
            as_of=self._reading.state.offset()[0],
        )

    def _oldest_pending(self, key: str) -> str | None:
        due = self._reading.state.scan(OUTBOX_DUE, (key,), (key + "\x00",), OLDEST_AMONG)
        rows: dict[Any, OutboxRow] = self._reading.rows(OUTBOX, [(index[2],) for index, _ in due])
        created = [read_intent(row).created_at for row in rows.values() if row.state == "pending"]
        return spell_moment(min(created)) if created else None

    async def test(self, ref: str, wait_ms: int) -> TestResult:
        """Send a test through the way of all deliveries, and wait for what comes of it."""
        destination = self._active(ref)
        position, _ = await self._reading.command(TryDestination(destination=destination.key))
        secret = required_secret(self._reading.keys, INSTALLATION_SECRET)
        delivery_id = ids.derived("dlv", secret, destination.id, TEST, position)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_ms / 1_000
        while True:
            row: OutboxRow | None = self._reading.row(OUTBOX, (delivery_id,))
            if (row is not None and row.attempts) or loop.time() >= deadline:
                break
            await asyncio.sleep(POLL_S)
        return TestResult(
            delivery_id=delivery_id,
            position=position,
            state="pending" if row is None else row.state,  # type: ignore[arg-type]  # State keeps only delivery states here
            code="" if row is None else row.code,
            attempts=0 if row is None else row.attempts,
        )

    async def replay(self, ref: str, asked: ReplayRange) -> ReplayedDeliveries:
        """Count what went out in a range of time, and unless it is a dry run append the commands to send it again."""
        destination = self._active(ref)
        if asked.until <= asked.since:
            raise refuse("bounds_reversed", pointer="/to")
        kept_from = self._reading.clock() - KEPT_US
        if asked.since < kept_from:
            raise refuse("replay_reaches_back", pointer="/from", kept_from=spell_moment(kept_from))
        of = self._reading.required("destination", asked.of).key if asked.of else destination.key
        answer = await self._history.ask(_IN_RANGE, [of, asked.since, asked.until, list(asked.states), REPLAY_MOST + 1])
        if len(answer.rows) > REPLAY_MOST:
            raise refuse("replay_too_large", limit=REPLAY_MOST)
        counts: dict[str, int] = {}
        for _, state in answer.rows:
            counts[str(state)] = counts.get(str(state), 0) + 1
        position, applied = answer.as_of, True
        if not asked.dry_run:
            chosen = [str(row[0]) for row in answer.rows]
            position, applied = await self._command(destination.key, chosen, position)
        return ReplayedDeliveries(
            count=len(answer.rows), states=counts, dry_run=asked.dry_run, position=position, applied=applied
        )

    async def _command(self, key: str, delivery_ids: Sequence[str], position: int) -> tuple[int, bool]:
        for at in range(0, len(delivery_ids), IDS_PER_COMMAND):
            part = tuple(delivery_ids[at : at + IDS_PER_COMMAND])
            position, _ = await self._reading.command(ReplayDeliveries(destination=key, delivery_ids=part))
        return position, await self._reading.applied(position, APPLIED_WITHIN_MS)

    def _active(self, ref: str) -> Definition:
        destination = self._reading.required("destination", ref)
        if destination.state != "active":
            raise refuse("destination_archived", status=409, key=destination.key)
        return destination


def latency_of(latencies_us: Sequence[int]) -> Latency:
    """The percentiles of some latencies, by the nearest rank; zeros of none."""
    ordered = sorted(latencies_us)

    def rank(percent: int) -> float:
        return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] / 1_000 if ordered else 0.0

    return Latency(deliveries=len(ordered), p50_ms=rank(50), p95_ms=rank(95), p99_ms=rank(99))
