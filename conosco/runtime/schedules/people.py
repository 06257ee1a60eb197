"""The people of an export as rows: asked of the warehouse as of one moment, passed through the gate, written to one file.

Nothing is held in memory but, for changes, sixteen bytes a person.
"""

import csv
import hmac
import io
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from conosco.connectors.cells import safe_cell
from conosco.model.scheduled import ExportColumn, ExportSpec
from conosco.runtime.bootstrap_files import parquet_of

# Told who it is about, whether that person may be used.
Allows = Callable[[str], bool]
HASH_BYTES: Final = 16
CHANGE: Final = "change"
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


class Counts(msgspec.Struct, kw_only=True):
    """What was written: rows, of changes how many of each, and people whom the gate kept out."""

    rows: int = 0
    entered: int = 0
    exited: int = 0
    left_out: int = 0


class Question(NamedTuple):
    """SQL with its parameters: rows of (profile id, whether the person is in, a value for each column but the id)."""

    sql: str
    params: list[Any]


def question_of(spec: ExportSpec) -> Question:
    """Ask for the people of an export; for changes also for those who ever were in the segment."""
    identifiers = [column.name for column in spec.columns if column.kind == "identifier"]
    traits = [column.name for column in spec.columns if column.kind == "trait"]
    params: list[Any] = []
    if not spec.segment:
        chosen = "select distinct profile_id, true as is_in from identifiers"
    else:
        every = spec.content == "changes"
        chosen = (
            "select profile_id, bool_or(exited_at is null) as is_in from memberships where segment = ? "
            f"group by profile_id {'' if every else 'having bool_or(exited_at is null)'}"
        )
        params.append(spec.segment)
    known = _pivot(
        "identifiers", "arg_max(value, row(first_seen_at, value)) filter (where namespace = ?)", "namespace", identifiers
    )
    said = _pivot("traits", "max(value) filter (where name = ?)", "name", traits)
    for names in (identifiers, traits):
        params += [*names, names] if names else []
    values, count = "", {"identifier": 0, "trait": 0}
    for column in spec.columns:
        if column.kind != "profile_id":
            values += f", {'known' if column.kind == 'identifier' else 'said'}.c{count[column.kind]}"
            count[column.kind] += 1
    sql = (
        f"with chosen as ({chosen}), known as ({known}), said as ({said}) "
        f"select chosen.profile_id, chosen.is_in{values} from chosen "
        "left join known on known.profile_id = chosen.profile_id left join said on said.profile_id = chosen.profile_id "
        "order by chosen.profile_id"
    )
    return Question(sql, params)


def _pivot(table: str, value: str, name: str, names: Sequence[str]) -> str:
    """Rows of names and values as one row a person, with a column for each name."""
    if not names:
        return "select '' as profile_id where false"
    columns = ", ".join(f"{value} as c{number}" for number in range(len(names)))
    return f"select profile_id, {columns} from {table} where list_contains(?::varchar[], {name}) group by profile_id"


class Known(NamedTuple):
    """The people of an earlier file as sorted keyed hashes, one after the other; they name nobody."""

    hashes: bytes

    def holds(self, hashed: bytes) -> bool:
        """Whether this person was in it."""
        at = bisect_left(range(len(self.hashes) // HASH_BYTES), hashed, key=self._at)
        return self._at(at) == hashed

    def _at(self, number: int) -> bytes:
        return self.hashes[number * HASH_BYTES : (number + 1) * HASH_BYTES]


class PeopleFile:
    """Turns an extract into a file of the wanted format."""

    def __init__(self, spec: ExportSpec, allows: Allows, secret: bytes, before: Known | None) -> None:
        """``before`` are the people of the last file, if only changes are told."""
        self._spec = spec
        self._allows = allows
        self._secret = secret
        self._before = before
        self._now: list[bytes] = []
        self.counts: Final = Counts()

    @property
    def headings(self) -> list[str]:
        """What stands above the columns."""
        return [*([CHANGE] if self._before is not None else []), *(column.title for column in self._spec.columns)]

    @property
    def now(self) -> bytes:
        """The people of this file, for the next one."""
        return b"".join(sorted(self._now))

    def write(self, extract: Path, made: Path) -> None:
        """Write the file. Raises OSError."""
        if self._spec.format == "parquet":
            lines = made.with_suffix(".lines")
            try:
                with lines.open("xb") as file:
                    for row in self._rows(extract):
                        told = dict(zip(self.headings, map(_text, row), strict=True))
                        file.write(_ENCODER.encode(told) + b"\n")
                parquet_of(lines, made, self.headings)
            finally:
                lines.unlink(missing_ok=True)
            return
        with made.open("xb") as file:
            for part in self._csv(extract) if self._spec.format == "csv" else self._json_lines(extract):
                file.write(part)

    def _json_lines(self, extract: Path) -> Iterator[bytes]:
        for row in self._rows(extract):
            yield _ENCODER.encode(dict(zip(self.headings, row, strict=True))) + b"\n"

    def _csv(self, extract: Path) -> Iterator[bytes]:
        text = io.StringIO(newline="")
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
        writer.writerow([safe_cell(heading) for heading in self.headings])
        for row in self._rows(extract):
            writer.writerow([safe_cell(_text(cell) or "") for cell in row])
            if text.tell() > 1 << 18:
                yield text.getvalue().encode()
                text.seek(0)
                text.truncate()
        yield text.getvalue().encode()

    def _rows(self, extract: Path) -> Iterator[list[Any]]:
        """The rows to be told; who may not be used is left out and counted."""
        with extract.open("rb") as file:
            for line in file:
                profile_id, is_in, *values = msgspec.json.decode(line)
                change = self._change(profile_id, is_in)
                if change is None:
                    continue
                setattr(self.counts, change, getattr(self.counts, change) + 1)
                self.counts.rows += 1
                cells = _cells(self._spec.columns, profile_id, values)
                yield [change, *cells] if self._before is not None else cells

    def _change(self, profile_id: str, is_in: bool) -> str | None:
        """What to tell of a person: entered or exited; None for nothing. In a full file everyone has entered."""
        allowed = self._allows(profile_id)
        if not allowed and is_in:
            self.counts.left_out += 1
        hashed = hmac.digest(self._secret, profile_id.encode(), "sha256")[:HASH_BYTES]
        was_in = self._before is not None and self._before.holds(hashed)
        if is_in and allowed:
            if self._spec.content == "changes":
                self._now.append(hashed)
            return None if was_in else "entered"
        # Whoever may no longer be used is not told of any more, not even that they left.
        return "exited" if was_in and allowed else None


def _cells(columns: Sequence[ExportColumn], profile_id: str, values: Sequence[Any]) -> list[Any]:
    rest = iter(values)
    cells: list[Any] = []
    for column in columns:
        value = profile_id if column.kind == "profile_id" else next(rest)
        # Traits are JSON in the warehouse.
        cells.append(msgspec.Raw(value.encode()) if column.kind == "trait" and value is not None else value)
    return cells


def _text(cell: Any) -> str | None:
    """A cell as text: a text itself, all else as JSON."""
    if isinstance(cell, msgspec.Raw):
        raw = bytes(cell)
        return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode()
    return None if cell is None else str(cell)
