"""The backup that is taken before a folder is migrated, and where its key goes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from conosco.runtime.backup import SUFFIX, back_up
from conosco.runtime.bootstrap import Folder, put_file
from conosco.runtime.settings import Settings


def backing_up(
    settings: Settings, clock: Callable[[], int], note: Callable[[str, dict[str, Any]], None]
) -> Callable[[int, int], None]:
    """What ``migrate`` calls before its first step. A backup that is there already was taken before that step: it is left alone.

    If the installation has no backup key yet, one is made and put beside its data, for nobody may be there to read it.
    """

    def before(found: int, wanted: int) -> None:
        path: Path = Folder(settings.data).backups / f"before-format-{wanted}-from-{found}{SUFFIX}"
        if path.exists():
            return
        key_file = Folder(settings.data).backup_key
        made = back_up(settings, path, clock, keep_key=lambda key: put_file(key_file, key.encode() + b"\n"), closed=True)
        note("backed_up", {"path": str(made.path), "bytes": made.size, "new_key": str(key_file) if made.has_new_key else ""})

    return before
