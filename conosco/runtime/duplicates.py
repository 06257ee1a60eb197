"""Duplicates: an event is known by a keyed hash of its source and message id, and the first of each key is remembered for ever.

Recent keys are kept in memory, and in State as they came: one row for each record. When they are too many, the oldest are
sealed into a sorted run, behind a filter that nearly always says at once that a key is new. What is sealed, and when, depends
on the log alone and not on how it was cut into micro-batches.
"""

import struct
from collections import deque
from collections.abc import Sequence
from hashlib import blake2b
from itertools import islice
from typing import Final

from conosco.model.event import Event
from conosco.ports.state import Key, State, scan_all
from conosco.ports.tables import DEDUP, DEDUP_FILTERS, DEDUP_RECENT, META, DedupRow, FilterRow, MetaRow, decode_row, encode_row
from conosco.profile.cells import address_of

KEY_BYTES: Final = 16
# Keys of a run. At most twice as many are recent: about 30 MB of memory.
RUN_KEYS: Final = 131_072
# A page of keys and addresses is a row small enough to need no overflow in a store of 4 KB pages.
PAGE_KEYS: Final = 40
# Each key sets four bits; with so many bits a key, a filter is wrong about one new key in 1,800.
FILTER_BITS_A_KEY: Final = 24
# Each filter is for twice as many runs as the one before, up to so many: few have to be asked, and none is too big to write.
FILTER_RUNS_MAX: Final = 64
FILTER_PART_BYTES: Final = 65_536
_RUNS: Final = ("dedup_runs",)
_WORDS: Final = struct.Struct("<4I")


class _Filter:
    """A Bloom filter over the keys of successive runs, ``first_run`` up to ``stop_run``: its yes may be wrong, its no never."""

    def __init__(self, first_run: int, room: int, run_keys: int) -> None:
        self.first_run = first_run
        self.stop_run = first_run + room
        self.bits = bytearray(room * run_keys * FILTER_BITS_A_KEY // 8)
        self.size = 8 * len(self.bits)

    def load(self, bits: bytes) -> None:
        self.bits = bytearray(bits)
        self.size = 8 * len(bits)

    def add(self, keys: bytes) -> None:
        bits, size = self.bits, self.size
        # Keys are hashes already: their four words are as good as four more hashes.
        for word in struct.unpack(f"<{len(keys) // 4}I", keys):
            place = word % size
            bits[place >> 3] |= 1 << (place & 7)

    def may_hold(self, words: tuple[int, ...]) -> bool:
        bits, size = self.bits, self.size
        for word in words:
            place = word % size
            if not bits[place >> 3] >> (place & 7) & 1:
                return False
        return True


class Duplicates:
    """Which messages were applied, and where the first of each lies. Exact, whatever the filters say.

    ``note`` collects, ``write`` puts what was noted into State's open transaction, and when that is committed ``keep`` says
    so; ``start_over`` forgets what was not kept. Whoever only asks calls none of these.
    """

    def __init__(self, state: State, secret: bytes, run_keys: int = RUN_KEYS) -> None:
        self._state = state
        self._secret = secret[:64]
        self._run_keys = run_keys
        self._hash_of_source: dict[str, blake2b] = {}
        # What was noted and not written, and for each record that brought some: its position, and how many were before.
        self._fresh: dict[bytes, int] = {}
        self._marks: list[tuple[int, int]] = []
        self._load()

    def _load(self) -> None:
        self._recent: dict[bytes, int] = {}
        self._rows: deque[tuple[int, int]] = deque()
        for (position,), raw in scan_all(self._state, DEDUP_RECENT):
            keys, addresses = _unpack(decode_row(DEDUP_RECENT, raw))
            self._recent.update(zip(keys, addresses, strict=True))
            self._rows.append((position, len(keys)))
        self._rows_keys = len(self._recent)
        runs = self._state.get_many(META, [_RUNS]).get(_RUNS)
        self._runs: int = 0 if runs is None else decode_row(META, runs).value
        self._run_of_last_hit = 0
        self._filters: list[_Filter] = []
        while self._runs_with_filter() < self._runs:
            self._add_filter()
        parts: list[list[bytes]] = [[] for _ in self._filters]
        for (number, _), raw in scan_all(self._state, DEDUP_FILTERS, page=64):
            parts[number].append(decode_row(DEDUP_FILTERS, raw).bits)
        for made, found in zip(self._filters, parts, strict=True):
            made.load(b"".join(found))
        self._is_unsaved = False

    def _runs_with_filter(self) -> int:
        return self._filters[-1].stop_run if self._filters else 0

    def _add_filter(self) -> None:
        room = min(2 * (self._filters[-1].stop_run - self._filters[-1].first_run), FILTER_RUNS_MAX) if self._filters else 1
        self._filters.append(_Filter(self._runs_with_filter(), room, self._run_keys))

    def key(self, source_id: str, message_id: str) -> bytes:
        """The 128-bit key of a message of a source: keyed, so that nobody can choose colliding ids."""
        begun = self._hash_of_source.get(source_id)
        if begun is None:
            prefix = f"{len(source_id)}:{source_id}".encode("utf-8", "surrogatepass")
            begun = self._hash_of_source[source_id] = blake2b(prefix, digest_size=KEY_BYTES, key=self._secret)
        whole = begun.copy()
        whole.update(message_id.encode("utf-8", "surrogatepass"))
        return whole.digest()

    def is_first(self, event: Event) -> bool:
        """Whether this event, at its address, is the first of its message, and thus one that was applied."""
        return self.first(self.key(event.source_id, event.message_id)) == address_of(event.position, event.slot)

    def first(self, key: bytes) -> int | None:
        """The address of the first message with this key; None if there was none."""
        address = self._recent.get(key)
        if address is None:
            address = self._fresh.get(key)
            if address is None and self._runs:
                address = self._first_sealed(key)
        return address

    def _first_sealed(self, key: bytes) -> int | None:
        words = _WORDS.unpack(key)
        for found in self._filters:
            if found.may_hold(words):
                runs = range(found.first_run, min(found.stop_run, self._runs))
                # What is sent again comes in its old order: the run that held the one before most likely holds this one.
                for run in (self._run_of_last_hit, *runs) if self._run_of_last_hit in runs else runs:
                    address = self._first_in_run(run, key)
                    if address is not None:
                        self._run_of_last_hit = run
                        return address
        return None

    def _first_in_run(self, run: int, key: bytes) -> int | None:
        for _, raw in self._state.scan(DEDUP, _page_key(run, key), _page_key(run + 1, b""), 1):
            keys, addresses = _unpack(decode_row(DEDUP, raw))
            if key in keys:
                return addresses[keys.index(key)]
        return None

    def note(self, event: Event, position: int) -> int | None:
        """Note an event, unless there was one with its message id: then the address of the first.

        ``position`` is the one being applied, which never goes down; the event itself may lie further back.
        """
        key = self.key(event.source_id, event.message_id)
        address = address_of(event.position, event.slot)
        first = self.first(key)
        if first is not None:
            return None if first == address else first
        marks = self._marks
        if not marks or marks[-1][0] != position:
            marks.append((position, len(self._fresh)))
        self._fresh[key] = address
        return None

    def start_over(self) -> None:
        """Forget what was noted and not kept. State's transaction must have ended."""
        self._fresh, self._marks = {}, []
        if self._is_unsaved:
            self._load()

    def write(self) -> None:
        """Put what was noted into State's open transaction, and seal what has become too much by it."""
        self._is_unsaved = True
        keys, addresses = list(self._fresh), list(self._fresh.values())
        ends = [*(begin for _, begin in self._marks[1:]), len(keys)]
        self._recent.update(self._fresh)
        rows: dict[Key, bytes] = {}
        sealed: list[list[tuple[int, int]]] = []
        for (position, begin), end in zip(self._marks, ends, strict=False):
            rows[(position,)] = encode_row(_pack(keys[begin:end], addresses[begin:end]))
            self._rows.append((position, end - begin))
            self._rows_keys += end - begin
            # After each record and not after the last one: so it does not matter which records were written together.
            while self._rows_keys >= 2 * self._run_keys:
                sealed.append(self._take_oldest())
        if rows:
            self._state.put_many(DEDUP_RECENT, rows)
        for taken in sealed:
            self._seal(sum(count for _, count in taken))
            self._state.delete(DEDUP_RECENT, [(position,) for position, _ in taken])
        self._fresh, self._marks = {}, []

    def keep(self) -> None:
        """What was written has been committed."""
        self._is_unsaved = False

    def _take_oldest(self) -> list[tuple[int, int]]:
        """Rows that make a run: (position, number of keys), taken off the recent ones."""
        taken: list[tuple[int, int]] = []
        wanted = self._run_keys
        while wanted > 0:
            taken.append(self._rows.popleft())
            wanted -= taken[-1][1]
        self._rows_keys -= self._run_keys - wanted
        return taken

    def _seal(self, count: int) -> None:
        """Turn the oldest recent keys into the next run."""
        recent, run = self._recent, self._runs
        keys = sorted(islice(recent, count))
        pages: dict[Key, bytes] = {}
        for begin in range(0, count, PAGE_KEYS):
            page = keys[begin : begin + PAGE_KEYS]
            pages[_page_key(run, page[-1])] = encode_row(_pack(page, [recent[key] for key in page]))
        self._state.put_many(DEDUP, pages)
        if run == self._runs_with_filter():
            self._add_filter()
        made = self._filters[-1]
        made.add(b"".join(keys))
        parts = range(0, len(made.bits), FILTER_PART_BYTES)
        self._state.put_many(
            DEDUP_FILTERS,
            {
                (len(self._filters) - 1, part): encode_row(FilterRow(bits=bytes(made.bits[begin : begin + FILTER_PART_BYTES])))
                for part, begin in enumerate(parts)
            },
        )
        self._runs = run + 1
        self._state.put_many(META, {_RUNS: encode_row(MetaRow(value=self._runs))})
        # A new dictionary: one that is emptied from its front becomes slow to walk.
        self._recent = dict(islice(recent.items(), count, None))


def _page_key(run: int, last: bytes) -> tuple[bytes]:
    return (run.to_bytes(4, "big") + last,)


def _pack(keys: Sequence[bytes], addresses: Sequence[int]) -> DedupRow:
    return DedupRow(keys=b"".join(keys), addresses=struct.pack(f"<{len(addresses)}q", *addresses))


def _unpack(row: DedupRow) -> tuple[list[bytes], tuple[int, ...]]:
    keys = row.keys
    parts = [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)]
    return parts, struct.unpack(f"<{len(parts)}q", row.addresses)
