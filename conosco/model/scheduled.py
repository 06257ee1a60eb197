"""Words of scheduled imports and exports: what is asked for, and what became of each run."""

import re
from typing import Any, Final, Literal

import msgspec

from conosco.model.importing import FileFormat
from conosco.model.moment import parse_duration
from conosco.model.schedule import Schedule

FOLDER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}\Z", re.ASCII)
RunStatus = Literal["running", "done", "failed"]
ExportFormat = Literal["csv", "jsonl", "parquet"]


class ImportSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """``place`` is checked by the connector that its ``type`` names; ``pattern`` (``orders-*.csv``) chooses among its files.

    A file is left alone until nobody has changed it for ``min_age``. ``after`` says what becomes of a file whose import is
    done; ``move_to`` is the folder inside the place for ``move``. Without ``schedule`` it runs when it is asked to.
    """

    place: dict[str, Any]
    pattern: str = "*"
    mapping: list[Any]
    format: FileFormat = FileFormat()
    key: tuple[str, ...] = ()
    schedule: Schedule | None = None
    after: Literal["leave", "move", "delete"] = "leave"
    move_to: str = ""
    min_age: str = "10s"

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for what cannot be meant."""
        if not self.pattern or "/" in self.pattern or len(self.pattern) > 200:
            raise ValueError("a pattern is about names of files, such as orders-*.csv, and has no /")
        if (self.after == "move") != bool(self.move_to):
            raise ValueError("move_to names the folder for files that are moved, and only for those")
        if self.move_to and not FOLDER.match(self.move_to):
            raise ValueError("a folder for moved files is one name of letters, digits, _ and -, such as done")
        if parse_duration(self.min_age) is None:
            raise ValueError("min_age is a duration such as 10s or 5m")
        if not self.mapping:
            raise ValueError("a mapping is needed: nobody is there to look at a suggested one")


class ExportColumn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One column: the profile id, an identifier of a namespace (the one known last), or a trait, declared or computed."""

    kind: Literal["profile_id", "identifier", "trait"]
    name: str = ""
    heading: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for what cannot be meant."""
        if (self.kind == "profile_id") == bool(self.name):
            raise ValueError("a column of identifiers or traits has a name, one of profile ids has none")
        if len(self.name) > 200 or len(self.heading) > 200:
            raise ValueError("names and headings have at most 200 characters")

    @property
    def title(self) -> str:
        """What stands above it."""
        return self.heading or self.name or "profile_id"


class ExportSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """People of ``segment`` (its key; everyone if empty) as rows of a file in ``place``.

    ``file`` names it: ``{key}``, ``{date}``, ``{time}`` and ``{position}`` are filled in. With ``changes`` only who entered and
    who exited since the last file are told, in a further column ``change``.
    """

    place: dict[str, Any]
    segment: str = ""
    columns: tuple[ExportColumn, ...] = (ExportColumn(kind="profile_id"),)
    format: ExportFormat = "csv"
    file: str = "{key}-{date}-{time}"
    content: Literal["full", "changes"] = "full"
    schedule: Schedule | None = None
    # Said on purpose by whoever lets data leave the region of this installation.
    leaves_region: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for what cannot be meant."""
        titles = [column.title for column in self.columns]
        if not titles or len(titles) > 200:
            raise ValueError("a file has between 1 and 200 columns")
        if len({*titles, "change"}) <= len(titles):
            raise ValueError("no two columns have the same heading, and none is called change")
        plain = self.file
        for part in ("{key}", "{date}", "{time}", "{position}"):
            plain = plain.replace(part, "x")
        if not 0 < len(self.file) <= 100 or not plain.replace("-", "").replace("_", "").isalnum() or not plain.isascii():
            raise ValueError("a file's name has letters, digits, - and _, and {key}, {date}, {time} or {position}")


class RunFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file of a run: of an import the one that was taken, of an export the one that was written."""

    name: str
    bytes: int = 0
    digest: str = ""
    import_id: str = ""
    status: str = ""
    accepted: int = 0
    rejected: int = 0
    problem: str = ""
    problem_params: dict[str, str | int] = {}


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run. ``left_out`` are people whom the gate kept from an export, ``waiting`` files that were still too young.

    ``as_of`` is the position of the log that an export tells of; moments are microseconds.
    """

    run_id: str
    definition_id: str
    key: str
    kind: Literal["import", "export"]
    why: Literal["schedule", "asked"]
    started_at: int
    ended_at: int | None = None
    status: RunStatus = "running"
    files: tuple[RunFile, ...] = ()
    waiting: int = 0
    unchanged: int = 0
    rows: int = 0
    left_out: int = 0
    as_of: int = 0
    problem: str = ""
    problem_params: dict[str, str | int] = {}


class RunAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it is told."""

    run_id: str
    why: str
    started_at: str
    ended_at: str | None
    status: RunStatus
    files: tuple[RunFile, ...]
    waiting: int
    unchanged: int
    rows: int
    left_out: int
    as_of: int
    problem: str
    problem_params: dict[str, str | int]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a definition stands with its schedule: nothing up to ``since`` is owed any more."""

    version: int
    since: int


class ScheduleAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """When a definition runs next (null: only when asked), and its last run."""

    next_run_at: str | None
    is_asked: bool
    last_run: RunAnswer | None
