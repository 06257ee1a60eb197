"""The importer's process: started by the front when there is work, it runs imports and undoes them, one at a time, and ends."""

import fcntl
import os
from pathlib import Path
from typing import IO, Any, Final

from conosco.model.importing import ImportRun
from conosco.runtime.bootstrap import (
    INSTALLATION_SECRET,
    Folder,
    clock,
    open_control,
    open_keys,
    open_log,
    open_state,
    required_secret,
)
from conosco.runtime.imports.records import Imports
from conosco.runtime.imports.running import Halted, Running
from conosco.runtime.imports.undoing import Undoing
from conosco.runtime.journal import Journal
from conosco.runtime.process import settings_of_role, stop_signal
from conosco.runtime.settings import Settings

NICENESS: Final = 10


def run_importer(settings: Settings) -> None:
    """Work off what waits; a second importer on the same folder ends at once."""
    stop = stop_signal(settings.supervisor)
    os.nice(NICENESS)
    journal = Journal("importer", clock)
    folder = Folder(settings.data)
    folder.uploads.mkdir(mode=0o700, exist_ok=True)
    with (folder.uploads / "importer.lock").open("a") as lock:
        if not _alone(lock):
            return
        control, log, state = open_control(settings), open_log(settings), open_state(settings)
        imports = Imports(control, folder)
        secret = required_secret(open_keys(settings), INSTALLATION_SECRET)
        running = Running(imports, log, state, secret, clock, journal.note, stop)
        undoing = Undoing(settings, imports, log, clock, journal.note, stop)
        try:
            while not stop.is_set() and (run := imports.next()) is not None:
                journal.note("import_taken", {"import": run.import_id, "status": run.status})
                if run.status == "undoing":
                    undoing.run(run)
                else:
                    _finish(imports, running.run(run, path_of(imports, run)))
        except Halted:
            pass
        finally:
            for door in (state, log, control):
                door.close()
        journal.note("stopped", {})


def path_of(imports: Imports, run: ImportRun) -> Path:
    """The file of an import."""
    return imports.path_of(run.asked.upload) if run.asked.upload else Path(run.asked.path)


def _finish(imports: Imports, run: ImportRun) -> None:
    """What was sent to us has done its work once it is in the log."""
    if run.asked.upload and run.status == "done":
        imports.drop_upload(run.asked.upload)


def _alone(lock: IO[Any]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    run_importer(settings_of_role("importer"))
