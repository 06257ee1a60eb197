"""What each source has brought, counted by the worker in one small row a source. Derived from the log alone, in its order."""

from collections.abc import Sequence
from typing import Any

from conosco.model.outcome import OutcomeKind
from conosco.ports.tables import META, MetaRow
from conosco.ports.work import Work

# The value of a row: first and last logged_at of its events, then how many events ended in which way.
_KINDS: tuple[OutcomeKind, ...] = ("applied", "duplicate", "quarantined", "erased")
_FIRST, _LAST, _COUNTS = 0, 1, 2


def activity_key(source_id: str) -> str:
    """The name of a source's row in META."""
    return f"source {source_id}"


def read_activity(value: Any) -> tuple[int | None, int | None, dict[OutcomeKind, int]]:
    """(first, last, counts by outcome) of a row's value; None and zeros for a source that has brought nothing."""
    if not value:
        return None, None, dict.fromkeys(_KINDS, 0)
    return value[_FIRST], value[_LAST], dict(zip(_KINDS, value[_COUNTS:], strict=True))


class SourceActivity:
    """The counts of one micro-batch, written with it."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int]] = {}
        self._counts: dict[str, list[int]] = {}

    def note(self, source_id: str, logged_at: int, kinds: Sequence[OutcomeKind]) -> None:
        """Events of one request and how they ended."""
        first, _ = self._seen.get(source_id, (logged_at, logged_at))
        self._seen[source_id] = (first, logged_at)
        counts = self._of(source_id)
        for kind in kinds:
            counts[_KINDS.index(kind)] += 1

    def move(self, source_id: str, before: OutcomeKind, *after: OutcomeKind) -> None:
        """What was counted as one event ended in another way after all, or turned out to be several."""
        counts = self._of(source_id)
        counts[_KINDS.index(before)] -= 1
        for kind in after:
            counts[_KINDS.index(kind)] += 1

    def write(self, work: Work) -> None:
        """Add to what is known."""
        for source_id, counts in self._counts.items():
            key = (activity_key(source_id),)
            known: MetaRow | None = work.get(META, key)
            first, last = self._seen.get(source_id, (None, None))
            value: list[Any] = list(known.value) if known is not None else [first, last, *(0 for _ in _KINDS)]
            value[_LAST] = value[_LAST] if last is None else last
            value[_COUNTS:] = [old + new for old, new in zip(value[_COUNTS:], counts, strict=True)]
            work.put(META, key, MetaRow(value=value))

    def _of(self, source_id: str) -> list[int]:
        counts = self._counts.get(source_id)
        if counts is None:
            counts = self._counts[source_id] = [0] * len(_KINDS)
        return counts
