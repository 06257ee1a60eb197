"""Clients that send: a real SDK in a process of its own, a source and a lane for each, and an installation for all of them."""

import json
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
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
# One that is told for how long to wait may come back with another batch, so nothing is planned for the second time.
Plan = Sequence[Sequence[Fault]]
PLAN: Plan = (
    ("500",),
    ("close_after",),
    (),
    ("429",),
    ("503",),
    ("slow",),
    ("close_before",),
    (),
    ("502_after",),
    ("500", "close_after"),
)
BEHIND_S = 3600
# How long a client may take; SDKs wait longer and longer between the times they send.
PATIENCE_S = 90


class Sdk(NamedTuple):
    """What differs between SDKs for servers: what its bodies are called, whether they are packed, ``tells_clock`` if it says
    when it sends, ``number_ids`` if it takes ids that are numbers.
    """

    content_type: str = "application/json"
    packed: bool = False
    tells_clock: bool = True
    number_ids: bool = True


SERVERS: Mapping[str, Sdk] = {
    "segment-python": Sdk(),
    "segment-python gzip": Sdk(packed=True),
    "rudder-python gzip": Sdk(packed=True),
    "segment-node": Sdk(number_ids=False),
    "rudder-node": Sdk(content_type="application/x-www-form-urlencoded", packed=True),
    "old-analytics-node": Sdk(),
    "customerio-node": Sdk(tells_clock=False, number_ids=False),
}


class Client(ABC):
    """One SDK with a source and a lane of its own: what it calls, what becomes of its requests, what goes wrong."""

    def __init__(
        self, installation: Installation, proxy: FaultProxy, key: str, source_type: str, calls: list[dict[str, Any]], plan: Plan
    ) -> None:
        self.calls = calls
        self.plan = plan
        self.lane: Lane = proxy.lane(plan)
        self.url = f"http://127.0.0.1:{self.lane.port}"
        source = installation.post("/api/sources", {"key": key, "name": key, "type": source_type, "region": "eu"})
        self.source_id: str = source["id"]
        self.write_key: str = source["write_key"]
        self.problem = ""
        self.started_at = self.ended_at = datetime.now(UTC)

    @abstractmethod
    def wait(self) -> None:
        """Wait until all is sent; ``problem`` then says what went wrong, if something did."""


class Program(Client):
    """An SDK for servers in a process of its own."""

    _process: subprocess.Popen[str]

    def start(self, name: str, folder: Path, behind_s: int) -> None:
        """Let the SDK make the calls."""
        calls = folder / f"{self.source_id}.json"
        calls.write_text(json.dumps(self.calls))
        words = [name, self.url, self.write_key, str(calls), str(behind_s)]
        command = [sys.executable, "python/send.py"] if "python" in name else ["node", "node/send.mjs"]
        self.started_at = datetime.now(UTC)
        self._process = subprocess.Popen(
            [*command, *words], cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
        )

    def wait(self) -> None:
        """Wait for the end of the SDK."""
        try:
            said, complained = self._process.communicate(timeout=PATIENCE_S)
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


def start_programs(
    installation: Installation, proxy: FaultProxy, folder: Path, rounds_each: int
) -> dict[tuple[str, bool], Program]:
    """Start every SDK for servers that can run here twice: through faults, and with a slow clock but no faults."""
    programs = {}
    for name, sdk in SERVERS.items():
        for faulty in (True, False):
            if not missing(name):
                who, count = name.replace(" ", "-"), rounds_each
                if not faulty:
                    who, count = f"{who}-slow", 1
                calls = rounds(who, count, number_ids=sdk.number_ids)
                programs[name, faulty] = Program(
                    installation, proxy, who.replace("-", "_"), "server", calls, PLAN if faulty else ()
                )
    for (name, faulty), program in programs.items():
        program.start(name, folder, 0 if faulty else BEHIND_S)
    return programs
