"""Copies of files that other processes go on writing to: what a backup takes, one file at a time."""

import errno
from pathlib import Path
from typing import Final

import apsw

from conosco.engines.sqlite.connection import BUSY_MS, DAMAGED, UNWRITABLE

# Write-ahead logs and shared indexes belong to a database and are part of its copy; locks and drafts hold nothing.
_PASSING: Final = ("-wal", "-shm", "-journal", ".lock", ".new")
_SUFFIX: Final = ".sqlite"


def is_passing(name: str) -> bool:
    """Whether a file of this name holds nothing that outlives the processes that use it."""
    return name.endswith(_PASSING)


def is_database(name: str) -> bool:
    """Whether a file of this name must be copied by ``copy_database``. It is not opened to see: that would drop locks on it."""
    return name.endswith(_SUFFIX)


def copy_database(source: Path, target: Path) -> None:
    """Copy a database as of its last commit into a new file, complete without a write-ahead log; its writers go on meanwhile.

    The copy is not synced. Raises FileNotFoundError if the source is not there (any more), else OSError if it cannot be read or
    copied.
    """
    if not source.exists():
        raise FileNotFoundError(source)
    try:
        _copy(source, target)
    except (*UNWRITABLE, *DAMAGED) as error:
        raise OSError(errno.EIO, f"{source.name} could not be copied: {error}") from error


def _copy(source: Path, target: Path) -> None:
    reading = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        reading.set_busy_timeout(BUSY_MS)
        writing = apsw.Connection(str(target))
        try:
            writing.pragma("journal_mode", "off")
            writing.pragma("synchronous", "off")
            with writing.backup("main", reading, "main") as copying:
                copying.step()
            # The engine gives a copy a number of its own, and whoever checks the file's every byte would take that for damage.
            writing.pragma("schema_version", reading.pragma("schema_version"))
        finally:
            writing.close()
    finally:
        reading.close()


def format_of(source: Path) -> int:
    """The format number that a database carries."""
    connection = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(BUSY_MS)
        return int(str(connection.pragma("user_version")))
    finally:
        connection.close()
