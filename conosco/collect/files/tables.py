"""Files as rows: whatever its kind, a file is a list of column names and rows of values, counted from 1.

A row is an object, column name to value; an empty field is absent (None). Nothing here holds more than a few rows, but for
workbooks, which are limited for that reason.
"""

import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, BinaryIO, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import python_calamine

from conosco.collect.files.delimited import Dialect, Fault, RawRow, name_columns, read_rows
from conosco.collect.files.limits import (
    COLUMNS_MAX,
    ROW_BYTES_MAX,
    WORKBOOK_BYTES_MAX,
    WORKBOOK_CELLS_MAX,
    WORKBOOK_PARTS_MAX,
)
from conosco.collect.files.opening import content
from conosco.collect.files.values import Unfit, converter, spell
from conosco.model.event import read_json
from conosco.model.importing import FileFormat
from conosco.model.problem import refuse
from conosco.ports.columns import ColumnFile


class Row(NamedTuple):
    """A row of data: its values by column, or why it has none; ``fields`` is what stood in the file, as texts."""

    number: int
    values: dict[str, Any]
    fields: Sequence[Any]
    fault: Fault | None = None


def delimited_rows(
    file: BinaryIO, size: int, form: FileFormat, lenient: frozenset[str] = frozenset()
) -> tuple[list[str], Iterator[Row]]:
    """(column names, rows) of delimited text whose format is known in full."""
    stream = content(file, size, bool(form.gzip))
    raw = read_rows(stream, form.encoding, Dialect(form.delimiter, form.quote, bool(form.header)))
    first = next(raw, None)
    if first is None:
        raise refuse("file_empty")
    names = name_columns(first.fields, bool(form.header))
    rest = raw if form.header else _before(first, raw)
    return names, _typed(rest, names, form, lenient)


def _before(first: RawRow, rest: Iterator[RawRow]) -> Iterator[RawRow]:
    yield first
    yield from rest


def _typed(raw: Iterator[RawRow], names: list[str], form: FileFormat, lenient: frozenset[str]) -> Iterator[Row]:
    known = {column.name: column for column in form.columns}
    readers = [
        (name, known[name].type, read)
        for name in names
        if name in known and (read := converter(known[name], form.zone)) is not None
    ]
    width = len(names)
    for number, fields, fault in raw:
        if fault is None and len(fields) != width:
            # The very first row of data may be the one of another width.
            fault = Fault("wrong_width", {"expected": width, "actual": len(fields)})  # noqa: PLW2901
        if fault is not None:
            yield Row(number, {}, fields, fault)
            continue
        # As ``present``: an empty field says nothing.
        values: dict[str, Any] = {name: field for name, field in zip(names, fields, strict=True) if field}
        for name, kind, read in readers:
            if name in values:
                try:
                    value = read(values[name])
                except Unfit:
                    if name in lenient:
                        continue
                    fault = Fault("wrong_value", {"column": name, "type": kind})  # noqa: PLW2901
                    break
                if value is None:
                    del values[name]
                else:
                    values[name] = value
        yield Row(number, {} if fault else values, fields, fault)


def present(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """The values that there are, by column: an empty field says nothing, not even that it is empty."""
    return {name: value for name, value in zip(names, values, strict=False) if value is not None}


def json_rows(file: BinaryIO, size: int, form: FileFormat) -> Iterator[Row]:
    """Rows of JSON Lines: one object a line; blank lines are passed over."""
    stream = content(file, size, bool(form.gzip))
    number = 0
    while line := stream.readline(ROW_BYTES_MAX + 1):
        if not number:
            line = line.removeprefix(b"\xef\xbb\xbf")
        text = line.strip()
        if not text:
            continue
        number += 1
        shown = [text[:10_000].decode(errors="replace")]
        if len(line) > ROW_BYTES_MAX:
            while line and not line.endswith(b"\n"):
                line = stream.readline(ROW_BYTES_MAX)
            yield Row(number, {}, shown, Fault("too_large", {"limit": ROW_BYTES_MAX}))
            continue
        try:
            values = read_json(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            yield Row(number, {}, shown, Fault("unreadable_row", {}))
            continue
        if isinstance(values, dict):
            yield Row(number, values, shown)
        else:
            yield Row(number, {}, shown, Fault("not_an_object", {}))


def workbook_sheets(file: BinaryIO, size: int, form: FileFormat) -> tuple[str, ...]:
    """The names of a workbook's sheets. Refuses file_is_a_bomb, file_too_large, file_damaged and file_protected."""
    return tuple(_workbook(file, size, form).sheet_names)


def _workbook(file: BinaryIO, size: int, form: FileFormat) -> Any:
    if form.gzip:
        raise refuse("file_is_a_bomb", limit=WORKBOOK_BYTES_MAX)
    _check_parts(file, size)
    file.seek(0)
    try:
        return python_calamine.load_workbook(file)
    except python_calamine.PasswordError:
        raise refuse("file_protected") from None
    except (python_calamine.CalamineError, ValueError):
        raise refuse("file_damaged", kind="xlsx") from None


def _check_parts(file: BinaryIO, size: int) -> None:
    """Look at the directory of the archive: nothing is inflated before its sizes are known."""
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        raise refuse("file_damaged", kind="xlsx") from None
    total = sum(part.file_size for part in parts)
    if len(parts) > WORKBOOK_PARTS_MAX or total > max(size, 1) * 1_000 or any(part.filename.endswith(".zip") for part in parts):
        raise refuse("file_is_a_bomb", limit=WORKBOOK_BYTES_MAX)
    if total > WORKBOOK_BYTES_MAX:
        raise refuse("file_too_large", limit=WORKBOOK_BYTES_MAX)
    if not any(part.filename == "xl/workbook.xml" for part in parts):
        raise refuse("file_kind_unknown")


def workbook_rows(
    file: BinaryIO, size: int, form: FileFormat, lenient: frozenset[str] = frozenset()
) -> tuple[list[str], bool, Iterator[Row]]:
    """(column names, whether the first row named them, rows) of one sheet; the first sheet if none is named."""
    workbook = _workbook(file, size, form)
    names = workbook.sheet_names
    if form.sheet and form.sheet not in names:
        raise refuse("sheet_unknown", pointer="/format/sheet", sheet=form.sheet, known=", ".join(names)[:500])
    try:
        sheet = workbook.get_sheet_by_name(form.sheet or names[0])
    except (python_calamine.CalamineError, IndexError, ValueError):
        raise refuse("file_damaged", kind="xlsx") from None
    if sheet.width > COLUMNS_MAX:
        raise refuse("too_many_columns", limit=COLUMNS_MAX, count=sheet.width)
    if sheet.width * sheet.height > WORKBOOK_CELLS_MAX:
        raise refuse("file_too_large", limit=WORKBOOK_CELLS_MAX)
    cells = iter(sheet.iter_rows())
    first = next(cells, None)
    if first is None:
        raise refuse("file_empty")
    header = form.header if form.header is not None else all(isinstance(cell, str) for cell in first if cell not in ("", None))
    columns = name_columns([_shown(cell) for cell in first], header)
    return columns, header, _cells(first, cells, columns, header, form, lenient)


def _cells(
    first: list[Any], rest: Iterator[list[Any]], names: list[str], header: bool, form: FileFormat, lenient: frozenset[str]
) -> Iterator[Row]:
    plain = plain_value(form.zone)
    readers = {column.name: read for column in form.columns if (read := converter(column, form.zone)) is not None}
    texts = {column.name for column in form.columns if column.type == "text"}
    number = 0
    for cells in rest if header else _before_cells(first, rest):
        if all(cell in ("", None) for cell in cells):
            continue
        number += 1
        shown = [_shown(cell) for cell in cells]
        values = present(names, [None if cell == "" else plain(cell) for cell in cells])
        fault = None
        for name, value in values.items():
            if value is not None and name in texts and not isinstance(value, str):
                values[name] = str(value)
            elif isinstance(value, str) and name in readers:
                try:
                    values[name] = readers[name](value)
                except Unfit:
                    if name in lenient:
                        continue
                    fault = Fault("wrong_value", {"column": name, "type": "value"})
        yield Row(number, {} if fault else values, shown, fault)


def _before_cells(first: list[Any], rest: Iterator[list[Any]]) -> Iterator[list[Any]]:
    yield first
    yield from rest


def column_rows(file: ColumnFile, form: FileFormat, after: int) -> Iterator[Row]:
    """Rows of a column file beyond the first ``after``."""
    names = file.names
    plain = plain_value(form.zone)
    readers = {column.name: read for column in form.columns if (read := converter(column, form.zone)) is not None}
    texts = [index for index, name in enumerate(names) if any(c.name == name and c.type == "text" for c in form.columns)]
    exact = (str, int, type(None))
    number = after
    for batch in file.batches(after):
        for cells in batch:
            number += 1
            values = [cell if type(cell) in exact else plain(cell) for cell in cells]
            for index in texts:
                if values[index] is not None and not isinstance(values[index], str):
                    values[index] = str(values[index])
            row, fault = present(names, values), None
            for name, read in readers.items():
                if isinstance(row.get(name), str):
                    try:
                        row[name] = read(row[name])
                    except Unfit:
                        row, fault = {}, Fault("wrong_value", {"column": name, "type": "value"})
                        break
            yield Row(number, row, cells, fault)


def plain_value(zone: str) -> Callable[[Any], Any]:
    """What turns the values of typed files into those of JSON: numbers exact, moments as texts."""
    place = ZoneInfo(zone) if zone else None

    def plain(value: Any) -> Any:
        match value:
            case bool() | int() | str() | Decimal() | None:
                return value
            case float():
                if not math.isfinite(value):
                    return None
                return int(value) if value.is_integer() and abs(value) < 1e15 else Decimal(repr(value))
            case datetime():
                try:
                    return value.isoformat().replace("+00:00", "Z") if value.tzinfo else spell(value, place)
                except Unfit:
                    return None
            case date() | time():
                return value.isoformat()
            case timedelta():
                return Decimal(repr(value.total_seconds()))
            case bytes():
                return value.decode(errors="replace")
            case list() | tuple():
                return [plain(inner) for inner in value]
            case dict():
                return {str(name): plain(inner) for name, inner in value.items()}
            case _:
                return str(value)

    return plain


def _shown(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return "" if cell is None else str(cell)


def shown_fields(fields: Sequence[Any]) -> tuple[str, ...]:
    """What stood in a row, as texts of bounded length."""
    return tuple(_shown(field)[:10_000] for field in fields)
