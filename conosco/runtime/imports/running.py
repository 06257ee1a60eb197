"""Running an import: rows become records of the log, as fast as the worker follows, exactly once however often it is killed.

What is in the log is the only truth of how far it is: each record names the import and the last row that it answers for. So
after a kill the records behind the last known position are read, and the file is read again from the row after.
"""

import hmac
from collections.abc import Callable
from pathlib import Path
from threading import Event as Signal
from time import monotonic
from typing import Any, Final

import msgspec

from conosco.collect.envelope import read_envelope, spell_envelope
from conosco.collect.files.messages import Converted, Described, Finished, Task
from conosco.model.importing import ImportRun
from conosco.model.moment import SECOND
from conosco.model.problem import Refused
from conosco.model.record import IMPORTED, Draft, Envelope, Record
from conosco.ports.control import ControlFull
from conosco.ports.log import Log, LogFull
from conosco.ports.state import State
from conosco.ports.tables import META, decode_row
from conosco.runtime.configuration import load
from conosco.runtime.imports.reading import Cancelled, Reader
from conosco.runtime.imports.records import Imports

# Frames that are appended, and so made durable, together: about 8,000 events or 8 MB.
FRAMES_PER_APPEND: Final = 8
LAG_MAX: Final = SECOND
POLL_S: Final = 0.02
FULL_S: Final = 1.0
SAVE_EVERY_S: Final = 0.5
RECORDS_PER_READ: Final = 500


class Halted(Exception):
    """The process was told to stop; the import goes on from here when it is started again."""


class Running:
    """One import on its way into the log."""

    def __init__(
        self,
        imports: Imports,
        log: Log,
        state: State,
        secret: bytes,
        clock: Callable[[], int],
        note: Callable[[str, dict[str, Any]], None],
        stop: Signal,
        lag_max: int = LAG_MAX,
    ) -> None:
        self._imports = imports
        self._log = log
        self._state = state
        self._secret = secret
        self._clock = clock
        self._note = note
        self._stop = stop
        self._lag_max = lag_max
        self._saved_s = 0.0

    def run(self, run: ImportRun, path: Path) -> ImportRun:
        """Bring the import to its end: done, failed or cancelled. Raises Halted if told to stop."""
        run = self._resume(msgspec.structs.replace(run, status="running"))
        try:
            return self._ended(self._read(run, path), "done")
        except Cancelled:
            if self._stop.is_set():
                raise Halted from None
            return self._ended(self._latest, "cancelled")
        except Refused as refused:
            problem = refused.problems[0]
            failed = msgspec.structs.replace(self._latest, problem=problem.code, problem_params=problem.params)
            return self._ended(failed, "failed")

    def _ended(self, run: ImportRun, status: Any) -> ImportRun:
        run = msgspec.structs.replace(run, status=status, ended_at=self._clock())
        self._save(run)
        facts = {"import": run.import_id, "status": status, "accepted": run.accepted, "rejected": run.rejected}
        self._note("import_ended", {**facts, "problem": run.problem})
        return run

    def _resume(self, run: ImportRun) -> ImportRun:
        """Learn from the log what was appended before; of rejected rows, those behind are met again."""
        accepted, last, position = 0, 0, run.position_before
        for record in records_of(self._log, run, self._log.head().position):
            envelope, _ = read_envelope(record.slices[0] or b"{}")
            accepted += len(record.slices) - 1
            last, position = max(last, envelope.import_row), record.position
        rejected = self._imports.cut_rejected(run.import_id, last)
        run = msgspec.structs.replace(run, rows_read=last, accepted=accepted, rejected=rejected, position_last=position)
        self._save(run)
        return run

    def _read(self, run: ImportRun, path: Path) -> ImportRun:
        rules = load(self._state).rules
        task = Task(
            handle=0,
            size=0,
            format=run.asked.format,
            mapping=list(run.asked.mapping),
            key=import_key(self._secret, run),
            key_columns=run.asked.key,
            rules=rules,
            after=run.rows_read,
        )
        waiting: list[Converted] = []
        with Reader(path, task, self._is_unwanted) as reader:
            for message in reader.messages():
                match message:
                    case Converted():
                        waiting.append(message)
                        if len(waiting) == FRAMES_PER_APPEND:
                            run, waiting = self._append(run, waiting), []
                    case Finished(rows=rows):
                        run = self._append(run, waiting)
                        return msgspec.structs.replace(run, rows_read=max(run.rows_read, rows))
                    case Described():
                        told = message.description
                        run = msgspec.structs.replace(run, rows_about=told.rows_about, columns=told.names)
                        self._save(run)
        raise Cancelled

    def _is_unwanted(self) -> bool:
        return self._stop.is_set() or self._imports.is_cancelled(self._latest.import_id)

    def _append(self, run: ImportRun, frames: list[Converted]) -> ImportRun:
        """Make frames durable: first their rejected rows, then their records, then how far we are."""
        if not frames:
            return run
        self._wait_for_worker()
        rejected = [row for frame in frames for row in frame.rejected]
        drafts = [
            Draft(
                kind="request",
                source_id=run.source_id,
                flags=IMPORTED,
                slices=(_envelope(run, frame.last), *frame.slices),
            )
            for frame in frames
            if frame.slices
        ]
        if rejected:
            self._imports.add_rejected(run.import_id, rejected)
        position = self._appended(drafts) or run.position_last
        run = msgspec.structs.replace(
            run,
            rows_read=frames[-1].last,
            accepted=run.accepted + sum(len(frame.slices) for frame in frames),
            rejected=run.rejected + len(rejected),
            position_last=position,
        )
        self._latest = run
        if monotonic() - self._saved_s >= SAVE_EVERY_S:
            self._save(run)
        return run

    def _appended(self, drafts: list[Draft]) -> int:
        """Append, waiting out a disk that is full; the position of the last record, 0 for none."""
        while drafts:
            try:
                return self._log.append(drafts)[-1].position
            except LogFull as full:
                self._note("log_full", {"error": str(full)})
                self._pause(FULL_S)
        return 0

    def _save(self, run: ImportRun) -> None:
        self._latest = run
        while True:
            try:
                self._imports.put(run)
                self._saved_s = monotonic()
                return
            except ControlFull as full:
                self._note("control_full", {"error": str(full)})
                self._pause(FULL_S)

    def _wait_for_worker(self) -> None:
        """Live events go first: nothing is added while the worker is more than a second behind."""
        while self._lag() > self._lag_max:
            if self._imports.is_cancelled(self._latest.import_id):
                raise Cancelled
            self._pause(POLL_S)

    def _lag(self) -> int:
        position = self._state.offset()[0]
        if self._log.head().position <= position:
            return 0
        raw = self._state.get_many(META, [("now",)]).get(("now",))
        following = self._log.read(position, 1, 1)
        if raw is None or not following:
            return 0
        return self._clock() - max(following[0].logged_at, int(decode_row(META, raw).value))

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Halted


def _envelope(run: ImportRun, last: int) -> bytes:
    return spell_envelope(Envelope(received_at=run.created_at, client="import", import_id=run.import_id, import_row=last))


def import_key(secret: bytes, run: ImportRun) -> bytes:
    """The key of an import's message ids: of its source, and of this very file unless columns tell rows apart."""
    about = b"columns" if run.asked.key else bytes.fromhex(run.file_digest)
    return hmac.digest(secret, b"import\0" + run.source_id.encode() + b"\0" + about, "sha256")


def records_of(log: Log, run: ImportRun, until: int) -> Any:
    """The records of an import, in order, up to a position."""
    after = run.position_before
    while after < until:
        records = log.read(after, RECORDS_PER_READ)
        if not records:
            return
        for record in records:
            if record.position <= until and is_of(record, run.import_id):
                yield record
        after = records[-1].position


def is_of(record: Record, import_id: str) -> bool:
    """Whether a record belongs to an import."""
    if record.kind != "request" or not record.flags & IMPORTED or record.slices[0] is None:
        return False
    return read_envelope(record.slices[0])[0].import_id == import_id
