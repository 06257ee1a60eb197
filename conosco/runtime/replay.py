"""Replay: derive State anew from the log, beside the live one, and compare. It derives and never acts."""

from collections.abc import Callable, Sequence
from typing import Any

from conosco.govern.gate import Gate
from conosco.model.record import Draft, Record
from conosco.ports.log import Appended, Head, Log
from conosco.ports.state import State
from conosco.runtime.worker import Worker


class UpTo:
    """A log that ends at a position and cannot be written: what a replay reads."""

    def __init__(self, log: Log, position: int) -> None:
        self._log = log
        self._position = position

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        """Never: in replay nothing is appended."""
        raise PermissionError("a replay appends nothing")

    def read(self, after: int, max_records: int, max_bytes: int = 64_000_000) -> list[Record]:
        """As the log, up to the end position."""
        if after >= self._position:
            return []
        return [
            record
            for record in self._log.read(after, min(max_records, self._position - after), max_bytes)
            if record.position <= self._position
        ]

    def head(self) -> Head:
        """The end position."""
        head = self._log.head()
        return head if head.position <= self._position else Head(self._position, head.logged_at, head.chain)

    def count(self, after: int) -> int:
        """As the log."""
        return self._log.count(after)

    def prune(self, before: int) -> int:
        """Never."""
        raise PermissionError("a replay prunes nothing")

    def erase(self, slices: Sequence[tuple[int, int]]) -> int:
        """Never."""
        raise PermissionError("a replay erases nothing")

    def verify(self, after: int = 0) -> list[tuple[int, int]]:
        """As the log."""
        return self._log.verify(after)

    def close(self) -> None:
        """The log belongs to the caller."""


def rebuild(
    log: Log,
    state: State,
    position: int,
    secret: bytes,
    gate: Gate,
    note: Callable[[str, dict[str, Any]], None],
    progress: Callable[[int], None] = lambda position: None,
    events_per_batch: int = 1_000,
) -> None:
    """Fill an empty State from the log up to a position; ``progress`` is told how far it is after each micro-batch."""
    worker = Worker(UpTo(log, position), state, secret, gate, lambda: 0, note, events_per_batch)
    while worker.step():
        progress(worker.position)
