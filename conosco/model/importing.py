"""Words of imports: how a file is to be read, what was found in it, and what became of it."""

from typing import Any, Literal

import msgspec

from conosco.model.definition import Basis
from conosco.model.problem import Problem

FileKind = Literal["csv", "xlsx", "parquet", "jsonl"]
ColumnType = Literal["text", "number", "moment"]
DateOrder = Literal["", "ymd", "dmy", "mdy"]
ImportStatus = Literal["waiting", "running", "done", "failed", "cancelled", "undoing", "undone"]
# While an import has one of these nobody needs to do anything for it any more.
ENDED: frozenset[str] = frozenset({"done", "failed", "cancelled", "undone"})


class Column(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How one column is read. Text stays as written; a number is exact; a moment is told in RFC 3339.

    ``decimal`` and ``thousands`` are the marks inside its numbers, ``order`` that of day, month and year.
    """

    name: str
    type: ColumnType = "text"
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ".", ",", " ", "'"] = ""
    order: DateOrder = ""


class FileFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a file is read. What is left empty is found out from the file itself.

    ``zone`` (an IANA name) is that of moments written without one; UTC if empty. ``columns`` need name only those that are
    read otherwise than found.
    """

    kind: FileKind | Literal[""] = ""
    gzip: bool | None = None
    encoding: str = ""
    delimiter: str = ""
    quote: str = ""
    header: bool | None = None
    sheet: str = ""
    zone: str = ""
    columns: tuple[Column, ...] = ()


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the file does not say, and a person must: which of ``choices`` it is. ``column`` is empty for the whole file."""

    about: Literal["encoding", "date_order", "decimal_mark"]
    column: str = ""
    choices: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a file: its format, what must be asked, its columns and first rows, and how many rows were looked at."""

    format: FileFormat
    questions: tuple[Question, ...] = ()
    names: tuple[str, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()
    # About how many rows there are; 0 where nobody can tell before reading them.
    rows_about: int = 0
    rows_seen: int = 0
    is_whole: bool = True
    sheets: tuple[str, ...] = ()


class RejectedRow(msgspec.Struct, frozen=True, array_like=True):
    """A row that became no event: its number in the file (the first row of data is 1), why, and what stood in it."""

    row: int
    reason: str
    params: dict[str, str | int] = {}
    fields: tuple[str, ...] = ()


class ImportAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody wants imported, and how.

    ``basis`` says why these personal data may be kept, and ``note`` the same in the words of who answers for it. ``key``
    names columns that tell rows apart across files; without them it is the row's place in this very file.
    """

    upload: str = ""
    path: str = ""
    name: str = ""
    source: str
    basis: Basis
    note: str
    mapping: list[Any]
    format: FileFormat = FileFormat()
    key: tuple[str, ...] = ()


class ImportRun(msgspec.Struct, frozen=True, kw_only=True):
    """An import and how far it is, as kept in Control. Moments are microseconds, positions those of the log."""

    import_id: str
    asked: ImportAsked
    source_id: str
    file_name: str
    file_digest: str
    file_bytes: int
    mapping_digest: str
    created_at: int
    status: ImportStatus = "waiting"
    # The rows that are in the log or among the rejected ones, and what became of them.
    rows_read: int = 0
    accepted: int = 0
    rejected: int = 0
    rows_about: int = 0
    columns: tuple[str, ...] = ()
    position_before: int = 0
    position_last: int = 0
    ended_at: int | None = None
    problem: str = ""
    problem_params: dict[str, str | int] = {}
    cancel_asked: bool = False
    # How far an undo is: records found, erased, State rebuilt and taken.
    undo_step: str = ""
    undo_progress: float = 0.0


class IdentityPreview(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows would do to who is who: each row is counted once, as the strongest of these.

    ``known`` belong to people known before, ``new`` to people who were not (``new_people`` of them), ``merging`` rows join people
    that were separate (``people_merged`` fewer afterwards), ``conflicting`` ones carry evidence that the identity rules refuse.
    """

    rows: int = 0
    # False for files so long that only their beginning was followed.
    is_exact: bool = True
    new: int = 0
    known: int = 0
    merging: int = 0
    conflicting: int = 0
    new_people: int = 0
    known_people: int = 0
    people_merged: int = 0


class PreviewAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody wants to see before importing: without a mapping, the suggested one is shown at work."""

    upload: str = ""
    path: str = ""
    source: str = ""
    mapping: list[Any] = []
    format: FileFormat = FileFormat()
    key: tuple[str, ...] = ()


class FilePreview(msgspec.Struct, frozen=True, kw_only=True):
    """What an import would do. ``status`` is running until the whole file was read; then ``identity`` is exact.

    ``events`` are those of the first rows, ``rejected_rows`` the first that would be, ``reasons`` counts all of them.
    """

    preview_id: str = ""
    status: Literal["running", "done", "failed"] = "running"
    description: Description | None = None
    suggested_mapping: list[Any] = []
    mapping: list[Any] = []
    events: list[Any] = []
    rows_read: int = 0
    accepted: int = 0
    rejected: int = 0
    rejected_rows: list[RejectedRow] = []
    reasons: dict[str, int] = {}
    identity: IdentityPreview | None = None
    imported_before: str = ""
    problems: tuple[Problem, ...] = ()


class Uploaded(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was sent to us: how it is called in what follows, its name as told, size and SHA-256."""

    upload: str
    name: str
    bytes: int
    digest: str
    created_at: int


class ImportAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An import as it is told: what was asked, how far it is, and what became of its rows."""

    import_id: str
    name: str
    source: str
    basis: Basis
    note: str
    status: ImportStatus
    file_name: str
    file_bytes: int
    file_digest: str
    rows_read: int
    rows_about: int
    accepted: int
    rejected: int
    applied: int
    position: int
    created_at: str
    ended_at: str | None = None
    problem: str = ""
    problem_params: dict[str, str | int] = {}
    undo_step: str = ""
    undo_progress: float = 0.0
