"""A whole installation in processes of its own: started, spoken to over HTTP, killed and stopped as its users would do it."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

REPOSITORY = Path(__file__).parents[2]
ADMIN_TOKEN = "admin-token-of-the-tests"
WRITE_KEY = "write-key-of-the-tests"
ROLES = ("front", "worker", "warehouse", "sender")
# How long to wait for what happens in a fraction of a second on a machine that has nothing else to do.
PATIENCE_S = 60.0
JOURNAL_TAIL = 20_000


class NotInTime(AssertionError):
    """Something that must come true did not."""


class Answer(NamedTuple):
    """An HTTP answer; header names are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, numbers as written."""
        return json.loads(self.body)


class Installation:
    """``conosco serve`` on a folder and a free port. Entering starts it and waits until it is ready, leaving ends it."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.data = folder / "data"
        self._journal = folder / "journal"
        self._said = folder / "said"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CONOSCO_")}
        self.environment = {
            **inherited,
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONFAULTHANDLER": "1",
            "CONOSCO_ADMIN_TOKEN": ADMIN_TOKEN,
            "CONOSCO_WRITE_KEY": WRITE_KEY,
            "CONOSCO_ALLOW_PRIVATE": "127.0.0.0/8",
            **(environment or {}),
        }

    # Life.

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(value, TimeoutError | NotInTime):
            # Each process writes into the journal where each of its threads stands.
            for pid in self.everyone():
                kill(pid, signal.SIGABRT)
            time.sleep(1)
        if value is not None:
            value.add_note(f"The end of the journal:\n{self.journal_tail()}")
        self.kill_all()

    def start(self, patience_s: float = PATIENCE_S) -> None:
        """Start the server and wait until it says that it is ready. Raises NotInTime."""
        with self._journal.open("ab") as journal, self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [*COMMAND, "serve", "--data", str(self.data), "--port", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=journal,
                env=self.environment,
                cwd=self._said.parent,
                start_new_session=True,
            )
        until(self._is_ready, "the server says that it is ready", patience_s)

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise NotInTime(f"the server ended with {self._process.returncode}: {self.journal_tail()}")
        return self.said().startswith("ready ")

    def said(self) -> str:
        """What the server wrote to stdout since it was last started."""
        return self._said.read_text()

    def journal_tail(self) -> str:
        """The end of what all its processes wrote to stderr."""
        return self._journal.read_text(errors="replace")[-JOURNAL_TAIL:] if self._journal.exists() else ""

    def journal(self) -> str:
        """All that its processes wrote to stderr."""
        return self._journal.read_text(errors="replace")

    @property
    def supervisor(self) -> int:
        """The process id of the supervisor."""
        assert self._process is not None
        return self._process.pid

    def pids(self) -> dict[str, int]:
        """The process id of each role that runs now."""
        return {role: pid for pid, role in _roles_of(self.data) if _parent(pid) == self.supervisor}

    def everyone(self) -> list[int]:
        """All processes on this folder, also those whose supervisor is gone."""
        alive = [pid for pid, _ in _roles_of(self.data)]
        return alive if self._process is None or self._process.poll() is not None else [self.supervisor, *alive]

    def stop(self, patience_s: float = PATIENCE_S) -> int:
        """Ask the server to stop; its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(patience_s)

    def kill_supervisor(self) -> None:
        """Kill the supervisor alone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill_all(self) -> None:
        """Kill every process at the same moment, as a crash of the machine would."""
        for pid in self.everyone():
            kill(pid)
        if self._process is not None:
            self._process.wait()
        until(lambda: not self.everyone(), "all processes are gone")

    # Speaking to it.

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = 30.0,
    ) -> Answer:
        """One request on a connection of its own; bytes are sent as they are, all else as JSON. Raises OSError or HTTPException."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path, raw, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def track(self, body: Any, path: str = "/v1/batch", headers: Mapping[str, str] | None = None) -> Answer:
        """Send events with the write key."""
        return self.ask("POST", path, body, {**basic(WRITE_KEY), **(headers or {})})

    def api(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """A request to the management API with the admin token."""
        return self.ask(method, path, body, {"Authorization": f"Bearer {ADMIN_TOKEN}", **(headers or {})})

    def get(self, path: str) -> Any:
        """What the management API answers with 200."""
        return _good(self.api("GET", path), path)

    def post(self, path: str, body: Any) -> Any:
        """What the management API answers with 200 or 201 to a write that took effect."""
        return _good(self.api("POST", path, body), path)

    def put(self, path: str, body: Any) -> Any:
        """As ``post``, for a definition that is replaced."""
        return _good(self.api("PUT", path, body), path)

    def sql(self, sql: str, *params: Any) -> list[list[Any]]:
        """The rows of a question."""
        rows: list[list[Any]] = self.post("/api/sql", {"sql": sql, "params": list(params)})["rows"]
        return rows

    def status(self) -> dict[str, Any]:
        """The status, once there is a front that answers."""
        found: dict[str, Any] = {}

        def asked() -> bool:
            try:
                answer = self.api("GET", "/api/status")
            except (OSError, http.client.HTTPException):
                return False
            found.update(answer.json() if answer.status == 200 else {})
            return bool(found)

        until(asked, "the status is answered")
        return found

    def settled(self, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        """The status, once every accepted event has its outcome and all of them are in the warehouse."""
        seen: list[dict[str, Any]] = []

        def adds_up() -> bool:
            seen[:] = [self.status()]
            return is_settled(seen[0])

        try:
            until(adds_up, "the status adds up", patience_s)
        except NotInTime as late:
            raise NotInTime(f"{late}: {seen}") from None
        # Outcomes of duplicates and of what is kept aside reach the warehouse like events do, but are not counted there.
        asked = f"/api/sql?after={seen[0]['position']}&wait_ms=30000"
        until(
            lambda: self.api("POST", asked, {"sql": "select 1", "params": []}).status == 200, "the warehouse is there", patience_s
        )
        return seen[0]

    def replay(self) -> tuple[str, str, int]:
        """Run ``conosco replay``: the two digests and the exit code."""
        ran = subprocess.run(
            [*COMMAND, "replay", "--data", str(self.data)],
            check=False,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=PATIENCE_S,
        )
        digests = dict(line.rsplit(" ", 1) for line in ran.stdout.splitlines() if line.startswith("digest "))
        assert set(digests) == {"digest live", "digest rebuilt"}, ran.stdout + ran.stderr
        return digests["digest live"], digests["digest rebuilt"], ran.returncode


COMMAND: Sequence[str] = (sys.executable, "-m", "conosco.cli.main")


def until(true: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until something is true. Raises NotInTime."""
    deadline = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > deadline:
            raise NotInTime(f"not within {patience_s:g} s: {what}")
        time.sleep(0.02)


def is_settled(status: Mapping[str, Any]) -> bool:
    """Whether a status adds up."""
    outcomes = sum(status[name] for name in ("applied", "duplicates", "quarantined", "erased"))
    return bool(status["accepted"] == outcomes and status["warehoused"] == status["applied"])


def basic(write_key: str) -> dict[str, str]:
    """The header that carries a write key."""
    return {"Authorization": "Basic " + base64.b64encode(f"{write_key}:".encode()).decode()}


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Kill a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is only waiting to be buried does not."""
    return _state(pid) not in ("", "Z", "X")


def _roles_of(data: Path) -> Iterator[tuple[int, str]]:
    """(pid, role) of every process that serves this folder in one role."""
    wanted = os.fsencode(data)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"--role" in words and wanted in words and is_alive(int(entry.name)):
                yield int(entry.name), words[words.index(b"--role") + 1].decode()


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    return (_stat(pid) or [""])[0]


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _good(answer: Answer, path: str) -> Any:
    assert answer.status in (200, 201), (path, answer)
    assert urlsplit(path).path.startswith("/api/")
    return answer.json()
