"""The schedules desk: what scheduled imports and exports are, when they run and what became of them; and one file at once.

The work is done by a process of its own, which this desk keeps running while anything is due.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from conosco.connectors.place import CHUNK, PlaceConnector, PlaceFailed
from conosco.connectors.settings import convert_settings
from conosco.model.answer import Page
from conosco.model.definition import Export, ScheduledImport
from conosco.model.moment import spell_moment
from conosco.model.problem import Problem, Refused, refuse
from conosco.model.scheduled import ExportSpec, ImportSpec, Run, RunAnswer, ScheduleAnswer
from conosco.ports.control import Control
from conosco.ports.warehouse import QueryFailed
from conosco.rules.mapping_parse import parse_event_mappings
from conosco.runtime.bootstrap import make_private_folder, open_control, open_state, random_id
from conosco.runtime.configuration import Configuration
from conosco.runtime.office.keeper import Keeper
from conosco.runtime.office.reading import Reading, cursor_of, read_cursor
from conosco.runtime.schedules.book import Book, Scheduled
from conosco.runtime.schedules.exporting import Made
from conosco.runtime.schedules.records import Schedules
from conosco.runtime.schedules.role_scheduler import make_exporting, place_context
from conosco.runtime.schedules.running import open_place
from conosco.runtime.settings import Settings
from conosco.runtime.supervisor import command_of

NOTE_CHARACTERS_MAX: Final = 1_000


class SchedulesDesk:
    """Implements ``web.office.Schedules``."""

    def __init__(self, reading: Reading, control: Control, settings: Settings, connectors: Mapping[str, PlaceConnector]) -> None:
        self._reading = reading
        self._settings = settings
        self._connectors = connectors
        self._schedules = Schedules(control)
        self._book = Book(reading.state, self._schedules, reading.clock)
        self._making = asyncio.Semaphore(1)
        self._own: Book | None = None
        self._keeper = Keeper("scheduler", self._has_work, self._command)

    def _command(self) -> list[str]:
        settings = self._settings
        return command_of("scheduler", str(settings.data), settings.host, settings.port, os.getpid())

    def _has_work(self) -> bool:
        """Asked from the keeper's thread, which reads by doors of its own."""
        if self._own is None:
            schedules = Schedules(open_control(self._settings))
            self._own = Book(open_state(self._settings), schedules, self._reading.clock)
        return bool(self._own.due() or self._schedules.open_runs())

    def _definition(self, kind: Any, ref: str) -> Scheduled:
        found = self._reading.required(kind, ref)
        assert isinstance(found, ScheduledImport | Export)
        return found

    async def standing(self, kind: Any, ref: str) -> ScheduleAnswer:
        """When it runs next, and its last run."""
        made = self._definition(kind, ref)
        runs = self._schedules.runs(made.id)
        at = self._book.next_at(made) if made.state == "active" else None
        return ScheduleAnswer(
            next_run_at=None if at is None else spell_moment(at),
            is_asked=self._schedules.is_asked(made.id),
            last_run=_told(runs[0]) if runs else None,
        )

    async def run(self, kind: Any, ref: str) -> ScheduleAnswer:
        """Ask for a run now."""
        made = self._definition(kind, ref)
        if made.state != "active":
            raise refuse("schedule_archived", status=409, key=made.key)
        self._schedules.ask(made.id)
        self._keeper.wake()
        return await self.standing(kind, ref)

    async def runs(self, kind: Any, ref: str, cursor: str, limit: int) -> Page[RunAnswer]:
        """Its runs, newest first."""
        skip: int = read_cursor(cursor, int) or 0
        runs = self._schedules.runs(self._definition(kind, ref).id)
        items = [_told(run) for run in runs[skip : skip + limit]]
        return Page(items=items, next=cursor_of(skip + limit) if len(runs) > skip + limit else None)

    async def last_file(self, ref: str) -> tuple[str, Iterator[bytes]]:
        """The last file of an export, fetched from its place: no copy of it is kept here."""
        made = self._definition("export", ref)
        assert isinstance(made, Export)
        file = next((run.files[0] for run in self._schedules.runs(made.id) if run.status == "done" and run.files), None)
        if file is None:
            raise refuse("not_found", status=404, kind="file", ref=made.key)
        path = self._scratch(random_id("ext"))
        context = place_context(self._settings, self._reading.keys)

        def fetch() -> None:
            place = open_place(self._connectors, made.spec["place"], context)
            try:
                place.get(file.name, path, file.bytes)
            finally:
                place.close()

        try:
            await asyncio.to_thread(fetch)
        except PlaceFailed as failed:
            raise Refused([Problem(code=failed.code, params=failed.params)], 502) from None
        return file.name, _read_away(path)

    async def file(self, export: Export) -> tuple[str, Iterator[bytes]]:
        """People as a file at once, without a place."""
        if problems := self.problems_of_export(export, with_place=False):
            raise Refused(problems)
        spec = msgspec.convert(export.spec, ExportSpec)
        exporting = make_exporting(self._settings, self._reading.state, self._reading.keys)
        if self._making.locked():
            raise refuse("busy", status=503)
        async with self._making:
            name = self._scratch(random_id("ext")).name
            try:
                made: Made = await asyncio.to_thread(exporting.make, export, spec, name)
            except QueryFailed as failed:
                raise Refused([Problem(code=failed.code, params=failed.params)], 503) from None
            except OSError as error:
                raise refuse("place_failed", status=503, detail=error.strerror or "") from None
        return f"{export.key}.{spec.format}", _read_away(made.path)

    def _scratch(self, name: str) -> Path:
        folder = self._settings.data / "extracts"
        make_private_folder(folder)
        return folder / name

    # What is wrong in a definition.

    def problems_of_import(self, made: ScheduledImport) -> Sequence[Problem]:
        """What is wrong in a scheduled import."""
        configuration, problems = self._reading.configuration(), list[Problem]()
        known = {source.key for source in configuration.sources.values()}
        if made.source not in known:
            params: dict[str, str | int] = {"source": made.source[:100], "known": ", ".join(sorted(known))}
            problems.append(Problem(code="unknown_source", params=params, pointer="/source"))
        if not made.note.strip() or len(made.note) > NOTE_CHARACTERS_MAX:
            problems.append(Problem(code="note_missing", params={"limit": NOTE_CHARACTERS_MAX}, pointer="/note"))
        try:
            spec = convert_settings(made.spec, ImportSpec, "schedule")
            parse_event_mappings(spec.mapping, "/spec/mapping")
        except Refused as refused:
            return [*problems, *refused.problems]
        return [*problems, *self._problems_of_place(spec.place)]

    def problems_of_export(self, made: Export, *, with_place: bool = True) -> Sequence[Problem]:
        """What is wrong in an export."""
        configuration, problems = self._reading.configuration(), list[Problem]()
        problems += _unknown_purpose(configuration, made.purpose)
        try:
            spec = convert_settings(made.spec, ExportSpec, "columns")
        except Refused as refused:
            return [*problems, *refused.problems]
        segment = configuration.definitions.get(("segment", spec.segment))
        if spec.segment and (segment is None or segment.state != "active"):
            params: dict[str, str | int] = {"kind": "segment", "ref": spec.segment[:100]}
            problems.append(Problem(code="not_found", params=params, pointer="/spec/segment"))
        if made.region != self._settings.region and not spec.leaves_region:
            params = {"region": made.region[:60], "home": self._settings.region}
            problems.append(Problem(code="leaves_region", params=params, pointer="/region"))
        return [*problems, *(self._problems_of_place(spec.place) if with_place else ())]

    def _problems_of_place(self, place: dict[str, Any]) -> Sequence[Problem]:
        connector = self._connectors.get(str(place.get("type", "")))
        if connector is None:
            params: dict[str, str | int] = {
                "type": str(place.get("type", ""))[:100],
                "known": ", ".join(sorted(self._connectors)),
            }
            return [Problem(code="unknown_place_type", params=params, pointer="/spec/place/type")]
        if connector.writes_files and self._settings.files is None:
            return [Problem(code="place_not_allowed", pointer="/spec/place/type")]
        try:
            connector.read_settings({name: value for name, value in place.items() if name != "type"})
        except Refused as refused:
            return [
                msgspec.structs.replace(problem, pointer=problem.pointer.replace("/spec", "/spec/place", 1))
                for problem in refused.problems
            ]
        return []

    def close(self) -> None:
        """End what this desk has started; the scheduler goes on with the next front."""
        self._keeper.close()


def _unknown_purpose(configuration: Configuration, key: str) -> list[Problem]:
    if key in configuration.purposes:
        return []
    params: dict[str, str | int] = {"purpose": key[:100], "known": ", ".join(sorted(configuration.purposes))}
    return [Problem(code="unknown_purpose", params=params, pointer="/purpose")]


def _told(run: Run) -> RunAnswer:
    return RunAnswer(
        run_id=run.run_id,
        why=run.why,
        started_at=spell_moment(run.started_at),
        ended_at=None if run.ended_at is None else spell_moment(run.ended_at),
        status=run.status,
        files=run.files,
        waiting=run.waiting,
        unchanged=run.unchanged,
        rows=run.rows,
        left_out=run.left_out,
        as_of=run.as_of,
        problem=run.problem,
        problem_params=run.problem_params,
    )


def _read_away(path: Path) -> Iterator[bytes]:
    """The bytes of a passing file, which is gone at once: what is open can still be read."""
    file = path.open("rb")
    path.unlink()
    return _parts(file)


def _parts(file: Any) -> Iterator[bytes]:
    with file:
        while part := file.read(CHUNK):
            yield part
