"""Runs what is due, one run of a definition at a time. Every step may be killed and is taken up again from what Control holds."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from conosco.connectors.place import Place, PlaceConnector, PlaceContext, PlaceFailed
from conosco.model.definition import Export, ScheduledImport
from conosco.model.problem import Refused
from conosco.model.scheduled import Run
from conosco.ports.warehouse import QueryFailed
from conosco.runtime.bootstrap import random_id
from conosco.runtime.schedules.book import Book, Scheduled, export_spec, import_spec
from conosco.runtime.schedules.bringing import Bringing
from conosco.runtime.schedules.exporting import Exporting
from conosco.runtime.schedules.records import Schedules

DETAIL_MAX: Final = 300


class Runner:
    """``step`` does what can be done now."""

    def __init__(
        self,
        book: Book,
        schedules: Schedules,
        bringing: Bringing,
        exporting: Exporting,
        connectors: Mapping[str, PlaceConnector],
        context: PlaceContext,
        note: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._book = book
        self._schedules = schedules
        self._bringing = bringing
        self._exporting = exporting
        self._connectors = connectors
        self._context = context
        self._note = note
        # Imports whose files have been looked for by this process; the others' runs were cut off in the middle.
        self._begun: set[str] = set()

    def step(self) -> bool:
        """Begin what is due and go on with what has begun; False if nothing is left to do or wait for."""
        running = {run.definition_id for run in self._schedules.open_runs()}
        for due in self._book.due():
            if due.definition.id not in running:
                made = due.definition
                run = Run(
                    run_id=random_id("run"),
                    definition_id=made.id,
                    key=made.key,
                    kind="import" if isinstance(made, ScheduledImport) else "export",
                    why=due.why,
                    started_at=self._context.clock(),
                )
                # First what is begun, then that it is no longer owed: a kill in between begins it anew, and never forgets it.
                self._schedules.put(run)
                self._book.begin(due)
                running.add(made.id)
        for run in self._schedules.open_runs():
            self._advance(run)
        return bool(self._schedules.open_runs() or self._book.due())

    def _advance(self, run: Run) -> None:
        made = self._book.definition(run.definition_id)
        try:
            if made is None:
                return self._end(run, "failed", "schedule_archived", {"key": run.key})
            run = self._run(run, made)
        except PlaceFailed as failed:
            return self._end(run, "failed", failed.code, failed.params)
        except QueryFailed as failed:
            return self._end(run, "failed", failed.code, failed.params)
        except Refused as refused:
            return self._end(run, "failed", refused.problems[0].code, refused.problems[0].params)
        except OSError as error:
            return self._end(run, "failed", "place_failed", {"detail": (error.strerror or str(error))[:DETAIL_MAX]})
        if run.status == "running":
            self._schedules.put(run)
        else:
            self._end(run, run.status, run.problem, run.problem_params)

    def _run(self, run: Run, made: Scheduled) -> Run:
        if isinstance(made, ScheduledImport):
            if run.run_id not in self._begun:
                with _Opened(self._open(import_spec(made).place)) as place:
                    run = self._bringing.begin(run, made, place)
                self._begun.add(run.run_id)
            if not self._bringing.is_ready(run):
                return run
            with _Opened(self._open(import_spec(made).place)) as place:
                return self._bringing.end(run, made, place)
        return self._export(run, made)

    def _export(self, run: Run, made: Export) -> Run:
        with _Opened(self._open(export_spec(made).place)) as place:
            return msgspec.structs.replace(self._exporting.run(run, made, place), status="done")

    def _open(self, spec: dict[str, Any]) -> Place:
        return open_place(self._connectors, spec, self._context)

    def _end(self, run: Run, status: Any, problem: str, params: dict[str, str | int]) -> None:
        run = msgspec.structs.replace(run, status=status, problem=problem, problem_params=params, ended_at=self._context.clock())
        self._schedules.put(run)
        facts = {"run": run.run_id, "key": run.key, "kind": run.kind, "files": len(run.files), "rows": run.rows}
        self._note("scheduled_run_ended", {**facts, "status": status, "problem": problem})


class _Opened:
    """A place that is closed on leaving."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __enter__(self) -> Place:
        return self._place

    def __exit__(self, *_: object) -> None:
        self._place.close()


def open_place(connectors: Mapping[str, PlaceConnector], spec: dict[str, Any], context: PlaceContext) -> Place:
    """Open the place of a spec. Raises PlaceFailed, and Refused if the spec is no longer valid."""
    connector = connectors.get(str(spec.get("type", "")))
    if connector is None:
        raise PlaceFailed("unknown_place_type", type=str(spec.get("type", ""))[:100], known=", ".join(sorted(connectors)))
    settings = connector.read_settings({name: value for name, value in spec.items() if name != "type"})
    return connector.open_place(settings, context)
