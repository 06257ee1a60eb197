"""`conosco demo`: a living shop. A year of real orders is sent through the tracking endpoint, then shoppers go on shopping."""

import time
from pathlib import Path
from random import Random
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from conosco.cli.client import Client, Failed
from conosco.cli.receiver import Receiver
from conosco.cli.sample import read_sample
from conosco.cli.serve import Running
from conosco.cli.shop import Shop, batches, history, open_shop, simulate
from conosco.cli.words import explain
from conosco.model.problem import Refused
from conosco.runtime.bootstrap import Folder, clock, open_keys
from conosco.runtime.settings import environment_with, read_settings

SEED: Final = 1
PACE_S: Final = 0.12
SETTLE_S: Final = 60.0
ORDER: Final = {"kind": "did", "event": "Order Completed"}
ATTRIBUTES: Final = (
    {
        "key": "revenue_total",
        "name": "Revenue so far",
        "spec": {"language": 1, "aggregate": "sum", "event": "Order Completed", "path": ["revenue"]},
    },
    {"key": "orders", "name": "Orders", "spec": {"language": 1, "aggregate": "count", "event": "Order Completed"}},
    {
        "key": "days_since_order",
        "name": "Days since the last order",
        "spec": {"language": 1, "aggregate": "days_since", "event": "Order Completed"},
    },
)
SEGMENTS: Final = (
    {
        "key": "best_customers",
        "name": {"en": "Best customers", "it": "Migliori clienti", "pl": "Najlepsi klienci", "pt": "Melhores clientes"},
        "where": {"kind": "attribute", "key": "revenue_total", "test": "at_least", "value": 5000},
    },
    {
        "key": "came_back",
        "name": {"en": "Bought again", "it": "Hanno ricomprato", "pl": "Kupili ponownie", "pt": "Voltaram a comprar"},
        "where": {**ORDER, "times": {"min": 2}, "within": "90d"},
    },
    {
        "key": "left_the_cart",
        "name": {"en": "Left a full cart", "it": "Carrello abbandonato", "pl": "Porzucony koszyk", "pt": "Carrinho abandonado"},
        "where": {
            "kind": "all",
            "of": [
                {"kind": "did", "event": "Product Added", "within": "1d"},
                {"kind": "not", "of": {**ORDER, "within": "1d"}},
            ],
        },
    },
    {
        "key": "gone_quiet",
        "name": {"en": "Gone quiet", "it": "Silenziosi da tempo", "pl": "Dawno nieaktywni", "pt": "Inativos há muito"},
        "where": {"kind": "all", "of": [ORDER, {"kind": "not", "of": {**ORDER, "within": "180d"}}]},
    },
    {
        "key": "abroad_with_email",
        "name": {
            "en": "Abroad, with e-mail",
            "it": "All'estero, con e-mail",
            "pl": "Za granicą, z e-mailem",
            "pt": "No estrangeiro, com e-mail",
        },
        "where": {
            "kind": "all",
            "of": [
                {"kind": "trait", "path": ["country"], "test": "is_not", "value": "GB"},
                {"kind": "identifier", "namespace": "email"},
            ],
        },
    },
)


def demo(
    data: Annotated[Path, typer.Option(help="Where the demo keeps its data; delete the folder to start over.")] = Path(
        "conosco-demo"
    ),
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65_535)] = 8000,
) -> None:
    """Start a living shop on this machine and show what Conosco makes of it."""
    console = Console()
    # The demo has a receiver of webhooks of its own, on this machine.
    environment = environment_with(CONOSCO_ALLOW_PRIVATE="127.0.0.0/8")
    try:
        settings = read_settings(data.absolute(), "127.0.0.1", port, environment)
    except Refused as refused:
        raise typer.Exit(explain(refused)) from None
    with Receiver() as receiver, Running(settings, environment, data.absolute() / "journal.log") as running:
        typer.echo(f"ready {running.url}")
        console.print(f"Open the start page, signed in by this one-time link: [bold]{running.sign_in_link()}[/bold]")
        token = Folder(settings.data).admin_token.read_text().strip()
        write_key = (open_keys(settings).secret("write_key") or b"").decode()
        client = Client(settings.host, settings.port, token, write_key)
        try:
            shop = open_shop(read_sample(), SEED)
            if client.ask("GET", "/api/status")["accepted"] == 0:
                _define(client, receiver.url)
                _fill(client, shop, console)
            else:
                _point(client, receiver.url)
            _tour(client, console)
            _live(client, shop, receiver, running, console)
        except Failed as failed:
            if not running.stopping:
                console.print(f"[red]The demo had to stop:[/red] {escape(str(failed))}")
                raise typer.Exit(1) from None


def _define(client: Client, url: str) -> None:
    for attribute in ATTRIBUTES:
        client.ask("POST", "/api/attributes", attribute)
    for segment in SEGMENTS:
        spec = {"language": 1, "where": segment["where"]}
        client.ask(
            "POST", "/api/segments", {"key": segment["key"], "name": segment["name"], "purpose": "operations", "spec": spec}
        )
    client.ask("POST", "/api/destinations", _destination(url))


def _point(client: Client, url: str) -> None:
    """The receiver listens on another port at each start."""
    client.ask("PUT", "/api/destinations/demo_receiver", _destination(url))


def _destination(url: str) -> dict[str, Any]:
    return {
        "key": "demo_receiver",
        "name": "The demo's own receiver",
        "purposes": ["operations"],
        "region": "eu",
        "type": "webhook",
        "spec": {"url": url, "allow_private": True, "events": ["segment.entered", "segment.exited"], "segments": "all"},
    }


def _fill(client: Client, shop: Shop, console: Console) -> None:
    """Send a year of orders through the real tracking endpoint, and wait until all of it is applied."""
    calls = history(shop, clock())
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TimeElapsedColumn(),
        console=console,
    ) as bar:
        sending = bar.add_task("a year of orders, sent  ", total=len(calls))
        applying = bar.add_task("profiles and segments   ", total=len(calls))
        for body in batches(calls, 250):
            answer = client.track(body)
            bar.update(sending, advance=len(answer["events"]))
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            status = client.ask("GET", "/api/status")
            done = status["applied"] + status["duplicates"] + status["quarantined"]
            bar.update(applying, completed=done)
            if done >= len(calls) and status["warehoused"] >= status["applied"]:
                return
            time.sleep(0.1)


def _tour(client: Client, console: Console) -> None:
    """What a newcomer wants to see first: how much there is, the segments in words, and one person with the reasons."""
    status = client.ask("GET", "/api/status")
    console.print(
        f"\n[bold]{status['accepted']:,}[/bold] events came in: {status['applied']:,} applied, "
        f"{status['duplicates']:,} recognised as duplicates, {status['quarantined']:,} set aside with a reason."
    )
    people = client.ask("POST", "/api/sql", {"sql": "select count(*) from profiles", "params": []})["rows"][0][0]
    console.print(f"They belong to [bold]{people:,}[/bold] people, matched across devices and sign-ins.\n")
    table = Table("segment", "people", "in words", title="Segments, live", title_justify="left")
    for segment in SEGMENTS:
        spec = {"spec": {"language": 1, "where": segment["where"]}}
        count = client.ask("POST", "/api/segments/preview", spec)["count"]
        members = client.ask("GET", f"/api/segments/{segment['key']}/members?limit=1")["items"]
        sentence = ""
        if members:
            sentence = client.ask("GET", f"/api/profiles/{members[0]['profile_id']}/explain?segment={segment['key']}")["sentence"]
        table.add_row(str(segment["key"]), f"{count:,}", sentence)
    console.print(table)
    members = client.ask("GET", "/api/segments/best_customers/members?limit=1")["items"]
    if members:
        _show_person(client, members[0]["profile_id"], console)


def _show_person(client: Client, profile_id: str, console: Console) -> None:
    profile = client.ask("GET", f"/api/profiles/{profile_id}")
    known = ", ".join(f"{each['namespace']} {each['value']}" for each in profile["identifiers"][:4])
    console.print(f"\n[bold]One person:[/bold] {profile_id}, known as {escape(known)}")
    why = client.ask("GET", f"/api/profiles/{profile_id}/explain?segment=best_customers")
    for condition in why["conditions"]:
        mark = "yes" if condition["met"] else "no"
        console.print(f"  in best_customers? {mark}: {escape(condition['condition'])} (has {escape(str(condition['value']))})")


def _live(client: Client, shop: Shop, receiver: Receiver, running: Running, console: Console) -> None:
    """Let shoppers go on until the demo is stopped; every webhook that arrives is shown."""
    console.print("\nShoppers go on shopping now; only what they do is delivered. Stop with Ctrl-C.")
    rng = Random()
    calls = simulate(shop, rng, clock)
    shown = 0
    while not running.stopping:
        for body in batches([next(calls)], 1):
            client.track(body)
        received = receiver.received
        for delivery in received[shown:]:
            verb = "entered" if delivery["type"] == "segment.entered" else "left"
            who = next(
                (each["value"] for each in delivery["identifiers"] if each["namespace"] == "user_id"), delivery["profile_id"]
            )
            console.print(f"  webhook: {escape(str(who))} {verb} {delivery['segment']} at {delivery['at']}")
        shown = len(received)
        time.sleep(PACE_S)
