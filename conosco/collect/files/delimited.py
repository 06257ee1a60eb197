"""Delimited text: how it is written is found out, then it is read strictly, with row numbers and nothing lost.

A row that cannot be read is told with its lines and its reason; the rows around it are read all the same.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from conosco.collect.files.limits import COLUMNS_MAX, FIELD_CHARACTERS_MAX, RECORD_LINES_MAX, ROW_BYTES_MAX
from conosco.collect.files.values import looks_like_value
from conosco.model.problem import refuse

_DELIMITERS: Final = (",", ";", "\t", "|")
_PROBE_ROWS: Final = 200
# Text is read in pieces of this size.
_STRETCH_CHARACTERS: Final = 1 << 18
# What stands where bytes were no text.
_BROKEN: Final = re.compile("[\udc80-\udcff\ufffd]")


class Fault(NamedTuple):
    """A row that could not be read."""

    reason: str
    params: dict[str, str | int]


class RawRow(NamedTuple):
    """A row as it stands in the file; ``fault`` says why it is none."""

    number: int
    fields: list[str]
    fault: Fault | None = None


class Dialect(NamedTuple):
    """How delimited text is written."""

    delimiter: str
    quote: str
    header: bool


def detect_dialect(text: str, delimiter: str = "", quote: str = "", header: bool | None = None) -> Dialect:
    """How a sample is written; what is given is kept."""
    quotes = [quote] if quote else ['"', "'"]
    choices = [(mark, sign) for sign in quotes for mark in ([delimiter] if delimiter else _DELIMITERS)]
    best, best_score = (delimiter or ",", quote or '"'), -1.0
    for mark, sign in choices:
        score = _fit(text, mark, sign)
        if score > best_score:
            best, best_score = (mark, sign), score
    rows = _probe(text, *best)
    return Dialect(best[0], best[1], looks_like_header(rows) if header is None else header)


def _fit(text: str, delimiter: str, quote: str) -> float:
    """How regular the sample is under this reading: the share of rows of the usual width, more for wider rows."""
    rows = _probe(text, delimiter, quote)
    if not rows:
        return 0.0
    width, count = Counter(len(row) for row in rows).most_common(1)[0]
    if width == 1:
        return 0.1 if quote == '"' else 0.0
    stray = sum(field.startswith(quote) or field.endswith(quote) for row in rows for field in row)
    closed = sum(
        field[:1] == field[-1:] == other for other in "\"'" if other != quote for row in rows for field in row if len(field) > 1
    )
    return count / len(rows) * (1 + width / 1_000) - stray / (len(rows) * width) - closed / (len(rows) * width)


def _probe(text: str, delimiter: str, quote: str) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text), delimiter=delimiter, quotechar=quote, strict=True):
            if row:
                rows.append(row)
            if len(rows) == _PROBE_ROWS:
                break
    except csv.Error:
        pass
    return rows


def looks_like_header(rows: list[list[str]]) -> bool:
    """Whether the first row names columns: all texts, all different, none of them a number, a date or an address."""
    if not rows:
        return False
    first = [field.strip() for field in rows[0]]
    filled = [field for field in first if field]
    if not filled or len(set(filled)) < len(filled) or len(filled) < len(first) * 0.6:
        return False
    return not any(looks_like_value(field) for field in filled)


def name_columns(first: list[str], header: bool) -> list[str]:
    """Names of columns, all different and none empty."""
    names: list[str] = []
    taken: set[str] = set()
    for index, field in enumerate(first, 1):
        name = (field.strip() if header else "") or f"column_{index}"
        base, count = name, 2
        while name in taken:
            name, count = f"{base}_{count}", count + 1
        taken.add(name)
        names.append(name)
    if len(names) > COLUMNS_MAX:
        raise refuse("too_many_columns", limit=COLUMNS_MAX, count=len(names))
    return names


class _Lines:
    """Lines of text that can be taken back, so that a stray quote costs its own line and no other.

    Text is read in stretches of whole lines; one without quotes can be taken as a whole.
    """

    def __init__(self, stream: io.TextIOBase) -> None:
        self._stream = stream
        self._again: list[str] = []
        self._is_first = True
        self._stretch = io.StringIO()
        self._length = 0
        # What was read beyond the stretch: the beginning of its next line.
        self._rest = ""
        self.taken: list[str] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if len(self.taken) >= RECORD_LINES_MAX:
            raise csv.Error("record of too many lines")
        line = self._again.pop() if self._again else self._stretch.readline(ROW_BYTES_MAX)
        if not line:
            if not self._load():
                raise StopIteration
            line = self._stretch.readline(ROW_BYTES_MAX)
        self.taken.append(line)
        return line

    def stretch(self, quote: str) -> str:
        """The next stretch, which is then taken, if no field in it can hold a line break; empty if lines must be read singly."""
        if self._again or self._stretch.tell() < self._length:
            return ""
        text = self._load()
        if quote in text or len(text) > min(FIELD_CHARACTERS_MAX, ROW_BYTES_MAX):
            return ""
        self._length = 0
        return text

    def _load(self) -> str:
        """The next stretch, ready to be read line by line; empty at the end of the text."""
        text, cut = self._rest, 0
        while not cut and len(text) < ROW_BYTES_MAX:
            more = self._stream.read(_STRETCH_CHARACTERS)
            if not more:
                cut = len(text)
                break
            text += more.removeprefix("\ufeff") if self._is_first else more
            self._is_first = False
            # A carriage return at the very end may be the first half of a line break.
            cut = max(text.rfind("\n"), text.rfind("\r", 0, max(0, len(text) - 1))) + 1
        cut = cut or ROW_BYTES_MAX
        text, self._rest = text[:cut], text[cut:]
        self._stretch, self._length = io.StringIO(text, newline=""), len(text)
        return text

    def give_back(self) -> str:
        """Take back all lines of the present record but its first, which is returned."""
        first, *others = self.taken or [""]
        self._again.extend(reversed(others))
        self.taken = []
        return first


def read_rows(file: BinaryIO, encoding: str, dialect: Dialect) -> Iterator[RawRow]:
    """All rows, the first one included; a row's number counts rows of data, so that of a header is 0.

    ``file`` stands at its beginning. Undecodable bytes, stray quotes and rows of another width are told as faults.
    """
    csv.field_size_limit(FIELD_CHARACTERS_MAX)
    broken = "replace" if encoding.startswith("utf-16") else "surrogateescape"
    lines = _Lines(io.TextIOWrapper(file, encoding, errors=broken, newline=""))
    reader = csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True)
    number = 0 if dialect.header else 1
    width = 0
    while True:
        if plain := lines.stretch(dialect.quote):
            # Without quotes a line is a row, and the reader takes many of them at once.
            many = csv.reader(io.StringIO(plain, newline=""), delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True)
            is_sound = plain.isascii() or not _BROKEN.search(plain)
            for fields in many:
                if fields:
                    width = width or len(fields)
                    is_row = is_sound and len(fields) == width
                    yield RawRow(number, fields) if is_row else _judged(number, fields, width, encoding)
                    number += 1
            continue
        lines.taken.clear()
        try:
            fields = next(reader)
        except StopIteration:
            if not lines.taken:
                return
            yield RawRow(number, [lines.give_back().rstrip("\r\n")], Fault("stray_quote", {}))
            number += 1
            continue
        except csv.Error:
            yield RawRow(number, [lines.give_back().rstrip("\r\n")], Fault("stray_quote", {}))
            number += 1
            continue
        if fields:
            width = width or len(fields)
            yield _judged(number, fields, width, encoding)
            number += 1


def _judged(number: int, fields: list[str], width: int, encoding: str) -> RawRow:
    """A row, or what is wrong with it."""
    if len(fields) != width:
        return RawRow(number, fields, Fault("wrong_width", {"expected": width, "actual": len(fields)}))
    if any(_BROKEN.search(field) for field in fields):
        shown = [field.encode(errors="replace").decode() for field in fields]
        return RawRow(number, shown, Fault("undecodable_text", {"encoding": encoding}))
    return RawRow(number, fields)
