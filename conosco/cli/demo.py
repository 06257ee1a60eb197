"""`conosco demo`: a living shop. A year of it is sent through the tracking endpoint, then people go on shopping."""

import time
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from conosco.cli.client import Client, Failed
from conosco.cli.receiver import Receiver
from conosco.cli.serve import Running
from conosco.cli.shop.definitions import ATTRIBUTES, SEGMENTS, SOURCES
from conosco.cli.shop.files import CRM, TICKETS, write_files
from conosco.cli.shop.messages import Message, Pen, SourceKey
from conosco.cli.shop.past import Past, Plan, batches, present
from conosco.cli.shop.truth import write_truth
from conosco.cli.words import explain
from conosco.model.moment import HOUR
from conosco.model.problem import Refused
from conosco.runtime.bootstrap import Folder, clock, open_keys
from conosco.runtime.settings import environment_with, read_settings

PACE_S: Final = 0.12
SETTLE_S: Final = 120.0
PEOPLE: Final = 400
FOLDER: Final = "shop"
# The segment of which one person is shown, with the reasons.
SHOWN: Final = "regulars"


class Memory(msgspec.Struct, kw_only=True):
    """What the demo must know when it is started again: which past it told, with which keys, and whether all of it."""

    plan: Plan
    write_keys: dict[SourceKey, str]
    told: bool = False


def demo(
    data: Annotated[Path, typer.Option(help="Where the demo keeps its data; delete the folder to start over.")] = Path(
        "conosco-demo"
    ),
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65_535)] = 8000,
    people: Annotated[int, typer.Option(help="How many people the shop has, at its first start.", min=50, max=50_000)] = PEOPLE,
    seed: Annotated[int, typer.Option(help="Another seed gives another shop, at its first start.", min=0)] = 1,
    truth: Annotated[
        Path | None, typer.Option(help="Write what is true of every event into this file: whose it is, what becomes of it.")
    ] = None,
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
        folder = settings.data / FOLDER
        try:
            memory = _remember(client, folder, Plan(end=clock() // HOUR * HOUR, seed=seed, people=people))
            _define(client, receiver.url)
            past = Past(memory.plan)
            messages = list(_truly(past, truth, folder))
            if not memory.told:
                _fill(client, messages, memory, console)
                memory.told = True
                _keep(folder, memory)
            _tour(client, folder, console)
            _live(client, past, memory, receiver, running, console)
        except Failed as failed:
            if not running.stopping:
                console.print(f"[red]The demo had to stop:[/red] {escape(str(failed))}")
                raise typer.Exit(1) from None
        except OSError as error:
            console.print(
                f"[red]The demo cannot write {escape(str(error.filename))}:[/red] {error.strerror}. Choose another place."
            )
            raise typer.Exit(1) from None


def _remember(client: Client, folder: Path, plan: Plan) -> Memory:
    """What an earlier start left behind; at the first one, sources are made and their keys kept, readable by the owner alone."""
    kept = folder / "demo.json"
    if kept.exists():
        return msgspec.json.decode(kept.read_bytes(), type=Memory)
    keys = {
        key: client.ask("POST", "/api/sources", {"key": key, "name": name, "type": kind, "region": "eu"})["write_key"]
        for key, (name, kind) in SOURCES.items()
    }
    memory = Memory(plan=plan, write_keys=keys)
    _keep(folder, memory)
    return memory


def _keep(folder: Path, memory: Memory) -> None:
    folder.mkdir(exist_ok=True, mode=0o700)
    (folder / "demo.json").write_bytes(msgspec.json.format(msgspec.json.encode(memory), indent=2))


def _truly(past: Past, truth: Path | None, folder: Path) -> Iterable[Message]:
    """The messages of the past; the files that go with them, and the truth if it is asked for, are written."""
    messages = list(past.messages())
    whose = write_files(folder, past.shop.people, messages, past.plan.seed)
    if truth is not None:
        write_truth(truth, messages, past.truth, past.shop.people, {CRM: whose})
    return messages


def _define(client: Client, url: str) -> None:
    """Set up what is not there yet. The receiver listens on another port at each start."""
    for path, wanted in (("/api/attributes", ATTRIBUTES), ("/api/segments", [_segment(each) for each in SEGMENTS])):
        there = {each["key"] for each in client.ask("GET", f"{path}?limit=1000")["items"]}
        for each in wanted:
            if each["key"] not in there:
                client.ask("POST", path, each)
    there = {each["key"] for each in client.ask("GET", "/api/destinations?limit=1000")["items"]}
    if "demo_receiver" in there:
        client.ask("PUT", "/api/destinations/demo_receiver", _destination(url))
    else:
        client.ask("POST", "/api/destinations", _destination(url))


def _segment(segment: dict[str, Any]) -> dict[str, Any]:
    spec = {"language": 1, "where": segment["where"]}
    return {"key": segment["key"], "name": segment["name"], "purpose": "operations", "spec": spec}


def _destination(url: str) -> dict[str, Any]:
    return {
        "key": "demo_receiver",
        "name": "The demo's own receiver",
        "purposes": ["operations"],
        "region": "eu",
        "type": "webhook",
        "spec": {"url": url, "allow_private": True, "events": ["segment.entered", "segment.exited"], "segments": "all"},
    }


def _fill(client: Client, messages: list[Message], memory: Memory, console: Console) -> None:
    """Send the past through the real tracking endpoint, each message with its source's key, and wait until all is applied."""
    before = client.ask("GET", "/api/status")["accepted"]
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TimeElapsedColumn(),
        console=console,
    ) as bar:
        sending = bar.add_task("a year of a shop, sent  ", total=len(messages))
        applying = bar.add_task("profiles and segments   ", total=len(messages))
        for source, body, count in batches(messages):
            client.track(body, memory.write_keys[source])
            bar.update(sending, advance=count)
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            status = client.ask("GET", "/api/status")
            done = status["applied"] + status["duplicates"] + status["quarantined"] - before
            bar.update(applying, completed=done)
            if done >= len(messages) and status["warehoused"] >= status["applied"]:
                return
            time.sleep(0.1)


def _tour(client: Client, folder: Path, console: Console) -> None:
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
    members = client.ask("GET", f"/api/segments/{SHOWN}/members?limit=1")["items"]
    if members:
        _show_person(client, members[0]["profile_id"], console)
    console.print(
        f"\nWhat came as files lies in {escape(str(folder))}: {CRM}, an export of the CRM, and {TICKETS}/, posts of the help desk."
    )


def _show_person(client: Client, profile_id: str, console: Console) -> None:
    profile = client.ask("GET", f"/api/profiles/{profile_id}")
    known = ", ".join(f"{each['namespace']} {each['value']}" for each in profile["identifiers"][:4])
    console.print(f"\n[bold]One person:[/bold] {profile_id}, known as {escape(known)}")
    why = client.ask("GET", f"/api/profiles/{profile_id}/explain?segment={SHOWN}")
    for condition in why["conditions"]:
        mark = "yes" if condition["met"] else "no"
        console.print(f"  in {SHOWN}? {mark}: {escape(condition['condition'])} (has {escape(str(condition['value']))})")


def _live(client: Client, past: Past, memory: Memory, receiver: Receiver, running: Running, console: Console) -> None:
    """Let people go on shopping until the demo is stopped; every webhook that arrives is shown."""
    console.print("\nPeople go on shopping now; only what they do is delivered. Stop with Ctrl-C.")
    rng, since = Random(), clock() // 1_000_000
    past.shop.go_live(Pen(f"live-{since:x}-", clock), rng, f"L{since:x}-")
    messages = present(past.shop, rng, clock)
    shown = 0
    while not running.stopping:
        for source, body, _ in batches([next(messages)], sent_at=clock()):
            client.track(body, memory.write_keys[source])
        received = receiver.received
        for delivery in received[shown:]:
            verb = "entered" if delivery["type"] == "segment.entered" else "left"
            who = next(
                (each["value"] for each in delivery["identifiers"] if each["namespace"] in ("user_id", "email")),
                delivery["profile_id"],
            )
            console.print(f"  webhook: {escape(str(who))} {verb} {delivery['segment']} at {delivery['at']}")
        shown = len(received)
        time.sleep(PACE_S)
