"""The change feed: what a micro-batch collects, and nothing where nothing changed."""

import msgspec

from conosco.engines.memory.state import MemoryState
from conosco.model.outcome import Outcome
from conosco.ports.tables import BACKFILL_FEED, FEED, MembershipRow, decode_row
from conosco.runtime.feed import Feed

OUTCOME = Outcome(
    position=3,
    slot=1,
    message_id="m",
    source_id="s",
    outcome="quarantined",
    reason="too_deep",
    params={"limit": 64},
    decided_at=9,
)
ROW = MembershipRow(
    segment="s", profile_id="pro_1", entered_at=5, exited_at=None, because=b'{"cause":"event"}', position=3, ordinal=2
)


def test_nothing_is_written_where_nothing_changed() -> None:
    state = MemoryState()
    state.begin(1)
    feed = Feed()
    feed.add("links", [])
    feed.memberships([], 3)
    assert not feed.write(state, 1, 3)
    state.commit(None)
    assert state.scan(FEED) == []


def test_rows_go_under_the_names_of_their_columns() -> None:
    state = MemoryState()
    state.begin(1)
    feed = Feed()
    feed.applied += [(3, 0), (4, 2)]
    feed.outcome(OUTCOME)
    feed.memberships([ROW, msgspec.structs.replace(ROW, exited_at=7, exit_because=b'{"cause":"timer"}')], 4)
    feed.add("links", [{"kind": "observed"}])
    assert feed.write(state, 8, 4)
    assert feed.write(state, 1, 4, BACKFILL_FEED)
    state.commit(None)
    ((key, raw),) = state.scan(FEED)
    assert state.scan(BACKFILL_FEED) == [((1,), raw)]
    row = decode_row(FEED, raw)
    body = msgspec.msgpack.decode(row.body)
    assert (key, row.position) == ((8,), 4)
    assert body["applied"] == [[3, 0], [4, 2]]
    assert msgspec.convert(body["outcomes"][0], Outcome) == OUTCOME
    first, second = body["memberships"]
    assert (first["entered_position"], first["ordinal"], first["position"], first["exit_because"]) == (3, 2, 4, None)
    assert (second["exited_at"], second["exit_because"]) == (7, '{"cause":"timer"}')
    assert body["links"] == [{"kind": "observed"}]
