"""Describing a file: its kind, how it is written, its columns, its first rows, and what must be asked."""

import itertools
from collections.abc import Sequence
from typing import Any, BinaryIO, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from conosco.collect.files.delimited import detect_dialect, name_columns, read_rows
from conosco.collect.files.limits import SAMPLE_ROWS, SHOWN_ROWS
from conosco.collect.files.opening import ENCODINGS, content, detect_encoding, kind_of_file, sample_text
from conosco.collect.files.tables import Row, column_rows, delimited_rows, json_rows, workbook_rows, workbook_sheets
from conosco.collect.files.values import judge_columns
from conosco.model.importing import Column, Description, FileFormat, Question
from conosco.model.problem import refuse
from conosco.ports.columns import ColumnFile

_SAMPLE_CHARACTERS: Final = 16 << 20


class Told(NamedTuple):
    """A format that is complete, and what there is to say about it."""

    format: FileFormat
    questions: tuple[Question, ...] = ()
    rows_seen: int = 0
    is_whole: bool = True
    sheets: tuple[str, ...] = ()
    # Names of columns whose type was found and not said: a late value that does not fit stays as it is written.
    lenient: frozenset[str] = frozenset()


def complete(file: BinaryIO, size: int, form: FileFormat) -> Told:
    """The format with everything found out that it leaves open.

    Refuses what the file is not (file_kind_other), and names that mean nothing (zone_unknown, encoding_unknown).
    """
    _check_names(form)
    kind, compressed = kind_of_file(file, size)
    if form.kind and form.kind != kind and {form.kind, kind} != {"csv", "jsonl"}:
        raise refuse("file_kind_other", pointer="/format/kind", asked=form.kind, found=kind)
    form = msgspec.structs.replace(form, kind=form.kind or kind, gzip=compressed)
    match form.kind:
        case "csv":
            return _complete_text(file, size, form)
        case "xlsx":
            return _complete_workbook(file, size, form)
        case _:
            return Told(form)


def _check_names(form: FileFormat) -> None:
    if form.encoding and form.encoding not in ENCODINGS:
        known = ", ".join(sorted(ENCODINGS))
        raise refuse("encoding_unknown", pointer="/format/encoding", encoding=form.encoding[:50], known=known)
    for name, mark in (("delimiter", form.delimiter), ("quote", form.quote)):
        if mark and (len(mark) != 1 or mark in "\r\n"):
            raise refuse("not_one_character", pointer=f"/format/{name}", field=name)
    if form.zone:
        try:
            ZoneInfo(form.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise refuse("zone_unknown", pointer="/format/zone", zone=form.zone[:100]) from None


def _complete_text(file: BinaryIO, size: int, form: FileFormat) -> Told:
    questions: list[Question] = []
    encoding = form.encoding
    if not encoding:
        encoding, rivals = detect_encoding(content(file, size, bool(form.gzip)))
        if rivals:
            questions.append(Question(about="encoding", choices=(encoding, *rivals)))
    text = sample_text(content(file, size, bool(form.gzip)), encoding)
    dialect = detect_dialect(text, form.delimiter, form.quote, form.header)
    found = msgspec.structs.replace(
        form, encoding=encoding, delimiter=dialect.delimiter, quote=dialect.quote, header=dialect.header
    )
    raw = read_rows(content(file, size, bool(form.gzip)), encoding, dialect)
    first = next(raw, None)
    if first is None:
        raise refuse("file_empty")
    names = name_columns(first.fields, dialect.header)
    kept = [] if dialect.header else [first.fields]
    characters, is_whole = 0, True
    for row in raw:
        if row.fault is None and len(row.fields) == len(names):
            kept.append(row.fields)
            characters += sum(map(len, row.fields))
        if len(kept) >= SAMPLE_ROWS or characters > _SAMPLE_CHARACTERS:
            is_whole = False
            break
    columns = list(zip(names, zip(*kept, strict=True), strict=True)) if kept else [(name, ()) for name in names]
    return _with_columns(found, columns, names, questions, len(kept), is_whole)


def _with_columns(
    form: FileFormat,
    columns: Sequence[tuple[str, Sequence[str]]],
    names: Sequence[str],
    questions: list[Question],
    rows: int,
    is_whole: bool,
    sheets: tuple[str, ...] = (),
) -> Told:
    """Judge the columns that are not declared."""
    declared = {column.name: column for column in form.columns}
    if unknown := [name for name in declared if name not in names]:
        raise refuse("column_unknown", pointer="/format/columns", column=unknown[0][:200], known=", ".join(names)[:500])
    judged, asked = judge_columns([column for column in columns if column[0] not in declared], form.delimiter)
    found = {column.name: column for column in judged} | declared
    ordered = tuple(found[name] for name in names if name in found)
    lenient = frozenset(column.name for column in judged)
    made = msgspec.structs.replace(form, columns=ordered)
    return Told(made, (*questions, *asked), rows, is_whole, sheets, lenient)


def _complete_workbook(file: BinaryIO, size: int, form: FileFormat) -> Told:
    sheets = workbook_sheets(file, size, form)
    names, header, rows = workbook_rows(file, size, msgspec.structs.replace(form, columns=()))
    form = msgspec.structs.replace(form, sheet=form.sheet or sheets[0], header=header)
    sample = list(itertools.islice(rows, SAMPLE_ROWS + 1))
    is_whole = len(sample) <= SAMPLE_ROWS
    columns: list[tuple[str, Sequence[str]]] = []
    for name in names:
        values = [row.values.get(name) for row in sample]
        # Cells that the workbook itself types need no judgement; those that are texts are judged as text is.
        if all(isinstance(value, str) for value in values if value is not None):
            columns.append((name, [value for value in values if isinstance(value, str)]))
    declared = {column.name for column in form.columns}
    judged, asked = judge_columns([column for column in columns if column[0] not in declared], ";")
    if unknown := sorted(declared - set(names)):
        raise refuse("column_unknown", pointer="/format/columns", column=unknown[0][:200], known=", ".join(names)[:500])
    typed = tuple(column for column in judged if column.type != "text")
    made = msgspec.structs.replace(form, columns=(*form.columns, *typed))
    lenient = frozenset(column.name for column in typed)
    return Told(made, tuple(asked), min(len(sample), SAMPLE_ROWS), is_whole, sheets, lenient)


def open_rows(file: BinaryIO, size: int, told: Told, columns: ColumnFile | None, after: int) -> Any:
    """(column names, rows beyond ``after``) of a file whose format is complete."""
    form = told.format
    match form.kind:
        case "csv":
            names, rows = delimited_rows(file, size, form, told.lenient)
        case "xlsx":
            names, _, rows = workbook_rows(file, size, form, told.lenient)
        case "parquet":
            assert columns is not None
            return columns.names, column_rows(columns, form, after)
        case _:
            names, rows = [], json_rows(file, size, form)
    return names, itertools.dropwhile(lambda row: row.number <= after, rows)


def describe(file: BinaryIO, size: int, told: Told, columns: ColumnFile | None) -> Description:
    """What a person sees of a file before deciding what to do with it."""
    names, rows = open_rows(file, size, told, columns, 0)
    first: list[Row] = list(itertools.islice(rows, SHOWN_ROWS))
    form = told.format
    if not form.columns:
        names = names or list(dict.fromkeys(name for row in first for name in row.values))[:200]
        form = msgspec.structs.replace(form, columns=tuple(Column(name=name, type=_type_of(name, first)) for name in names))
    return Description(
        format=form,
        names=tuple(names),
        rows_about=_rows_about(file, size, form, columns, first),
        questions=told.questions,
        rows=tuple(row.values for row in first if row.fault is None),
        rows_seen=told.rows_seen or len(first),
        is_whole=told.is_whole and (form.kind in ("csv", "xlsx") or len(first) < SHOWN_ROWS),
        sheets=told.sheets,
    )


def _rows_about(file: BinaryIO, size: int, form: FileFormat, columns: ColumnFile | None, first: Sequence[Row]) -> int:
    """About how many rows there are, by the length of the first lines."""
    if columns is not None:
        return columns.row_count
    if form.kind == "xlsx" or form.gzip or not first:
        return 0
    file.seek(0)
    sample = file.read(1 << 16)
    lines = sample.count(b"\n")
    return size * lines // len(sample) if lines else len(first)


def _type_of(name: str, rows: Sequence[Row]) -> Any:
    values = [row.values[name] for row in rows if row.values.get(name) is not None]
    return "number" if values and all(not isinstance(value, str | bool | dict | list) for value in values) else "text"
