"""Every table of State with its row type: the one list that stages, readers, digest and erasure share.

Rows are MessagePack arrays (msgspec), so fields are only ever appended to a row type, with a default. Row types are
mutable on purpose: the worker changes them in place inside a micro-batch, and drops them all if it must start over.
Integers that stand for people and identifiers never leave State.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from conosco.model.moment import LATEST
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
    """Dedup keys, 16 bytes each, and the address of the first event with each, 8 bytes (position << 16 | slot, little-endian)."""

    keys: bytes
    addresses: bytes


class FilterRow(Row):
    """A part of a filter over sealed dedup keys: bits, eight to a byte, the least first."""

    bits: bytes


class QuarantineRow(Row):
    """An event kept aside; its bytes stay in the log at its address, which is this row's key."""

    message_id: str
    source_id: str
    reason: Reason
    params: dict[str, str | int]
    stage: str
    attempts: int
    quarantined_at: int


class MappedByRow(Row):
    """The version of its source by which a body was mapped when it was replayed."""

    version: int


class IdentifierRow(Row):
    """An identifier's number, the raw component (everything connected by any link) that it lies in, and its person.

    ``person`` is the number of the person's anchor, 0 while no evidence stands for the identifier. ``sighted_at`` is the
    earliest event that carried it, LATEST if none did. ``partner`` and ``partnered_at`` repeat one link from a home
    identifier (its number and first_seen_at), so that an event that adds nothing needs no component. ``hub`` counts the
    stronger identifiers it was observed with once they are too many for it to link; 0 while it is no hub.
    """

    number: int
    component: int
    person: int = 0
    sighted_at: int = LATEST
    partner: int = 0
    partnered_at: int = 0
    hub: int = 0


class MemberRow(Row):
    """An identifier inside its component; ``person`` is the number of its person's anchor."""

    number: int
    namespace: str
    value: str
    first_seen_at: int
    person: int
    hub: bool = False


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


class HubLinkRow(Row):
    """A link to a hub. It joins nobody, so it lies apart from the components, with the texts of the other end."""

    link: LinkRow
    namespace: str
    value: str


class LinkPlaceRow(Row):
    """Where a link with an id is: in the component of this identifier."""

    namespace: str
    value: str


class ComponentRow(Row):
    """A raw component. ``plain`` is True while it is exactly one person, so that a union needs no second look."""

    members: list[MemberRow]
    links: list[LinkRow]
    plain: bool = True


class PersonRow(Row):
    """A person: the anchor identifier, its cells, the segments it is in now and the timer that is armed.

    ``cells`` and ``identifiers`` (namespace, value, first_seen_at) run in parallel. The row is written only when a person
    is regrouped, enters or leaves, or a timer moves: most events touch their cell alone.
    """

    profile_id: str
    anchor: tuple[str, str]
    cells: list[int]
    identifiers: list[tuple[str, str, int]]
    # Segment number -> (entered_at, position and ordinal of its row in memberships).
    memberships: dict[int, tuple[int, int, int]] = {}
    due: int = 0


class CellRow(Row):
    """What live conditions need of one identifier's events: rows by stream number, in order of time.

    A stream's entry is [count, sum (millionths, as text: it may exceed 64 bits) and newest time of rows folded away,
    times, addresses, extras]; extras stay empty unless the stream carries a value.
    """

    streams: dict[int, list[Any]] = {}
    # Events that lie up to five minutes ahead: (event_at, position, slot), applied when their time comes.
    pending: list[tuple[int, int, int]] = []
    # Whether there is a traits row for the cell, and what it says now of traits that conditions read: name -> (event_at of
    # the newest observation, priority and event_at of the winning one, its value). Only short values are repeated here.
    is_described: bool = False
    told: dict[str, tuple[int, int, int, bytes]] = {}


class TraitRow(Row):
    """All kept observations of the traits of one cell: name -> [(event_at, source_id, message_id, priority, value JSON)]."""

    traits: dict[str, list[tuple[int, str, str, int, bytes]]] = {}


class ProfileRow(Row):
    """Who a profile id, current or former, stands for: its anchor identifier and, once former, the members it had."""

    anchor: int
    namespace: str
    value: str
    members: list[tuple[str, str]] = []


class MembershipRow(Row):
    """A membership, current (exited_at None) or past. ``position`` is where it was entered."""

    segment: str
    profile_id: str
    entered_at: int
    exited_at: int | None
    because: bytes
    position: int
    ordinal: int = 0
    backfill: bool = False
    exit_because: bytes = b""


class ObjectRow(Row):
    """What is known of an object: per property the observation that is latest by (event_at, source_id, message_id).

    ``state`` maps a name to (event_at, source_id, message_id, value as JSON); the value null makes the property absent.
    ``first_at`` and ``last_at`` are the earliest and the latest event that spoke of it.
    """

    first_at: int
    last_at: int
    state: dict[str, tuple[int, str, str, bytes]] = {}


class ObjectPersonRow(Row):
    """What one identifier's person has to do with an object: role -> (first event_at, last event_at)."""

    namespace: str
    value: str
    roles: dict[str, tuple[int, int]] = {}


class OutboxRow(Row):
    """A delivery to be made or made: an Intent and an account of its attempts."""

    intent: bytes
    state: str
    attempts: int
    due_at: int
    code: str = ""
    updated_at: int = 0


class EndedRow(Row):
    """Deliveries that ended at one moment, which is this row's key: what leaves State when that has become long ago."""

    delivery_ids: list[str]


class TallyRow(Row):
    """How a destination has fared: deliveries by state, attempts by code, and the latest of each kind.

    Deliveries that left State stay counted. ``latencies_us`` are those of the latest attempts that were delivered.
    """

    states: dict[str, int] = {}
    codes: dict[str, int] = {}
    latencies_us: list[int] = []
    delivered_at: int = 0
    failed_at: int = 0
    failed_code: str = ""


class FlagRow(Row):
    """A row that says all with its key."""


class FeedRow(Row):
    """What one micro-batch changed, for the warehouse: {table: [row, ...]} as MessagePack."""

    body: bytes
    position: int


META: Final = Table(name="meta", key=(("name", "text"),))
# How far transports and chunked work have come: depends on batch sizes, so it is no part of the digest.
CURSORS: Final = Table(name="cursors", key=(("name", "text"),), digest=False)
DEFINITIONS: Final = Table(name="definitions", key=(("kind", "text"), ("key", "text")))
DEFINITION_VERSIONS: Final = Table(name="definition_versions", key=(("kind", "text"), ("key", "text"), ("version", "int")))
# Dedup keys in order of the log: one row for each record that brought any, until they are sealed.
DEDUP_RECENT: Final = Table(name="dedup_recent", key=(("position", "int"),))
# Sealed dedup keys, sorted within runs that are never touched again. A page lies under the number of its run (4 bytes, the
# highest first) and its last key, so that the first page from (run, key) on is the only one that can hold the key.
DEDUP: Final = Table(name="dedup", key=(("last", "bytes"),))
DEDUP_FILTERS: Final = Table(name="dedup_filters", key=(("filter", "int"), ("part", "int")))
QUARANTINE: Final = Table(name="quarantine", key=(("position", "int"), ("slot", "int")))
# Bodies of webhooks that were mapped later than they were received: by position and index of the slice.
MAPPED_BY: Final = Table(name="mapped_by", key=(("position", "int"), ("slice", "int")))
IDENTIFIERS: Final = Table(name="identifiers", key=(("namespace", "text"), ("value", "text")))
COMPONENTS: Final = Table(name="components", key=(("component", "int"),))
# Links to a hub: number of the hub, then of the link's left and right end.
HUB_LINKS: Final = Table(name="hub_links", key=(("hub", "int"), ("left", "int"), ("right", "int")))
LINK_PLACES: Final = Table(name="link_places", key=(("link_id", "text"),))
PERSONS: Final = Table(name="persons", key=(("person", "int"),))
CELLS: Final = Table(name="cells", key=(("person", "int"), ("cell", "int")))
TRAITS: Final = Table(name="traits", key=(("person", "int"), ("cell", "int")))
PROFILES: Final = Table(name="profiles", key=(("profile_id", "text"),))
MEMBERS: Final = Table(name="members", key=(("segment", "int"), ("person", "int")))
MEMBERSHIPS: Final = Table(name="memberships", key=(("profile_id", "text"), ("position", "int"), ("ordinal", "int")))
TIMERS: Final = Table(name="timers", key=(("due", "int"), ("person", "int")))
OBJECTS: Final = Table(name="objects", key=(("kind", "text"), ("object_id", "text")))
# By the cell of the home identifier, so that merges and un-merges follow without a change here; and the way back.
OBJECT_PEOPLE: Final = Table(name="object_people", key=(("kind", "text"), ("object_id", "text"), ("cell", "int")))
CELL_OBJECTS: Final = Table(name="cell_objects", key=(("cell", "int"), ("kind", "text"), ("object_id", "text")))
OUTBOX: Final = Table(name="outbox", key=(("delivery_id", "text"),))
# By destination first: a dead one's backlog is passed in one step, however long it is.
OUTBOX_DUE: Final = Table(name="outbox_due", key=(("destination", "text"), ("due", "int"), ("delivery_id", "text")))
# What ended when: one row for each moment at which any delivery did.
OUTBOX_ENDED: Final = Table(name="outbox_ended", key=(("ended", "int"),))
TALLIES: Final = Table(name="tallies", key=(("destination", "text"),))
FEED: Final = Table(name="feed", key=(("sequence", "int"),), digest=False)
# Feed of a backfill, kept back until its last chunk so that memberships appear together.
BACKFILL_FEED: Final = Table(name="backfill_feed", key=(("sequence", "int"),), digest=False)

ROWS: Final[dict[str, type[Row]]] = {
    "meta": MetaRow,
    "cursors": MetaRow,
    "definitions": DefinitionRow,
    "definition_versions": DefinitionRow,
    "dedup_recent": DedupRow,
    "dedup": DedupRow,
    "dedup_filters": FilterRow,
    "quarantine": QuarantineRow,
    "mapped_by": MappedByRow,
    "identifiers": IdentifierRow,
    "components": ComponentRow,
    "hub_links": HubLinkRow,
    "link_places": LinkPlaceRow,
    "persons": PersonRow,
    "cells": CellRow,
    "traits": TraitRow,
    "profiles": ProfileRow,
    "members": FlagRow,
    "memberships": MembershipRow,
    "timers": FlagRow,
    "objects": ObjectRow,
    "object_people": ObjectPersonRow,
    "cell_objects": FlagRow,
    "outbox": OutboxRow,
    "outbox_due": FlagRow,
    "outbox_ended": EndedRow,
    "tallies": TallyRow,
    "feed": FeedRow,
    "backfill_feed": FeedRow,
}
TABLES: Final = (
    META,
    CURSORS,
    DEFINITIONS,
    DEFINITION_VERSIONS,
    DEDUP_RECENT,
    DEDUP,
    DEDUP_FILTERS,
    QUARANTINE,
    MAPPED_BY,
    IDENTIFIERS,
    COMPONENTS,
    HUB_LINKS,
    LINK_PLACES,
    PERSONS,
    CELLS,
    TRAITS,
    PROFILES,
    MEMBERS,
    MEMBERSHIPS,
    TIMERS,
    OBJECTS,
    OBJECT_PEOPLE,
    CELL_OBJECTS,
    OUTBOX,
    OUTBOX_DUE,
    OUTBOX_ENDED,
    TALLIES,
    FEED,
    BACKFILL_FEED,
)
_DECODERS: Final = {name: msgspec.msgpack.Decoder(row) for name, row in ROWS.items()}
_ENCODER: Final = msgspec.msgpack.Encoder()


def row_decoder(table: Table) -> Callable[[bytes], Any]:
    """What decodes the rows of this table, for whoever decodes many."""
    return _DECODERS[table.name].decode


def decode_row(table: Table, raw: bytes) -> Any:
    """Decode a row of this table."""
    return _DECODERS[table.name].decode(raw)


def encode_row(row: Row) -> bytes:
    """Encode a row. Dictionaries keep the order in which the log filled them, which every replay repeats."""
    return _ENCODER.encode(row)
