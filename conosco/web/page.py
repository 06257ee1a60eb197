"""The start page: static files read once at start, and the one-time link that signs a browser in."""

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect

from conosco.model.problem import refuse
from conosco.web.access import Desks, DoorDependency, session_cookie

_TYPES: Final = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "json": "application/json",
    "svg": "image/svg+xml",
}


class StaticFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the page with its type and a tag of its bytes."""

    body: bytes
    media_type: str
    tag: str


def load_static() -> dict[str, StaticFile]:
    """Read all files of the page, by their path below /static/."""
    found: dict[str, StaticFile] = {}

    def walk(folder: Traversable, prefix: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                walk(entry, f"{prefix}{entry.name}/")
            elif media_type := _TYPES.get(entry.name.rpartition(".")[2]):
                body = entry.read_bytes()
                tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
                found[prefix + entry.name] = StaticFile(body=body, media_type=media_type, tag=tag)

    walk(files("conosco.web") / "static", "")
    return found


def _answer(request: Request[Any, Any, Any], file: StaticFile, status: int = 200) -> Response[bytes]:
    """The file, or 304 if the browser has these bytes already."""
    headers = {"ETag": file.tag, "Cache-Control": "no-cache"}
    if status == 200 and request.headers.get("if-none-match") == file.tag:
        return Response(b"", status_code=304, media_type=file.media_type, headers=headers)
    return Response(file.body, status_code=status, media_type=file.media_type, headers=headers)


@get("/", opt={"public": True}, include_in_schema=False)
async def show_page(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The page itself. It holds no data: what it shows it asks of the API, once signed in."""
    return _answer(request, request.app.state.static["page.html"])


@get("/static/{path:path}", opt={"public": True}, include_in_schema=False)
async def show_static(request: Request[Any, Any, Any], path: FromPath[str]) -> Response[bytes]:
    """A file of the page."""
    file = request.app.state.static.get(str(path).removeprefix("/"))
    if file is None:
        raise refuse("no_such_path", status=404, method="GET")
    return _answer(request, file)


@get("/sign-in", opt={"public": True}, include_in_schema=False)
async def sign_in(
    request: Request[Any, Any, Any], office: Desks, door: DoorDependency, code: FromQuery[str] = ""
) -> Redirect | Response[bytes]:
    """Sign a browser in by its one-time link; a link that is used up or too old shows the sign-in page again (401)."""
    if not await door.redeem(request, code):
        return _answer(request, request.app.state.static["page.html"], 401)
    session = await office.access.open_session()
    return Redirect("/", status_code=303, cookies=[session_cookie(request, session)])


PAGE_ROUTES = (show_page, show_static, sign_in)
