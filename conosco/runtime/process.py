"""What every role's process shares: how it reads its settings from the command line and how it is told to stop."""

import argparse
import os
import signal
import threading
from pathlib import Path
from threading import Event as Signal
from typing import Final

from conosco.runtime.settings import Settings, read_settings

# How often a process looks whether the one that started it is still there.
PARENT_CHECK_S: Final = 1.0


def settings_of_role(role: str) -> Settings:
    """Settings of a process that runs one role; its command line names the role too, so that one sees it in a list."""
    parser = argparse.ArgumentParser(description=f"Conosco's {role}, started by `conosco serve`.")
    parser.add_argument("--role", choices=[role], default=role)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    return read_settings(given.data, given.host, given.port)


def stop_signal(*, with_parent: bool = True) -> Signal:
    """A signal that is set by SIGTERM, SIGINT, or, ``with_parent``, by the death of the process that started this one."""
    stop = Signal()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if not with_parent:
        return stop
    parent = os.getppid()

    def watch() -> None:
        while not stop.wait(PARENT_CHECK_S):
            if os.getppid() != parent:
                stop.set()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
    return stop
