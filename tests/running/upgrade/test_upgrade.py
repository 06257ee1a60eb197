"""A server takes over a folder of the previous format, its truth untouched; and one of a newer format is refused."""

import subprocess
import tarfile
from pathlib import Path

import pytest

from conosco.runtime.bootstrap import Folder
from conosco.runtime.migrations.step import read_format, write_format
from conosco.runtime.migrations.steps import STEPS
from tests.running.installation import COMMAND, Installation
from tests.running.power.operations_folder import PREVIOUS, truth


@pytest.fixture
def older(folder: Path) -> Installation:
    """An installation whose folder is of the previous format; it is not started."""
    installation = Installation(folder)
    with tarfile.open(PREVIOUS) as archive:
        archive.extractall(installation.data, filter="data")
    return installation


def run(installation: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=installation.environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_folder_of_the_previous_format_is_taken_over(older: Installation, folder: Path) -> None:
    before = truth(older.data)
    refused = run(older, "replay", "--data", str(older.data))
    assert refused.returncode == 2
    assert "older than format" in refused.stderr
    with older as installation:
        assert installation.settled()["applied"] == 6
        assert read_format(installation.data).format == len(STEPS)
        live, rebuilt, exit_code = installation.replay()
        assert (exit_code, live) == (0, rebuilt)
        assert installation.stop() == 0
        # Stopping and starting again migrates nothing and takes no second backup.
        installation.start()
        installation.settled()
        assert installation.stop() == 0
    assert truth(older.data) == before
    (backup,) = Folder(older.data).backups.iterdir()
    # The way back: the backup from before the upgrade.
    where = ("--from", str(backup), "--to", str(folder / "back"), "--key-file", str(older.data / "backup-key"))
    assert run(older, "restore", *where).returncode == 0
    assert truth(folder / "back") == before


def test_a_folder_of_a_newer_format_is_refused_and_left_alone(older: Installation) -> None:
    write_format(older.data, read_format(older.data), len(STEPS) + 1, "newer", 0)
    before = {path: path.read_bytes() for path in older.data.rglob("*") if path.is_file()}
    for command in (["serve", "--port", str(older.port)], ["serve", "--role", "worker"], ["replay"]):
        refused = run(older, command[0], "--data", str(older.data), *command[1:])
        assert refused.returncode == 2
        assert f"has format {len(STEPS) + 1}" in refused.stderr
        assert f"up to {len(STEPS)}" in refused.stderr
        assert "Traceback" not in refused.stderr
    after = {path: path.read_bytes() for path in older.data.rglob("*") if path.is_file() and path.name != "serve.lock"}
    assert after == before
