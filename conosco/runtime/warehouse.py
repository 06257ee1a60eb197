"""The warehouse process: drains the change feed of State into the Warehouse, and answers questions meanwhile."""

import contextlib
import resource
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event as Signal
from time import monotonic
from typing import Any, Final

import msgspec

from conosco.collect.object_rules import mentions_of
from conosco.collect.touch import touch_of
from conosco.model.event import Event
from conosco.model.record import Record
from conosco.ports.log import Log
from conosco.ports.state import State
from conosco.ports.tables import CURSORS, FEED, FeedRow, decode_row
from conosco.ports.warehouse import QueryFailed, WholeWarehouse
from conosco.runtime.answering import Answering, Standing
from conosco.runtime.questions import WarehouseStatus

EVENTS_PER_APPEND: Final = 20_000
FEED_PAGE: Final = 64
RECORDS_PER_READ: Final = 500
IDLE_S: Final = 0.05
# After an append that emptied the feed the writer rests for this many times as long as it took.
PAUSE: Final = 2.0
STOCK_S: Final = 60.0
REBUILD_RETRY_S: Final = 1.0
PROBE_S: Final = 2.0
# Of each list in the feed: the table it goes to, and the column that takes the feed row's position where a row has none.
FEED_TABLES: Final[Mapping[str, tuple[str, str]]] = {
    "identifiers": ("identifier_versions", "position"),
    "links": ("link_versions", "changed_position"),
    "memberships": ("membership_versions", "position"),
    "deliveries": ("delivery_versions", "position"),
    "outcomes": ("outcome_versions", "changed_position"),
}

FEED_BEGIN: Final = ("feed_begin",)

# The code of a Warehouse whose file could not go on; it has begun again by then.
BROKEN: Final = "warehouse_broken"
Address = tuple[int, int]
Rows = list[dict[str, Any]]
Understand = Callable[[Record], Sequence[object]]
Note = Callable[[str, dict[str, Any]], None]
_TRAITS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class WarehouseRole:
    """The body of the warehouse process: the one writer of its Warehouse.

    ``understand`` reads a record as the worker did (what is no Event is passed over), ``canonical_json`` indexes JSON for
    SQL. Feed rows are read in order of their sequence; the newest one that was appended is the Warehouse's last batch.

    If the feed cannot bring the warehouse up to date (it begins too late, or it is not the feed that the warehouse was
    filled from), the warehouse is filled anew where the feed still begins at 1; else the status says why in
    ``needs_rebuild`` and ``rebuild`` is called until that is mended. It may use ``Warehouse.clear`` and ``absorb``.
    """

    def __init__(
        self,
        *,
        log: Log,
        state: State,
        warehouse: WholeWarehouse,
        understand: Understand,
        canonical_json: Callable[[bytes], str],
        socket_path: Path,
        note: Note = lambda event, fields: None,
        rebuild: Callable[[], None] | None = None,
    ) -> None:
        self._log = log
        self._state = state
        self._warehouse = warehouse
        self._understand = understand
        self._canonical_json = canonical_json
        self._note = note
        self._rebuild = rebuild
        self._standing = Standing(WarehouseStatus(warehoused=0, as_of=0, last_batch=0))
        # Whether the status is that of the Warehouse itself; it is asked once, for nobody else writes.
        self._is_stocked = False
        self._answering = Answering(warehouse, self._standing, socket_path)

    @property
    def status(self) -> WarehouseStatus:
        """How far it is."""
        return self._standing.status

    def is_asked(self) -> bool:
        """Whether somebody waits for an answer right now."""
        return self._answering.is_busy

    def run(self, stop: Signal, turn: Callable[[str], None] = lambda trouble: None) -> None:
        """Drain and answer until told to stop. What the engine or State cannot do ends it: the supervisor starts it again.

        ``turn`` is told each time the loop comes round: the code of what is in the way, or an empty text.
        """
        self._answering.start()
        probe_at = 0.0
        try:
            while not stop.is_set():
                begun = monotonic()
                worked = self.step()
                if begun >= probe_at:
                    # A real read: an engine that has become invalid answers nothing, and must not look well.
                    self._warehouse.last_batch()
                    probe_at = begun + PROBE_S
                turn("rebuilding" if self.status.needs_rebuild else "")
                if not worked:
                    # A calm stream is taken in sips, so that small appends leave most of a core to others.
                    stop.wait(max(REBUILD_RETRY_S if self.status.needs_rebuild else IDLE_S, PAUSE * (monotonic() - begun)))
        finally:
            self._answering.stop()

    def step(self) -> bool:
        """Append what the feed holds, one append's worth; True if there may be more already."""
        try:
            return self._step()
        except QueryFailed as failure:
            if failure.code != BROKEN:
                raise
            # The file was opened again, or begun anew: the next step sees how far it is now.
            self._note(BROKEN, {"batch": self.status.last_batch})
            self._is_stocked = False
            return True

    def _step(self) -> bool:
        # Read before the feed: whatever State includes up to here is in the feed that is read after.
        position = self._state.offset()[0]
        newest = self._newest_sequence()
        reason = "" if self._is_stocked else self._take_stock()
        last = self.status.last_batch
        rows, is_full = self._feed_rows(last)
        # An empty warehouse can be filled from wherever this State's feed begins; a State that was exchanged begins later.
        if reason := reason or _misfit(last or self._feed_begin() - 1, newest, rows):
            return self._mend(reason)
        if rows:
            self.absorb(rows)
        elif position > self.status.as_of or self.status.needs_rebuild:
            self._standing.tell(msgspec.structs.replace(self.status, as_of=position, needs_rebuild=""))
        return is_full

    def absorb(self, rows: Sequence[tuple[int, FeedRow]]) -> None:
        """Append feed rows (sequence, row), in order, as one batch."""
        last = rows[-1][0]
        as_of = max([self.status.as_of, *(row.position for _, row in rows)])
        self._warehouse.append(last, self._tables(rows), as_of)
        self._standing.tell(WarehouseStatus(warehoused=self._stored()[0], as_of=as_of, last_batch=last))

    def _take_stock(self) -> str:
        """Learn how far the Warehouse is; why the feed cannot be the one that it was filled from, empty if it can."""
        last = self._warehouse.last_batch()
        warehoused, as_of = self._stored()
        self._standing.tell(msgspec.structs.replace(self.status, warehoused=warehoused, as_of=as_of, last_batch=last))
        self._is_stocked = True
        raw = self._state.get_many(FEED, [(last,)]).get((last,))
        return "feed_is_another" if raw is not None and decode_row(FEED, raw).position > as_of else ""

    def _stored(self) -> tuple[int, int]:
        """(events in the warehouse, as_of of the last append)."""
        sql = "SELECT warehoused, as_of FROM store.progress"
        answer = self._warehouse.query(sql, (), max_rows=1, timeout_s=STOCK_S, trusted=True)
        return answer.rows[0][0], answer.rows[0][1]

    # The feed ----------------------------------------------------------------------------------------------------------

    def _newest_sequence(self) -> int:
        key = ("feed_sequence",)
        raw = self._state.get_many(CURSORS, [key]).get(key)
        return 0 if raw is None else int(decode_row(CURSORS, raw).value)

    def _feed_begin(self) -> int:
        """The sequence with which the feed of this State began."""
        raw = self._state.get_many(CURSORS, [FEED_BEGIN]).get(FEED_BEGIN)
        return 1 if raw is None else int(decode_row(CURSORS, raw).value)

    def _feed_rows(self, after: int) -> tuple[list[tuple[int, FeedRow]], bool]:
        """The rows that follow, up to about as many as one append takes; and whether there may be more."""
        taken: list[tuple[int, FeedRow]] = []
        events = 0
        while True:
            page = self._state.scan(FEED, (after + 1,), None, FEED_PAGE)
            for (sequence,), raw in page:
                row: FeedRow = decode_row(FEED, raw)
                taken.append((sequence, row))
                after = sequence
                body = msgspec.msgpack.decode(row.body)
                # Outcomes count as well: an undone import brings nothing but these, as many as it had events.
                events += len(body.get("applied", ())) + len(body.get("outcomes", ()))
                if events >= EVENTS_PER_APPEND:
                    return taken, True
            if len(page) < FEED_PAGE:
                return taken, False

    def _mend(self, reason: str) -> bool:
        """Start over if the feed is whole, else ask for a rebuild."""
        if self.status.needs_rebuild != reason:
            self._note("warehouse_misfit", {"reason": reason})
        first = self._state.scan(FEED, (), None, 1)
        if (first and first[0][0] == (self._feed_begin(),)) or self._newest_sequence() == 0:
            self._warehouse.clear()
            self._is_stocked = False
            return True
        self._standing.tell(msgspec.structs.replace(self.status, needs_rebuild=reason))
        if self._rebuild is not None:
            self._rebuild()
            self._is_stocked = False
        return False

    # Rows --------------------------------------------------------------------------------------------------------------

    def _tables(self, feed: Sequence[tuple[int, FeedRow]]) -> dict[str, Rows]:
        """The rows of all tables that these feed rows bring."""
        tables: dict[str, Rows] = {"events": [], "observations": []}
        applied: dict[Address, int | None] = {}
        for _, row in feed:
            for name, rows in msgspec.msgpack.decode(row.body).items():
                if name == "applied":
                    applied.update(((position, slot), row.position) for position, slot in rows)
                    continue
                table, column = FEED_TABLES[name]
                tables.setdefault(table, []).extend(_plain(each, column, row.position) for each in rows)
                if name == "outcomes":
                    # Applied after a replay, say: the feed tells the Outcome itself.
                    applied.update(((each["position"], each["slot"]), None) for each in rows if each["outcome"] == "applied")
        for version in tables.get("identifier_versions", ()):
            version["value_keys"] = self._indexed(msgspec.json.encode(version["value"]))
        for event, schema in self._events(applied):
            self._add_event(tables, event, schema)
            told_at = applied[event.position, event.slot]
            if told_at is not None:
                tables.setdefault("outcome_versions", []).append(_applied_outcome(event, told_at))
        return tables

    def _events(self, wanted: Iterable[Address]) -> Iterator[tuple[Event, int]]:
        """The events at these addresses with their records' schema, in log order; erased ones are no more."""
        slots: dict[int, set[int]] = {}
        for position, slot in wanted:
            slots.setdefault(position, set()).add(slot)
        for record in self._records(sorted(slots)):
            chosen = slots[record.position]
            for event in self._understand(record):
                if isinstance(event, Event) and event.slot in chosen:
                    yield event, record.schema

    def _records(self, positions: Sequence[int]) -> Iterator[Record]:
        """The records at these ascending positions; runs that lie close together are read in one go."""
        at = 0
        while at < len(positions):
            first = positions[at]
            end = at
            while end < len(positions) and positions[end] < first + RECORDS_PER_READ:
                end += 1
            wanted = set(positions[at:end])
            after, last = first - 1, positions[end - 1]
            while after < last:
                records = self._log.read(after, last - after)
                if not records:
                    break
                yield from (record for record in records if record.position in wanted)
                after = records[-1].position
            at = end

    def _add_event(self, tables: dict[str, Rows], event: Event, schema: int) -> None:
        home = event.home
        tables["events"].append(
            {
                "position": event.position,
                "slot": event.slot,
                "message_id": event.message_id,
                "source_id": event.source_id,
                "type": event.type,
                "event": event.event,
                "home_namespace": home.namespace,
                "home_value": home.value,
                "event_at": event.event_at,
                "logged_at": event.logged_at,
                "received_at": event.received_at,
                "sent_at": event.sent_at,
                "original_at": event.original_at,
                "historical": event.historical,
                "user_id": event.user_id,
                "anonymous_id": event.anonymous_id,
                "group_id": event.group_id,
                "properties": event.properties.decode(),
                "traits": event.traits.decode(),
                "context": event.context.decode(),
                "property_keys": self._indexed(event.properties),
                "schema": schema,
                "automated": event.automated,
            }
        )
        if (touch := touch_of(event)) is not None:
            tables.setdefault("touches", []).append(touch)
        _add_mentions(tables, event)
        if event.type != "identify":
            return
        for name, raw in _TRAITS.decode(event.traits).items():
            value = bytes(raw)
            tables["observations"].append(
                {
                    "position": event.position,
                    "slot": event.slot,
                    "home_namespace": home.namespace,
                    "home_value": home.value,
                    "name": name,
                    "value": value.decode(),
                    "value_keys": self._indexed(value),
                    "priority": event.source_priority,
                    "event_at": event.event_at,
                    "source_id": event.source_id,
                    "message_id": event.message_id,
                }
            )

    def _indexed(self, raw: bytes) -> str:
        """The index of a JSON value; empty if it cannot be read, for one event must not stop all others."""
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            return self._canonical_json(raw)
        self._note("unreadable_value", {"bytes": len(raw)})
        return "{}"


def confine_memory(bytes_max: int) -> None:
    """Bound the memory that this process may ask for, whatever is asked of it; beyond that questions fail, not the machine.

    The engine's own limit does not count texts and lists while a function makes them.
    """
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (bytes_max if hard < 0 else min(bytes_max, hard), hard))


def _misfit(last: int, newest: int, rows: Sequence[tuple[int, FeedRow]]) -> str:
    """Why the feed does not continue the warehouse; empty if it does."""
    if last > newest:
        return "warehouse_is_ahead"
    if rows and rows[0][0] > last + 1:
        return "feed_begins_later"
    return "feed_is_gone" if not rows and newest > last else ""


def _plain(row: Mapping[str, Any], position_column: str, position: int) -> dict[str, Any]:
    """A feed row as the Warehouse takes it: JSON as text, and with the position where it was told."""
    plain = {name: _text(value) for name, value in row.items()}
    plain.setdefault(position_column, position)
    return plain


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return msgspec.json.encode(value).decode() if isinstance(value, (dict, list)) else value


def _add_mentions(tables: dict[str, Rows], event: Event) -> None:
    """What the event says of objects, as the worker found it."""
    for kind, object_id, roles, state in mentions_of(event):
        row = {
            "position": event.position,
            "slot": event.slot,
            "kind": kind,
            "object_id": object_id,
            "home_namespace": event.home.namespace,
            "home_value": event.home.value,
            "event_at": event.event_at,
            "source_id": event.source_id,
            "message_id": event.message_id,
        }
        tables.setdefault("object_mentions", []).extend({**row, "role": role} for role in roles or ("",))
        told = [{**row, "name": name, "value": value.decode()} for name, value in state.items()]
        tables.setdefault("object_observations", []).extend(told)


def _applied_outcome(event: Event, position: int) -> dict[str, Any]:
    """The Outcome of an event that was simply applied, which the feed does not spell out."""
    return {
        "position": event.position,
        "slot": event.slot,
        "message_id": event.message_id,
        "source_id": event.source_id,
        "outcome": "applied",
        "reason": "applied",
        "params": "{}",
        "decided_at": event.logged_at,
        "attempts": 1,
        "changed_position": position,
    }
