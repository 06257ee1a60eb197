"""What every role's process shares: how it reads its settings from the command line and how it is told to stop."""

import argparse
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from threading import Event as Signal
from typing import Final

import msgspec

from conosco.runtime.settings import Settings, read_settings

# How often a role looks whether its supervisor is still there.
SUPERVISOR_CHECK_S: Final = 0.2


def settings_of_role(role: str) -> Settings:
    """Settings of a process that runs one role; its command line names the role too, so that one sees it in a list."""
    parser = argparse.ArgumentParser(description=f"Conosco's {role}, started by `conosco serve`.")
    parser.add_argument("--role", choices=[role], default=role)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--supervisor", type=int, default=0, help="the process with which this one ends")
    given = parser.parse_args()
    return msgspec.structs.replace(read_settings(given.data, given.host, given.port), supervisor=given.supervisor)


def stop_signal(supervisor: int = 0) -> Signal:
    """A signal that is set by SIGTERM, SIGINT, or by the death of the supervisor, where there is one."""
    stop = Signal()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    watch_supervisor(supervisor, stop.set)
    return stop


def watch_supervisor(supervisor: int, stop: Callable[[], object]) -> None:
    """Call ``stop`` once the supervisor is gone, for then nobody else would; 0 is no supervisor.

    It may have gone while this process was starting, which is why its id is told and not asked of the system.
    """

    def watch() -> None:
        pause = Signal()
        while os.getppid() == supervisor:
            pause.wait(SUPERVISOR_CHECK_S)
        stop()

    if supervisor:
        threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()
