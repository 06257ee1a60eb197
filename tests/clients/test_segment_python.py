"""The unmodified Segment SDK for Python: every call, through every fault, arrives exactly once by message id."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from segment.analytics.client import Client

from tests.clients.fault_proxy import Fault, FaultProxy
from tests.clients.station import WRITE_KEY, Station, assert_exactly_once

AT = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
ODD = {
    "whole": 2**53 - 1,
    "small": 1.5e-7,
    "tenth": 0.1,
    "none": None,
    "nul": "a\0b",
    "Case": 1,
    "case": 2,
    "d.o.t": 1,
    "ключ🙂": "ż",
}


def call_everything(client: Any, round_name: str) -> dict[str, dict[str, Any]]:
    """Make every kind of call once; returns what each event must say, by message id."""
    sent: dict[str, dict[str, Any]] = {}

    def call(kind: str, expected: dict[str, Any], /, **arguments: Any) -> None:
        message_id = f"{round_name}-{kind}-{len(sent)}"
        accepted, _ = getattr(client, kind)(**arguments, message_id=message_id, timestamp=AT)
        assert accepted
        sent[message_id] = {"type": kind, "timestamp": AT.isoformat(timespec="milliseconds"), **expected}

    traits = {"email": "ada@example.com", "plan": "gold"}
    call("identify", {"userId": "ada", "traits": traits}, user_id="ada", traits=traits)
    call("identify", {"userId": None, "anonymousId": "a-1"}, anonymous_id="a-1", traits={})
    call("track", {"event": "Order Completed", "properties": ODD}, user_id="ada", event="Order Completed", properties=ODD)
    call("track", {"userId": "42"}, user_id=42, event="By number", context={"ip": "192.0.2.1"}, integrations={"All": False})
    call("page", {"name": "Home", "category": None}, user_id="ada", name="Home", properties={"url": "https://shop.example/"})
    call("screen", {"name": "Start", "category": "app"}, anonymous_id="a-1", category="app", name="Start")
    call("group", {"groupId": "acme", "traits": {"size": 5}}, user_id="ada", group_id="acme", traits={"size": 5})
    call("alias", {"previousId": "a-1", "userId": "ada"}, previous_id="a-1", user_id="ada")
    return sent


@pytest.mark.parametrize("zipped", [False, True])
def test_everything_arrives_once_through_every_fault(tmp_path: Path, zipped: bool) -> None:
    plan: list[Fault] = ["500", "close_after", "pass", "429", "close_before", "pass", "503", "close_after"]
    errors: list[Exception] = []
    with Station(tmp_path) as station, FaultProxy(station.port, plan) as proxy:
        client = Client(
            WRITE_KEY,
            host=f"http://127.0.0.1:{proxy.port}",
            gzip=zipped,
            upload_size=8,
            upload_interval=0.05,
            on_error=lambda error, batch: errors.append(error),
        )
        sent: dict[str, dict[str, Any]] = {}
        for number in range(5):
            sent |= call_everything(client, f"round-{number}")
        client.flush()
        client.join()
        assert errors == []
        assert proxy.done[: len(plan)] == plan
        assert_exactly_once(station, sent, copies_min=2)


def test_a_wrong_key_is_told_and_stores_nothing(tmp_path: Path) -> None:
    errors: list[Any] = []
    with Station(tmp_path) as station:
        client = Client("wrong", host=f"http://127.0.0.1:{station.port}", on_error=lambda error, batch: errors.append(error))
        client.track(user_id="ada", event="Viewed")
        client.flush()
        client.join()
        assert [error.status for error in errors] == [401]
        assert station.log.head().position == 0
