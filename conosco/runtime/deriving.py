"""State that was lost: noticed before any role starts, and derived anew from the log beside its place.

Applied as if live, the old log would decide everything again and the sender would send it again. So a State that did not go on
without a break is brought to the log's end, and through a record that parks what may have been sent, before a sender sees it.
"""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from conosco.model.command import LiveFrom
from conosco.model.problem import refuse
from conosco.model.record import Draft
from conosco.ports.log import Log
from conosco.ports.state import Key, State, StateAbsent
from conosco.ports.tables import OUTBOX, decode_row
from conosco.runtime.bootstrap import (
    INSTALLATION_SECRET,
    Folder,
    exchange_state,
    make_gate,
    open_keys,
    open_log,
    open_spare_state,
    open_state,
    required_secret,
    sync,
)
from conosco.runtime.replay import rebuild
from conosco.runtime.settings import Settings

Note = Callable[[str, dict[str, Any]], None]
# (position reached, position of the log's end).
Progress = Callable[[int, int], None]
RECORDS_PER_READ: Final = 1_000
PARKED_PAGE: Final = 1_000
# A backup leaves names that begin so out.
_SPARE: Final = "state-rebuilt-anew"


class Derived(msgspec.Struct, frozen=True, kw_only=True):
    """What was derived: up to which record, and how many deliveries wait because they may have been sent before."""

    position: int
    parked: int


def is_state_lost(settings: Settings) -> bool:
    """Whether State is absent or has applied nothing, although the log holds more than the definitions of a first start.

    A first start that was cut off after it took events, before its worker applied any, looks the same: there nothing was sent
    yet, and what could be is parked all the same.
    """
    if not Folder(settings.data).log.is_dir() or _applied(settings):
        return False
    log = open_log(settings)
    try:
        after = 0
        while records := log.read(after, RECORDS_PER_READ):
            if any(record.kind != "definition" for record in records):
                return True
            after = records[-1].position
        return False
    finally:
        log.close()


def require_state(settings: Settings) -> None:
    """Raises Refused if State is lost; for processes that run one role and must not derive it."""
    if is_state_lost(settings):
        raise refuse("state_lost", folder=str(settings.data))


def derive_lost_state(settings: Settings, note: Note, progress: Progress) -> Derived:
    """Derive State from the log, park what may have been sent, and only then put it in its place.

    Nobody may use the folder meanwhile. Cut short anywhere, the next call begins again. The warehouse was filled by another
    feed, so it is dropped and filled anew. Raises Refused where old requests are destroyed: the log alone would tell less than State
    and warehouse did; LogFull or StateFull if there is no room.
    """
    if settings.keep_raw_days:
        raise refuse("state_lost_and_pruned", folder=str(settings.data))
    spare = Folder(settings.data).state.with_name(_SPARE)
    remove_state(spare)
    state = open_spare_state(spare)
    try:
        position = bring_to_end(settings, state, note, progress)
        parked = _count_parked(state)
    finally:
        state.close()
    replace_state(settings, spare)
    remove_state(spare)
    return Derived(position=position, parked=parked)


def bring_to_end(settings: Settings, state: State, note: Note, progress: Progress = lambda position, end: None) -> int:
    """Apply the log to a State that nobody uses, to its end and through a record ``live from`` that is appended; its position.

    Whoever sends from this State afterwards finds nothing that was decided before that record.
    """
    log = open_log(settings)
    try:
        end = log.head().position
        _apply(settings, log, state, end, note, progress)
        asked = LiveFrom(position=end)
        position = log.append([Draft(kind="control", slices=(msgspec.json.encode(asked),))])[0].position
        _apply(settings, log, state, position, note, progress)
        return position
    finally:
        log.close()


def replace_state(settings: Settings, spare: Path) -> None:
    """Take what a closed file holds as State, in one transaction, and drop the warehouse, which another feed has filled.

    The warehouse goes first: one that stayed beside a State whose feed it does not know could take it for its own.
    """
    with suppress(FileNotFoundError):
        shutil.rmtree(Folder(settings.data).warehouse)
    sync(settings.data)
    exchange_state(settings, spare)


def remove_state(path: Path) -> None:
    """Remove a file of State that nobody uses, if it is there."""
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _apply(settings: Settings, log: Log, state: State, end: int, note: Note, progress: Progress) -> None:
    keys = open_keys(settings)
    secret = required_secret(keys, INSTALLATION_SECRET)
    rebuild(log, state, end, secret, make_gate(keys), note, lambda position: progress(position, end))


def _applied(settings: Settings) -> int:
    try:
        state = open_state(settings)
    except StateAbsent:
        return 0
    try:
        return state.offset()[0]
    finally:
        state.close()


def _count_parked(state: State) -> int:
    count = 0
    start: Key = ()
    while rows := state.scan(OUTBOX, start, None, PARKED_PAGE):
        count += sum(decode_row(OUTBOX, raw).state == "unknown" for _, raw in rows)
        start = (rows[-1][0][0] + "\x00",)
    return count
