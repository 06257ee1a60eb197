"""Every table of State with its row type: the one list that stages, readers, digest and erasure share.

Rows are MessagePack arrays (msgspec), so fields are only ever appended to a row type, with a default. Row types are
mutable on purpose: the worker changes them in place inside a micro-batch, and drops them all if it must start over.
Integers that stand for people and identifiers never leave State.
"""

from typing import Any, Final

import msgspec

from conosco.model.outcome import Reason
from conosco.ports.state import Table


class Row(msgspec.Struct, array_like=True, kw_only=True):
    """Base of all row types."""


class MetaRow(Row):
    """A named value of the worker itself: counters, cursors, installation facts."""

    value: Any = None


class DefinitionRow(Row):
    """A definition as JSON, by kind and key (the current one) or by kind, key and version (all of them)."""

    body: bytes


class DedupRow(Row):
    """Where the first event with this key lies."""

    position: int
    slot: int


class QuarantineRow(Row):
    """An event kept aside; its bytes stay in the log at its address, which is this row's key."""

    message_id: str
    source_id: str
    reason: Reason
    params: dict[str, str | int]
    stage: str
    attempts: int
    quarantined_at: int


class IdentifierRow(Row):
    """An identifier's number and the raw component (everything connected by any link) that it lies in."""

    number: int
    component: int


class MemberRow(Row):
    """An identifier inside its component; ``person`` is the number of its person's anchor."""

    number: int
    namespace: str
    value: str
    first_seen_at: int
    person: int


class LinkRow(Row):
    """A link inside its component; ``refused_by`` names the rule if it is contested."""

    left: int
    right: int
    kind: str
    first_seen_at: int
    position: int
    evidence: str
    link_id: str = ""
    refused_by: str = ""
    retracted_position: int | None = None
    # For alias: the previousId as sent, whose namespace depends on the evidence.
    previous_id: str = ""


class ComponentRow(Row):
    """A raw component. ``plain`` is True while it is exactly one person, so that a union needs no second look."""

    members: list[MemberRow]
    links: list[LinkRow]
    plain: bool = True


class PersonRow(Row):
    """A person: the anchor identifier, its cells, the segments it is in now and the timer that is armed."""

    profile_id: str
    anchor: tuple[str, str]
    cells: list[int]
    first_seen_at: int
    last_seen_at: int
    # Segment number -> (entered_at, because as JSON, backfill).
    memberships: dict[int, tuple[int, bytes, bool]] = {}
    due: int = 0
    identifiers: list[tuple[str, str, int]] = []


class CellRow(Row):
    """What live conditions need of one identifier's events: rows by stream number, in order of time.

    A stream's entry is (count, sum and oldest time of rows no longer kept, then the kept rows).
    """

    streams: dict[int, list[Any]] = {}
    # Events that lie up to five minutes ahead: (event_at, position, slot), applied when their time comes.
    pending: list[tuple[int, int, int]] = []


class TraitRow(Row):
    """All kept observations of the traits of one cell: name -> [(event_at, source_id, message_id, priority, value JSON)]."""

    traits: dict[str, list[tuple[int, str, str, int, bytes]]] = {}


class ProfileRow(Row):
    """Who a profile id, current or former, stands for: the identifier that anchors or once anchored it."""

    anchor: int
    namespace: str
    value: str


class MembershipRow(Row):
    """A membership, current (exited_at None) or past. ``position`` is where it was entered."""

    segment: str
    profile_id: str
    entered_at: int
    exited_at: int | None
    because: bytes
    position: int
    backfill: bool = False


class OutboxRow(Row):
    """A delivery to be made or made: an Intent and an account of its attempts."""

    intent: bytes
    state: str
    attempts: int
    due_at: int
    code: str = ""
    updated_at: int = 0


class FlagRow(Row):
    """A row that says all with its key."""


class FeedRow(Row):
    """What one micro-batch changed, for the warehouse: {table: [row, ...]} as MessagePack."""

    body: bytes
    position: int


META: Final = Table(name="meta", key=(("name", "text"),))
DEFINITIONS: Final = Table(name="definitions", key=(("kind", "text"), ("key", "text")))
DEFINITION_VERSIONS: Final = Table(
    name="definition_versions", key=(("kind", "text"), ("key", "text"), ("version", "int"))
)
DEDUP: Final = Table(name="dedup", key=(("key", "bytes"),))
QUARANTINE: Final = Table(name="quarantine", key=(("position", "int"), ("slot", "int")))
IDENTIFIERS: Final = Table(name="identifiers", key=(("namespace", "text"), ("value", "text")))
COMPONENTS: Final = Table(name="components", key=(("component", "int"),))
PERSONS: Final = Table(name="persons", key=(("person", "int"),))
CELLS: Final = Table(name="cells", key=(("person", "int"), ("cell", "int")))
TRAITS: Final = Table(name="traits", key=(("person", "int"), ("cell", "int")))
PROFILES: Final = Table(name="profiles", key=(("profile_id", "text"),))
MEMBERS: Final = Table(name="members", key=(("segment", "int"), ("person", "int")))
MEMBERSHIPS: Final = Table(name="memberships", key=(("profile_id", "text"), ("position", "int"), ("ordinal", "int")))
TIMERS: Final = Table(name="timers", key=(("due", "int"), ("person", "int")))
OUTBOX: Final = Table(name="outbox", key=(("delivery_id", "text"),))
OUTBOX_DUE: Final = Table(name="outbox_due", key=(("due", "int"), ("delivery_id", "text")))
FEED: Final = Table(name="feed", key=(("sequence", "int"),), digest=False)

ROWS: Final[dict[str, type[Row]]] = {
    "meta": MetaRow,
    "definitions": DefinitionRow,
    "definition_versions": DefinitionRow,
    "dedup": DedupRow,
    "quarantine": QuarantineRow,
    "identifiers": IdentifierRow,
    "components": ComponentRow,
    "persons": PersonRow,
    "cells": CellRow,
    "traits": TraitRow,
    "profiles": ProfileRow,
    "members": FlagRow,
    "memberships": MembershipRow,
    "timers": FlagRow,
    "outbox": OutboxRow,
    "outbox_due": FlagRow,
    "feed": FeedRow,
}
TABLES: Final = (
    META,
    DEFINITIONS,
    DEFINITION_VERSIONS,
    DEDUP,
    QUARANTINE,
    IDENTIFIERS,
    COMPONENTS,
    PERSONS,
    CELLS,
    TRAITS,
    PROFILES,
    MEMBERS,
    MEMBERSHIPS,
    TIMERS,
    OUTBOX,
    OUTBOX_DUE,
    FEED,
)
_DECODERS: Final = {name: msgspec.msgpack.Decoder(row) for name, row in ROWS.items()}
_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")


def decode_row(table: Table, raw: bytes) -> Any:
    """Decode a row of this table."""
    return _DECODERS[table.name].decode(raw)


def encode_row(row: Row) -> bytes:
    """Encode a row; equal rows give equal bytes, whatever the order in which they were filled."""
    return _ENCODER.encode(row)
