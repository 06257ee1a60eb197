"""`conosco retention`: what is kept for how long, what a pass would destroy, and the pass itself."""

from pathlib import Path
from typing import Annotated, Final

import typer

from conosco.cli.words import explain
from conosco.model.moment import spell_moment
from conosco.model.problem import Refused
from conosco.ports.archive import Archive
from conosco.ports.log import Log, LogFull
from conosco.ports.state import State
from conosco.runtime.bootstrap import clock, open_archive, open_log, open_state
from conosco.runtime.retention import ClassPlan, Retention
from conosco.runtime.settings import Settings, read_settings

_CLASSES: Final = {
    "raw": "raw requests",
    "quarantine": "quarantined events",
    "deliveries": "deliveries",
    "feed": "change feed",
    "dedup": "keys of what was received",
}
_REASONS: Final = {
    "kept_until_replayed": "each leaves quarantine by a replay",
    "proves_who_was_contacted": "they prove who was contacted, and that nobody is contacted twice",
    "refills_the_warehouse": "a lost warehouse is filled from it",
    "recognises_what_is_sent_again": "what is sent again years later is still recognised",
}


def retention(
    data: Annotated[Path, typer.Option(help="The folder of the installation.", exists=True, file_okay=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what a pass would destroy.")] = False,
) -> None:
    """Show what is kept for how long; without --dry-run, destroy what is older. CONOSCO_KEEP_RAW_DAYS sets the limit."""
    try:
        settings = read_settings(data.absolute(), "127.0.0.1", 0)
    except Refused as refused:
        raise typer.Exit(explain(refused)) from None
    log, archive, state = open_log(settings), open_archive(settings), open_state(settings)
    try:
        _retain(settings, log, archive, state, dry_run)
    except LogFull as trouble:
        typer.echo(
            f"The disk has no room for it: {trouble}. Free some room and run this again; it goes on where it was.", err=True
        )
        raise typer.Exit(1) from None
    finally:
        for door in (state, archive, log):
            door.close()


def _retain(settings: Settings, log: Log, archive: Archive, state: State, is_dry: bool) -> None:
    # What State has applied: the warehouse follows within seconds, and a file is old long before it is due.
    pass_over = Retention(log, archive, state, settings.keep_raw_days, clock, lambda: state.offset()[0])
    plans = pass_over.plan()
    for plan in plans:
        typer.echo(_sentence(plan))
    if is_dry or not plans[0].requests:
        return
    destroyed = pass_over.run(lambda: None)
    typer.echo(f"Destroyed {destroyed} slices. Hashes stay, so that `conosco verify` still proves everything else.")


def _sentence(plan: ClassPlan) -> str:
    name = _CLASSES[plan.kind]
    if plan.reason:
        return f"{name}: kept for ever ({_REASONS[plan.reason]})"
    if not plan.keep_days:
        return f"{name}: kept for ever; set CONOSCO_KEEP_RAW_DAYS to limit it"
    until = spell_moment(plan.before)
    if not plan.requests:
        return f"{name}: kept for {plan.keep_days} days; no sealed file is wholly older than {until}"
    return (
        f"{name}: kept for {plan.keep_days} days; {plan.requests} requests with {plan.events} events ({plan.bytes} bytes) in "
        f"{plan.files} sealed files, up to position {plan.until_position}, are older than {until}. Without them `conosco replay` can "
        "not rebuild the same State, and new segments do not see these events."
    )
