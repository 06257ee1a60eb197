"""`conosco source`: list sources, make one, and show what to copy so that its events arrive, and whether they do."""

from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote, urlsplit

import typer

from conosco.cli.client import Client, Failed, Unreachable
from conosco.cli.snippets import TITLES, snippets
from conosco.model.definition import SourceType
from conosco.runtime.bootstrap import Folder, open_keys
from conosco.runtime.settings import Settings

URL_DEFAULT: Final = "http://127.0.0.1:8000"
# The one source whose write key the data folder holds, because the first start made it; of others only a hash is kept.
FIRST: Final = "default"
UNKNOWN_KEY: Final = "WRITE_KEY"

app = typer.Typer(help="Where events come from: list sources, make one, show what to copy.", no_args_is_help=True)

Data = Annotated[Path | None, typer.Option(help="The data folder of an installation on this machine, which holds the token.")]
Url = Annotated[str, typer.Option(help="The address of the installation.")]
Token = Annotated[str, typer.Option(help="The admin token, where the data folder is elsewhere.")]
Key = Annotated[str, typer.Argument(help="The key (or id) of the source.")]


@app.command("list")
def list_sources(data: Data = None, url: Url = URL_DEFAULT, token: Token = "") -> None:
    """All sources, one a line: key, type, state and name."""
    items = _ask(_client(data, url, token), "GET", "/api/sources?limit=10000")["items"]
    width = max((len(item["key"]) for item in items), default=0)
    for item in items:
        typer.echo(f"{item['key']:<{width}}  {item['type']:<7}  {item['state']:<8}  {_name(item)}")


@app.command("show")
def show_source(
    key: Key,
    data: Data = None,
    url: Url = URL_DEFAULT,
    token: Token = "",
    write_key: Annotated[str, typer.Option(help="The write key to fill in; it was told when the source was made.")] = "",
) -> None:
    """What to copy so that events arrive, and whether they do."""
    item = _ask(_client(data, url, token), "GET", f"/api/sources/{quote(key, safe='')}")
    if not write_key and data is not None and item["key"] == FIRST:
        write_key = (open_keys(Settings(data=data.absolute())).secret("write_key") or b"").decode()
    typer.echo(f"{item['key']}: {_name(item)} ({item['type']}, {item['state']})")
    _tell_events(item)
    if not write_key:
        typer.echo(
            f"Its write key was told once, when it was made; put it in place of {UNKNOWN_KEY}, or give it with --write-key."
        )
    _tell_snippets(item["type"], url, write_key or UNKNOWN_KEY)


@app.command("create")
def create_source(
    key: Annotated[str, typer.Argument(help="Its key: small letters, digits and underscores.")],
    name: Annotated[str, typer.Option(help="Its name, for people; the key if not given.")] = "",
    kind: Annotated[str, typer.Option("--type", help="Where it runs: browser, app or server.")] = "browser",
    region: Annotated[str, typer.Option(help="Where its data is.")] = "eu",
    data: Data = None,
    url: Url = URL_DEFAULT,
    token: Token = "",
) -> None:
    """Make a source, and show its write key and what to copy."""
    form = {"key": key, "name": name or key, "type": kind, "region": region}
    made = _ask(_client(data, url, token), "POST", "/api/sources", form)
    typer.echo(f"{made['key']}: made. Its write key is told only now; keep it:\n\n  {made['write_key']}")
    _tell_snippets(made["type"], url, made["write_key"])


def _tell_events(item: dict[str, Any]) -> None:
    counts = item["counts"]
    if item["first_event_at"] is None:
        typer.echo("No event has come yet.")
        return
    typer.echo(f"First event {item['first_event_at']}, newest {item['last_event_at']}.")
    told = ", ".join(f"{counts[name]} {name}" for name in ("applied", "duplicates", "quarantined", "erased") if counts[name])
    typer.echo(f"{counts['accepted']} accepted: {told}.")


def _tell_snippets(kind: SourceType, url: str, write_key: str) -> None:
    for name, text in snippets(kind, url.rstrip("/"), write_key).items():
        typer.echo(f"\n{TITLES[name]}:\n\n{text}")
    if kind == "server":
        typer.echo("\nThis key may join people, so keep it on servers. For pages make a source of type browser.")


def _client(data: Path | None, url: str, token: str) -> Client:
    address = urlsplit(url)
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise _say(f"{url} is no address. Give one such as {URL_DEFAULT} with --url.")
    if not token and data is not None:
        try:
            token = Folder(data).admin_token.read_text().strip()
        except OSError as error:
            raise _say(f"Cannot read the admin token in {data}: {error.strerror}. Choose the folder with --data.") from None
    if not token:
        raise _say("Who are you? Give the data folder with --data, or the admin token with --token.")
    tls = address.scheme == "https"
    return Client(address.hostname, address.port or (443 if tls else 80), token, "", tls=tls)


def _ask(client: Client, method: str, path: str, body: Any = None) -> Any:
    try:
        return client.ask(method, path, body)
    except Unreachable as failed:
        raise _say(
            f"Nothing answers at that address ({failed}). Is `conosco serve` running? Give its address with --url."
        ) from None
    except Failed as failed:
        raise _say(str(failed)) from None


def _say(text: str) -> typer.Exit:
    typer.echo(text, err=True)
    return typer.Exit(1)


def _name(item: dict[str, Any]) -> str:
    name = item["name"]
    return str(name if isinstance(name, str) else name.get("en") or next(iter(name.values())))
