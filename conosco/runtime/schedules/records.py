"""What is kept of schedules in Control: how each definition stands, its runs, and which files have been taken.

The front only asks for runs; everything else is written by the one process that runs them.
"""

from typing import Final, Literal

import msgspec

from conosco.model.scheduled import Run, Standing
from conosco.ports.control import Control

STANDING: Final = "schedule"
ASKED: Final = "schedule_asked"
RUN: Final = "schedule_run"
TAKEN: Final = "schedule_taken"
NAMED: Final = "schedule_named"
RUNS_KEPT: Final = 100
_RUN: Final = msgspec.json.Decoder(Run)


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was taken: by which import, under which version of the definition, and what became of it.

    ``status`` is importing until the import has ended, then done or failed.
    """

    import_id: str
    version: int
    taken_at: int
    status: Literal["importing", "done", "failed"] = "importing"
    problem: str = ""


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """What a file of this name was when it was last fetched; ``is_settled`` if its version can tell it from a later one."""

    version: str
    digest: str
    is_settled: bool


class Schedules:
    """All of it, for one installation."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def standing(self, definition_id: str) -> Standing | None:
        """How a definition stands; None if it has never been looked at."""
        raw = self._control.get(STANDING, definition_id, 0)
        return None if raw is None else msgspec.json.decode(raw, type=Standing)

    def stand(self, definition_id: str, standing: Standing) -> None:
        """Keep how a definition stands."""
        self._control.put(STANDING, definition_id, msgspec.json.encode(standing))

    # Asking.

    def ask(self, definition_id: str) -> None:
        """Ask for a run now; asking twice before it begins is asking once."""
        self._control.put(ASKED, definition_id, b"")

    def is_asked(self, definition_id: str) -> bool:
        """Whether somebody asked and no run has begun since."""
        return self._control.get(ASKED, definition_id, 0) is not None

    def take_asked(self, definition_id: str) -> bool:
        """Whether somebody asked; it is taken by this."""
        return self._control.take(ASKED, definition_id, 0) is not None

    # Runs.

    def put(self, run: Run) -> None:
        """Keep a run; only the newest of a definition are kept."""
        self._control.put(RUN, _name_of(run), msgspec.json.encode(run))
        for old in self.runs(run.definition_id)[RUNS_KEPT:]:
            self._control.delete(RUN, _name_of(old))

    def runs(self, definition_id: str) -> list[Run]:
        """Runs of a definition, newest first."""
        rows = self._control.list(RUN, 0)
        return [_RUN.decode(raw) for name, raw in reversed(rows) if name.startswith(definition_id + " ")]

    def open_runs(self) -> list[Run]:
        """Runs that have begun and not ended, oldest first."""
        runs = [_RUN.decode(raw) for _, raw in self._control.list(RUN, 0)]
        return sorted((run for run in runs if run.status == "running"), key=lambda run: run.started_at)

    # Files.

    def taken(self, definition_id: str, name: str, digest: str) -> Taken | None:
        """What became of this very file."""
        raw = self._control.get(TAKEN, f"{definition_id} {digest} {name}", 0)
        return None if raw is None else msgspec.json.decode(raw, type=Taken)

    def take(self, definition_id: str, name: str, digest: str, taken: Taken) -> None:
        """Remember that this very file is, or was, taken."""
        self._control.put(TAKEN, f"{definition_id} {digest} {name}", msgspec.json.encode(taken))

    def named(self, definition_id: str, name: str) -> Named | None:
        """What a file of this name was when it was last fetched."""
        raw = self._control.get(NAMED, f"{definition_id} {name}", 0)
        return None if raw is None else msgspec.json.decode(raw, type=Named)

    def name(self, definition_id: str, name: str, named: Named) -> None:
        """Remember what a file of this name is."""
        self._control.put(NAMED, f"{definition_id} {name}", msgspec.json.encode(named))


def _name_of(run: Run) -> str:
    return f"{run.definition_id} {run.started_at:020d}"
