"""Exchanging State while everything runs: derived anew beside the live one, caught up, and taken by the worker at one record.

The rebuilder appends ``live from`` with the name of its State; that record is where both meet. The worker stops before it,
waits for the rebuilt State to stand exactly there, takes its content in one transaction and goes on. If the rebuilder died
meanwhile, which its lock tells, the worker goes on as it was.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event as Signal
from time import monotonic
from typing import IO, Any, Final

import msgspec

from conosco.model.command import LiveFrom
from conosco.model.record import Draft
from conosco.ports.log import Log
from conosco.ports.state import State
from conosco.ports.tables import CURSORS, MetaRow, encode_row
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
)
from conosco.runtime.configuration import meta
from conosco.runtime.replay import UpTo
from conosco.runtime.settings import Settings
from conosco.runtime.warehouse import FEED_BEGIN
from conosco.runtime.worker import Worker

# So few records behind, the rebuilder asks for the exchange: the worker will wait for about as long as they take.
NEAR_RECORDS: Final = 50
WAIT_S_MAX: Final = 120.0
POLL_S: Final = 0.02
# The feed of a rebuilt State begins so far above the old one that no warehouse can take it for its continuation.
FEED_GAP: Final = 1_000_000
GRACE_S: Final = 3.0
TRIES: Final = 5


class Stopped(Exception):
    """The process was told to stop; the exchange is begun again later."""


def exchange(settings: Settings) -> Callable[[str, int], bool]:
    """The worker's side: take the rebuilt State of this name at this position; False if it is not there and will not come."""
    folder = Folder(settings.data).rebuilt

    def take_over(name: str, position: int) -> bool:
        path = folder / f"{Path(name).name}.ready"
        deadline = monotonic() + WAIT_S_MAX
        pause = Signal()
        while not path.exists():
            # Asked again after the lock: it may have been made ready just before its maker ended.
            if (not _is_held(folder) and not path.exists()) or monotonic() > deadline:
                return False
            pause.wait(POLL_S)
        spare = open_spare_state(path)
        stands_at = spare.offset()[0]
        spare.close()
        if stands_at != position:
            return False
        exchange_state(settings, path)
        _remove(path)
        return True

    return take_over


class Rebuilder:
    """Derives State anew while the server runs. ``progress`` is told a share from 0 to 1, ``stop`` ends it with Stopped."""

    def __init__(
        self, settings: Settings, note: Callable[[str, dict[str, Any]], None], progress: Callable[[float], None], stop: Signal
    ) -> None:
        self._settings = settings
        self._folder = Folder(settings.data)
        self._note = note
        self._progress = progress
        self._stop = stop

    def run(self, name: str) -> None:
        """Rebuild and see it taken. Tried a few times, for a worker that was stopped at the wrong moment does not take it."""
        self._folder.rebuilt.mkdir(mode=0o700, exist_ok=True)
        with _hold(self._folder.rebuilt):
            for _ in range(TRIES):
                if self._try(name):
                    return
        raise TimeoutError("the worker did not take the rebuilt State")

    def _try(self, name: str) -> bool:
        path = self._folder.rebuilt / f"{name}.building"
        _remove(path)
        _remove(path.with_suffix(".ready"))
        log, live = open_log(self._settings), open_state(self._settings)
        state = open_spare_state(path)
        try:
            _begin_feed(state, int(meta(live, "feed_sequence", 0, CURSORS)) + FEED_GAP)
            following = self._follow(log, state)
            head = log.head().position
            asked = LiveFrom(position=head, rebuilt=name)
            position = log.append([Draft(kind="control", slices=(msgspec.json.encode(asked),))])[0].position
            self._advance(following, position)
            state.close()
            path.rename(path.with_suffix(".ready"))
            _sync(path.parent)
            return self._is_taken(path.with_suffix(".ready"), live, position)
        finally:
            state.close()
            live.close()
            log.close()

    def _follow(self, log: Log, state: State) -> "_Following":
        """Apply the log until its end is near; what comes meanwhile is followed."""
        keys = open_keys(self._settings)
        secret = required_secret(keys, INSTALLATION_SECRET)
        following = _Following(log, log.head().position)
        following.worker = Worker(following, state, secret, make_gate(keys), lambda: 0, self._note)
        while True:
            target = log.head().position
            self._advance(following, target)
            if log.head().position - target <= NEAR_RECORDS:
                return following

    def _advance(self, following: "_Following", target: int) -> None:
        """Apply everything up to a position."""
        following.end(target)
        while following.worker.step():
            if self._stop.is_set():
                raise Stopped
            self._progress(following.worker.position / max(1, target))

    def _is_taken(self, ready: Path, live: State, position: int) -> bool:
        deadline = monotonic() + WAIT_S_MAX
        while ready.exists():
            if self._stop.is_set():
                raise Stopped
            if live.offset()[0] >= position:
                # Taken just now, and the file goes next; or passed over by a worker that was not willing.
                deadline = min(deadline, monotonic() + GRACE_S)
            if monotonic() > deadline:
                return False
            self._stop.wait(POLL_S)
        return True


class _Following(UpTo):
    """The log up to a position that moves on; read by a worker that never writes."""

    worker: Worker

    def __init__(self, log: Log, position: int) -> None:
        super().__init__(log, position)

    def end(self, position: int) -> None:
        """Let it end later."""
        self._position = position


def _begin_feed(state: State, sequence: int) -> None:
    state.begin(1)
    state.put_many(
        CURSORS, {("feed_sequence",): encode_row(MetaRow(value=sequence)), FEED_BEGIN: encode_row(MetaRow(value=sequence + 1))}
    )
    state.commit(None)


def _lock_path(folder: Path) -> Path:
    return folder / "rebuilder.lock"


@contextmanager
def _hold(folder: Path) -> Iterator[None]:
    """Hold the lock that says: somebody is rebuilding."""
    with _lock_path(folder).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_held(folder: Path) -> bool:
    try:
        file: IO[str] = _lock_path(folder).open("a")
    except OSError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _remove(path: Path) -> None:
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
