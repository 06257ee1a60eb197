"""The supervisor: starts the roles as processes of their own, restarts one that dies, and stops them in a good order."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from threading import Event as Signal
from typing import IO, Any, Final

# Stopping order: first nobody is let in, then what was let in is finished.
ROLES: Final = ("front", "worker", "sender", "warehouse")
RESTART_S_MOST: Final = 5.0
STOP_S: Final = 12.0


class Supervisor:
    """Runs one process per role: ``command(role)`` gives its command line, ``environment`` its variables (None: ours),
    ``journal`` the file that takes its journal (None: our standard error).
    """

    def __init__(
        self,
        command: Callable[[str], Sequence[str]],
        note: Callable[[str, dict[str, Any]], None],
        roles: Sequence[str] = ROLES,
        environment: dict[str, str] | None = None,
        journal: IO[bytes] | None = None,
    ) -> None:
        self._command = command
        self._environment = environment
        self._journal = journal
        self._note = note
        self._roles = roles
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._begun: dict[str, float] = {}
        self._deaths: dict[str, int] = dict.fromkeys(roles, 0)

    def start(self) -> None:
        """Start every role."""
        for role in reversed(self._roles):
            self._start(role)

    def _start(self, role: str) -> None:
        # Its own session: a Ctrl-C at the terminal reaches the supervisor only, which then stops all in order.
        self._processes[role] = subprocess.Popen(
            list(self._command(role)),
            stdin=subprocess.DEVNULL,
            stderr=self._journal,
            start_new_session=True,
            env=self._environment,
        )
        self._begun[role] = time.monotonic()

    def watch(self, stop: Signal) -> None:
        """Restart roles that die, waiting longer if one dies again and again, until told to stop."""
        waiting: dict[str, float] = {}
        while not stop.wait(0.05):
            now = time.monotonic()
            for role, process in list(self._processes.items()):
                if process.poll() is None or role in waiting:
                    continue
                if now - self._begun[role] > 30:
                    self._deaths[role] = 0
                delay = min(RESTART_S_MOST, 0.05 * 4 ** self._deaths[role])
                self._deaths[role] += 1
                waiting[role] = now + delay
                self._note("role_died", {"died": role, "code": process.returncode, "restart_in_s": delay})
            for role, due in list(waiting.items()):
                if now >= due:
                    del waiting[role]
                    self._start(role)

    def stop(self) -> None:
        """Ask every role to stop, in order; one that does not is killed: the log and State lose nothing by it."""
        deadline = time.monotonic() + STOP_S
        for role in self._roles:
            process = self._processes.get(role)
            if process is None or process.poll() is not None:
                continue
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(max(0.1, min(deadline - time.monotonic(), STOP_S / 2)))
            except subprocess.TimeoutExpired:
                self._note("role_killed", {"killed": role})
                process.kill()
                process.wait()

    def pids(self) -> dict[str, int]:
        """The process id of each running role."""
        return {role: process.pid for role, process in self._processes.items() if process.poll() is None}


# Each role is a module of its own, so that a process loads no more than it needs.
MODULES: Final = {
    "front": "conosco.web.front",
    "worker": "conosco.runtime.role_worker",
    "sender": "conosco.runtime.role_sender",
    "warehouse": "conosco.runtime.role_warehouse",
    "importer": "conosco.runtime.imports.role_importer",
    "scheduler": "conosco.runtime.schedules.role_scheduler",
    "previewer": "conosco.runtime.imports.role_previewer",
}


def command_of(role: str, data: str, host: str, port: int, supervisor: int = 0) -> list[str]:
    """The command line that runs one role alone; under a supervisor (its process id) it ends when that does."""
    where = ["--data", data, "--host", host, "--port", str(port)]
    under = ["--supervisor", str(supervisor)] if supervisor else []
    return [sys.executable, "-m", MODULES[role], "--role", role, *where, *under]
