"""The imports desk: uploads, previews, and imports from their asking to their undoing; the work is done by other processes."""

import asyncio
import contextlib
import csv
import hashlib
import io
import os
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import msgspec

from conosco.model.answer import Page
from conosco.model.definition import Source
from conosco.model.importing import ENDED, FilePreview, ImportAnswer, ImportAsked, ImportRun, PreviewAsked, Uploaded
from conosco.model.moment import spell_moment
from conosco.model.problem import Problem, Refused, refuse
from conosco.model.record import Draft
from conosco.ports.control import Control
from conosco.rules.mapping_parse import parse_event_mappings
from conosco.runtime.bootstrap import Folder, random_id
from conosco.runtime.imports.asking import begin_command, how_of, imported_otherwise
from conosco.runtime.imports.records import Imports
from conosco.runtime.imports.role_previewer import Wanted
from conosco.runtime.office.keeper import Keeper
from conosco.runtime.office.reading import Reading, cursor_of, read_cursor
from conosco.runtime.reserve import spare_bytes
from conosco.runtime.settings import Settings
from conosco.runtime.supervisor import command_of

PREVIEWS_AT_ONCE: Final = 2
PREVIEWS_KEPT: Final = 50
NOTE_CHARACTERS_MAX: Final = 1_000
_CHUNK: Final = 1 << 20
# What a spreadsheet would take for a formula; plain numbers may begin with a sign.
_FORMULA: Final = re.compile(r"[=+\-@\t\r]")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)*\Z")
_PREVIEW: Final = msgspec.json.Decoder(FilePreview)


class ImportsDesk:
    """Implements ``web.office.Imports``. It keeps the importer running while there is work for it; ``close`` ends that."""

    def __init__(self, reading: Reading, control: Control, settings: Settings) -> None:
        self._reading = reading
        self._settings = settings
        self._imports = Imports(control, Folder(settings.data))
        self._previews: OrderedDict[str, FilePreview] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._previewing = asyncio.Semaphore(PREVIEWS_AT_ONCE)
        self._starting = asyncio.Lock()
        self._keeper = Keeper("importer", lambda: self._imports.next() is not None, lambda: self._command("importer"))
        self._imports.sweep(reading.clock())

    def _command(self, role: str) -> list[str]:
        settings = self._settings
        return command_of(role, str(settings.data), settings.host, settings.port, os.getpid())

    # Uploads.

    async def upload(self, name: str, chunks: AsyncIterator[bytes]) -> Uploaded:
        """Keep a file as it comes. Refuses upload_too_large (413), disk_almost_full (507) and file_empty."""
        folder, upload = self._imports.folder, random_id("upl")
        folder.mkdir(mode=0o700, exist_ok=True)
        self._imports.sweep(self._reading.clock())
        room = spare_bytes(folder, self._settings.disk_reserve_mb)
        most = self._settings.upload_bytes_max
        digest, size = hashlib.sha256(), 0
        draft = folder / f"{upload}.part"
        try:
            with draft.open("wb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > most:
                        raise refuse("upload_too_large", status=413, limit=most)
                    if size > room:
                        raise refuse("disk_almost_full", status=507)
                    digest.update(chunk)
                    await asyncio.to_thread(file.write, chunk)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            if not size:
                raise refuse("file_empty")
            draft.rename(folder / upload)
        except OSError:
            raise refuse("disk_almost_full", status=507) from None
        finally:
            draft.unlink(missing_ok=True)
        kept = Uploaded(upload=upload, name=name[:200], bytes=size, digest=digest.hexdigest(), created_at=self._reading.clock())
        self._imports.keep_upload(kept)
        return kept

    def _file(self, upload: str, path: str) -> tuple[Path, str]:
        """(the file meant, its name). Refuses choose_upload_or_path, not_found, and path_not_allowed (403)."""
        if bool(upload) == bool(path):
            raise refuse("choose_upload_or_path", pointer="/upload")
        if upload:
            kept = self._imports.upload(upload)
            return self._imports.path_of(upload), kept.name
        real = Path(path).resolve()
        if not any(real.is_relative_to(folder.resolve()) for folder in self._settings.import_folders):
            raise refuse("path_not_allowed", status=403, pointer="/path")
        if not real.is_file():
            raise refuse("not_found", status=404, kind="file", ref=path[:200])
        return real, real.name

    # Previews.

    async def preview(self, asked: PreviewAsked, wait_ms: int) -> FilePreview:
        """Look through a file; what is known after ``wait_ms`` is answered, and the rest can be asked for by ``preview_id``."""
        path, name = self._file(asked.upload, asked.path)
        if asked.mapping:
            parse_event_mappings(asked.mapping, "/mapping")
        if self._previewing.locked():
            raise refuse("busy", status=503)
        preview_id = random_id("prv")
        self._keep(FilePreview(preview_id=preview_id))
        task = asyncio.create_task(self._run_preview(preview_id, Wanted(path=str(path), file_name=name, asked=asked)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait([task], timeout=wait_ms / 1_000)
        return self._told(preview_id)

    async def preview_again(self, preview_id: str) -> FilePreview:
        """How far a preview is. Refuses not_found (404)."""
        return self._told(preview_id)

    def _told(self, preview_id: str) -> FilePreview:
        found = self._previews.get(preview_id)
        if found is None:
            raise refuse("not_found", status=404, kind="preview", ref=preview_id[:100])
        if found.status == "failed":
            raise Refused(found.problems)
        return found

    def _keep(self, preview: FilePreview) -> None:
        self._previews[preview.preview_id] = preview
        while len(self._previews) > PREVIEWS_KEPT:
            self._previews.popitem(last=False)

    async def _run_preview(self, preview_id: str, wanted: Wanted) -> None:
        async with self._previewing:
            process = await asyncio.create_subprocess_exec(
                *self._command("previewer"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=64 << 20,
                start_new_session=True,
            )
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(msgspec.json.Encoder(decimal_format="number").encode(wanted))
                process.stdin.close()
                async for line in process.stdout:
                    self._keep(msgspec.structs.replace(_PREVIEW.decode(line), preview_id=preview_id))
            except (OSError, ValueError, msgspec.MsgspecError):
                pass
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            if self._previews[preview_id].status == "running":
                self._keep(FilePreview(preview_id=preview_id, status="failed", problems=(Problem(code="file_reading_failed"),)))

    # Imports.

    async def start(self, asked: ImportAsked) -> ImportAnswer:
        """Ask for an import; it waits for its turn. Refuses what is wrong in it, and imported_otherwise (409; ref)."""
        path, name = self._file(asked.upload, asked.path)
        source = self._reading.required("source", asked.source)
        assert isinstance(source, Source)
        if source.state != "active":
            raise refuse("not_found", status=404, kind="source", ref=asked.source[:100])
        if not asked.note.strip() or len(asked.note) > NOTE_CHARACTERS_MAX:
            raise refuse("note_missing", pointer="/note", limit=NOTE_CHARACTERS_MAX)
        if not asked.mapping:
            raise refuse("empty_list", pointer="/mapping")
        parse_event_mappings(asked.mapping, "/mapping")
        digest = self._imports.upload(asked.upload).digest if asked.upload else await asyncio.to_thread(_digest_of, path)
        how = how_of(asked.mapping, asked.format, asked.key)
        async with self._starting:
            if other := imported_otherwise(self._imports.all(), source.id, digest, how):
                raise refuse("imported_otherwise", status=409, ref=other)
            made = ImportRun(
                import_id=random_id("imp"),
                asked=asked,
                source_id=source.id,
                file_name=name,
                file_digest=digest,
                file_bytes=path.stat().st_size,
                mapping_digest=how,
                created_at=self._reading.clock(),
            )
            position = await self._reading.append([Draft(kind="control", slices=(msgspec.json.encode(begin_command(made)),))])
            made = msgspec.structs.replace(made, position_before=position, position_last=position)
            self._imports.put(made)
        self._keeper.wake()
        return self._answer(made)

    async def list(self, cursor: str, limit: int) -> Page[ImportAnswer]:
        """Imports, newest first."""
        skip: int = read_cursor(cursor, int) or 0
        runs = self._imports.all()
        items = [self._answer(run) for run in runs[skip : skip + limit]]
        return Page(items=items, next=cursor_of(skip + limit) if len(runs) > skip + limit else None)

    async def get(self, import_id: str) -> ImportAnswer:
        """One import. Refuses not_found (404)."""
        return self._answer(self._imports.required(import_id))

    async def cancel(self, import_id: str) -> ImportAnswer:
        """Stop an import; what is in the log stays, until it is undone. Refuses import_has_ended (409; status)."""
        run = self._imports.required(import_id)
        if run.status not in ("waiting", "running"):
            raise refuse("import_has_ended", status=409, state=run.status)
        self._imports.ask_cancel(import_id)
        self._keeper.wake()
        return self._answer(run)

    async def undo(self, import_id: str) -> ImportAnswer:
        """Take an import back. Refuses import_not_ended and import_has_ended (409; status)."""
        run = self._imports.required(import_id)
        if run.status not in ENDED:
            raise refuse("import_not_ended", status=409, state=run.status)
        if run.status == "undone":
            raise refuse("import_has_ended", status=409, state=run.status)
        run = msgspec.structs.replace(run, status="undoing", ended_at=None, undo_step="", undo_progress=0.0)
        self._imports.put(run)
        self._keeper.wake()
        return self._answer(run)

    async def rejected(self, import_id: str) -> Iterator[bytes]:
        """The rejected rows as CSV, with row number and reason before what stood in the file."""
        return _rejected_csv(self._imports, self._imports.required(import_id))

    def _answer(self, run: ImportRun) -> ImportAnswer:
        applied = 0
        if run.accepted and run.status != "undone":
            behind = self._behind(run)
            applied = max(0, run.accepted - behind)
        return ImportAnswer(
            import_id=run.import_id,
            name=run.asked.name or run.file_name,
            source=run.asked.source,
            basis=run.asked.basis,
            note=run.asked.note,
            status=run.status,
            file_name=run.file_name,
            file_bytes=run.file_bytes,
            file_digest=run.file_digest,
            rows_read=run.rows_read,
            rows_about=run.rows_about,
            accepted=run.accepted,
            rejected=run.rejected,
            applied=applied,
            position=run.position_last,
            created_at=spell_moment(run.created_at),
            ended_at=None if run.ended_at is None else spell_moment(run.ended_at),
            problem=run.problem,
            problem_params=run.problem_params,
            undo_step=run.undo_step,
            undo_progress=run.undo_progress,
        )

    def _behind(self, run: ImportRun) -> int:
        """How many events of the log, up to the import's last record, the worker has not reached."""
        log, position = self._reading.log, self._reading.state.offset()[0]
        if position >= run.position_last:
            return 0
        return log.count(max(position, run.position_before)) - log.count(run.position_last)

    def close(self) -> None:
        """End what this desk has started; the importer goes on with the next front."""
        for task in self._tasks:
            task.cancel()
        self._keeper.close()


def _digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _rejected_csv(imports: Imports, run: ImportRun) -> Iterator[bytes]:
    """Lines of CSV, each cell safe to open in a spreadsheet."""
    yield _line(["row", "reason", "details", *run.columns])
    for row in imports.rejected(run.import_id):
        details = "; ".join(f"{name}: {value}" for name, value in row.params.items() if value != "")
        yield _line([str(row.row), row.reason, details, *row.fields])


def _line(cells: list[str]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerow([safe_cell(cell) for cell in cells])
    return out.getvalue().encode()


def safe_cell(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula; whoever reads it as text sees one apostrophe more."""
    return "'" + cell if _FORMULA.match(cell) and not _NUMBER.match(cell) else cell
