"""Below the disk's reserve no event is taken, while everything that makes room or finishes work goes on; then it recovers."""

import json
from pathlib import Path

from tests.running.installation import Installation, until
from tests.running.test_disk_full import small_disk

RESERVE_MB = 40


def batch(number: int) -> bytes:
    return json.dumps(
        {"batch": [{"type": "track", "event": "Written", "userId": "u", "messageId": f"reserve-{number}"}]}
    ).encode()


def test_events_are_refused_before_the_disk_is_full(folder: Path) -> None:
    environment = {"CONOSCO_DISK_RESERVE_MB": str(RESERVE_MB)}
    with small_disk(folder / "disk") as disk, Installation(disk, environment) as installation:
        assert installation.track(batch(0)).status == 200
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            room = 96 * 1024 * 1024 - sum(path.stat().st_blocks * 512 for path in disk.rglob("*") if path.is_file())
            for _ in range((room - RESERVE_MB * 1024 * 1024) // (1 << 20) + 8):
                file.write(bytes(1 << 20))
        refused = installation.track(batch(1))
        assert (refused.status, refused.json()["success"]) == (503, False)
        assert int(refused.headers["retry-after"]) >= 1
        assert installation.ask("GET", "/health/ready").status == 503
        # The reserve is there for these: definitions and commands enter the log, and the worker applies them.
        made = installation.post("/api/purposes", {"key": "later", "name": "Later", "basis": "consent"})
        assert made["position"] > 0
        assert installation.settled()["applied"] == 1
        ballast.unlink()
        until(lambda: installation.ask("GET", "/health/ready").status == 200, "it is ready again")
        assert installation.track(batch(1)).status == 200
        assert installation.settled()["applied"] == 2
