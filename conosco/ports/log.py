"""The Log door: the one entrance and the only truth. Offsets live in State, so there is no commit call."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from conosco.model.record import Draft, Record

UNUSED_BYTES = -2


class Appended(msgspec.Struct, frozen=True):
    """Where a draft now lies; ``logged_at`` never decreases along the log, whatever the clock does."""

    position: int
    logged_at: int


class Head(msgspec.Struct, frozen=True):
    """The newest record's position, logged_at and chain value; (0, 0, GENESIS) for an empty log."""

    position: int
    logged_at: int
    chain: bytes


class LogFull(Exception):
    """The log cannot be written (disk full, read-only, a failed sync). Nothing of the call was kept; try again later."""


class Log(Protocol):
    """An append-only total order of records. Several processes may append to one log; each call is atomic."""

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        """Append all drafts, in order and next to one another. Returns only once they are durable.

        Raises LogFull if they could not be made so; then none of them is in the log.
        """

    def read(self, after: int, max_records: int, max_bytes: int = 64_000_000) -> list[Record]:
        """Read records with position > after, in order: at most ``max_records``, and no more once ``max_bytes`` are passed."""

    def head(self) -> Head:
        """The newest durable record. Cheap: workers poll it."""

    def count(self, after: int) -> int:
        """How many events lie in requests with position > after, read from headers alone."""

    def prune(self, before: int) -> int:
        """Drop records with position < before; returns how many. Whoever calls has sealed them elsewhere."""

    def erase(self, slices: Sequence[tuple[int, int]]) -> int:
        """Destroy (position, slice index) pairs and their salts, in every file; returns how many were there."""

    def verify(self, after: int = 0) -> list[tuple[int, int]]:
        """Recompute chain and hashes; (position, slice index or -1) for everything that does not match.

        An index of UNUSED_BYTES stands for bytes of a file, near that position, that no record depends on: nothing is lost.
        """

    def close(self) -> None:
        """Release files. Appended records are already durable."""
