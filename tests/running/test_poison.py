"""Hostile events among good ones: they are kept aside with their bytes, the others go on, and what was mended is applied once."""

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from conosco.model.record import slice_of
from conosco.runtime.bootstrap import open_log
from conosco.runtime.settings import Settings
from tests.running.good_requests import HOOK_SOURCE, MAPPING
from tests.running.installation import Installation
from tests.running.test_bad_input import QUARANTINED

PER_BATCH = 200
# A batch with a hostile event in it may be much larger than others.
HOSTILE_BATCH = 5
# Bodies of webhooks in another shape than their source's mapping expects: these can be mended.
CHANGED = {"rows": [{"kind": "opened", "user": "u", "at": 1_780_000_000}]}
MENDED = {**MAPPING, "each": ["rows"], "message_id": {"path": ["item", "id"]}, "objects": []}
del MENDED["when"]


def poisoned(installation: Installation, good: int, hostile: int) -> None:
    """Send so many good events and so many hostile ones among them, then mend what can be mended and replay it."""
    chance = Random(f"poison/{good}")
    write_key = installation.post("/api/sources", HOOK_SOURCE)["write_key"]
    spoiled = {f"bad-{number}": chance.choice(list(QUARANTINED.values())) for number in range(hostile // 2)}
    bodies = {f"hook-{number}": changed(number) for number in range(hostile - len(spoiled))}
    sending = [[event(number) for number in range(start, min(start + PER_BATCH, good))] for start in range(0, good, PER_BATCH)]
    for start in range(0, len(spoiled), HOSTILE_BATCH):
        for message_id, (members, _) in list(spoiled.items())[start : start + HOSTILE_BATCH]:
            chance.choice(sending).insert(0, broken(message_id, members))
    hooks = list(bodies.values())
    for index, batch in enumerate(sending):
        answer = installation.track({"batch": batch})
        assert answer.status == 200, answer
        for body in hooks[index :: len(sending)]:
            assert installation.ask("POST", f"/webhooks/tickets/{write_key}", body).json() == {"success": True, "stored": 1}
    status = installation.settled()
    expected = {"accepted": good + hostile, "applied": good, "quarantined": hostile, "duplicates": 0, "warehoused": good}
    assert {name: status[name] for name in expected} == expected
    check_kept(installation, spoiled, bodies)
    # What was not mended stays as it was.
    assert installation.post("/api/quarantine/replay", {})["count"] == hostile
    assert {name: installation.settled()[name] for name in expected} == expected
    installation.put("/api/sources/tickets", {**HOOK_SOURCE, "spec": {"mappings": [MENDED]}})
    assert installation.post("/api/quarantine/replay", {"source": "tickets"})["count"] == len(bodies)
    for _ in range(2):
        status = installation.settled()
        assert (status["applied"], status["quarantined"], status["duplicates"]) == (good + len(bodies), len(spoiled), 0)
        assert installation.post("/api/quarantine/replay", {"source": "tickets"})["count"] == 0
    counted = "select count(*), count(distinct message_id) from events where event = 'Ticket Opened'"
    assert installation.sql(counted) == [[len(bodies)] * 2]
    reasons = installation.sql("select reason, count(*) from outcomes where outcome = 'applied' group by all order by all")
    assert reasons == [["applied", good], ["applied_after_replay", len(bodies)]]
    # The good ones are unharmed, each with all that it said.
    right = "select count(*), count(distinct message_id), sum(cast(properties->>'n' as bigint)) from events where event = 'Good'"
    assert installation.sql(right) == [[good, good, good * (good - 1) // 2]]
    live, rebuilt, code = installation.replay()
    assert (live, code) == (rebuilt, 0)


def event(number: int) -> dict[str, Any]:
    """A good event."""
    return {
        "type": "track",
        "event": "Good",
        "userId": f"u-{number % 500}",
        "messageId": f"good-{number}",
        "properties": {"n": number},
    }


def broken(message_id: str, members: dict[str, Any]) -> dict[str, Any]:
    """An event that breaks a rule."""
    made = {"type": "track", "event": "Bad", "userId": "prober", "messageId": message_id, **members}
    return {name: value for name, value in made.items() if value is not None}


def changed(number: int) -> bytes:
    """A body that the source's mapping does not know, spelled as no program of ours would."""
    body = {**CHANGED, "rows": [{**CHANGED["rows"][0], "id": f"hook-{number}"}]}
    return json.dumps(body, indent=3).encode() + b"\n \n"


def check_kept(installation: Installation, spoiled: dict[str, Any], bodies: dict[str, bytes]) -> None:
    """Each hostile event is in quarantine under its reason, with the bytes that were sent."""
    items: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = installation.get(f"/api/quarantine?limit=500&cursor={cursor}")
        items += page["items"]
        cursor = page["next"]
    assert len(items) == len(spoiled) + len(bodies)
    of_sdk = [item for item in items if item["reason"] not in ("no_mapping_applies", "mapping_finds_nothing")]
    assert Counter(item["reason"] for item in of_sdk) == Counter(reason for _, reason in spoiled.values())
    assert {item["message_id"]: item["reason"] for item in of_sdk} == {name: reason for name, (_, reason) in spoiled.items()}
    log = open_log(Settings(data=installation.data))
    raw = {}
    for item in items:
        record = log.read(item["position"] - 1, 1)[0]
        raw[item["position"], item["slot"]] = record.slices[slice_of(record, item["slot"])] or b""
    sent = [json.dumps(broken(name, members)).encode() for name, (members, _) in spoiled.items()]
    assert Counter(map(bytes.strip, raw.values())) == Counter(body.strip() for body in (*sent, *bodies.values()))


def test_hostile_events_harm_no_others_and_what_is_mended_is_applied_once(folder: Path) -> None:
    with Installation(folder) as installation:
        poisoned(installation, 2_000, 120)


@pytest.mark.deep
@pytest.mark.timeout(1_800)
def test_a_thousand_hostile_events_among_a_hundred_thousand(folder: Path) -> None:
    with Installation(folder) as installation:
        poisoned(installation, 100_000, 1_000)
