"""Running a scheduled import: every new file of a place becomes an import, exactly once, however often this is killed.

Which files were taken is kept by name and content hash, before their imports begin; a message id is made from the content,
so that even a file that is taken twice would change nothing.
"""

from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal

import msgspec

from conosco.connectors.place import Entry, Place, PlaceFailed
from conosco.model.command import BeginImport
from conosco.model.definition import ScheduledImport
from conosco.model.importing import ENDED, ImportAsked, ImportRun, Uploaded
from conosco.model.moment import MINUTE, parse_duration
from conosco.model.record import Draft
from conosco.model.scheduled import ImportSpec, Run, RunFile
from conosco.ports.log import Log
from conosco.runtime.bootstrap import random_id
from conosco.runtime.imports.asking import begin_import, how_of, imported_otherwise
from conosco.runtime.imports.records import Imports
from conosco.runtime.schedules.book import import_spec
from conosco.runtime.schedules.records import Named, Schedules, Taken

FILES_PER_RUN: Final = 100
# Some places tell the time of a change in whole minutes: what changed so recently may change again under the same version.
VERSION_SETTLES: Final = 2 * MINUTE


class Bringing:
    """Brings the files of places into imports, and finishes what their imports' ends allow."""

    def __init__(
        self,
        schedules: Schedules,
        imports: Imports,
        log: Log,
        source_id: Callable[[str], str],
        clock: Callable[[], int],
        room: Callable[[], int],
    ) -> None:
        """``source_id`` gives the id of an active source by key, or ""; ``room`` how large a file may be."""
        self._schedules = schedules
        self._imports = imports
        self._log = log
        self._source_id = source_id
        self._clock = clock
        self._room = room

    def begin(self, run: Run, made: ScheduledImport, place: Place) -> Run:
        """Take every new file. Raises PlaceFailed if the place cannot be listed; trouble with a file is the file's."""
        spec, now = import_spec(made), self._clock()
        min_age = parse_duration(spec.min_age) or 0
        waiting = unchanged = 0
        files = [file for file in run.files if file.import_id]
        known = {file.name for file in files}
        for entry in place.list():
            if not fnmatchcase(entry.name, spec.pattern) or entry.name in known:
                continue
            if entry.changed_at > now - min_age or len(files) >= FILES_PER_RUN:
                waiting += 1
                continue
            file = self._bring(made, spec, entry, place)
            if file is None:
                unchanged += 1
                continue
            files.append(file)
            if not file.import_id:
                continue
            run = msgspec.structs.replace(run, files=tuple(files))
            self._schedules.put(run)
        return msgspec.structs.replace(run, files=tuple(files), waiting=waiting, unchanged=unchanged)

    def _bring(self, made: ScheduledImport, spec: ImportSpec, entry: Entry, place: Place) -> RunFile | None:
        """Take one file; None if it was taken before."""
        named = self._schedules.named(made.id, entry.name)
        if named is not None and named.is_settled and named.version == entry.version:
            taken = self._schedules.taken(made.id, entry.name, named.digest)
            if taken is not None and not self._wants_again(taken, made):
                return self._leftover(made, spec, entry, named.digest, taken, place)
        upload = random_id("upl")
        path = self._imports.path_of(upload)
        try:
            digest = place.get(entry.name, path, self._room())
        except PlaceFailed as failed:
            return RunFile(name=entry.name, bytes=entry.bytes, status="failed", problem=failed.code, problem_params=failed.params)
        is_settled = entry.changed_at < self._clock() - VERSION_SETTLES
        self._schedules.name(made.id, entry.name, Named(version=entry.version, digest=digest, is_settled=is_settled))
        taken = self._schedules.taken(made.id, entry.name, digest)
        if taken is not None and not self._wants_again(taken, made):
            path.unlink()
            return self._leftover(made, spec, entry, digest, taken, place)
        uploaded = Uploaded(upload=upload, name=entry.name, bytes=path.stat().st_size, digest=digest, created_at=self._clock())
        return self._take(made, spec, uploaded, taken, path)

    def _leftover(
        self, made: ScheduledImport, spec: ImportSpec, entry: Entry, digest: str, taken: Taken, place: Place
    ) -> RunFile | None:
        """A file that was taken before is let be, unless it should have been moved or deleted and was not."""
        if spec.after == "leave" or taken.status != "done":
            return None
        left = RunFile(name=entry.name, bytes=entry.bytes, digest=digest, status="done")
        found = self._after(made, spec, left, entry.version, place)
        return None if found is left else found

    def _wants_again(self, taken: Taken, made: ScheduledImport) -> bool:
        """A file whose import never came to be begun, or failed under an older version of the definition, is taken again."""
        if taken.status == "importing":
            return self._imports.get(taken.import_id) is None
        return taken.status == "failed" and taken.version != made.version

    def _take(self, made: ScheduledImport, spec: ImportSpec, file: Uploaded, taken: Taken | None, path: Path) -> RunFile:
        """Begin its import, after it is known which one that will be."""
        found = RunFile(name=file.name, bytes=file.bytes, digest=file.digest)
        source_id, how = self._source_id(made.source), how_of(spec.mapping, spec.format, spec.key)
        other = imported_otherwise(self._imports.all(), source_id, file.digest, how)
        problem = "source_gone" if not source_id else "imported_otherwise" if other else ""
        import_id = taken.import_id if taken is not None and taken.status == "importing" else random_id("imp")
        now = self._clock()
        if problem:
            path.unlink()
            failed = Taken(import_id="", version=made.version, taken_at=now, status="failed", problem=problem)
            self._schedules.take(made.id, file.name, file.digest, failed)
            params: dict[str, str | int] = {"key": made.source, "ref": other}
            return msgspec.structs.replace(found, status="failed", problem=problem, problem_params=params)
        self._schedules.take(made.id, file.name, file.digest, Taken(import_id=import_id, version=made.version, taken_at=now))
        self._imports.keep_upload(file)
        asked = ImportAsked(
            upload=file.upload,
            name=f"{made.key}: {file.name}",
            source=made.source,
            basis=made.basis,
            note=made.note,
            mapping=spec.mapping,
            format=spec.format,
            key=spec.key,
        )
        run = ImportRun(
            import_id=import_id,
            asked=asked,
            source_id=source_id,
            file_name=file.name,
            file_digest=file.digest,
            file_bytes=file.bytes,
            mapping_digest=how,
            created_at=now,
        )
        self._imports.put(begin_import(run, self._append))
        return msgspec.structs.replace(found, import_id=import_id, status="waiting")

    def _append(self, command: BeginImport) -> int:
        return self._log.append([Draft(kind="control", slices=(msgspec.json.encode(command),))])[-1].position

    # Ending.

    def is_ready(self, run: Run) -> bool:
        """Whether every import of the run has ended."""
        found = (self._imports.get(file.import_id) for file in run.files if file.import_id)
        return all(each is None or each.status in ENDED for each in found)

    def end(self, run: Run, made: ScheduledImport, place: Place) -> Run:
        """Tell what became of each file, and do with it what is to be done after. The run is done, or failed if any file did."""
        spec = import_spec(made)
        versions: dict[str, str] | None = None
        files: list[RunFile] = []
        for known in run.files:
            file = known
            if known.import_id:
                file = self._told(made, known)
                if file.status == "done" and spec.after != "leave":
                    if versions is None:
                        versions = {entry.name: entry.version for entry in place.list()}
                    file = self._after(made, spec, file, versions.get(file.name), place)
            files.append(file)
        failed = next((file for file in files if file.problem), None)
        return msgspec.structs.replace(
            run,
            files=tuple(files),
            status="failed" if failed else "done",
            problem=failed.problem if failed else "",
            problem_params=failed.problem_params if failed else {},
            rows=sum(file.accepted for file in files),
            ended_at=self._clock(),
        )

    def _told(self, made: ScheduledImport, file: RunFile) -> RunFile:
        found = self._imports.get(file.import_id)
        if found is None:
            return msgspec.structs.replace(
                file, status="failed", problem="not_found", problem_params={"kind": "import", "ref": file.import_id}
            )
        status: Literal["done", "failed"] = "done" if found.status == "done" else "failed"
        taken = Taken(
            import_id=file.import_id, version=made.version, taken_at=found.created_at, status=status, problem=found.problem
        )
        self._schedules.take(made.id, file.name, file.digest, taken)
        problem = found.problem or ("" if status == "done" else "import_has_ended")
        params = found.problem_params or ({"state": found.status} if problem else {})
        return msgspec.structs.replace(
            file,
            status=found.status,
            accepted=found.accepted,
            rejected=found.rejected,
            problem=problem,
            problem_params=params,
        )

    def _after(self, made: ScheduledImport, spec: ImportSpec, file: RunFile, version: str | None, place: Place) -> RunFile:
        """Move or delete what was imported; a file that has changed since is another one, which stays for the next run."""
        named = self._schedules.named(made.id, file.name)
        if named is None or named.version != version or named.digest != file.digest:
            return file
        try:
            if spec.after == "move":
                place.move(file.name, spec.move_to, f"{file.digest[:12]}-{file.name}")
            else:
                place.delete(file.name)
        except PlaceFailed as failed:
            return msgspec.structs.replace(file, problem=failed.code, problem_params=failed.params)
        return msgspec.structs.replace(file, status="moved" if spec.after == "move" else "deleted")
