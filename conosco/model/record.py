"""The log record: a header, slices with a salt each, and a chain that stays verifiable when a slice is erased.

A slice's hash is keyed by its salt, and the chain covers header and slice hashes only: destroying a slice together
with its salt leaves nothing to guess from, while every other byte of the log can still be proven.
"""

import hashlib
from collections.abc import Sequence
from secrets import token_bytes
from typing import Final, Literal

import msgspec

RecordKind = Literal["request", "definition", "control", "decision", "delivery", "tick", "erased"]

SCHEMA: Final = 1
SALT_BYTES: Final = 16
HASH_BYTES: Final = 32
GENESIS: Final = bytes(HASH_BYTES)

# Flags of a record.
IMPORTED: Final = 1
# Its slices are no events but bodies, which the mappings of its source turn into events.
MAPPED: Final = 2


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be appended. The log adds position, logged_at, salts, hashes and the chain."""

    kind: RecordKind
    source_id: str = ""
    flags: int = 0
    slices: tuple[bytes, ...] = ()


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A record as read back. An erased slice and its salt are None; its hash stays."""

    position: int
    kind: RecordKind
    schema: int
    logged_at: int
    source_id: str
    flags: int
    hashes: bytes
    chain: bytes
    salts: tuple[bytes | None, ...]
    slices: tuple[bytes | None, ...]


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Slice 0 of a request: everything that was received beside the events themselves.

    ``call`` is the type implied by the path (empty where each event names its own), ``message_ids`` the ids given to
    events that came without one (slot to id), ``shared`` the batch's own members as received, without the write key. Records
    of an import name it, and the last row of its file that they hold or that was rejected before them.
    """

    received_at: int
    call: str = ""
    sent_at: str | None = None
    header_sent_at: str | None = None
    header_anonymous_id: str | None = None
    message_ids: dict[int, str] = {}
    shared: msgspec.Raw = msgspec.Raw(b"{}")
    client: str = ""
    # Of a webhook: the id of the body as received, and the path of the list whose elements the slices are; ``shared`` then
    # keeps the rest of the body.
    body_id: str = ""
    each: tuple[str, ...] = ()
    import_id: str = ""
    import_row: int = 0


def slice_stride(slices: int) -> int:
    """The distance of two slots of one slice, for a record with so many slices beside its envelope: a power of two."""
    return 1 << max(0, slices - 1).bit_length()


def slice_of(record: Record, slot: int) -> int:
    """The index of the slice that the event at a slot was read from.

    A slice of a webhook may hold several events; the further ones lie a stride, two strides, ... behind the first. In every
    other record an event has a slice of its own.
    """
    return slot % slice_stride(len(record.slices) - 1) + 1


def fresh_salts(count: int) -> tuple[bytes, ...]:
    """Draw one random salt for each slice."""
    drawn = token_bytes(SALT_BYTES * count)
    return tuple(drawn[at : at + SALT_BYTES] for at in range(0, len(drawn), SALT_BYTES))


def slice_hashes(slices: Sequence[bytes], salts: Sequence[bytes]) -> bytes:
    """Hash every slice with its salt; 32 bytes each, joined."""
    return b"".join(
        hashlib.blake2b(body, digest_size=HASH_BYTES, key=salt).digest() for body, salt in zip(slices, salts, strict=True)
    )


def next_chain(
    previous: bytes, position: int, kind: RecordKind, schema: int, logged_at: int, source_id: str, flags: int, hashes: bytes
) -> bytes:
    """The chain value of a record: it binds the previous value, the header and the slice hashes."""
    header = msgspec.msgpack.encode((position, kind, schema, logged_at, source_id, flags))
    return hashlib.blake2b(previous + header + hashes, digest_size=HASH_BYTES).digest()


def verify(record: Record, previous: bytes) -> list[int]:
    """Check a record against the chain before it.

    Returns the slots of slices whose bytes do not match their hash; -1 stands for the header or the chain itself.
    """
    wrong = [
        index
        for index, (body, salt) in enumerate(zip(record.slices, record.salts, strict=True))
        if body is not None
        and salt is not None
        and hashlib.blake2b(body, digest_size=HASH_BYTES, key=salt).digest()
        != record.hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES]
    ]
    expected = next_chain(
        previous,
        record.position,
        record.kind,
        record.schema,
        record.logged_at,
        record.source_id,
        record.flags,
        record.hashes,
    )
    if expected != record.chain or len(record.hashes) != HASH_BYTES * len(record.slices):
        wrong.insert(0, -1)
    return wrong
