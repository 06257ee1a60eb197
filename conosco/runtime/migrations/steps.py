"""The steps that bring an older folder to the format of this version, and what is refused. Forward only, one after the other."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from conosco.model.problem import refuse
from conosco.runtime.bootstrap import Folder
from conosco.runtime.migrations.step import STORES, FormatFile, Step, read_format, write_format
from conosco.runtime.migrations.step_0001_format_file import STEP as FORMAT_FILE

STEPS: Final[tuple[Step, ...]] = (FORMAT_FILE,)
Note = Callable[[str, dict[str, Any]], None]


def check_format(data: Path, steps: Sequence[Step] = STEPS) -> FormatFile:
    """The format of a folder. Raises Refused if a newer version wrote it: this one would misread it."""
    found = read_format(data)
    if found.format > len(steps):
        raise refuse("folder_newer", folder=str(data), found=found.format, known=len(steps))
    for store, number in found.stores.items():
        if number > STORES.get(store, 0):
            raise refuse("store_newer", path=str(data / store), found=number, known=STORES.get(store, 0))
    return found


def require_current(data: Path) -> None:
    """Raises Refused unless the folder has the format of this version; for processes that run one role and must not migrate."""
    if check_format(data).format < len(STEPS) and not is_new(data):
        raise refuse("folder_older", folder=str(data), known=len(STEPS))


def is_new(data: Path) -> bool:
    """Whether nothing was ever kept in this folder."""
    folder = Folder(data)
    return not folder.keys.exists() and not folder.log.exists()


def migrate(
    data: Path,
    clock: Callable[[], int],
    note: Note,
    back_up_before: Callable[[int, int], None],
    steps: Sequence[Step] = STEPS,
) -> None:
    """Bring a folder that nobody uses to the newest format, or say so in a new one.

    ``back_up_before(found, wanted)`` is called before the first step; calling it again for the same folder must do no harm. Cut short
    anywhere, the next call goes on: each step has its record. Raises Refused for a folder of a newer version.
    """
    found = check_format(data, steps)
    if is_new(data):
        if found.format < len(steps):
            write_format(data, found, len(steps), "new", clock())
        return
    missing = steps[found.format :]
    if missing:
        back_up_before(found.format, len(steps))
    for step in missing:
        note("migrating", {"step": step.number, "name": step.name})
        step.apply(data)
        found = write_format(data, found, step.number, step.name, clock())
        note("migrated", {"step": step.number, "name": step.name})
