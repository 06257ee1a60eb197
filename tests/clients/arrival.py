"""What is asserted of everything that a client sent: it is there once, says what was said, and happened when it happened."""

import json
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.clients.calls import columns
from tests.clients.sending import Client
from tests.running.installation import Installation, until

COLUMNS = (
    "message_id type event user_id anonymous_id group_id home_namespace profile_id event_at logged_at properties traits context"
)
# A clock is known as exactly as a request is quick, also on a machine that has much to do.
EXACTNESS = timedelta(seconds=60)
# A smaller difference between two clocks is the way's.
SKEW_MIN = timedelta(seconds=5)


def events_of(installation: Installation, source_id: str) -> dict[str, dict[str, Any]]:
    """The events of a source by message id, as the management API tells them. None may be there twice."""
    sql = f"select {', '.join(COLUMNS.split())} from events where source_id = ?"
    rows = [dict(zip(COLUMNS.split(), row, strict=True)) for row in installation.sql(sql, source_id)]
    found = {row["message_id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def assert_exactly_once(installation: Installation, client: Client, message_ids: Iterable[str]) -> None:
    """Each message is applied once, and each further copy that was acknowledged has an outcome; there is nothing else."""
    lane = client.lane
    until(lambda: lane.forwarding == 0, "what the client no longer waits for has been answered")
    expected = {(message_id, "applied", "applied"): 1 for message_id in message_ids}
    assert set(lane.stored) == {message_id for message_id, _, _ in expected}
    for message_id, copies in lane.stored.items():
        same, other = duplicates(copies)
        expected[message_id, "duplicate", "same_message"] = same
        expected[message_id, "quarantined", "conflicting_duplicate"] = other
    sql = "select message_id, outcome, reason from outcomes where source_id = ?"
    told = Counter(tuple(row) for row in installation.sql(sql, client.source_id))
    assert (told - Counter(expected), Counter(expected) - told) == (Counter(), Counter())
    assert events_of(installation, client.source_id).keys() == lane.stored.keys()


def duplicates(copies: list[dict[str, Any]]) -> tuple[int, int]:
    """How many further copies of a message say the same as the first, and how many do not."""
    first, *others = [{name: copy[name] for name in copy if name not in {"sentAt", "_metadata", "writeKey"}} for copy in copies]
    same = sum(other == first for other in others)
    return same, len(others) - same


def assert_says(row: dict[str, Any], call: dict[str, Any]) -> None:
    """An event says what was called. SDKs add to contexts, and to the properties of pages and screens."""
    expected = columns(call)
    assert {name: row[name] for name in expected} == expected
    exact = call["type"] not in {"page", "screen"}
    for name in ("properties", "traits", "context"):
        told, said = read(row[name]), read(json.dumps(call.get(name, {})))
        missing = {key: value for key, value in said.items() if key not in told or told[key] != value}
        assert not missing, (call["messageId"], name, missing, told)
        if exact and name != "context" and name in call:
            assert set(told) == set(said), (call["messageId"], name)


def assert_when(row: dict[str, Any], call: dict[str, Any], client: Client, behind: timedelta, *, corrected: bool = True) -> None:
    """An event happened when the caller says; what the caller leaves open happened while it ran.

    ``behind`` is by how much the sender's clock was slow, ``corrected`` whether the server can know that.
    """
    at = datetime.fromisoformat(row["event_at"])
    if not corrected:
        at += behind
    if "timestamp" not in call:
        assert client.started_at - EXACTNESS < at < client.ended_at + EXACTNESS, (call, at)
        return
    off = at - datetime.fromisoformat(call["timestamp"]) - behind
    if behind:
        assert abs(off) < EXACTNESS, (call, at)
    else:
        # A right clock is not touched, but for a body that was under way for so long that its clock seems slow: some SDKs
        # repeat the same bytes with the moment at which they sent them first.
        assert not off or SKEW_MIN <= off < EXACTNESS, (call, at)


def assert_people(installation: Installation, client: Client, people: int, aliases: int) -> None:
    """The people are as many as the calls say: no empty id joined them, and each alias did."""
    sql = "select count(distinct profile_id), count(profile_id), count(*) from events where source_id = ?"
    [[found, with_person, events]] = installation.sql(sql, client.source_id)
    assert found == people
    assert with_person == events
    assert installation.sql("select count(*) from identifiers where value = ''") == [[0]]
    sql = (
        "select count(distinct (u.value, g.value)) from identifiers u join identifiers g using (profile_id) "
        "join events e on e.user_id = u.value "
        "where e.type = 'alias' and e.source_id = ? and u.namespace = 'user_id' and g.namespace = 'anonymous_id'"
    )
    assert installation.sql(sql, client.source_id) == [[aliases]]


def read(text: Any) -> Any:
    """JSON with its numbers as exact as they were written."""
    return json.loads(text, parse_float=Decimal) if text else {}
