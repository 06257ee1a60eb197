"""`conosco import`: a file in, shown first in plain words; `conosco import list`, and `conosco import undo ID` to take one back."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote, urlsplit

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from conosco.cli.client import Client, Failed
from conosco.cli.importing_words import count, tell_import, tell_preview
from conosco.cli.serve import Running, running_url
from conosco.runtime.settings import read_settings

POLL_S: Final = 0.2
ENDED: Final = frozenset({"done", "failed", "cancelled", "undone"})
BASES: Final = ("consent", "contract", "legitimate_interest", "legal_obligation")
_EXACT: Final = msgspec.json.Encoder(decimal_format="number")


def import_file(
    what: Annotated[
        str, typer.Argument(metavar="FILE | list | undo", help="A CSV, Excel, Parquet or JSON Lines file; or list, or undo.")
    ],
    ref: Annotated[str, typer.Argument(metavar="[ID]", help="The import to undo.")] = "",
    data: Annotated[
        Path | None, typer.Option(help="The folder of an installation on this machine; it need not be running.")
    ] = None,
    url: Annotated[str, typer.Option(help="The address of an installation elsewhere, with --token.")] = "",
    token: Annotated[str, typer.Option(help="The administrator's token.", envvar="CONOSCO_ADMIN_TOKEN")] = "",
    source: Annotated[str, typer.Option(help="The key of the source that the rows come from.")] = "default",
    basis: Annotated[str, typer.Option(help=f"Why these data may be kept: {', '.join(BASES)}.")] = "",
    note: Annotated[str, typer.Option(help="The same in your own words.")] = "",
    name: Annotated[str, typer.Option(help="A name for the import; the file's if left out.")] = "",
    mapping: Annotated[Path | None, typer.Option(help="A file with the mapping (JSON); else the suggested one is used.")] = None,
    write_mapping: Annotated[Path | None, typer.Option(help="Write the suggested mapping to this file and stop.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="A column that tells rows apart across files; may be repeated.")] = None,
    order: Annotated[
        list[str] | None, typer.Option(help="Date order of a column: COLUMN=dmy, mdy or ymd; may be repeated.")
    ] = None,
    decimal: Annotated[
        list[str] | None, typer.Option(help="Decimal mark of a column: COLUMN=, or COLUMN=. ; may be repeated.")
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="A column to take as text; may be repeated.")] = None,
    encoding: Annotated[str, typer.Option(help="The encoding, if it is not found.")] = "",
    sheet: Annotated[str, typer.Option(help="The sheet of a workbook; the first if left out.")] = "",
    zone: Annotated[str, typer.Option(help="The time zone of times without one, such as Europe/Rome; UTC if left out.")] = "",
    rejected: Annotated[Path | None, typer.Option(help="Where to write the rejected rows as CSV.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would happen and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before importing.")] = False,
) -> None:
    """Import a file after showing what it would do, list imports, or undo one."""
    with fails_in_words(), connected(data, url, token) as client:
        if what == "list" and not ref:
            _list(client)
        elif what == "undo":
            _undo(client, ref)
        else:
            path = Path(what)
            if not path.is_file():
                raise Failed(f"There is no file {what}. The command takes a file, or list, or undo ID.")
            form = _format(order, decimal, text, encoding, sheet, zone)
            asked = {"source": source, "format": form, "key": key or []}
            wanted = _Wanted(path, asked, mapping, write_mapping, rejected, dry_run, yes)
            wanted.run(client, {"basis": basis, "note": note, "name": name})


@contextlib.contextmanager
def fails_in_words() -> Iterator[None]:
    """What fails is told as a sentence."""
    try:
        yield
    except Failed as failed:
        typer.echo(str(failed), err=True)
        raise typer.Exit(1) from None


@contextlib.contextmanager
def connected(data: Path | None, url: str, token: str) -> Iterator[Client]:
    """A client of the server that was named, or of a folder: of the server that runs on it, else of one that runs meanwhile."""
    if url:
        if not token:
            raise Failed("--url needs --token (or CONOSCO_ADMIN_TOKEN).")
        yield _client(url, token)
        return
    if data is None:
        raise Failed("Say where to: --data FOLDER for an installation on this machine, or --url and --token.")
    if not (data / "admin-token").is_file():
        raise Failed(f"{data} is no folder of an installation: `conosco serve --data {data}` makes one.")
    known = (data / "admin-token").read_text().strip()
    address = running_url(data)
    if address:
        yield _client(address, known)
        return
    settings = read_settings(data.absolute(), "127.0.0.1", _free_port())
    with Running(settings, journal=data / "import-journal.log") as running:
        yield _client(running.url, known)


def _client(url: str, token: str) -> Client:
    parts = urlsplit(url)
    if parts.hostname is None:
        raise Failed(f"{url} is no address such as http://127.0.0.1:8000.")
    return Client(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), token, "", tls=parts.scheme == "https")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _format(
    order: list[str] | None, decimal: list[str] | None, text: list[str] | None, encoding: str, sheet: str, zone: str
) -> dict[str, Any]:
    columns: list[dict[str, str]] = [{"name": name, "type": "text"} for name in text or []]
    for given, kind, member in ((order, "moment", "order"), (decimal, "number", "decimal")):
        for each in given or []:
            name, equals, value = each.rpartition("=")
            if not equals or value not in ("dmy", "mdy", "ymd", ",", "."):
                raise Failed(f"“{each}” must be COLUMN=VALUE, such as Date=dmy or Price=,")
            extra = {"thousands": "." if value == "," else ","} if kind == "number" else {}
            columns.append({"name": name, "type": kind, member: value, **extra})
    return {"encoding": encoding, "sheet": sheet, "zone": zone, "columns": columns}


class _Wanted:
    """One file to import."""

    def __init__(
        self,
        path: Path,
        asked: dict[str, Any],
        mapping: Path | None,
        write_mapping: Path | None,
        rejected: Path | None,
        dry_run: bool,
        yes: bool,
    ) -> None:
        self._path = path
        self._asked = asked
        self._mapping = mapping
        self._write_mapping = write_mapping
        self._rejected = rejected
        self._dry_run = dry_run
        self._yes = yes

    def run(self, client: Client, why: dict[str, str]) -> None:
        """Send it, show what it would do, and import it if that is wanted."""
        if not self._dry_run and self._write_mapping is None and (why["basis"] not in BASES or not why["note"]):
            raise Failed(
                f"Say why these data may be kept: --basis, one of {', '.join(BASES)}, and --note in your own words. "
                "Only --dry-run and --write-mapping need neither."
            )
        given = [] if self._mapping is None else _read_mapping(self._mapping)
        upload = self._send(client)
        asked = {**self._asked, "upload": upload}
        preview = self._preview(client, {**asked, "mapping": given})
        if self._write_mapping is not None:
            self._write_mapping.write_bytes(msgspec.json.format(_EXACT.encode(preview["suggested_mapping"]), indent=2) + b"\n")
            typer.echo(
                f"The suggested mapping is in {self._write_mapping}. Edit it, then import with --mapping {self._write_mapping}."
            )
            return
        tell_preview(preview, self._path.name, typer.echo)
        if preview["description"]["questions"]:
            raise typer.Exit(1)
        if self._dry_run:
            typer.echo("Nothing was imported (--dry-run).")
            return
        if not preview["accepted"]:
            raise Failed(
                "No row would become an event, so nothing was imported. Mend the mapping: --write-mapping shows one to begin with."
            )
        if not self._yes and not typer.confirm("Import it?"):
            raise typer.Exit(1)
        self._import(client, {**asked, "mapping": preview["mapping"], **why}, preview["rows_read"])

    def _send(self, client: Client) -> str:
        size = self._path.stat().st_size
        with _bar("sending", size) as advance, self._path.open("rb") as file:
            answer = client.send(f"/api/uploads?name={quote(self._path.name)}", file, size, advance)
        return str(answer["upload"])

    def _preview(self, client: Client, asked: dict[str, Any]) -> Any:
        preview = client.ask("POST", "/api/imports/preview", asked)
        about = (preview.get("description") or {}).get("rows_about", 0)
        with _bar("reading", about or None) as advance:
            while preview["status"] == "running":
                time.sleep(POLL_S)
                preview = client.ask("GET", f"/api/imports/preview/{preview['preview_id']}")
                advance(preview["rows_read"])
        return preview

    def _import(self, client: Client, asked: dict[str, Any], rows: int) -> None:
        made = client.ask("POST", "/api/imports", asked)
        import_id = made["import_id"]
        with _bar("importing", rows * 2) as advance:
            while made["status"] not in ENDED or (made["status"] == "done" and made["applied"] < made["accepted"]):
                time.sleep(POLL_S)
                made = client.ask("GET", f"/api/imports/{import_id}")
                advance(made["rows_read"] + made["applied"])
        tell_import(made, typer.echo)
        if self._rejected is not None and made["rejected"]:
            self._rejected.write_bytes(client.fetch(f"/api/imports/{import_id}/rejected"))
            typer.echo(f"The rejected rows are in {self._rejected}.")
        if made["status"] != "done":
            raise typer.Exit(1)
        typer.echo(f"To take it back: conosco import undo {import_id}")


def _read_mapping(path: Path) -> Any:
    try:
        found = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise Failed(f"The mapping {path} cannot be read: {error}") from None
    return found if isinstance(found, list) else [found]


def _list(client: Client) -> None:
    items = client.ask("GET", "/api/imports")["items"]
    if not items:
        typer.echo("Nothing has been imported yet.")
    for made in items:
        words = f"{count(made['accepted'], 'event')}, {count(made['rejected'], 'row')} rejected"
        typer.echo(f"{made['import_id']}  {made['created_at'][:16]}  {made['status']:<9}  {made['name']}: {words}")


def _undo(client: Client, ref: str) -> None:
    if not ref:
        raise Failed("Say which import to undo; `conosco import list` shows them.")
    made = client.ask("POST", f"/api/imports/{quote(ref)}/undo", {})
    with _bar("undoing", 1_000) as advance:
        while made["status"] == "undoing":
            time.sleep(POLL_S)
            made = client.ask("GET", f"/api/imports/{quote(ref)}")
            advance(int(made["undo_progress"] * 1_000))
    if made["status"] != "undone":
        raise Failed(f"It could not be undone: {made['problem'] or made['status']}.")
    typer.echo(
        f"{made['name']} is undone: {count(made['accepted'], 'event')} erased, and everything is as if they had never come."
    )


@contextlib.contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar; what is yielded sets how far it is."""
    console = Console(stderr=True)
    with Progress(TextColumn(what), BarColumn(), TaskProgressColumn(), console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
