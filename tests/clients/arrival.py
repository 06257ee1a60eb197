"""What is asserted of everything that a client sent: it is there once, says what was said, and happened when it happened."""

import json
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.clients.calls import PEOPLE_A_ROUND, columns
from tests.clients.fault_proxy import Lane
from tests.running.installation import Installation, until

COLUMNS = (
    "message_id type event user_id anonymous_id group_id home_namespace profile_id event_at logged_at properties traits context"
)
# A clock is known as exactly as a request is quick, also on a machine that has much to do.
EXACTNESS = timedelta(seconds=20)


def events_of(installation: Installation, source_id: str) -> dict[str, dict[str, Any]]:
    """The events of a source by message id, as the management API tells them. None may be there twice."""
    sql = f"select {', '.join(COLUMNS.split())} from events where source_id = ?"
    rows = [dict(zip(COLUMNS.split(), row, strict=True)) for row in installation.sql(sql, source_id)]
    found = {row["message_id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def assert_exactly_once(installation: Installation, source_id: str, lane: Lane, message_ids: list[str]) -> None:
    """Each message is applied once, and each further copy that was acknowledged is a duplicate of it; there is nothing else."""
    until(lambda: lane.forwarding == 0, "what the client no longer waits for has been answered")
    assert set(lane.stored) == set(message_ids)
    assert len(set(message_ids)) == len(message_ids)
    sql = "select message_id, outcome, reason from outcomes where source_id = ?"
    told = Counter(tuple(row) for row in installation.sql(sql, source_id))
    expected = Counter({(message_id, "applied", "applied"): 1 for message_id in message_ids})
    expected.update({(message_id, "duplicate", "same_message"): copies - 1 for message_id, copies in lane.stored.items()})
    assert told == +expected
    assert set(events_of(installation, source_id)) == set(message_ids)


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


def assert_when(row: dict[str, Any], call: dict[str, Any], sent: tuple[datetime, datetime], behind: timedelta) -> None:
    """An event happened when the caller says; what the caller leaves open happened while it ran.

    ``behind`` is by how much the sender's clock was slow, as far as the server can know that and corrects it.
    """
    at = datetime.fromisoformat(row["event_at"])
    if "timestamp" not in call:
        # In the present: not the last moment of a wrong clock, and not later than it was written down.
        assert sent[0] - EXACTNESS < at < sent[1] + EXACTNESS, (call["messageId"], at)
    elif behind:
        assert abs(at - datetime.fromisoformat(call["timestamp"]) - behind) < EXACTNESS, (call["messageId"], at)
    else:
        assert at == datetime.fromisoformat(call["timestamp"]), (call["messageId"], at)


def assert_people(installation: Installation, source_id: str, rounds: int) -> None:
    """The people of each round are as many as the calls say: no empty id joined them, and each alias did."""
    sql = "select count(distinct profile_id), count(profile_id), count(*) from events where source_id = ?"
    [[people, with_person, events]] = installation.sql(sql, source_id)
    assert people == rounds * PEOPLE_A_ROUND
    assert with_person == events
    assert installation.sql("select count(*) from identifiers where value = ''") == [[0]]
    sql = (
        "select count(*) from identifiers u join identifiers g using (profile_id) join events e on e.user_id = u.value "
        "where e.type = 'alias' and e.source_id = ? and u.namespace = 'user_id' and g.namespace = 'anonymous_id'"
    )
    assert installation.sql(sql, source_id) == [[rounds]]


def read(text: Any) -> Any:
    """JSON with its numbers as exact as they were written."""
    return json.loads(text, parse_float=Decimal) if text else {}
