"""The care desk: quarantined events and failed deliveries, and trying them again. And the questions desk: free SQL."""

from collections.abc import Sequence
from typing import Any, Final

from conosco.activate.outbox import read_intent
from conosco.model.answer import Commanded, DeliveryAnswer, KeptEvent, Page, ReplayChoice
from conosco.model.command import ReplayQuarantined, RetryDelivery
from conosco.model.moment import spell_moment
from conosco.model.problem import refuse
from conosco.ports.tables import OUTBOX, QUARANTINE, OutboxRow, QuarantineRow
from conosco.ports.warehouse import Answer
from conosco.runtime.office.history import History
from conosco.runtime.office.reading import Reading, cursor_of, read_cursor

SCAN_PAGE: Final = 2_000
REPLAY_MOST: Final = 10_000

_DELIVERIES: Final = """
select delivery_id, destination, type, segment, profile_id, state, attempts, code, epoch_us(created_at), epoch_us(updated_at)
from deliveries
where (? = '' or destination = ?) and (? = '' or state = ?)
  and (? is null or created_at >= make_timestamp(?)) and (? is null or created_at < make_timestamp(?))
order by created_at desc, delivery_id limit ? offset ?
"""


class CareDesk:
    """Implements ``web.office.Care``."""

    def __init__(self, reading: Reading, history: History) -> None:
        self._reading = reading
        self._history = history

    async def quarantine(self, reason: str, cursor: str, limit: int, source: str = "") -> Page[KeptEvent]:
        """Quarantined events in log order."""
        source_id = self._reading.required("source", source).id if source else ""
        after = read_cursor(cursor, tuple[int, int])
        found: list[KeptEvent] = []
        for key, row in self._quarantined(after):
            if (not reason or row.reason == reason) and (not source_id or row.source_id == source_id):
                if len(found) == limit:
                    return Page(items=found, next=cursor_of((found[-1].position, found[-1].slot)))
                found.append(_kept(key, row))
        return Page(items=found)

    def _quarantined(self, after: tuple[int, int] | None) -> Any:
        start: tuple[int, ...] = () if after is None else (after[0], after[1] + 1)
        while True:
            page = self._reading.scan(QUARANTINE, start, None, SCAN_PAGE)
            yield from page
            if len(page) < SCAN_PAGE:
                return
            start = (page[-1][0][0], page[-1][0][1] + 1)

    async def replay(self, choice: ReplayChoice) -> Commanded:
        """Append the command to apply these events again."""
        wanted = {tuple(address) for address in choice.addresses}
        source_id = self._reading.required("source", choice.source).id if choice.source else ""
        chosen = [
            key
            for key, row in self._quarantined(None)
            if (not wanted or key in wanted)
            and (not choice.message_ids or row.message_id in choice.message_ids)
            and (not choice.reason or row.reason == choice.reason)
            and (not source_id or row.source_id == source_id)
        ][:REPLAY_MOST]
        if not chosen:
            return Commanded(position=self._reading.state.offset()[0], applied=True, count=0)
        position, applied = await self._reading.command(ReplayQuarantined(addresses=tuple(chosen)))
        return Commanded(position=position, applied=applied, count=len(chosen))

    async def deliveries(
        self, state: str, destination: str, since: int | None, until: int | None, cursor: str, limit: int
    ) -> Page[DeliveryAnswer]:
        """Deliveries, newest first: their order from the warehouse, their state from State while they are in it."""
        skip: int = read_cursor(cursor, int) or 0
        params = [destination, destination, state, state, since, since, until, until, limit + 1, skip]
        answer = await self._history.ask(_DELIVERIES, params)
        found = answer.rows[:limit]
        rows = self._reading.rows(OUTBOX, [(str(row[0]),) for row in found])
        made = [_delivery(rows[row[0],]) if (row[0],) in rows else _past_delivery(row) for row in found]
        items = [each for each in made if not state or each.state == state]
        return Page(items=items, next=cursor_of(skip + limit) if len(answer.rows) > limit else None)

    async def retry(self, delivery_id: str) -> Commanded:
        """Append the command to try a dead or unknown delivery again."""
        row: OutboxRow | None = self._reading.row(OUTBOX, (delivery_id,))
        if row is None:
            raise refuse("not_found", status=404, kind="delivery", ref=delivery_id)
        if row.state not in ("dead", "unknown"):
            raise refuse("not_retryable", status=409, state=row.state)
        position, applied = await self._reading.command(RetryDelivery(delivery_id=delivery_id))
        return Commanded(position=position, applied=applied)


def _kept(key: tuple[int, int], row: QuarantineRow) -> KeptEvent:
    return KeptEvent(
        position=key[0],
        slot=key[1],
        message_id=row.message_id,
        source_id=row.source_id,
        reason=row.reason,
        params=row.params,
        stage=row.stage,
        attempts=row.attempts,
        quarantined_at=spell_moment(row.quarantined_at),
    )


def _delivery(row: OutboxRow) -> DeliveryAnswer:
    intent = read_intent(row)
    return DeliveryAnswer(
        delivery_id=intent.delivery_id,
        destination=intent.destination,
        type=intent.type,
        segment=intent.segment,
        profile_id=intent.profile_id,
        state=row.state,  # type: ignore[arg-type]  # State keeps only delivery states here
        attempts=row.attempts,
        code=row.code,
        created_at=spell_moment(intent.created_at),
        updated_at=spell_moment(row.updated_at) if row.updated_at else None,
        due_at=spell_moment(row.due_at) if row.state == "pending" else None,
    )


def _past_delivery(row: Sequence[Any]) -> DeliveryAnswer:
    """A delivery that has left State, as the warehouse keeps it."""
    return DeliveryAnswer(
        delivery_id=row[0],
        destination=row[1],
        type=row[2],
        segment=row[3],
        profile_id=row[4],
        state=row[5],
        attempts=row[6],
        code=row[7],
        created_at=spell_moment(row[8]),
        updated_at=spell_moment(row[9]) if row[9] else None,
    )


class QuestionsDesk:
    """Implements ``web.office.Questions``."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def sql(self, sql: str, params: Sequence[Any]) -> Answer:
        """Answer one read-only SELECT over the documented tables."""
        return await self._history.ask(sql, params, trusted=False)
