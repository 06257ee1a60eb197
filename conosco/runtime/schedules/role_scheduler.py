"""The scheduler's process: started by the front when something is due, it runs that, one after the other, and ends."""

import fcntl
import os
import shutil
from typing import Final

from conosco.connectors.place import PlaceContext
from conosco.model.definition import Basis
from conosco.ports.control import Control
from conosco.ports.keys import Keys
from conosco.ports.log import Log
from conosco.ports.state import State
from conosco.runtime.asking import AskingNow
from conosco.runtime.bootstrap import (
    INSTALLATION_SECRET,
    Folder,
    clock,
    make_gate,
    make_private_folder,
    open_control,
    open_keys,
    open_log,
    open_state,
    required_secret,
)
from conosco.runtime.configuration import load
from conosco.runtime.discover import place_connectors
from conosco.runtime.imports.records import Imports
from conosco.runtime.journal import Journal
from conosco.runtime.office.hooks import source_secret
from conosco.runtime.process import settings_of_role, stop_signal
from conosco.runtime.reserve import spare_bytes
from conosco.runtime.schedules.book import Book
from conosco.runtime.schedules.bringing import Bringing
from conosco.runtime.schedules.exporting import Exporting
from conosco.runtime.schedules.records import Schedules
from conosco.runtime.schedules.running import Runner
from conosco.runtime.settings import Settings

NICENESS: Final = 10
POLL_S: Final = 0.2


def run_scheduler(settings: Settings) -> None:
    """Run what is due until nothing is; a second scheduler on the same folder ends at once."""
    stop = stop_signal(settings.supervisor)
    os.nice(NICENESS)
    journal, folder = Journal("scheduler", clock), Folder(settings.data)
    with folder.schedules_lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        for passing in (folder.uploads, folder.extracts, folder.exported):
            make_private_folder(passing)
        for left in folder.extracts.iterdir():
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
        control, log, state, keys = open_control(settings), open_log(settings), open_state(settings), open_keys(settings)
        runner = make_runner(settings, control, log, state, keys, journal)
        try:
            while not stop.is_set() and runner.step():
                stop.wait(POLL_S)
        finally:
            for door in (state, log, control):
                door.close()


def make_runner(settings: Settings, control: Control, log: Log, state: State, keys: Keys, journal: Journal) -> Runner:
    """The runner of an installation."""
    folder, schedules = Folder(settings.data), Schedules(control)

    def source_id(key: str) -> str:
        return next((made.id for made in load(state).sources.values() if made.key == key), "")

    def room() -> int:
        return max(0, min(settings.upload_bytes_max, spare_bytes(folder.data, settings.disk_reserve_mb)))

    bringing = Bringing(schedules, Imports(control, folder), log, source_id, clock, room)
    exporting = make_exporting(settings, state, keys)
    context = place_context(settings, keys)
    book = Book(state, schedules, clock)
    return Runner(book, schedules, bringing, exporting, place_connectors(), context, journal.note)


def make_exporting(settings: Settings, state: State, keys: Keys) -> Exporting:
    """What makes files of people."""
    folder = Folder(settings.data)

    def basis_of(purpose: str) -> Basis | None:
        found = load(state).purposes.get(purpose)
        return None if found is None else found.basis

    secret = required_secret(keys, INSTALLATION_SECRET)
    asking = AskingNow(folder.socket)
    return Exporting(asking, make_gate(keys), basis_of, lambda: state.offset()[0], secret, folder.extracts, folder.exported)


def place_context(settings: Settings, keys: Keys) -> PlaceContext:
    """What places are opened with. Secrets are those of ``PUT /api/secrets/NAME``."""
    return PlaceContext(
        root=settings.files,
        networks=settings.allow_private,
        secret=lambda name: keys.secret(source_secret(name)),
        clock=clock,
        scratch=Folder(settings.data).extracts,
    )


if __name__ == "__main__":
    run_scheduler(settings_of_role("scheduler"))
