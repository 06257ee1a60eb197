"""`conosco export`: people of a segment, or everyone, as a file; who may not be used for the purpose is left out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from conosco.cli.client import Failed
from conosco.cli.importing import connected, fails_in_words

FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}


def export_people(
    segment: Annotated[str, typer.Argument(help="The key of a segment, or all.")],
    to: Annotated[Path, typer.Option("--to", help="The file to write: its ending is .csv, .jsonl or .parquet.")],
    purpose: Annotated[str, typer.Option(help="The key of the purpose that the people may be used for.")],
    data: Annotated[Path | None, typer.Option(help="The folder of an installation on this machine.")] = None,
    url: Annotated[str, typer.Option(help="The address of a server, instead of --data.")] = "",
    token: Annotated[str, typer.Option(help="The administrator's token, with --url.", envvar="CONOSCO_ADMIN_TOKEN")] = "",
    region: Annotated[str, typer.Option(help="Where the file goes.")] = "eu",
    identifier: Annotated[list[str] | None, typer.Option(help="A namespace, such as email; may be repeated.")] = None,
    trait: Annotated[list[str] | None, typer.Option(help="A trait, such as plan; may be repeated.")] = None,
) -> None:
    """Write people to a file: their profile ids, identifiers and traits."""
    with fails_in_words(), connected(data, url, token) as client:
        if to.suffix not in FORMATS:
            raise Failed(f"The name of the file must end with one of {', '.join(FORMATS)}; {to.name} does not.")
        columns: list[dict[str, Any]] = [{"kind": "profile_id"}]
        columns += [{"kind": "identifier", "name": name} for name in identifier or []]
        columns += [{"kind": "trait", "name": name} for name in trait or []]
        asked = {
            "segment": "" if segment == "all" else segment,
            "purpose": purpose,
            "region": region,
            "columns": columns,
            "format": FORMATS[to.suffix],
        }
        draft = to.with_name(f".{to.name}.new")
        try:
            with draft.open("wb") as file:
                client.fetch_into("/api/exports/file", asked, file)
            draft.replace(to)
        finally:
            draft.unlink(missing_ok=True)
        typer.echo(f"{to} is written. Who may not be used for {purpose} is not in it.")
