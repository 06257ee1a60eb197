"""Routes of files in: uploads, previews, imports, their rejected rows, and taking them back."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.params import JSONBody, QueryParameter
from litestar.response import Stream

from conosco.model.answer import Page
from conosco.model.importing import FilePreview, ImportAnswer, ImportAsked, PreviewAsked, Uploaded
from conosco.web.access import Desks
from conosco.web.reading import LIMIT_DEFAULT, WAIT_MS_MAX, Cursor, Limit, Ref

PREVIEW_WAIT_MS: Final = 5_000
FileName = Annotated[str, QueryParameter(max_length=200, description="The name of the file, for people to recognise it.")]
Patience = Annotated[
    int, QueryParameter(ge=0, le=WAIT_MS_MAX, description="How long to wait for the whole preview, in milliseconds.")
]


@post("/api/uploads", status_code=201, request_max_body_size=None)
async def upload_file(request: Request[Any, Any, Any], office: Desks, name: FileName = "file") -> Uploaded:
    """Send a file to import: its bytes are the body of the request."""
    return await office.imports.upload(name, request.stream())


@post("/api/imports/preview", status_code=200)
async def preview_import(
    office: Desks, data: JSONBody[PreviewAsked], wait_ms: Patience = PREVIEW_WAIT_MS
) -> Response[FilePreview]:
    """What an import would do: columns, events of the first rows, rejected rows, and who would be new, known or merged.

    202 while the file is still being read; ask again with its preview_id then.
    """
    return _preview_answer(await office.imports.preview(data, wait_ms))


@get("/api/imports/preview/{ref:str}")
async def read_preview(office: Desks, ref: Ref) -> Response[FilePreview]:
    """How far a preview is."""
    return _preview_answer(await office.imports.preview_again(ref))


def _preview_answer(preview: FilePreview) -> Response[FilePreview]:
    return Response(preview, status_code=202 if preview.status == "running" else 200)


@post("/api/imports", status_code=202)
async def start_import(office: Desks, data: JSONBody[ImportAsked]) -> ImportAnswer:
    """Import a file. It waits for its turn and then runs beside everything else, which goes first."""
    return await office.imports.start(data)


@get("/api/imports")
async def list_imports(office: Desks, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = "") -> Page[ImportAnswer]:
    """Imports, newest first."""
    return await office.imports.list(cursor, limit)


@get("/api/imports/{ref:str}")
async def read_import(office: Desks, ref: Ref) -> ImportAnswer:
    """One import and how far it is."""
    return await office.imports.get(ref)


@post("/api/imports/{ref:str}/cancel", status_code=202)
async def cancel_import(office: Desks, ref: Ref) -> ImportAnswer:
    """Stop an import where it is; what was imported stays until it is undone."""
    return await office.imports.cancel(ref)


@post("/api/imports/{ref:str}/undo", status_code=202)
async def undo_import(office: Desks, ref: Ref) -> ImportAnswer:
    """Take an import back: its events are erased, and everything is as if it had never been."""
    return await office.imports.undo(ref)


@get("/api/imports/{ref:str}/rejected", media_type="text/csv; charset=utf-8")
async def read_rejected(office: Desks, ref: Ref) -> Stream:
    """The rows that became no event, as CSV: row number, reason, and what stood in the file."""
    lines: Iterator[bytes] = await office.imports.rejected(ref)
    headers = {"content-disposition": 'attachment; filename="rejected.csv"'}
    return Stream(lines, media_type="text/csv; charset=utf-8", headers=headers)


IMPORT_ROUTES = (
    upload_file,
    preview_import,
    read_preview,
    start_import,
    list_imports,
    read_import,
    cancel_import,
    undo_import,
    read_rejected,
)
