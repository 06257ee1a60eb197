"""A full disk: nothing more is acknowledged, and what was is kept; once there is room again all goes on by itself."""

import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.running.installation import Answer, Installation, is_settled, until

DISK = "96m"
NOT_READY_WITHIN_S = 5.0
EVENTS_PER_BATCH = 50


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own, which only root can make."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Take every byte that is left."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue


class Sender:
    """Sends batches and remembers which message ids were acknowledged."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._number = 0
        self.acknowledged: list[str] = []

    def send(self) -> Answer:
        self._number += 1
        ids = [f"disk-{self._number}-{index}" for index in range(EVENTS_PER_BATCH)]
        events = [
            {"type": "track", "event": "Written", "userId": f"user-{index}", "messageId": each, "properties": {"text": "x" * 200}}
            for index, each in enumerate(ids)
        ]
        answer = self._installation.track(json.dumps({"batch": events}).encode())
        if answer.status == 200:
            self.acknowledged += ids
        return answer


def test_a_full_disk_is_told_and_survived(folder: Path) -> None:
    with small_disk(folder / "disk") as disk, Installation(disk) as installation:
        sender = Sender(installation)
        spec = {"language": 1, "where": {"kind": "did", "event": "Written", "times": {"min": 3}}}
        installation.post("/api/segments", {"key": "writers", "name": "Writers", "purpose": "operations", "spec": spec})
        for _ in range(10):
            assert sender.send().status == 200
        installation.settled()
        supervisor = installation.supervisor
        fill(disk / "ballast")
        until(lambda: installation.ask("GET", "/health/ready").status == 503, "it says it is not ready", NOT_READY_WITHIN_S)
        assert installation.ask("GET", "/health/live").status == 200
        refused = send_until_refused(sender)
        # Whatever still finds room meanwhile is acknowledged truly; every process meets the full disk.
        for _ in range(30):
            assert sender.send().status in (200, 503)
        assert (refused.status, refused.json()["success"]) == (503, False)
        assert int(refused.headers["retry-after"]) >= 1
        check_writes_are_refused(installation)
        # What can be read is still read.
        assert installation.get("/api/profiles/user_id:user-1")["identifiers"]
        before = installation.status()
        assert before["accepted"] >= len(sender.acknowledged)

        (disk / "ballast").unlink()
        until(lambda: installation.ask("GET", "/health/ready").status == 200, "it is ready again")
        until(lambda: sender.send().status == 200, "events are taken again")
        status = installation.settled()
        assert installation.supervisor == supervisor
        assert is_settled(status)
        found = installation.sql("select message_id from events")
        assert len(found) == len({row[0] for row in found}) == status["applied"]
        assert {row[0] for row in found} >= set(sender.acknowledged)
        members = installation.get("/api/segments/writers/members?limit=1000")["items"]
        assert len(members) == EVENTS_PER_BATCH
        installation.post("/api/purposes", {"key": "later", "name": "Later", "basis": "consent"})
        live, rebuilt, code = installation.replay()
        assert (live, code) == (rebuilt, 0)


def send_until_refused(sender: Sender) -> Answer:
    """The log may have room in files that are already there; it must refuse once that is used up."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            answer = sender.send()
        except (OSError, http.client.HTTPException):
            continue
        if answer.status != 200:
            return answer
    raise AssertionError("the disk is full and still events are acknowledged")


def check_writes_are_refused(installation: Installation) -> None:
    """Definitions need the log too: the answer is a problem that asks to try again."""
    refused = installation.api("POST", "/api/purposes", {"key": "now", "name": os.urandom(200_000).hex(), "basis": "consent"})
    assert (refused.status, refused.headers["content-type"]) == (503, "application/problem+json")
    assert refused.json()["code"] == "log_full"
    assert int(refused.headers["retry-after"]) >= 1
