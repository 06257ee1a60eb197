"""Cells: what is kept of one identifier's events, so that a person is a fold of cells and a merge re-reads nothing."""

from bisect import bisect_right
from collections.abc import Sequence
from heapq import merge
from typing import Any, Final

from conosco.model.event import read_json
from conosco.ports.tables import CellRow, TraitRow
from conosco.rules.evaluate import Observation, Rows
from conosco.rules.values import number_at

# Observations kept of one trait in one cell. Beyond it go those that only repeat the value before and after them, so that
# the first of a stretch stays however often it is repeated, and then the least in winning order.
OBSERVATIONS_KEPT: Final = 16
# Rows of one stream in one cell before those outside every window are folded into its base, and how many stay.
ROWS_MOST: Final = 2_048
ROWS_KEPT: Final = 1_024
# Values up to this length are repeated beside the streams, where conditions find them without reading traits.
TOLD_BYTES_MAX: Final = 64
SLOT_BITS: Final = 16
NO_ROWS: Final = Rows((), (), ())


def address_of(position: int, slot: int) -> int:
    """An event's address as one integer."""
    return position << SLOT_BITS | slot


def split_address(address: int) -> tuple[int, int]:
    """(position, slot) of an address."""
    return address >> SLOT_BITS, address & (1 << SLOT_BITS) - 1


def insert_row(cell: CellRow, number: int, at: int, address: int, extra: Sequence[Any] | None, fold_before: int) -> None:
    """Insert an event's row into a stream in order of time.

    ``fold_before``: rows older than this lie outside every window that reads the stream and may be folded into its base.
    """
    entry = cell.streams.get(number)
    if entry is None:
        cell.streams[number] = [0, "0", 0, [at], [address], [] if extra is None else [extra]]
        return
    times: list[int] = entry[3]
    if entry[0] and at <= entry[2] and at < fold_before:
        _fold(entry, [at], [] if extra is None else [extra])
        return
    index = len(times) if not times or at >= times[-1] else bisect_right(times, at)
    times.insert(index, at)
    entry[4].insert(index, address)
    if extra is not None:
        entry[5].insert(index, extra)
    if len(times) > ROWS_MOST:
        spare = min(len(times) - ROWS_KEPT, bisect_right(times, fold_before - 1))
        if spare > 0:
            _fold(entry, times[:spare], entry[5][:spare])
            del times[:spare], entry[4][:spare], entry[5][:spare]


def _fold(entry: list[Any], times: Sequence[int], extras: Sequence[Sequence[Any]]) -> None:
    # An event may be older than 1970, so that 0 does not stand for none.
    entry[2] = max(entry[2], times[-1]) if entry[0] else times[-1]
    entry[0] += len(times)
    total = int(entry[1])
    for extra in extras:
        total += (number_at(read_json(extra[0]), ()) or 0) if extra[0] else 0
    entry[1] = str(total)


def fold_rows(cells: Sequence[CellRow], number: int) -> Rows:
    """The rows of a stream over all cells of a person."""
    entries = [entry for cell in cells if (entry := cell.streams.get(number)) is not None]
    if not entries:
        return NO_ROWS
    if len(entries) == 1:
        entry = entries[0]
        return Rows(entry[3], entry[4], entry[5], entry[0], int(entry[1]), entry[2])
    carrying = any(entry[5] for entry in entries)
    runs = [zip(entry[3], entry[4], entry[5] if carrying else [()] * len(entry[3]), strict=True) for entry in entries]
    rows = list(merge(*runs, key=lambda row: (row[0], row[1])))
    return Rows(
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows] if carrying else (),
        sum(entry[0] for entry in entries),
        sum(int(entry[1]) for entry in entries),
        max((entry[2] for entry in entries if entry[0]), default=0),
    )


def observe(row: TraitRow, name: str, seen: Observation) -> bool:
    """Keep an observation of a trait; False if it was known or is too old to matter."""
    kept = row.traits.setdefault(name, [])
    packed = (seen.event_at, seen.source_id, seen.message_id, seen.priority, seen.value)
    if packed in kept:
        return False
    kept.append(packed)
    if len(kept) > OBSERVATIONS_KEPT:
        kept.sort(key=lambda entry: (entry[3], entry[0], entry[1], entry[2]))
        dropped = kept.pop(_least_needed(kept))
        return dropped != packed
    return True


def _least_needed(kept: Sequence[tuple[int, str, str, int, bytes]]) -> int:
    """The first that says what its neighbours of the same priority say; the least of all if there is none."""
    told = [(entry[3], entry[4]) for entry in kept]
    return next((place for place in range(1, len(told) - 1) if told[place - 1] == told[place] == told[place + 1]), 0)


def tell(cell: CellRow, row: TraitRow, name: str) -> None:
    """Repeat in the cell what its traits row says of a trait; a long value is left to that row."""
    kept = row.traits[name]
    event_at, _, _, priority, value = max(kept, key=lambda entry: (entry[3], *entry[:3]))
    if len(value) <= TOLD_BYTES_MAX:
        cell.told[name] = (max(entry[0] for entry in kept), priority, event_at, value)
    else:
        cell.told.pop(name, None)


def fold_observations(rows: Sequence[TraitRow], name: str) -> list[Observation]:
    """All kept observations of a trait over the cells of a person."""
    return [
        Observation(priority, event_at, source_id, message_id, value)
        for row in rows
        for event_at, source_id, message_id, priority, value in row.traits.get(name, ())
    ]
