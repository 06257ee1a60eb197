"""Finished files of the log are sealed while the installation works, and everything goes on as if nothing had happened."""

import json
from pathlib import Path
from typing import Any

from tests.running.installation import Installation, is_settled, until

EVENTS_PER_BATCH = 100
BATCHES = 60


def batch(number: int, text: str = "x" * 500) -> bytes:
    events: list[dict[str, Any]] = [
        {
            "type": "track",
            "event": "Written",
            "userId": f"user-{index}",
            "messageId": f"seal-{number}-{index}",
            "timestamp": "2026-01-05T10:00:00Z",
            "properties": {"text": f"{number}-{index}-{text}"},
        }
        for index in range(EVENTS_PER_BATCH)
    ]
    return json.dumps({"batch": events}).encode()


def test_sealed_records_are_as_good_as_any(folder: Path) -> None:
    with Installation(folder, {"CONOSCO_LOG_SEGMENT_MB": "1"}) as installation:
        log = installation.data / "log"
        for number in range(BATCHES):
            assert installation.track(batch(number)).status == 200
        until(lambda: len(list(log.glob("*.sealed"))) >= 3, "files are sealed")
        until(lambda: len(list(log.glob("*.sqlite"))) == 1, "only the newest file is as it was")
        status = installation.settled()
        assert status["applied"] == BATCHES * EVENTS_PER_BATCH
        # What was sealed is still known: the same again is a duplicate, and what differs is compared with the sealed bytes.
        assert installation.track(batch(0)).status == 200
        assert installation.track(batch(1, "another text")).status == 200
        status = installation.settled()
        assert (status["duplicates"], status["quarantined"]) == (EVENTS_PER_BATCH, EVENTS_PER_BATCH)
        assert is_settled(status)
        assert {kept["reason"] for kept in installation.get("/api/quarantine?limit=100")["items"]} == {"conflicting_duplicate"}
        live, rebuilt, code = installation.replay()
        assert (live, code) == (rebuilt, 0)
        installation.stop()
        installation.start()
        assert installation.track(batch(2)).status == 200
        assert installation.settled()["duplicates"] == 2 * EVENTS_PER_BATCH
