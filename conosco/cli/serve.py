"""`conosco serve`: run everything on one machine, or one role alone."""

import enum
import errno
import fcntl
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Annotated, Any, Final

import typer

from conosco.cli.words import explain
from conosco.model.problem import Refused
from conosco.ports.log import LogFull
from conosco.ports.state import StateFull
from conosco.runtime.bootstrap import Folder, clock, open_control, prepare
from conosco.runtime.deriving import derive_lost_state, is_state_lost, require_state
from conosco.runtime.journal import Journal
from conosco.runtime.migrations.backing_up import backing_up
from conosco.runtime.migrations.steps import migrate, require_current
from conosco.runtime.office.access import new_sign_in_code
from conosco.runtime.process import stop_signal
from conosco.runtime.settings import Settings, read_settings
from conosco.runtime.supervisor import Supervisor, command_of

ADDRESS_BYTES: Final = 200
READY_WITHIN_S: Final = 60.0
# The roles of a supervisor that was killed need a moment to notice and to let go of the port.
PORT_FREE_WITHIN_S: Final = 5.0
PROGRESS_EVERY_S: Final = 3.0


class Role(enum.StrEnum):
    """What this process does."""

    ALL = "all"
    FRONT = "front"
    WORKER = "worker"
    WAREHOUSE = "warehouse"
    SENDER = "sender"


def serve(
    data: Annotated[Path, typer.Option(help="The folder that holds everything; it is made if missing.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65_535)] = 8000,
    role: Annotated[Role, typer.Option(help="Run one role alone, or all of them under supervision.")] = Role.ALL,
) -> None:
    """Collect, unify, segment and act, on one machine."""
    try:
        settings = read_settings(data.absolute(), host, port)
    except Refused as refused:
        raise typer.Exit(explain(refused)) from None
    if role is not Role.ALL:
        try:
            require_current(settings.data)
            require_state(settings)
        except Refused as refused:
            raise typer.Exit(explain(refused)) from None
        command = command_of(role.value, str(settings.data), settings.host, settings.port)
        os.execv(command[0], command)  # this very interpreter, in the role that was asked for
    with Running(settings) as running:
        typer.echo(f"ready {running.url}")
        typer.echo(f"sign in once at {running.sign_in_link()}", err=True)
        running.wait()


class Running:
    """A whole installation under supervision; entering waits until it answers, leaving stops it gracefully."""

    def __init__(self, settings: Settings, environment: dict[str, str] | None = None, journal: Path | None = None) -> None:
        """``journal``: the file for the journal; standard error if None."""
        self.settings = settings
        self._environment = environment
        self.url = f"http://{settings.host}:{settings.port}"
        self._journal_path = journal

    def __enter__(self) -> "Running":
        try:
            self._lock = _lock(self.settings)
            _check_port(self.settings)
            note = Journal("supervisor", clock).note
            migrate(self.settings.data, clock, note, backing_up(self.settings, clock, note))
            if is_state_lost(self.settings):
                _derive(self.settings, note)
            prepare(self.settings)
            # So that commands on this machine find the server of this folder.
            os.pwrite(self._lock, self.url.encode().ljust(ADDRESS_BYTES), 0)
        except Refused as refused:
            raise typer.Exit(explain(refused)) from None
        except OSError as error:
            typer.echo(f"Cannot use the folder {self.settings.data}: {error.strerror}. Choose another with --data.", err=True)
            raise typer.Exit(1) from None
        except (LogFull, StateFull) as full:
            typer.echo(f"Cannot write to the folder {self.settings.data}: {full}. Make room, then start again.", err=True)
            raise typer.Exit(1) from None
        settings = self.settings
        self._journal_file = None if self._journal_path is None else self._journal_path.open("ab")
        stream = None if self._journal_path is None else self._journal_path.open("a", encoding="utf-8")
        # A shell or a script that starts the server may end long before it does.
        self._stop = stop_signal()
        self._supervisor = Supervisor(
            lambda name: command_of(name, str(settings.data), settings.host, settings.port, os.getpid()),
            Journal("supervisor", clock, stream).note,
            environment=self._environment,
            journal=self._journal_file,
        )
        self._supervisor.start()
        self._watching = Thread(target=self._supervisor.watch, args=(self._stop,), name="supervision", daemon=True)
        self._watching.start()
        self._wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watching.join(2)
        self._supervisor.stop()
        os.close(self._lock)

    @property
    def stopping(self) -> bool:
        """True once the process was asked to stop."""
        return self._stop.is_set()

    def wait(self) -> None:
        """Sleep until told to stop."""
        self._stop.wait()

    def sign_in_link(self) -> str:
        """A fresh link that signs one browser in."""
        control = open_control(self.settings)
        code = new_sign_in_code(control, clock())
        control.close()
        return f"{self.settings.public_url or self.url}/sign-in?code={code}"

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._stop.is_set():
            try:
                with urllib.request.urlopen(f"{self.url}/health/ready", timeout=2) as answer:  # our own address
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            if time.monotonic() > deadline:
                typer.echo("It does not answer: see the lines above for the reason.", err=True)
                self.__exit__()
                raise typer.Exit(1)
            time.sleep(0.03)


def _derive(settings: Settings, note: Callable[[str, dict[str, Any]], None]) -> None:
    """Derive State that was lost, and say so: it can take minutes, and some deliveries wait for a person afterwards."""
    told_at = time.monotonic()

    def progress(position: int, end: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= PROGRESS_EVERY_S:
            told_at = time.monotonic()
            typer.echo(f"  {position} of {end} records ({100 * position // max(1, end)} %)", err=True)

    typer.echo(
        "State is missing although the log holds records. It is derived anew from the log; nothing is sent meanwhile.", err=True
    )
    note("state_lost", {})
    derived = derive_lost_state(settings, note, progress)
    note("state_derived", {"position": derived.position, "parked": derived.parked})
    typer.echo(f"State is derived up to position {derived.position}; the warehouse is filled anew from now on.", err=True)
    if derived.parked:
        typer.echo(
            f"{derived.parked} deliveries may have been sent before and wait as `unknown`: look at them before you release them.",
            err=True,
        )


def running_url(data: Path) -> str:
    """The address of the server that runs on a folder; empty if none does."""
    try:
        with Folder(data).lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read(ADDRESS_BYTES).decode(errors="replace").strip()
    except OSError:
        pass
    return ""


def _check_port(settings: Settings) -> None:
    """Say so if somebody else listens there."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    deadline = time.monotonic() + PORT_FREE_WITHIN_S
    while True:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, settings.port))
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    address = f"{settings.host}:{settings.port}"
                    typer.echo(f"Cannot listen on {address}: {error.strerror}. Choose another port with --port.", err=True)
                    raise typer.Exit(1) from None
        time.sleep(0.1)


def _lock(settings: Settings) -> int:
    """Hold the folder: two supervisors on one folder would only get in each other's way."""
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(Folder(settings.data).lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        typer.echo(
            f"The folder {settings.data} is in use by another `conosco serve`. Stop that one, or choose another folder.", err=True
        )
        raise typer.Exit(1) from None
    return handle
