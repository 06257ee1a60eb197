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
from conosco.collect.wire import (
    MESSAGE_ID_CHARACTERS_MAX,
    NAME_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
    Fault,
    breaks_limits,
)
from conosco.model.identifier import IdentityRules
from conosco.model.importing import RejectedRow
from conosco.rules.mapping import CompiledMapping, Unmapped, apply, is_outgrown

# A frame is sent when it has so many events or bytes: a few milliseconds of work.
FRAME_EVENTS: Final = 1_000
FRAME_BYTES: Final = 1 << 20
_EVENT: Final = msgspec.json.Encoder(decimal_format="number")
_SHARED: Final = Shared()
_ID_BYTES: Final = 16
# What can be told to be good without being read again; other members are rare.
_PLAIN_MEMBERS: Final = frozenset(
    {"type", "event", "userId", "anonymousId", "messageId", "timestamp", "properties", "traits", "context"}
)


class Converter:
    """Makes events of rows. ``key`` keys the message ids, ``key_columns`` are what tells rows apart instead of their number."""

    def __init__(
        self, mapping: Sequence[CompiledMapping], rules: IdentityRules, key: bytes, key_columns: Sequence[str] = ()
    ) -> None:
        self._mapping = mapping
        # The usual mapping: one, and of every row one event.
        self._single = mapping[0] if len(mapping) == 1 and mapping[0].each is None else None
        self._measures_late = self._single is not None and self._single.is_proportionate
        self._has_plain_members = all(_PLAIN_MEMBERS.issuperset(each.members) for each in mapping)
        self._usable = Usable(rules)
        self._keyed = hashlib.blake2b(digest_size=_ID_BYTES, key=key)
        self._key_columns = tuple(key_columns)

    def events(self, row: Row) -> list[bytes] | RejectedRow:
        """The events of one row, spelled as they enter the log, or why there are none."""
        if row.fault is not None:
            return _rejected(row, row.fault.reason, row.fault.params)
        mapped = self._mapped(row.values)
        if isinstance(mapped, Unmapped):
            params: dict[str, str | int] = {"field": mapped.field, "column": mapped.path}
            return _rejected(row, f"mapping_{mapped.cause}", params)
        told = self._told_apart(row)
        if told is None:
            return _rejected(row, "key_missing", {"columns": ", ".join(self._key_columns)})
        spelled: list[bytes] = []
        for number, (event, has_own_id) in enumerate(mapped):
            if "messageId" not in event or not has_own_id:
                event["messageId"] = self._message_id(told, number)
            raw = _EVENT.encode(event)
            if self._measures_late and is_outgrown(event, len(raw)):
                return _rejected(row, "mapping_too_large", {"field": "", "column": ""})
            if not self._is_plainly_good(event, raw):
                verdict = judge(raw, "", _SHARED, self._usable, None)
                if isinstance(verdict, Fault):
                    return _rejected(row, verdict.reason, verdict.params)
            spelled.append(raw)
        return spelled

    def _mapped(self, values: dict[str, Any]) -> Sequence[tuple[dict[str, Any], bool]] | Unmapped:
        """The events of a row, each with whether its message id is its own."""
        single = self._single
        if single is not None and single.applies(values):
            event = single.make_unmeasured(values) if self._measures_late else single.make(values)
            return event if isinstance(event, Unmapped) else ((event, single.has_own_id),)
        mapped = apply(self._mapping, values)
        return mapped if isinstance(mapped, Unmapped) else [(made.event, made.has_own_id) for made in mapped.events]

    def _is_plainly_good(self, event: dict[str, Any], raw: bytes) -> bool:
        """True only if ``judge`` would find no fault; False says nothing.

        A mapping gives texts, ids, a moment and objects where they belong, and nothing else; so the bytes need not be read
        again. What is left are lengths, limits, and whether somebody is told.
        """
        name = event.get("event", "")
        kind = event.get("type")
        if not (name if kind == "track" else kind == "identify") or len(name) > NAME_CHARACTERS_MAX:
            return False
        user_id, anonymous_id = event.get("userId", ""), event.get("anonymousId", "")
        return (
            len(user_id) <= TEXT_CHARACTERS_MAX
            and len(anonymous_id) <= TEXT_CHARACTERS_MAX
            and len(event["messageId"]) <= MESSAGE_ID_CHARACTERS_MAX
            and self._has_plain_members
            and self._usable.knows_home(user_id, anonymous_id)
            and breaks_limits(raw) is None
            # Numbers that JSON cannot spell, and the encoder writes all the same.
            and b"Infinity" not in raw
            and b"NaN" not in raw
        )

    def _told_apart(self, row: Row) -> bytes | None:
        if not self._key_columns:
            return b"%d" % row.number
        values = [row.values.get(name) for name in self._key_columns]
        if all(value is None for value in values):
            return None
        return _EVENT.encode(values)

    def _message_id(self, told: bytes, number: int) -> str:
        text = told if not number else b"%b#%d" % (told, number)
        keyed = self._keyed.copy()
        keyed.update(text)
        return keyed.hexdigest()

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
