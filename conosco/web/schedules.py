"""Routes of scheduled imports and of exports: their definitions, their runs, and files of people."""

from litestar import Response, get, post, put
from litestar.params import JSONBody
from litestar.response import Stream

from conosco.model.answer import Page
from conosco.model.scheduled import RunAnswer, ScheduleAnswer
from conosco.web.access import Desks
from conosco.web.definitions import write_status, written_fields
from conosco.web.forms import (
    ExportAnswer,
    ExportFileForm,
    ExportForm,
    ScheduledImportAnswer,
    ScheduledImportForm,
    told,
)
from conosco.web.reading import LIMIT_DEFAULT, Cursor, InState, Limit, Ref


@get("/api/imports/schedules")
async def list_scheduled_imports(
    office: Desks, in_state: InState, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = ""
) -> Page[ScheduledImportAnswer]:
    """All scheduled imports, by key."""
    page = await office.definitions.list("import", cursor, limit)
    return Page(items=[ScheduledImportAnswer(**told(item, "import")) for item in page.items], next=page.next)


@get("/api/imports/schedules/{ref:str}")
async def read_scheduled_import(office: Desks, in_state: InState, ref: Ref) -> ScheduledImportAnswer:
    """A scheduled import, by id or key, with when it runs next and its last run."""
    found = await office.definitions.get("import", ref)
    return ScheduledImportAnswer(**told(found, "import", runs=await office.schedules.standing("import", ref)))


@post("/api/imports/schedules")
async def create_scheduled_import(office: Desks, data: JSONBody[ScheduledImportForm]) -> Response[ScheduledImportAnswer]:
    """Make a scheduled import."""
    written = await office.definitions.create(data.definition())
    answer = ScheduledImportAnswer(**written_fields(written, "import"))
    return Response(answer, status_code=write_status(written, 201))


@put("/api/imports/schedules/{ref:str}")
async def replace_scheduled_import(
    office: Desks, ref: Ref, data: JSONBody[ScheduledImportForm]
) -> Response[ScheduledImportAnswer]:
    """Replace a scheduled import by a new version, given whole; files that were taken stay taken."""
    written = await office.definitions.replace(ref, data.definition())
    return Response(ScheduledImportAnswer(**written_fields(written, "import")), status_code=write_status(written, 200))


@post("/api/imports/schedules/{ref:str}/run", status_code=202)
async def run_scheduled_import(office: Desks, ref: Ref) -> ScheduleAnswer:
    """Look for new files now."""
    return await office.schedules.run("import", ref)


@get("/api/imports/schedules/{ref:str}/runs")
async def list_runs_of_import(office: Desks, ref: Ref, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = "") -> Page[RunAnswer]:
    """The last hundred runs, newest first, with every file and what became of it."""
    return await office.schedules.runs("import", ref, cursor, limit)


@get("/api/exports")
async def list_exports(office: Desks, in_state: InState, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = "") -> Page[ExportAnswer]:
    """All exports, by key."""
    page = await office.definitions.list("export", cursor, limit)
    return Page(items=[ExportAnswer(**told(item, "export")) for item in page.items], next=page.next)


@get("/api/exports/{ref:str}")
async def read_export(office: Desks, in_state: InState, ref: Ref) -> ExportAnswer:
    """An export, by id or key, with when it runs next and its last run."""
    found = await office.definitions.get("export", ref)
    return ExportAnswer(**told(found, "export", runs=await office.schedules.standing("export", ref)))


@post("/api/exports")
async def create_export(office: Desks, data: JSONBody[ExportForm]) -> Response[ExportAnswer]:
    """Make an export."""
    written = await office.definitions.create(data.definition())
    return Response(ExportAnswer(**written_fields(written, "export")), status_code=write_status(written, 201))


@put("/api/exports/{ref:str}")
async def replace_export(office: Desks, ref: Ref, data: JSONBody[ExportForm]) -> Response[ExportAnswer]:
    """Replace an export by a new version, given whole."""
    written = await office.definitions.replace(ref, data.definition())
    return Response(ExportAnswer(**written_fields(written, "export")), status_code=write_status(written, 200))


@post("/api/exports/{ref:str}/run", status_code=202)
async def run_export(office: Desks, ref: Ref) -> ScheduleAnswer:
    """Make and put its file now."""
    return await office.schedules.run("export", ref)


@get("/api/exports/{ref:str}/runs")
async def list_runs_of_export(office: Desks, ref: Ref, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = "") -> Page[RunAnswer]:
    """The last hundred runs, newest first."""
    return await office.schedules.runs("export", ref, cursor, limit)


@get("/api/exports/{ref:str}/file", media_type="application/octet-stream")
async def read_export_file(office: Desks, ref: Ref) -> Stream:
    """The last file that was written, fetched from its place."""
    return _attachment(*await office.schedules.last_file(ref))


@post("/api/exports/file", status_code=200, media_type="application/octet-stream")
async def make_export_file(office: Desks, data: JSONBody[ExportFileForm]) -> Stream:
    """A file of people, made and answered at once; who may not be used for the purpose is left out."""
    return _attachment(*await office.schedules.file(data.definition()))


def _attachment(name: str, parts: object) -> Stream:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Stream(parts, media_type="application/octet-stream", headers=headers)  # type: ignore[arg-type]  # an iterator of bytes


SCHEDULE_ROUTES = (
    list_scheduled_imports,
    read_scheduled_import,
    create_scheduled_import,
    replace_scheduled_import,
    run_scheduled_import,
    list_runs_of_import,
    list_exports,
    read_export,
    create_export,
    replace_export,
    run_export,
    list_runs_of_export,
    read_export_file,
    make_export_file,
)
