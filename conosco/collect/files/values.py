"""Values of columns: which are numbers and moments, how they are written, and what they are exactly.

What the values themselves do not decide (3/4/2024; 1,234) is asked and never guessed.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from conosco.collect.files.limits import EXAMPLES
from conosco.model.importing import Column, DateOrder, Question

_PLAIN: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?\Z", re.ASCII)
_WHOLE: Final = re.compile(r"-?(?:0|[1-9][0-9]*)\Z", re.ASCII)
_MARKED: Final = re.compile(
    r"-?(?:0|[1-9][0-9]*|[1-9][0-9]{0,2}(?:([.,' \u00a0\u202f])[0-9]{3})(?:\1[0-9]{3})*)(?:([.,])[0-9]+)?\Z", re.ASCII
)
_ONE_MARK: Final = re.compile(r"-?[1-9][0-9]{0,2}([.,])[0-9]{3}\Z", re.ASCII)
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[Tt ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?\s*(?:[Zz]|[+-]\d\d:?\d\d)?)?\Z", re.ASCII)
_WRITTEN: Final = re.compile(
    r"(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})(?:(?:[ T]|, ?)(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d{1,6})\d*)?)? ?([AaPp][Mm])?)?\Z",
    re.ASCII,
)
_ADDRESS: Final = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+\Z")
_COMPACT: Final = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\Z", re.ASCII)
# Headings of columns in which eight digits are a date and no number.
DATED: Final = re.compile(r"date|day|data|giorno|dzie|dia|time|czas", re.IGNORECASE)
_SPACES: Final = " \u00a0\u202f"
# Two-digit years belong to the century that POSIX gives them.
_PIVOT: Final = 69


def looks_like_value(text: str) -> bool:
    """Whether a text is surely no heading: a number, a moment or an address."""
    return bool(_MARKED.match(text) or _PLAIN.match(text) or _ISO.match(text) or _WRITTEN.match(text) or _ADDRESS.match(text))


# Rows come in the order of time, and prices and quantities are few; where all values differ it costs a little more.
VALUES_KEPT: Final = 4_096
_KEPT_CHARACTERS: Final = 40


class Unfit(Exception):
    """A value is not what its column says."""


class _Seen(NamedTuple):
    """What the values of one column may be."""

    column: Column
    question: Question | None


def judge_columns(columns: Sequence[tuple[str, Sequence[str]]], delimiter: str) -> tuple[list[Column], list[Question]]:
    """The columns of a sample (name, values) and what must be asked. A column with an open question is read as text till then."""
    decided = {mark for _, values in columns if (mark := _decimal_evidence(values))}
    file_mark = decided.pop() if len(decided) == 1 else ""
    found: list[Column] = []
    questions: list[Question] = []
    for name, values in columns:
        seen = _judge(name, [value.strip() for value in values if value.strip()], file_mark, delimiter)
        found.append(seen.column)
        if seen.question is not None:
            questions.append(seen.question)
    return found, questions


def _judge(name: str, values: Sequence[str], file_mark: str, delimiter: str) -> _Seen:
    text = Column(name=name)
    if not values:
        return _Seen(text, None)
    if DATED.search(name) and all(_COMPACT.match(value) for value in values):
        return _Seen(Column(name=name, type="moment", order="ymd"), None)
    if all(_MARKED.match(value) or _PLAIN.match(value) for value in values):
        return _judge_number(name, values, file_mark, delimiter)
    if all(_ISO.match(value) for value in values):
        return _Seen(Column(name=name, type="moment", order="ymd"), None)
    if all(_WRITTEN.match(value) for value in values):
        return _judge_moment(name, values)
    return _Seen(text, None)


def _decimal_evidence(values: Sequence[str]) -> str:
    """The decimal mark that a column's values prove, if they are numbers and prove one."""
    marks: set[str] = set()
    for raw in values:
        value = raw.strip()
        if not value:
            continue
        found = _MARKED.match(value)
        if found is None:
            return ""
        if found[2] and not _ONE_MARK.match(value):
            marks.add(found[2])
        elif found[1] in (".", ",") and not found[2] and not _ONE_MARK.match(value):
            marks.add("," if found[1] == "." else ".")
    return marks.pop() if len(marks) == 1 else ""


def _judge_number(name: str, values: Sequence[str], file_mark: str, delimiter: str) -> _Seen:
    if all(_WHOLE.match(value) for value in values):
        return _Seen(Column(name=name, type="number"), None)
    open_marks = {found[1] for value in values if (found := _ONE_MARK.match(value))}
    thousands = {found[1] for value in values if (found := _MARKED.match(value)) and found[1] and not _ONE_MARK.match(value)}
    decimals = {found[2] for value in values if (found := _MARKED.match(value)) and found[2] and not _ONE_MARK.match(value)}
    if not open_marks and not thousands:
        if len(decimals) > 1 or (decimals == {","} and any(_PLAIN.match(value) and "." in value for value in values)):
            return _Seen(Column(name=name), None)
        return _Seen(_number(name, decimals.pop() if decimals else ".", ""), None)
    mark = decimals.pop() if len(decimals) == 1 else ("," if "." in thousands else "." if "," in thousands else file_mark)
    if not mark:
        # 1.234 alone is a decimal wherever points are; 1,234 alone can be either everywhere.
        if open_marks == {"."} and delimiter != ";":
            return _Seen(_number(name, ".", ""), None)
        question = Question(about="decimal_mark", column=name, choices=(",", "."), examples=tuple(values[:EXAMPLES]))
        return _Seen(Column(name=name), question)
    others = (thousands | open_marks) - {mark}
    if len(others) > 1 or mark in thousands:
        return _Seen(Column(name=name), None)
    return _Seen(_number(name, mark, others.pop() if others else ""), None)


def _number(name: str, decimal: str, thousands: str) -> Column:
    grouping = " " if thousands and thousands in _SPACES else thousands
    return Column(name=name, type="number", decimal=decimal, thousands=grouping)  # type: ignore[arg-type]  # marks come from the expressions above


def _judge_moment(name: str, values: Sequence[str]) -> _Seen:
    """Day, month and year in the order that every value allows."""
    orders: set[DateOrder] = {"ymd", "dmy", "mdy"}
    for value in values:
        found = _WRITTEN.match(value)
        assert found is not None
        orders &= _orders(found)
        if not orders:
            return _Seen(Column(name=name), None)
    if len(orders) == 1:
        return _Seen(Column(name=name, type="moment", order=orders.pop()), None)
    question = Question(
        about="date_order", column=name, choices=tuple(sorted(orders)), examples=tuple(dict.fromkeys(values))[:EXAMPLES]
    )
    return _Seen(Column(name=name), question)


def _orders(found: re.Match[str]) -> set[DateOrder]:
    first, mark, second, third = found[1], found[2], int(found[3]), found[4]
    if len(first) == 4:
        return {"ymd"} if 1 <= second <= 12 and 1 <= int(third) <= 31 and len(third) <= 2 else set()
    if len(first) > 2 or len(third) not in (2, 4):
        return set()
    orders: set[DateOrder] = set()
    if 1 <= int(first) <= 31 and 1 <= second <= 12:
        orders.add("dmy")
    # Nobody who writes the month first separates with points.
    if mark != "." and 1 <= int(first) <= 12 and 1 <= second <= 31:
        orders.add("mdy")
    return orders


def converter(column: Column, zone: str) -> Callable[[str], Any] | None:
    """What turns a column's texts into values; None where the text is the value. It raises Unfit."""
    match column.type:
        case "text":
            return None
        case "number":
            return _remembering(_number_reader(column))
        case "moment":
            return _remembering(_moment_reader(column, ZoneInfo(zone) if zone else None))


def _remembering(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """The same, with what short texts gave kept: of every kind of value that is converted, columns repeat themselves."""
    kept = lru_cache(VALUES_KEPT)(read)
    return lambda text: kept(text) if len(text) <= _KEPT_CHARACTERS else read(text)


def _number_reader(column: Column) -> Callable[[str], Any]:
    plain = _PLAIN.match
    whole = _WHOLE.match
    decimal, thousands = column.decimal, column.thousands

    def read(text: str) -> Any:
        value = text.strip()
        if not value:
            return None
        if thousands == " ":
            value = value.translate(_NO_SPACES)
        elif thousands:
            # Who says what separates decimals need not know that these thousands are apart by spaces.
            value = value.translate(_ONE_SPACE)
            value = _grouped(value, " " if " " in value else thousands, decimal)
        if decimal == ",":
            if "." in value:
                raise Unfit
            value = value.replace(",", ".")
        if whole(value):
            return int(value) if len(value) < 4_000 else Decimal(value)
        if plain(value):
            return Decimal(value)
        raise Unfit

    return read


_ONE_SPACE: Final = {ord(space): " " for space in _SPACES}
_NO_SPACES: Final = {ord(space): None for space in _SPACES}


def _grouped(value: str, thousands: str, decimal: str) -> str:
    """The number without its thousands marks, which must stand where they belong."""
    head, mark, tail = value.partition(decimal)
    groups = head.split(thousands)
    if thousands in tail or (len(groups[0].lstrip("-")) > 3 and len(groups) > 1) or any(len(group) != 3 for group in groups[1:]):
        raise Unfit
    return "".join(groups) + mark + tail


def _moment_reader(column: Column, zone: ZoneInfo | None) -> Callable[[str], Any]:
    order = column.order

    def read(text: str) -> Any:
        value = text.strip()
        if not value:
            return None
        if _ISO.match(value):
            return _zoned(value, zone)
        if order == "ymd" and _COMPACT.match(value):
            return _zoned(f"{value[:4]}-{value[4:6]}-{value[6:]}", zone)
        found = _WRITTEN.match(value)
        if found is None:
            raise Unfit
        first, second, third = found[1], found[3], found[4]
        year, month, day = (
            (first, second, third) if order == "ymd" else (third, second, first) if order == "dmy" else (third, first, second)
        )
        if len(year) not in (2, 4):
            raise Unfit
        hour = int(found[5] or 0)
        if found[9]:
            if not 1 <= hour <= 12:
                raise Unfit
            hour = hour % 12 + (12 if found[9] in ("PM", "pm", "Pm", "pM") else 0)
        full = int(year) if len(year) == 4 else int(year) + (1900 if int(year) >= _PIVOT else 2000)
        try:
            made = datetime(
                full,
                int(month),
                int(day),
                hour,
                int(found[6] or 0),
                int(found[7] or 0),
                int((found[8] or "").ljust(6, "0")),
                tzinfo=UTC,
            )
        except ValueError:
            raise Unfit from None
        return spell(made, zone)

    return read


def _zoned(value: str, zone: ZoneInfo | None) -> str:
    """An ISO text with its own zone as it stands; one without, in the file's zone."""
    try:
        made = datetime.fromisoformat(value.replace(",", ".").replace(" Z", "Z"))
    except ValueError:
        raise Unfit from None
    return value if made.tzinfo is not None else spell(made.replace(tzinfo=UTC), zone)


def spell(wall: datetime, zone: ZoneInfo | None) -> str:
    """RFC 3339 of a time on the wall (its zone, UTC, is not meant) in a zone. Raises Unfit beyond the years 1 to 9999."""
    if zone is not None:
        try:
            wall = wall.replace(tzinfo=zone).astimezone(UTC)
        except OverflowError:
            raise Unfit from None
    return wall.replace(tzinfo=None).isoformat() + "Z"
