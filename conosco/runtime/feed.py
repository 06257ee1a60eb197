"""The change feed: what one micro-batch changed, as rows for the warehouse."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from conosco.model.outcome import Outcome
from conosco.ports.state import State, Table
from conosco.ports.tables import FEED, FeedRow, MembershipRow, encode_row


class Feed:
    """Collects rows by table; empty ones are not written."""

    def __init__(self) -> None:
        self.applied: list[tuple[int, int]] = []
        self.rows: dict[str, list[Mapping[str, Any]]] = {}

    def add(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows whose names are the warehouse's columns."""
        self.rows.setdefault(table, []).extend(rows)

    def memberships(self, versions: Iterable[MembershipRow], position: int) -> None:
        """Add versions of membership rows; the greatest ``version`` of a (profile_id, entered_position, ordinal) counts."""
        self.add("memberships", (membership_version(row, position) for row in versions))

    def outcome(self, outcome: Outcome) -> None:
        """Add the Outcome of an event that was not simply applied."""
        self.add("outcomes", [msgspec.structs.asdict(outcome)])

    def write(self, state: State, sequence: int, position: int, table: Table = FEED) -> bool:
        """Write the collected rows as one feed row; False if there are none."""
        body: dict[str, Any] = {name: rows for name, rows in self.rows.items() if rows}
        if self.applied:
            body["applied"] = self.applied
        if not body:
            return False
        row = FeedRow(body=msgspec.msgpack.encode(body), position=position)
        state.put_many(table, {(sequence,): encode_row(row)})
        return True


def membership_version(row: MembershipRow, position: int) -> dict[str, Any]:
    """A membership row as the warehouse keeps it."""
    return {
        "profile_id": row.profile_id,
        "segment": row.segment,
        "entered_at": row.entered_at,
        "exited_at": row.exited_at,
        "because": row.because.decode(),
        "exit_because": row.exit_because.decode() or None,
        "backfill": row.backfill,
        "entered_position": row.position,
        "ordinal": row.ordinal,
        "position": position,
    }
