"""From rows to events: each row goes through the mapping and is judged as the front judges events; nothing is written here.

A row gives its events or is rejected as a whole, with a reason. Message ids are derived, so that the same file, or the same
key columns, give the same ids however often they are read.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from conosco.collect.envelope import Shared, judge
from conosco.collect.files.messages import Converted
from conosco.collect.files.tables import Row, shown_fields
from conosco.collect.identifiers import Usable
from conosco.collect.wire import Fault
from conosco.model.identifier import IdentityRules
from conosco.model.importing import RejectedRow
from conosco.rules.mapping import CompiledMapping, Unmapped, apply

# A frame is sent when it has so many events or bytes: a few milliseconds of work.
FRAME_EVENTS: Final = 1_000
FRAME_BYTES: Final = 1 << 20
_EVENT: Final = msgspec.json.Encoder(decimal_format="number")
_SHARED: Final = Shared()
_ID_BYTES: Final = 16


class Converter:
    """Makes events of rows. ``key`` keys the message ids, ``key_columns`` are what tells rows apart instead of their number."""

    def __init__(
        self, mapping: Sequence[CompiledMapping], rules: IdentityRules, key: bytes, key_columns: Sequence[str] = ()
    ) -> None:
        self._mapping = mapping
        self._usable = Usable(rules)
        self._key = key
        self._key_columns = tuple(key_columns)

    def events(self, row: Row) -> list[bytes] | RejectedRow:
        """The events of one row, spelled as they enter the log, or why there are none."""
        if row.fault is not None:
            return _rejected(row, row.fault.reason, row.fault.params)
        mapped = apply(self._mapping, row.values)
        if isinstance(mapped, Unmapped):
            params: dict[str, str | int] = {"field": mapped.field, "column": mapped.path}
            return _rejected(row, f"mapping_{mapped.cause}", params)
        told = self._told_apart(row)
        if told is None:
            return _rejected(row, "key_missing", {"columns": ", ".join(self._key_columns)})
        spelled: list[bytes] = []
        for number, made in enumerate(mapped.events):
            event = made.event
            if "messageId" not in event or not made.has_own_id:
                event["messageId"] = self._message_id(told, number)
            raw = _EVENT.encode(event)
            verdict = judge(raw, "", _SHARED, self._usable, None)
            if isinstance(verdict, Fault):
                return _rejected(row, verdict.reason, verdict.params)
            spelled.append(raw)
        return spelled

    def _told_apart(self, row: Row) -> bytes | None:
        if not self._key_columns:
            return b"%d" % row.number
        values = [row.values.get(name) for name in self._key_columns]
        if all(value is None for value in values):
            return None
        return _EVENT.encode(values)

    def _message_id(self, told: bytes, number: int) -> str:
        text = told if not number else b"%b#%d" % (told, number)
        return hashlib.blake2b(text, digest_size=_ID_BYTES, key=self._key).hexdigest()

    def frames(self, rows: Iterable[Row], rows_max: int = 0) -> Iterator[Converted]:
        """What the rows give, in frames that end at rows."""
        slices: list[bytes] = []
        rejected: list[RejectedRow] = []
        size = last = done = 0
        for row in rows:
            found = self.events(row)
            last, done = row.number, done + 1
            if isinstance(found, RejectedRow):
                rejected.append(found)
                size += 500
            else:
                slices += found
                size += sum(map(len, found))
            if len(slices) >= FRAME_EVENTS or size >= FRAME_BYTES or len(rejected) >= FRAME_EVENTS:
                yield Converted(slices=slices, rejected=rejected, last=last)
                slices, rejected, size = [], [], 0
            if rows_max and done >= rows_max:
                break
        if last:
            yield Converted(slices=slices, rejected=rejected, last=last)


def _rejected(row: Row, reason: str, params: dict[str, Any]) -> RejectedRow:
    return RejectedRow(row.number, reason, params, shown_fields(row.fields))
