"""Rebuilding: a replay into a file beside the live State, the comparison, and taking the rebuilt one."""

import fcntl
import os
from collections.abc import Callable
from typing import Any

from conosco.runtime.bootstrap import (
    INSTALLATION_SECRET,
    Folder,
    make_gate,
    open_keys,
    open_log,
    open_spare_state,
    required_secret,
    snapshot_state,
)
from conosco.runtime.deriving import bring_to_end, remove_state, replace_state
from conosco.runtime.digest import digest
from conosco.runtime.replay import rebuild
from conosco.runtime.settings import Settings


class Rebuilding:
    """One replay of an installation. The live server may go on meanwhile: a snapshot of its State is compared."""

    def __init__(self, settings: Settings, note: Callable[[str, dict[str, Any]], None]) -> None:
        self._settings = settings
        self._note = note
        self._folder = Folder(settings.data)
        self._spare = self._folder.state.with_name("state-rebuilt")
        self._copy = self._folder.state.with_name("state-snapshot")
        self._remove()
        snapshot_state(settings, self._copy)
        self._live = open_spare_state(self._copy)
        self.position = self._live.offset()[0]

    def run(self, progress: Callable[[int], None]) -> tuple[str, str]:
        """Rebuild up to the snapshot's position; (digest of the live State, digest of the rebuilt one)."""
        keys, log = open_keys(self._settings), open_log(self._settings)
        rebuilt = open_spare_state(self._spare)
        try:
            secret = required_secret(keys, INSTALLATION_SECRET)
            rebuild(log, rebuilt, self.position, secret, make_gate(keys), self._note, progress)
            return digest(self._live), digest(rebuilt)
        finally:
            rebuilt.close()
            log.close()

    def take_over(self) -> bool:
        """Bring the rebuilt State to the log's end, park what may have been sent, and put it in place; False if a server holds the folder.

        The warehouse was filled by the old State's feed, so it is dropped and filled anew.
        """
        handle = os.open(self._folder.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        try:
            rebuilt = open_spare_state(self._spare)
            try:
                bring_to_end(self._settings, rebuilt, self._note)
            finally:
                rebuilt.close()
            replace_state(self._settings, self._spare)
        finally:
            os.close(handle)
        return True

    def close(self) -> None:
        """Remove what was only needed for the comparison."""
        self._live.close()
        self._remove()

    def _remove(self) -> None:
        for base in (self._spare, self._copy):
            remove_state(base)
