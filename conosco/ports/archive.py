"""The Archive door: the care of a Log's finished files, apart from those who append and read. One process uses it at a time."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from conosco.model.record import Record

# The keyed hashes of the identifiers in a record's slices, as (slice index, hash); a hash is 8 bytes.
Identify = Callable[[Record], Iterable[tuple[int, bytes]]]
HASH_KEY_BYTES = 8


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """What one sealing did. ``bytes_before`` and ``bytes_after`` are of files on the disk, the index included."""

    number: int
    first: int
    last: int
    records: int
    events: int
    bytes_before: int
    bytes_after: int


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """Damage that was found: when (microseconds), which file, what it was, and how many records are lost by it.

    ``kept`` names the copy of the damaged bytes inside the log's ``damage`` folder; empty if the file still lies in its place.
    """

    found_at: int
    file: str
    what: str
    lost: int = 0
    kept: str = ""


class Stock(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the log: its positions, and whether it is sealed or still to be."""

    name: str
    first: int
    last: int
    first_logged_at: int
    last_logged_at: int
    is_sealed: bool
    bytes: int


class Archive(Protocol):
    """Sealing, finding by identifier, and what is known of damage."""

    def seal(self, identify: Identify, pause: Callable[[], None]) -> Sealed | None:
        """Rewrite the oldest finished file in the form for keeping, with an index of identifiers; None if none is left.

        Readers go on meanwhile, and a kill at any moment leaves the file as it was or as it will be. ``pause`` is called
        about every 0.1 s of work and may wait or raise. A file that does not verify is left as it is, with an Alarm.
        Raises LogFull if there is no room.
        """

    def find(self, hashes: Sequence[bytes], identify: Identify) -> list[tuple[int, int]]:
        """(position, slice index) of every slice with one of these hashes: by index in sealed files, by reading in others.

        A hash of 8 bytes may rarely be another identifier's: whoever destroys what is found looks at it first.
        """

    def stock(self) -> list[Stock]:
        """The files of the log, oldest first."""

    def examine(self, progress: Callable[[int], None]) -> list[tuple[int, int]]:
        """As ``Log.verify`` from the beginning; ``progress`` is told the position reached."""

    def mend(self) -> int:
        """Look at every byte of sealed files and turn back single bits that have fallen over; how many files were mended."""

    def alarms(self) -> list[Alarm]:
        """Damage found since the folder was made, oldest first. At most 1,000 are kept."""

    def raise_alarm(self, alarm: Alarm) -> None:
        """Keep an alarm durably. One that says the same of the same file again is not added."""

    def close(self) -> None:
        """Release files."""
