"""Clients that send: a real SDK in a process of its own, a source and a lane for each, and an installation for all of them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.clients.calls import rounds
from tests.clients.fault_proxy import Fault, FaultProxy, Lane
from tests.running.installation import Installation

HERE = Path(__file__).parent
NODE_MODULES = HERE / "node" / "node_modules"
# What the first bodies of a client suffer, one fault a time they are sent; no SDK gives up after two.
PLAN: Sequence[Sequence[Fault]] = (
    ("500",),
    ("close_after",),
    (),
    ("429",),
    ("503", "close_after"),
    ("slow",),
    ("close_before",),
    (),
    ("close_after", "500"),
)
BEHIND_S = 3600
# How long a client may take; SDKs wait longer and longer between the times they send.
PATIENCE_S = 90


class Sdk(NamedTuple):
    """What differs between SDKs: ``tells_clock`` if it says when it sends, ``number_ids`` if it takes ids that are numbers."""

    tells_clock: bool = True
    number_ids: bool = True


SERVERS: Mapping[str, Sdk] = {
    "segment-python": Sdk(),
    "segment-python gzip": Sdk(),
    "rudder-python gzip": Sdk(),
    "segment-node": Sdk(number_ids=False),
    "rudder-node": Sdk(),
    "old-analytics-node": Sdk(),
    "customerio-node": Sdk(tells_clock=False, number_ids=False),
}


class Sending:
    """One client: what it calls, what becomes of its requests, and what it says in the end."""

    def __init__(
        self, installation: Installation, proxy: FaultProxy, name: str, calls: list[dict[str, Any]], faulty: bool
    ) -> None:
        self.name = name
        self.calls = calls
        self.plan: Sequence[Sequence[Fault]] = PLAN if faulty else ()
        self.lane: Lane = proxy.lane(self.plan)
        self.url = f"http://127.0.0.1:{self.lane.port}"
        key = name.replace("-", "_").replace(" ", "_") + ("" if faulty else "_slow_clock")
        source = installation.post("/api/sources", {"key": key, "name": name, "type": "server", "region": "eu"})
        self.source_id: str = source["id"]
        self.write_key: str = source["write_key"]
        self.started_at = datetime.now(UTC)
        self._process: subprocess.Popen[str] | None = None
        self.ended_at = self.started_at
        self.problem = ""

    def start(self, folder: Path, behind_s: int) -> None:
        """Let the SDK make the calls."""
        calls = folder / f"{self.source_id}.json"
        calls.write_text(json.dumps(self.calls))
        words = [self.name, self.url, self.write_key, str(calls), str(behind_s)]
        command = [sys.executable, "python/send.py"] if "python" in self.name else ["node", "node/send.mjs"]
        self.started_at = datetime.now(UTC)
        self._process = subprocess.Popen(
            [*command, *words], cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
        )

    def wait(self, patience_s: float = PATIENCE_S) -> None:
        """Wait for the end of the SDK; ``problem`` then says what went wrong, if something did."""
        assert self._process is not None
        try:
            said, complained = self._process.communicate(timeout=patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            said, complained = self._process.communicate()
            self.problem = "did not end: "
        self.ended_at = datetime.now(UTC)
        if self._process.returncode or said.strip() != "[]":
            self.problem += f"{self._process.returncode} {said} {complained}"


def missing(name: str) -> str:
    """Why a client cannot run here; empty if it can."""
    if "python" in name:
        return ""
    return "" if shutil.which("node") and NODE_MODULES.is_dir() else "needs Node and the packages of tests/clients/node (npm ci)"


def start_all(
    installation: Installation, proxy: FaultProxy, folder: Path, rounds_each: int
) -> Mapping[tuple[str, bool], Sending]:
    """Start every client that can run here twice: through faults, and with a slow clock but no faults."""
    sendings = {}
    for name, sdk in SERVERS.items():
        for faulty in (True, False):
            if not missing(name):
                who, count = name.replace(" ", "-"), rounds_each
                if not faulty:
                    who, count = f"{who}-slow", 1
                calls = rounds(who, count, number_ids=sdk.number_ids)
                sendings[name, faulty] = Sending(installation, proxy, name, calls, faulty)
    for (_, faulty), sending in sendings.items():
        sending.start(folder, 0 if faulty else BEHIND_S)
    return sendings
