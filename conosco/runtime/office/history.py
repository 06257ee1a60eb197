"""History: what the desks ask the warehouse, as trusted questions with parameters."""

from collections.abc import Sequence
from typing import Any, Final

from sqlglot import exp

from conosco.model.answer import AsOf
from conosco.model.problem import Problem, Refused, refuse
from conosco.ports.warehouse import Answer, QueryFailed
from conosco.runtime.asking import WarehouseUnavailable
from conosco.runtime.bootstrap_warehouse import render_sql
from conosco.runtime.office.reading import Reading

MAX_ROWS: Final = 20_000
TIMEOUT_S: Final = 20.0

_MOVEMENTS: Final = """
with latest as (
  select * from store.membership_versions
  qualify row_number() over (partition by profile_id, entered_position, ordinal order by position desc, exited_at desc nulls last) = 1
), moves as (
  select 'entered' as kind, segment, profile_id, entered_at as moved_at, entered_position as position, because, backfill from latest
  union all
  select 'exited', segment, profile_id, exited_at, position, exit_because, backfill from latest
  where exited_at is not null
)
select kind, segment, profile_id, epoch_us(moved_at), position, because, backfill from moves
where (? is null or segment = ?) and coalesce(json_extract_string(because, '$.moved_from'), json_extract_string(because, '$.profile_id'), '') = ''
order by position desc, moved_at desc, profile_id limit ? offset ?
"""

_MEMBER_COUNTS: Final = """
select segment, count(*) from memberships where exited_at is null and list_contains(?::varchar[], segment) group by segment
"""

_TIMELINE: Final = """
with mine as (select unnest(?::varchar[]) as namespace, unnest(?::varchar[]) as value)
select epoch_us(event_at) as at, position, slot, message_id, source_id, type, event, properties, traits
from store.events join mine on home_namespace = mine.namespace and home_value = mine.value
where position <= ? and event_at <= make_timestamp(?)
order by event_at desc, source_id desc, message_id desc limit ? offset ?
"""

_OBSERVATIONS: Final = """
with mine as (select unnest(?::varchar[]) as namespace, unnest(?::varchar[]) as value)
select name, observations.value, source_id, message_id, epoch_us(event_at) as observed_at
from store.observations as observations join mine
  on home_namespace = mine.namespace and home_value = mine.value
where position <= ? and event_at <= make_timestamp(?)
qualify row_number() over (partition by name order by priority desc, event_at desc, source_id desc, message_id desc) = 1
order by name
"""

_PROFILE_OF: Final = """
select profile_id from store.identifier_versions
where namespace = ? and value = ? and position <= ? order by position desc, ordinal desc limit 1
"""

_IDENTIFIERS_OF: Final = """
with latest as (
  select * from store.identifier_versions where position <= ?
  qualify row_number() over (partition by namespace, value order by position desc, ordinal desc) = 1
)
select namespace, value, epoch_us(first_seen_at) as first_seen_at from latest
where profile_id = ? order by first_seen_at, namespace, value
"""

_MEMBERSHIPS_OF: Final = """
with latest as (
  select * from store.membership_versions where position <= ? and profile_id = ?
  qualify row_number() over (partition by profile_id, entered_position, ordinal order by position desc, exited_at desc nulls last) = 1
)
select segment, epoch_us(entered_at), case when exited_at <= make_timestamp(?) then epoch_us(exited_at) end, because, backfill
from latest where entered_at <= make_timestamp(?) order by entered_at desc, segment
"""

_LAST_SEEN: Final = """
with mine as (select unnest(?::varchar[]) as namespace, unnest(?::varchar[]) as value)
select epoch_us(max(event_at)) from store.events
join mine on home_namespace = mine.namespace and home_value = mine.value where position <= ?
"""


_LINKS: Final = """
with mine as (select unnest(?::varchar[]) as namespace, unnest(?::varchar[]) as value), latest as (
  select * from store.link_versions where changed_position <= ?
  qualify row_number() over (
    partition by left_namespace, left_value, right_namespace, right_value, kind, link_id
    order by changed_position desc, version desc
  ) = 1
)
select link_id, left_namespace, left_value, right_namespace, right_value, kind, epoch_us(first_seen_at), position, evidence,
  refused_by, retracted_position
from latest
where exists (from mine where namespace = left_namespace and value = left_value)
  or exists (from mine where namespace = right_namespace and value = right_value)
order by position, left_namespace, left_value, right_namespace, right_value, kind
"""


class History:
    """Trusted questions to the warehouse. All refuse ``warehouse_unavailable`` (503) while it is not up."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def ask(self, sql: str, params: Sequence[Any], *, trusted: bool = True) -> Answer:
        """Ask; a warehouse that is not up is told as such."""
        try:
            return await self._reading.asking.query(sql, params, max_rows=MAX_ROWS, timeout_s=TIMEOUT_S, trusted=trusted)
        except WarehouseUnavailable:
            raise refuse("warehouse_unavailable", status=503) from None
        except QueryFailed as failed:
            if trusted:
                raise Refused([Problem(code=failed.code, params=failed.params)], 503) from None
            raise

    async def axes(self, as_of: AsOf) -> tuple[int, int]:
        """(true_at, known_at) with what was not asked about filled in: now, and all that the warehouse knows."""
        known_at = as_of.known_at
        if known_at is None:
            try:
                known_at = (await self._reading.asking.status()).as_of
            except WarehouseUnavailable:
                raise refuse("warehouse_unavailable", status=503) from None
        true_at = as_of.true_at
        if true_at is None:
            true_at = self._reading.clock() if as_of.known_at is None else self._logged_at(known_at)
        return true_at, known_at

    def _logged_at(self, position: int) -> int:
        """When a position was logged: what was true as far as was known then."""
        records = self._reading.log.read(position - 1, 1, 1)
        return records[0].logged_at if records else self._reading.clock()

    async def count(self, tree: exp.Select, sample: int) -> tuple[int, list[str], int]:
        """How many people a compiled condition takes, some of them, and as of which position."""
        inner = render_sql(tree)
        sql = f"with chosen as ({inner}) select (select count(*) from chosen), profile_id from chosen order by profile_id limit {sample:d}"
        answer = await self.ask(sql, ())
        count = int(answer.rows[0][0]) if answer.rows else 0
        return count, [str(row[1]) for row in answer.rows], answer.as_of

    async def movements(self, segment: str | None, skip: int, limit: int) -> list[tuple[Any, ...]]:
        """(entered or exited, segment, profile_id, at, position, because, backfill), newest first."""
        return (await self.ask(_MOVEMENTS, [segment, segment, limit, skip])).rows

    async def member_counts(self, segments: Sequence[str]) -> dict[str, int]:
        """How many people are in each of these segments; those nobody is in are left out."""
        rows = (await self.ask(_MEMBER_COUNTS, [list(segments)])).rows
        return {str(segment): int(count) for segment, count in rows}

    async def timeline(
        self, identifiers: Sequence[tuple[str, str]], known_at: int, true_at: int, skip: int, limit: int
    ) -> list[tuple[Any, ...]]:
        """(at, position, slot, message_id, source_id, type, event, properties, traits), newest first."""
        return (await self.ask(_TIMELINE, [*_columns(identifiers), known_at, true_at, limit, skip])).rows

    async def traits(self, identifiers: Sequence[tuple[str, str]], known_at: int, true_at: int) -> list[tuple[Any, ...]]:
        """(name, value as JSON, source_id, message_id, observed_at) of each trait's winning observation."""
        return (await self.ask(_OBSERVATIONS, [*_columns(identifiers), known_at, true_at])).rows

    async def profile_of(self, namespace: str, value: str, known_at: int) -> str | None:
        """The profile that an identifier belonged to, as was known at a position."""
        rows = (await self.ask(_PROFILE_OF, [namespace, value, known_at])).rows
        return str(rows[0][0]) or None if rows else None

    async def identifiers_of(self, profile_id: str, known_at: int) -> list[tuple[str, str, int]]:
        """(namespace, value, first_seen_at) of a profile, as was known at a position."""
        return [(row[0], row[1], row[2]) for row in (await self.ask(_IDENTIFIERS_OF, [known_at, profile_id])).rows]

    async def memberships_of(self, profile_id: str, known_at: int, true_at: int) -> list[tuple[Any, ...]]:
        """(segment, entered_at, exited_at, because, backfill) of a profile's stays."""
        return (await self.ask(_MEMBERSHIPS_OF, [known_at, profile_id, true_at, true_at])).rows

    async def links(self, identifiers: Sequence[tuple[str, str]], known_at: int) -> list[tuple[Any, ...]]:
        """Every link that touches one of these identifiers, refused and retracted ones too, as was known at a position."""
        return (await self.ask(_LINKS, [*_columns(identifiers), known_at])).rows

    async def last_seen(self, identifiers: Sequence[tuple[str, str]], known_at: int) -> int | None:
        """The newest event time of a person."""
        rows = (await self.ask(_LAST_SEEN, [*_columns(identifiers), known_at])).rows
        return rows[0][0] if rows else None


def _columns(identifiers: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [namespace for namespace, _ in identifiers], [value for _, value in identifiers]
