"""The book of schedules: which definitions are due now, and when each is due next. The clock comes from outside."""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import msgspec

from conosco.model.definition import Definition, Export, ScheduledImport, read_definition
from conosco.model.schedule import Schedule, next_due
from conosco.model.scheduled import ExportSpec, ImportSpec, Standing
from conosco.ports.state import State
from conosco.ports.tables import DEFINITIONS, decode_row
from conosco.runtime.schedules.records import Schedules

Scheduled = ScheduledImport | Export
KINDS: Final = ("export", "import")
DEFINITIONS_MAX: Final = 10_000


class Due(NamedTuple):
    """A definition that is to run now, and why."""

    definition: Scheduled
    why: Literal["schedule", "asked"]


class Book:
    """Reads definitions from State and how they stand from Control."""

    def __init__(self, state: State, schedules: Schedules, clock: Callable[[], int]) -> None:
        self._state = state
        self._schedules = schedules
        self._clock = clock

    def definitions(self) -> list[Scheduled]:
        """Active scheduled imports and exports."""
        found: list[Scheduled] = []
        for kind in KINDS:
            for _, raw in self._state.scan(DEFINITIONS, (kind,), (kind + "\x00",), DEFINITIONS_MAX):
                made: Definition = read_definition(decode_row(DEFINITIONS, raw).body)
                if isinstance(made, ScheduledImport | Export) and made.state == "active":
                    found.append(made)
        return found

    def definition(self, definition_id: str) -> Scheduled | None:
        """An active one by its id."""
        return next((made for made in self.definitions() if made.id == definition_id), None)

    def due(self) -> list[Due]:
        """What is to run now. What was missed while nothing ran is due once."""
        now, found = self._clock(), list[Due]()
        for made in self.definitions():
            if self._schedules.is_asked(made.id):
                found.append(Due(made, "asked"))
            elif (at := self.next_at(made)) is not None and at <= now:
                found.append(Due(made, "schedule"))
        return found

    def next_at(self, made: Scheduled) -> int | None:
        """When it is due next, which may be past; None without a schedule."""
        schedule = schedule_of(made)
        return None if schedule is None else next_due(schedule, self._standing(made).since)

    def begin(self, due: Due) -> None:
        """It runs now: nothing up to now is owed any more. A schedule that was due is served by a run that was asked for."""
        self._schedules.stand(due.definition.id, Standing(version=due.definition.version, since=self._clock()))
        self._schedules.take_asked(due.definition.id)

    def _standing(self, made: Scheduled) -> Standing:
        """How it stands; a version that was never seen owes nothing of before."""
        known = self._schedules.standing(made.id)
        if known is None or known.version != made.version:
            known = Standing(version=made.version, since=self._clock())
            self._schedules.stand(made.id, known)
        return known


def import_spec(made: ScheduledImport) -> ImportSpec:
    """The spec of a scheduled import, which was checked when it was written."""
    return msgspec.convert(made.spec, ImportSpec)


def export_spec(made: Export) -> ExportSpec:
    """The spec of an export, which was checked when it was written."""
    return msgspec.convert(made.spec, ExportSpec)


def schedule_of(made: Scheduled) -> Schedule | None:
    """When it is to run."""
    return import_spec(made).schedule if isinstance(made, ScheduledImport) else export_spec(made).schedule
