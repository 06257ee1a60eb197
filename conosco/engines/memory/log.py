"""The Log in memory: order, chain, erasure and pruning as promised, gone with the process."""

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

import msgspec

from conosco.model.record import GENESIS, SCHEMA, Draft, Record, fresh_salts, next_chain, slice_hashes, verify
from conosco.ports.log import Appended, Head


class MemoryLog:
    """The Log door on a list. Threads may share it."""

    def __init__(self, clock: Callable[[], int]) -> None:
        """``clock`` gives microseconds UTC."""
        self._clock = clock
        self._using = threading.Lock()
        self._records: list[Record] = []
        self._positions: list[int] = []
        self._base = Head(0, 0, GENESIS)
        self._head = self._base

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        """Append all drafts, next to one another."""
        with self._using:
            logged_at = max(self._head.logged_at, self._clock())
            appended = []
            for draft in drafts:
                salts = fresh_salts(len(draft.slices))
                hashes = slice_hashes(draft.slices, salts)
                position = self._head.position + 1
                chain = next_chain(
                    self._head.chain, position, draft.kind, SCHEMA, logged_at, draft.source_id, draft.flags, hashes
                )
                self._records.append(
                    Record(
                        position=position,
                        kind=draft.kind,
                        schema=SCHEMA,
                        logged_at=logged_at,
                        source_id=draft.source_id,
                        flags=draft.flags,
                        hashes=hashes,
                        chain=chain,
                        salts=salts,
                        slices=draft.slices,
                    )
                )
                self._positions.append(position)
                self._head = Head(position, logged_at, chain)
                appended.append(Appended(position, logged_at))
            return appended

    def read(self, after: int, max_records: int, max_bytes: int = 64_000_000) -> list[Record]:
        """Read records after a position, in order."""
        records: list[Record] = []
        with self._using:
            for record in self._records[bisect_right(self._positions, after) :][: max(max_records, 0)]:
                records.append(record)
                max_bytes -= sum(len(body) for body in record.slices if body is not None)
                if max_bytes <= 0:
                    break
        return records

    def head(self) -> Head:
        """The newest record."""
        return self._head

    def count(self, after: int) -> int:
        """How many events lie in requests after a position."""
        with self._using:
            start = bisect_right(self._positions, after)
            return sum(len(record.slices) - 1 for record in self._records[start:] if record.kind == "request")

    def prune(self, before: int) -> int:
        """Drop records before a position."""
        with self._using:
            count = bisect_left(self._positions, before)
            if count:
                last = self._records[count - 1]
                self._base = Head(last.position, last.logged_at, last.chain)
                del self._records[:count], self._positions[:count]
            return count

    def erase(self, slices: Sequence[tuple[int, int]]) -> int:
        """Destroy slices and their salts."""
        destroyed = 0
        with self._using:
            for position, index in slices:
                at = bisect_left(self._positions, position)
                if at == len(self._positions) or self._positions[at] != position:
                    continue
                record = self._records[at]
                if 0 <= index < len(record.slices) and record.slices[index] is not None:
                    kept, salts = list(record.slices), list(record.salts)
                    kept[index] = salts[index] = None
                    self._records[at] = msgspec.structs.replace(record, slices=tuple(kept), salts=tuple(salts))
                    destroyed += 1
        return destroyed

    def verify(self, after: int = 0) -> list[tuple[int, int]]:
        """Recompute chain and hashes."""
        wrong: list[tuple[int, int]] = []
        with self._using:
            previous = self._base.chain
            for record in self._records:
                if record.position > after:
                    wrong += ((record.position, index) for index in verify(record, previous))
                previous = record.chain
        return wrong

    def close(self) -> None:
        """Nothing to release: records stay as long as this object."""
