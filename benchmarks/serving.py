"""Processes under measurement: a whole installation or a part of it, started as its users start it, and what they take."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from conosco.cli.client import Client
from conosco.runtime.bootstrap import Folder, open_keys
from conosco.runtime.settings import Settings, environment_with

READY_WITHIN_S = 60.0
STOP_S = 30.0


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Child:
    """A Python module in a process of its own, on some processors only; leaving it stops the process."""

    def __init__(self, module: str, *arguments: str, processors: Sequence[int] = ()) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment_with(CONOSCO_ALLOW_PRIVATE="127.0.0.0/8"),
        )
        if processors:
            # Before it has started a thread of its own.
            os.sched_setaffinity(self._process.pid, processors)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def line(self) -> str:
        """The next line that it prints; empty once it has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise

    def wait_for_port(self, port: int) -> None:
        """Wait until it listens."""
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        raise SystemExit(f"nothing listens on port {port}: the process ended or takes too long")


class Installation(Child):
    """`conosco serve` on a folder, all roles; made once it says that it is ready, ``ready_s`` after it was started."""

    def __init__(self, data: Path) -> None:
        self.port = free_port()
        self.settings = Settings(data=data, port=self.port)
        begun = time.monotonic()
        super().__init__("conosco.cli.main", "serve", "--data", str(data), "--port", str(self.port))
        if not self.line().startswith("ready "):
            self.stop()
            raise SystemExit("the installation did not become ready")
        self.ready_s = time.monotonic() - begun
        self.write_key = (open_keys(self.settings).secret("write_key") or b"").decode()
        self.client = Client("127.0.0.1", self.port, Folder(data).admin_token.read_text().strip(), self.write_key)

    def define(self, kind: str, body: dict[str, Any]) -> None:
        """Make a definition; returns once it is applied."""
        self.client.ask("POST", f"/api/{kind}", body)

    def settle(self, within_s: float) -> dict[str, Any]:
        """Wait until all that was accepted is applied and warehoused; the status at the end, whichever it is."""
        deadline = time.monotonic() + within_s
        while True:
            status: dict[str, Any] = self.client.ask("GET", "/api/status")
            ended = status["applied"] + status["duplicates"] + status["quarantined"] + status["erased"]
            if (ended == status["accepted"] and status["warehoused"] == status["applied"]) or time.monotonic() > deadline:
                return status
            time.sleep(0.2)

    def roles(self) -> dict[str, int]:
        """The process id of each role, the supervisor's included."""
        found = {"supervisor": self.pid}
        for children in Path(f"/proc/{self.pid}/task").glob("*/children"):
            for pid in map(int, children.read_text().split()):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if b"--role" in words:
                    found[words[words.index(b"--role") + 1].decode()] = pid
        return found


def memory_bytes(pid: int) -> tuple[int, int]:
    """(resident, proportional) bytes of a process; shared pages count in full in the first, by their share in the second."""
    sizes = {"Rss": 0, "Pss": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in sizes:
            sizes[name] = int(rest.split()[0]) << 10
    return sizes["Rss"], sizes["Pss"]


def processor_seconds(pid: int) -> float:
    """Processor time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def folder_bytes(path: Path) -> int:
    """Size of all files of a folder, or of one file; 0 if there is none."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
