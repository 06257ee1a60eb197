"""The reading child: a process that is given one open file and one task, and can do nothing but read the one and tell.

Its parent trusts nothing that it says beyond its shape. How it ends is told by its last message; without one it has failed.
"""

import contextlib
import encodings.cp437
import encodings.cp1250
import encodings.cp1252
import encodings.iso8859_2
import encodings.utf_16_be
import encodings.utf_16_le
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from conosco.collect.files.confinement import close_the_door, limit_resources
from conosco.collect.files.converting import Converter
from conosco.collect.files.describing import complete, describe, open_rows
from conosco.collect.files.messages import LENGTH_BYTES, TASKS, CannotRead, Finished, Message, Task, described, frame
from conosco.model.problem import Problem, Refused, refuse
from conosco.ports.columns import ColumnFile
from conosco.rules.mapping import EventMapping, compile_mapping
from conosco.rules.mapping_parse import parse_event_mappings

# Named so that they are loaded before no file can be opened any more.
_CODECS: Final = (
    encodings.cp437,
    encodings.cp1250,
    encodings.cp1252,
    encodings.iso8859_2,
    encodings.utf_16_le,
    encodings.utf_16_be,
)
OpenColumns = Callable[[int], ColumnFile]


def main(open_columns: OpenColumns | None) -> None:
    """Read a task from standard input and do it. ``open_columns`` opens a column file by its descriptor, where that can be asked for."""
    given, told = sys.stdin.buffer, sys.stdout.buffer
    task = TASKS.decode(given.read(int.from_bytes(given.read(LENGTH_BYTES), "big")))
    if task.format.zone:
        # Read now, while files can be opened; a wrong name is refused later, in words.
        with contextlib.suppress(ZoneInfoNotFoundError, ValueError, OSError):
            ZoneInfo(task.format.zone)

    def tell(message: Message) -> None:
        told.write(frame(message))
        told.flush()

    try:
        # Before the door is closed, for the zones that a mapping names lie in files.
        mapping = None if task.mapping is None else parse_event_mappings(task.mapping, "/mapping")
        limit_resources(task.memory_bytes, task.cpu_s)
        close_the_door(may_open=open_columns is not None)
        _work(task, mapping, open_columns, tell)
    except Refused as refused:
        tell(CannotRead(problems=refused.problems))
    except MemoryError:
        tell(CannotRead(problems=(Problem(code="file_needs_too_much_memory"),)))
    except Exception as error:  # noqa: BLE001  # a defect of ours, told by its place: its text may hold what is in the file
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        tell(CannotRead(problems=(Problem(code="file_reading_failed", params={"where": where}),)))


def _work(
    task: Task, mapping: Sequence[EventMapping] | None, open_columns: OpenColumns | None, tell: Callable[[Message], None]
) -> None:
    with os.fdopen(task.handle, "rb", buffering=1 << 20) as file:
        told = complete(file, task.size, task.format)
        columns = _columns(file, task, told.format.kind, open_columns)
        tell(described(describe(file, task.size, told, columns)))
        if mapping is None:
            return
        if told.questions:
            question = told.questions[0]
            choices = ", ".join(question.choices)
            raise refuse("format_undecided", pointer="/format", about=question.about, column=question.column, choices=choices)
        names, rows = open_rows(file, task.size, told, columns, task.after)
        if unknown := [name for name in task.key_columns if names and name not in names]:
            raise refuse("column_unknown", pointer="/key", column=unknown[0][:200], known=", ".join(names)[:500])
        last = task.after
        for made in Converter([compile_mapping(made) for made in mapping], task.rules, task.key, task.key_columns).frames(
            rows, task.rows_max
        ):
            tell(made)
            last = made.last
        tell(Finished(rows=last))


def _columns(file: BinaryIO, task: Task, kind: str, open_columns: OpenColumns | None) -> ColumnFile | None:
    if kind != "parquet":
        return None
    if task.format.gzip or open_columns is None:
        raise refuse("file_kind_unknown")
    return open_columns(file.fileno())
