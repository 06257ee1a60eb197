"""Duplicates: an event is known by a keyed hash of its source and message id; a known one with another body is a conflict."""

import hashlib
from typing import Literal

from conosco.collect.understand import canonical_body
from conosco.model.event import Event
from conosco.ports.log import Log
from conosco.ports.tables import DEDUP, DedupRow
from conosco.ports.work import Work

Sameness = Literal["new", "same", "conflict"]


def dedup_key(secret: bytes, source_id: str, message_id: str) -> tuple[bytes]:
    """The 128-bit key of a message of a source: keyed, so that nobody can choose colliding ids."""
    text = f"{len(source_id)}:{source_id}{message_id}".encode("utf-8", "surrogatepass")
    return (hashlib.blake2b(text, digest_size=16, key=secret[:64]).digest(),)


def recognise_message(work: Work, log: Log, key: tuple[bytes], event: Event) -> Sameness:
    """Note a message under its dedup key, or recognise it. The first body is read again from the log only if the message is known.

    A first body that was erased cannot conflict with anything.
    """
    row: DedupRow | None = work.get(DEDUP, key)
    if row is None:
        work.put(DEDUP, key, DedupRow(position=event.position, slot=event.slot))
        return "new"
    if (row.position, row.slot) == (event.position, event.slot):
        return "new"
    first, second = body_at(log, row.position, row.slot), body_at(log, event.position, event.slot)
    if first is None or second is None or first == second:
        return "same"
    return "same" if canonical_body(first) == canonical_body(second) else "conflict"


def body_at(log: Log, position: int, slot: int) -> bytes | None:
    """An event's bytes as received; None if they were erased or pruned."""
    records = log.read(position - 1, 1)
    if not records or records[0].position != position or slot + 1 >= len(records[0].slices):
        return None
    return records[0].slices[slot + 1]
