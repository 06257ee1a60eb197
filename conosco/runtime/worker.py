"""The worker: reads the log, applies micro-batches, and commits each in one transaction with the offset. It has no clock
of its own: the only use of the time of day is to append a tick when a timer is due and nothing else comes."""

import gc
from collections.abc import Callable, Mapping, Sequence
from threading import Event as Signal
from time import monotonic, perf_counter_ns
from typing import Any, Final

import msgspec

from conosco.govern.gate import Gate
from conosco.model.command import LiveFrom, read_command
from conosco.model.definition import Definition, kind_of, read_definition
from conosco.model.problem import Refused
from conosco.model.record import Draft, Record
from conosco.ports.log import Log, LogFull
from conosco.ports.state import State, StateFull
from conosco.ports.tables import CURSORS, TIMERS, MetaRow, encode_row
from conosco.runtime.backfill import Backfill
from conosco.runtime.configuration import load, meta
from conosco.runtime.duplicates import Duplicates
from conosco.runtime.imports.undone import UndoneImports
from conosco.runtime.micro_batch import Address, MicroBatch, StageFailed

EVENTS_PER_BATCH: Final = 2_000
RECORDS_PER_READ: Final = 200
BYTES_PER_READ: Final = 8_000_000
TRIES: Final = 3
POLL_BUSY_S: Final = 0.002
POLL_IDLE_S: Final = 0.02
RETRY_S: Final = 1.0
REFUSALS_MOST: Final = 5
# A worker that has nothing to commit writes so often, to learn in time that State takes nothing any more.
PROBE_S: Final = 2.0


class Worker:
    """Applies the log to State. ``note`` is told of everything worth a line in the journal: (event, fields)."""

    def __init__(
        self,
        log: Log,
        state: State,
        secret: bytes,
        gate: Gate,
        clock: Callable[[], int],
        note: Callable[[str, dict[str, Any]], None],
        events_per_batch: int = EVENTS_PER_BATCH,
        take_over: Callable[[str, int], bool] | None = None,
    ) -> None:
        """``take_over`` puts a rebuilt State, by its name, in the place of this one if it is there and stands at that position."""
        self._log = log
        self._state = state
        self._secret = secret
        self._gate = gate
        self._clock = clock
        self._note = note
        self._events_per_batch = events_per_batch
        self._take_over = take_over
        self._undone = UndoneImports(log)
        self.step_ns: dict[str, int] = {}
        self.commits = self.commit_ns = 0
        # (source key, outcome) -> how many events since this process began.
        self.outcomes: dict[tuple[str, str], int] = {}
        self._load()

    def _load(self) -> None:
        """Begin with what State says now."""
        self._position, epoch = self._state.offset()
        # Records that follow, read already; dropped when anything fails, for then they are read again.
        self._ahead: list[Record] = []
        self._epoch = epoch + 1
        self._configuration = load(self._state)
        self._duplicates = Duplicates(self._state, self._secret)
        self._sequence = int(meta(self._state, "feed_sequence", 0, CURSORS))
        self._failures: dict[Address, int] = {}
        self._poisoned: dict[Address, str] = {}
        self._next_due: int | None = None
        self._know_due = False

    @property
    def position(self) -> int:
        """The position of the last applied record."""
        return self._position

    def run(self, stop: Signal, turn: Callable[[str], None] = lambda trouble: None) -> None:
        """Work until told to stop. Trouble with the disk is waited out: nothing is lost, the log keeps everything.

        A store that goes on refusing ends the run, so that the files are opened anew: one that was opened while nothing could
        be written stays read-only for as long as it is open. The supervisor starts the worker again.

        ``turn`` is told each time the loop comes round: the code of what is in the way, or an empty text.
        """
        # The loop creates no cycles; collecting them would only walk all that is cached.
        gc.collect()
        gc.freeze()
        gc.disable()
        idle = refusals = 0
        probe_at = 0.0
        while not stop.is_set():
            try:
                worked = self.step() or self.tick()
                if worked or monotonic() >= probe_at:
                    if not worked:
                        self._probe()
                    probe_at = monotonic() + PROBE_S
            except (StateFull, LogFull) as trouble:
                turn("store_full")
                self._note("store_full", {"error": str(trouble)})
                refusals += 1
                if refusals == REFUSALS_MOST:
                    return
                stop.wait(RETRY_S)
                probe_at = 0.0
                continue
            turn("")
            refusals = 0
            idle = 0 if worked else idle + 1
            if not worked:
                stop.wait(POLL_BUSY_S if idle < 500 else POLL_IDLE_S)

    def _probe(self) -> None:
        """A durable write that means nothing: a store that fails is known before something must be written."""
        self._state.begin(self._epoch)
        self._state.put_many(CURSORS, {("probe",): encode_row(MetaRow(value=self._clock()))})
        self._state.commit(None)

    def step(self) -> bool:
        """Apply what the log has, at most one micro-batch; False if there is nothing new."""
        if not self._ahead:
            if self._log.head().position <= self._position:
                return False
            self._ahead = self._log.read(self._position, RECORDS_PER_READ, BYTES_PER_READ)
            if not self._ahead:
                return False
        records, self._ahead = self._ahead, []
        if self._is_exchanged(records[0]):
            return True
        if records[0].kind == "definition":
            self._apply_definition(records[0])
            self._ahead = records[1:]
        else:
            batch = self._cut(records)
            self._apply_batch(batch)
            self._ahead = records[len(batch) :]
        return True

    def _is_exchanged(self, record: Record) -> bool:
        """At the record that says so, go on from a rebuilt State in place of this one, if it is really there."""
        name = rebuilt_name(record)
        if not name or self._take_over is None or not self._take_over(name, record.position):
            return False
        self._load()
        self._note("state_exchanged", {"position": self._position})
        return True

    def _cut(self, records: Sequence[Record]) -> list[Record]:
        """As many records as make a micro-batch; a definition begins a new one, for it changes how the next are read."""
        batch: list[Record] = []
        events = 0
        for record in records:
            if record.kind == "definition" or (batch and (events >= self._events_per_batch or rebuilt_name(record))):
                break
            batch.append(record)
            events += max(0, len(record.slices) - 1)
        return batch

    def _apply_batch(self, records: list[Record]) -> None:
        while True:
            batch = self._begin(self._poisoned)
            try:
                batch.run(records)
            except StageFailed as failure:
                self._remember(failure)
                continue
            break
        self._commit(batch, records[-1].position)
        for address in [address for address in self._failures if address[0] <= self._position]:
            self._failures.pop(address)
            self._poisoned.pop(address, None)

    def _begin(self, poisoned: Mapping[Address, str]) -> MicroBatch:
        """A new micro-batch. State's transaction begins with it, so that its reads need not open one each."""
        self._state.begin(self._epoch)
        self._duplicates.start_over()
        return MicroBatch(
            self._state,
            self._log,
            self._duplicates,
            self._configuration,
            self._secret,
            self._gate,
            poisoned,
            self.step_ns,
            self._undone,
        )

    def _remember(self, failure: StageFailed) -> None:
        count = self._failures.get(failure.address, 0) + 1
        self._failures[failure.address] = count
        cause = type(failure.__cause__).__name__
        self._note(
            "stage_failed",
            {"position": failure.address[0], "slot": failure.address[1], "stage": failure.stage, "try": count, "error": cause},
        )
        if count >= TRIES:
            self._poisoned[failure.address] = failure.stage

    def _commit(self, batch: MicroBatch, position: int | None) -> None:
        begun = perf_counter_ns()
        sequence = batch.close(self._sequence)
        self._state.commit(position)
        self.commit_ns += perf_counter_ns() - begun
        self.commits += 1
        for (source_id, outcome), count in batch.outcomes.items():
            source = self._configuration.definitions_by_id.get(source_id)
            told = ("unknown" if source is None else source.key, outcome)
            self.outcomes[told] = self.outcomes.get(told, 0) + count
        self._duplicates.keep()
        # Only now: a gap in the feed would look like a feed that lost rows.
        self._sequence = sequence
        self._know_due = False
        if position is not None:
            self._position = position

    def tick(self) -> bool:
        """Append a tick if a timer is due by the clock and the log has nothing that would fire it."""
        if not self._know_due:
            rows = self._state.scan(TIMERS, (), None, 1)
            self._next_due = rows[0][0][0] if rows else None
            self._know_due = True
        if self._next_due is None or self._next_due > self._clock():
            return False
        self._log.append([Draft(kind="tick")])
        self._know_due = False
        return True

    def _apply_definition(self, record: Record) -> None:
        """Put a definition in force: first what was due before it, then its effect on all history, in chunks."""
        body = record.slices[0] if record.slices else None
        if body is None:
            self._apply_batch([record])
            return
        if not meta(self._state, "backfill", None, CURSORS):
            before = self._begin({})
            before.run([record])
            self._commit(before, None)
        try:
            definition = versioned(read_definition(body), record.position)
            backfill = Backfill(
                self._state,
                self._log,
                self._duplicates,
                self._secret,
                self._epoch,
                self._configuration,
                definition,
                record,
                self._note,
            )
        except (Refused, msgspec.DecodeError) as refused:
            # It was right when it was asked, and what it refers to went before it came: nothing changes.
            self._note("definition_refused", {"position": record.position, "error": str(refused)})
            self._apply_batch([record])
            return
        self._sequence = backfill.run(self._sequence)
        self._configuration = load(self._state)
        self._position = record.position
        self._know_due = False
        self._note("definition_applied", {"kind": kind_of(definition), "key": definition.key, "position": record.position})


def rebuilt_name(record: Record) -> str:
    """The rebuilt State that a record asks to go on from; empty for every other record."""
    if record.kind != "control" or not record.slices or record.slices[0] is None:
        return ""
    command = read_command(record.slices[0])
    return command.rebuilt if isinstance(command, LiveFrom) else ""


def versioned(definition: Definition, position: int) -> Definition:
    """The definition with its version, which is its position."""
    return msgspec.structs.replace(definition, version=position)
