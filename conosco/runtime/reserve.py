"""The disk's reserve: no event is taken any more while there is less free room than that, so that erasure, sealing and the
worker can still work on a disk that would otherwise be full."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from conosco.model.record import Draft, Record
from conosco.ports.log import Appended, Head, Log, LogFull

RESERVE_BYTES_LEAST: Final = 256 << 20
RESERVE_SHARE: Final = 0.02
# On a small disk a fixed amount would leave nothing to use.
RESERVE_SHARE_MOST: Final = 0.1


def reserve_bytes(total: int, reserve_mb: int | None) -> int:
    """How much room is kept free on a disk of so many bytes, as set or by default."""
    if reserve_mb is not None:
        return reserve_mb << 20
    return int(min(max(RESERVE_BYTES_LEAST, total * RESERVE_SHARE), total * RESERVE_SHARE_MOST))


def reserve_check(folder: Path, reserve_mb: int | None) -> Callable[[], int]:
    """A function that says how many bytes are missing from the reserve; 0 if it is whole. One call of the system, no reading."""

    return lambda: max(0, -spare_bytes(folder, reserve_mb))


def spare_bytes(folder: Path, reserve_mb: int | None) -> int:
    """How many bytes are free beyond the reserve; below zero while it is not whole."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize - reserve_bytes(disk.f_blocks * disk.f_frsize, reserve_mb)


class ReservedLog:
    """A Log that takes nothing while the reserve is not whole: what stands before those who could fill the disk."""

    def __init__(self, log: Log, missing: Callable[[], int]) -> None:
        self._log = log
        self._missing = missing

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        """As the log; raises LogFull while the disk has less free room than the reserve. Nothing of the call is kept then."""
        missing = self._missing()
        if missing:
            raise LogFull(f"the disk's reserve lacks {missing} bytes: free some room")
        return self._log.append(drafts)

    def read(self, after: int, max_records: int, max_bytes: int = 64_000_000) -> list[Record]:
        """As the log."""
        return self._log.read(after, max_records, max_bytes)

    def head(self) -> Head:
        """As the log."""
        return self._log.head()

    def count(self, after: int) -> int:
        """As the log."""
        return self._log.count(after)

    def prune(self, before: int) -> int:
        """As the log: it makes room."""
        return self._log.prune(before)

    def erase(self, slices: Sequence[tuple[int, int]]) -> int:
        """As the log: the reserve is there for this, too."""
        return self._log.erase(slices)

    def verify(self, after: int = 0) -> list[tuple[int, int]]:
        """As the log."""
        return self._log.verify(after)

    def close(self) -> None:
        """As the log."""
        self._log.close()
