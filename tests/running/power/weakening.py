"""Variants of the storage that promise more than they keep: the power cuts must find each of them out."""

import os
import stat
import sys
from collections.abc import Callable
from typing import Any

import conosco.engines.sqlite.connection as connections


def _synchronous(mode: str) -> None:
    """Every connection opened from now on syncs less."""
    honest = connections.connect

    def connect(*arguments: Any, **named: Any) -> Any:
        connection = honest(*arguments, **named)
        connection.pragma("synchronous", mode)
        return connection

    for module in list(sys.modules.values()):
        if module.__name__.startswith("conosco.") and getattr(module, "connect", None) is honest:
            vars(module)["connect"] = connect


def _fsync_of(skipped: Callable[[int], bool]) -> None:
    """Files of one kind are not synced by our own calls."""
    honest = os.fsync

    def fsync(file: Any) -> None:
        if not skipped(os.fstat(file if isinstance(file, int) else file.fileno()).st_mode):
            honest(file)

    vars(os)["fsync"] = fsync


VARIANTS: dict[str, Callable[[], None]] = {
    "synchronous off": lambda: _synchronous("off"),
    "synchronous normal": lambda: _synchronous("normal"),
    "folders are not synced": lambda: _fsync_of(stat.S_ISDIR),
    "renamed without a sync": lambda: _fsync_of(stat.S_ISREG),
}
