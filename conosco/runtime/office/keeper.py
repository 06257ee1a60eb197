"""Keeps a process running while there is work for it, and only then: imports, and scheduled runs."""

import threading
from collections.abc import Callable
from subprocess import DEVNULL, Popen
from threading import Event as Signal
from typing import Final

WATCH_S: Final = 1.0
RESTART_S_MAX: Final = 30.0


class Keeper:
    """Watches from a thread of its own; the process is started more slowly if it dies at once."""

    def __init__(self, name: str, has_work: Callable[[], bool], command: Callable[[], list[str]]) -> None:
        self._has_work = has_work
        self._command = command
        self._wake = Signal()
        self._closed = False
        self._process: Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name=f"{name}-keeper", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something to do."""
        self._wake.set()

    def _watch(self) -> None:
        pause = 0.0
        while not self._closed:
            if self._has_work():
                self._process = Popen(self._command(), stdin=DEVNULL, start_new_session=True)
                code = self._process.wait()
                pause = 0.0 if code == 0 else min(RESTART_S_MAX, max(0.2, pause * 2))
            self._wake.wait(pause or WATCH_S)
            self._wake.clear()

    def close(self) -> None:
        """Stop the process, which keeps where it is."""
        self._closed = True
        self._wake.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
        self._thread.join(5)
