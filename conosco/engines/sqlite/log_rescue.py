"""What is done before the log's files are used again after nobody had them open: damaged ones are mended or set aside."""

import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from conosco.engines.sqlite.log_damage import DamageBook
from conosco.engines.sqlite.log_file import Mark


class Presence:
    """Tells whether anybody else has this log open. One object a log; ``stay`` before the files are used."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / "open.lock", os.O_CREAT | os.O_RDWR, 0o600)

    def is_first(self) -> bool:
        """True if nobody else is here; nobody else can come until ``stay``."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def stay(self) -> None:
        """Be here, beside others."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def close(self) -> None:
        """Be gone."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def rescue(folder: Path, numbers: Sequence[int], floor: Mark, damage: DamageBook, clock: Callable[[], int]) -> None:
    """Mend what can be mended."""
