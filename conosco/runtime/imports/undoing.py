"""Undoing an import: its bytes are destroyed in the log, and State is derived anew without them while everything runs.

Each step can be done again: what is asked stands in the log, erasing what is erased changes nothing, and a rebuilt State that
nobody took is built again. So a crash at any point costs time only.
"""

from collections.abc import Callable
from threading import Event as Signal
from typing import Any, Final

import msgspec

from conosco.model.command import UndoImport
from conosco.model.importing import ImportRun
from conosco.model.record import Draft
from conosco.ports.log import Log, LogFull
from conosco.runtime.exchange import Rebuilder, Stopped
from conosco.runtime.imports.records import Imports
from conosco.runtime.imports.running import Halted, records_of
from conosco.runtime.settings import Settings

ERASE_AT_ONCE: Final = 20_000
FULL_S: Final = 1.0
SAVE_EVERY: Final = 0.02


class Undoing:
    """Takes one import back."""

    def __init__(
        self,
        settings: Settings,
        imports: Imports,
        log: Log,
        clock: Callable[[], int],
        note: Callable[[str, dict[str, Any]], None],
        stop: Signal,
    ) -> None:
        self._settings = settings
        self._imports = imports
        self._log = log
        self._clock = clock
        self._note = note
        self._stop = stop

    def run(self, run: ImportRun) -> ImportRun:
        """Undo it, from the step that it had come to. Raises Halted if told to stop."""
        if not run.undo_step:
            self._patiently(lambda: self._log.append([_undo(run)]))
            run = self._save(run, undo_step="erasing", undo_progress=0.0)
        if run.undo_step == "erasing":
            erased = self._patiently(lambda: self._erase(run))
            self._note("import_erased", {"import": run.import_id, "events": erased})
            self._imports.rejected_path(run.import_id).unlink(missing_ok=True)
            run = self._save(run, undo_step="rebuilding", undo_progress=0.1)
        if run.undo_step == "rebuilding":
            self._rebuild(run)
        if run.asked.upload:
            self._imports.drop_upload(run.asked.upload)
        return self._save(run, undo_step="done", undo_progress=1.0, status="undone", ended_at=self._clock())

    def _erase(self, run: ImportRun) -> int:
        """Destroy every event of the import; the envelopes stay and say whose they were."""
        erased, slices = 0, []
        for record in records_of(self._log, run, run.position_last):
            slices += [(record.position, index) for index in range(1, len(record.slices)) if record.slices[index] is not None]
            if len(slices) >= ERASE_AT_ONCE:
                erased += self._log.erase(slices)
                slices = []
        return erased + (self._log.erase(slices) if slices else 0)

    def _rebuild(self, run: ImportRun) -> None:
        told = 0.1

        def progress(share: float) -> None:
            nonlocal told
            now = 0.1 + 0.9 * share
            if now - told >= SAVE_EVERY:
                told = now
                self._save(run, undo_step="rebuilding", undo_progress=min(now, 0.99))

        try:
            Rebuilder(self._settings, self._note, progress, self._stop).run(run.import_id)
        except Stopped:
            raise Halted from None

    def _save(self, run: ImportRun, **changes: Any) -> ImportRun:
        run = msgspec.structs.replace(run, **changes)
        self._imports.put(run)
        return run

    def _patiently(self, act: Callable[[], Any]) -> Any:
        """Do it, waiting out a disk that is full."""
        while True:
            try:
                return act()
            except LogFull as full:
                self._note("log_full", {"error": str(full)})
                if self._stop.wait(FULL_S):
                    raise Halted from None


def _undo(run: ImportRun) -> Draft:
    return Draft(kind="control", slices=(msgspec.json.encode(UndoImport(import_id=run.import_id)),))
