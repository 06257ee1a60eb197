"""Running an export: one consistent moment of the warehouse becomes one file in a place, with a manifest beside it.

It may be killed anywhere and is then run again from its start: the file has the same name, and appears whole or not at all.
"""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from conosco.connectors.place import Place, digest_of
from conosco.govern.gate import Gate
from conosco.model.definition import Basis, Export
from conosco.model.moment import EPOCH, spell_moment
from conosco.model.problem import refuse
from conosco.model.scheduled import ExportSpec, Run, RunFile
from conosco.runtime.asking import AskingNow
from conosco.runtime.schedules.book import export_spec
from conosco.runtime.schedules.people import Counts, Known, PeopleFile, question_of

EXTRACT_S: Final = 1_800.0
CAUGHT_UP_S: Final = 60.0


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A file of people that has been made here, and who is in it."""

    path: Path
    counts: Counts
    as_of: int
    now: bytes


class Exporting:
    """Makes files of people, and puts them into places."""

    def __init__(
        self,
        asking: AskingNow,
        gate: Gate,
        basis_of: Callable[[str], Basis | None],
        position: Callable[[], int],
        secret: bytes,
        folder: Path,
        kept: Path,
    ) -> None:
        """``folder`` is for passing files, ``kept`` for who was in the last file of each export."""
        self._asking = asking
        self._gate = gate
        self._basis_of = basis_of
        self._position = position
        self._secret = secret
        self._folder = folder
        self._kept = kept

    def make(self, export: Export, spec: ExportSpec, name: str) -> Made:
        """Make a file here. Raises Refused (unknown_purpose), QueryFailed, OSError."""
        basis = self._basis_of(export.purpose)
        if basis is None:
            raise refuse("unknown_purpose", purpose=export.purpose, known="")

        def allows(_profile_id: str) -> bool:
            # The gate keeps no consents of single people yet; once it does, it is told here whom it is asked about.
            return self._gate.ask(export.purpose, basis).allowed

        self._asking.wait(self._position(), CAUGHT_UP_S)
        extract, made = self._folder / f"{name}.extract", self._folder / name
        made.unlink(missing_ok=True)
        extract.unlink(missing_ok=True)
        try:
            extracted = self._asking.extract(*question_of(spec), extract.name, timeout_s=EXTRACT_S)
            writing = PeopleFile(spec, allows, self._secret, self._before(export, spec))
            writing.write(extract, made)
        finally:
            extract.unlink(missing_ok=True)
        return Made(path=made, counts=writing.counts, as_of=extracted.as_of, now=writing.now)

    def run(self, run: Run, export: Export, place: Place) -> Run:
        """Make the file and its manifest, and put them there. Raises as ``make``, and PlaceFailed."""
        spec = export_spec(export)
        made = self.make(export, spec, run.run_id)
        try:
            name = file_name(export.key, spec, run.started_at, made.as_of)
            file = RunFile(name=name, bytes=made.path.stat().st_size, digest=digest_of(made.path), status="written")
            place.put(made.path, name)
            made.path.write_bytes(msgspec.json.format(msgspec.json.encode(_manifest(export, spec, run, made, file)), indent=2))
            place.put(made.path, f"{name}.manifest.json")
        finally:
            made.path.unlink(missing_ok=True)
        if spec.content == "changes":
            self._keep(export, spec, made.now)
        return msgspec.structs.replace(run, files=(file,), rows=made.counts.rows, left_out=made.counts.left_out, as_of=made.as_of)

    def _before(self, export: Export, spec: ExportSpec) -> Known | None:
        """Who was in the last file, if changes are wanted: of another segment nobody was."""
        if spec.content != "changes":
            return None
        try:
            segment, _, hashes = (self._kept / export.id).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return Known(b"")
        return Known(hashes if segment == spec.segment.encode() else b"")

    def _keep(self, export: Export, spec: ExportSpec, now: bytes) -> None:
        fresh = self._kept / f"{export.id}.new"
        fresh.write_bytes(spec.segment.encode() + b"\n" + now)
        fresh.replace(self._kept / export.id)


def file_name(key: str, spec: ExportSpec, at: int, position: int) -> str:
    """The name of a file by its template; date and time are those of the schedule's zone."""
    zone = ZoneInfo(spec.schedule.zone if spec.schedule else "UTC")
    local = (EPOCH + timedelta(microseconds=at)).astimezone(zone)
    filled = {"key": key, "date": local.strftime("%Y-%m-%d"), "time": local.strftime("%H%M%S"), "position": str(position)}
    name = spec.file
    for part, text in filled.items():
        name = name.replace("{" + part + "}", text)
    return f"{name}.{spec.format}"


def _manifest(export: Export, spec: ExportSpec, run: Run, made: Made, file: RunFile) -> dict[str, Any]:
    return {
        "file": file.name,
        "bytes": file.bytes,
        "sha256": file.digest,
        "export": export.key,
        "segment": spec.segment,
        "purpose": export.purpose,
        "region": export.region,
        "content": spec.content,
        "columns": [column.title for column in spec.columns],
        "rows": made.counts.rows,
        "entered": made.counts.entered,
        "exited": made.counts.exited,
        "left_out": made.counts.left_out,
        "as_of": made.as_of,
        "run": run.run_id,
        "started_at": spell_moment(run.started_at),
    }
