"""Retention by class: what is kept for how long, what a pass would destroy, and the pass itself.

Only raw requests have a limit of their own. Everything else that lies in State follows the log: were its rows removed behind
the log's back, a rebuild would bring them back.
"""

from collections.abc import Callable, Iterator
from typing import Final, Literal

import msgspec

from conosco.model.moment import DAY
from conosco.model.record import Record
from conosco.ports.archive import Archive, Stock
from conosco.ports.log import Log
from conosco.ports.state import State, scan_all
from conosco.ports.tables import QUARANTINE

READ_RECORDS: Final = 500
# Slices that are erased in one call: about what one or two parts of a sealed file hold.
ERASE_SLICES: Final = 50_000

RetentionClass = Literal["raw", "quarantine", "deliveries", "feed", "dedup"]
# Classes that are kept for ever, and what would be lost otherwise.
FOR_EVER: Final[dict[RetentionClass, str]] = {
    "quarantine": "kept_until_replayed",
    "deliveries": "proves_who_was_contacted",
    "feed": "refills_the_warehouse",
    "dedup": "recognises_what_is_sent_again",
}


class ClassPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a pass would destroy of one class. ``keep_days`` 0 is for ever; ``reason`` says why nothing can be pruned."""

    kind: RetentionClass
    keep_days: int
    files: int = 0
    requests: int = 0
    events: int = 0
    bytes: int = 0
    # Positions up to here are concerned, and requests logged before this moment.
    until_position: int = 0
    before: int = 0
    reason: str = ""


class Retention:
    """One pass at a time. ``settled`` is the position up to which State and warehouse have what they need of the log."""

    def __init__(
        self, log: Log, archive: Archive, state: State, keep_raw_days: int, clock: Callable[[], int], settled: Callable[[], int]
    ) -> None:
        self._log = log
        self._archive = archive
        self._state = state
        self._keep_raw_days = keep_raw_days
        self._clock = clock
        self._settled = settled
        self._emptied: set[str] = set()

    def plan(self) -> list[ClassPlan]:
        """What a pass would destroy now. Nothing is changed; reads the files that it would touch."""
        plans = [ClassPlan(kind=kind, keep_days=0, reason=reason) for kind, reason in FOR_EVER.items()]
        before = self._before()
        requests = events = size = files = until = 0
        for file in self._due():
            found = 0
            for record, slots in self._targets(file):
                requests += 1
                events += sum(slot > 0 for slot in slots)
                size += sum(len(record.slices[slot] or b"") for slot in slots)
                found = until = record.position
            files += bool(found)
        raw = ClassPlan(
            kind="raw",
            keep_days=self._keep_raw_days,
            files=files,
            requests=requests,
            events=events,
            bytes=size,
            until_position=until,
            before=before,
        )
        return [raw, *plans]

    def run(self, pause: Callable[[], None]) -> int:
        """Destroy what is due; how many slices that were. Killed at any moment, the next pass finishes it. Raises LogFull."""
        destroyed = 0
        for file in self._due():
            slices: list[tuple[int, int]] = []
            for record, slots in self._targets(file):
                slices += ((record.position, slot) for slot in slots)
                if len(slices) >= ERASE_SLICES:
                    destroyed += self._log.erase(slices)
                    slices = []
                    pause()
            destroyed += self._log.erase(slices) if slices else 0
            self._emptied.add(file.name)
            pause()
        return destroyed

    def _before(self) -> int:
        return self._clock() - self._keep_raw_days * DAY if self._keep_raw_days else 0

    def _due(self) -> list[Stock]:
        """Sealed files all of whose records are old enough and no longer needed."""
        if not self._keep_raw_days:
            return []
        before, settled = self._before(), self._settled()
        return [
            file
            for file in self._archive.stock()
            if file.is_sealed and file.last_logged_at < before and file.last <= settled and file.name not in self._emptied
        ]

    def _targets(self, file: Stock) -> Iterator[tuple[Record, list[int]]]:
        """The requests of a file with the slices that are still there; quarantined events are left alone, envelope included."""
        kept = {key[:2] for key, _ in scan_all(self._state, QUARANTINE)}
        kept_requests = {position for position, _ in kept}
        after = file.first - 1
        while after < file.last:
            records = self._log.read(after, min(READ_RECORDS, file.last - after))
            if not records:
                return
            for record in records:
                if record.kind != "request":
                    continue
                slots = [
                    slot
                    for slot, body in enumerate(record.slices)
                    if body is not None
                    and (slot > 0 or record.position not in kept_requests)
                    and (record.position, slot - 1) not in kept
                ]
                if slots:
                    yield record, slots
            after = records[-1].position
