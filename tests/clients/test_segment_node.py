"""The unmodified Segment SDK for Node: every call, through every fault, arrives exactly once by message id."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.fault_proxy import Fault, FaultProxy
from tests.clients.station import WRITE_KEY, Station, assert_exactly_once

FOLDER = Path(__file__).with_name("node")

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (FOLDER / "node_modules").is_dir(),
    reason="needs Node and the packages of tests/clients/node (npm ci)",
)


def test_everything_arrives_once_through_every_fault(tmp_path: Path) -> None:
    plan: list[Fault] = ["500", "close_after", "429", "503", "close_before", "pass", "close_after"]
    with Station(tmp_path) as station, FaultProxy(station.port, plan) as proxy:
        made = subprocess.run(
            ["node", "send.mjs", f"http://127.0.0.1:{proxy.port}", WRITE_KEY, "5"],
            cwd=FOLDER,
            capture_output=True,
            text=True,
            timeout=90,
            check=True,
        )
        told = json.loads(made.stdout)
        assert told["failures"] == []
        assert proxy.done[: len(plan)] == plan
        assert_exactly_once(station, told["sent"], copies_min=2)


def test_the_lock_file_names_no_registry() -> None:
    packages = json.loads((FOLDER / "package-lock.json").read_text())["packages"]
    assert len(packages) > 2
    assert not [name for name, package in packages.items() if "resolved" in package]
