"""All desks together, as the API wants them."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from conosco.runtime.asking import Asking
from conosco.runtime.bootstrap import Folder, clock, open_archive, open_control, open_keys, open_log, open_state
from conosco.runtime.discover import place_connectors
from conosco.runtime.imports.records import Imports
from conosco.runtime.office.access import AccessDesk
from conosco.runtime.office.care import CareDesk, QuestionsDesk
from conosco.runtime.office.definitions import DefinitionsDesk
from conosco.runtime.office.history import History
from conosco.runtime.office.hooks import HooksDesk
from conosco.runtime.office.imports import ImportsDesk
from conosco.runtime.office.outgoing import OutgoingDesk
from conosco.runtime.office.people import PeopleDesk
from conosco.runtime.office.progress import ProgressDesk
from conosco.runtime.office.reading import Reading
from conosco.runtime.office.schedules import SchedulesDesk
from conosco.runtime.office.segments import SegmentsDesk
from conosco.runtime.office.things import ThingsDesk
from conosco.runtime.reserve import reserve_check
from conosco.runtime.sender_lane import Connector
from conosco.runtime.settings import Settings

PROBE_BYTES: Final = 65_536


class Desks:
    """Implements ``web.office.Office`` for one process. ``close`` releases its files."""

    def __init__(self, settings: Settings, connectors: Mapping[str, Connector]) -> None:
        folder = Folder(settings.data)
        keys, self._control = open_keys(settings), open_control(settings)
        log, state = open_log(settings), open_state(settings)
        self.reading = Reading(log, state, Asking(folder.socket), keys, clock)
        history = History(self.reading)
        self._archive = open_archive(settings)
        self.access = AccessDesk(self._control, keys, clock)
        disk = probe(folder.data, reserve_check(folder.data, settings.disk_reserve_mb))
        self.progress = ProgressDesk(self.reading, disk, folder, self._archive, Imports(self._control, folder))
        self.schedules = SchedulesDesk(self.reading, self._control, settings, place_connectors())
        self.definitions = DefinitionsDesk(self.reading, connectors, self.schedules, files_allowed=settings.files is not None)
        self.segments = SegmentsDesk(self.reading, history)
        self.people = PeopleDesk(self.reading, history)
        self.things = ThingsDesk(self.reading, history, self.people)
        self.care = CareDesk(self.reading, history)
        self.hooks = HooksDesk(self.reading)
        self.outgoing = OutgoingDesk(self.reading, history, folder.sender_standing)
        self.questions = QuestionsDesk(history)
        self.imports = ImportsDesk(self.reading, self._control, settings)

    def close(self) -> None:
        """Release files."""
        self.schedules.close()
        self.imports.close()
        for door in (self.reading.state, self.reading.log, self._archive, self._control):
            door.close()


def probe(folder: Path, missing: Callable[[], int]) -> Callable[[], bool]:
    """A real durable write in the data folder: a full or read-only disk must turn readiness off, not wait for a request.

    So does a disk whose reserve is not whole (``missing`` says what it lacks), for then no event is taken.

    Each write goes to a new file: writing over an old one needs no room, so a full disk would not be seen.
    """

    def writes() -> bool:
        try:
            if missing():
                return False
            with TemporaryFile(dir=folder, prefix="probe-", buffering=0) as file:
                written = file.write(bytes(PROBE_BYTES))
                os.fsync(file.fileno())
                return written == PROBE_BYTES
        except OSError:
            return False

    return writes
