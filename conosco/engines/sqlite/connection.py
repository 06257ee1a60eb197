"""How every SQLite file of the product is opened: library checked, settings that durability and erasure need, format checked."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw

# Older libraries can reset a WAL under a running checkpoint and lose committed rows.
LIBRARY_OLDEST: Final = (3, 51, 3)
BUSY_MS: Final = 10_000
FORMAT: Final = 1
# What a caller may meet when nothing is wrong with the request: the disk is full, read-only or failing, or another
# process holds the write lock for longer than BUSY_MS.
UNWRITABLE: Final = (apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.CantOpenError, apsw.BusyError, apsw.PermissionsError)
# A file that cannot be read can be caused by damage, but also by a page that could not be fetched.
DAMAGED: Final = (apsw.CorruptError, apsw.NotADBError)
# Of the I/O errors, those that say that bytes of the file cannot be had. All others are refusals of a disk that may pass.
_UNREAD: Final = frozenset(
    (
        apsw.SQLITE_IOERR_READ,
        apsw.SQLITE_IOERR_SHORT_READ,
        apsw.SQLITE_IOERR_CORRUPTFS,
        apsw.SQLITE_IOERR_DATA,
        apsw.SQLITE_IOERR_IN_PAGE,
    )
)


class UnfitLibrary(Exception):
    """The SQLite library that is linked is too old to be trusted with a log."""


class UnfitFile(Exception):
    """The file was written by a newer version of the product, or one of its settings could not be made."""


def check_library(version: str) -> None:
    """Raise UnfitLibrary if this SQLite version has the WAL-reset defect."""
    if tuple(int(part) for part in version.split(".")[:3]) < LIBRARY_OLDEST:
        oldest = ".".join(str(part) for part in LIBRARY_OLDEST)
        raise UnfitLibrary(f"SQLite {version} can lose committed rows; install apsw with SQLite {oldest} or newer")


def library_version() -> str:
    """The version of the SQLite library that is linked."""
    return apsw.sqlite_lib_version()


def connect(
    path: Path,
    *,
    create: bool = True,
    page_bytes: int = 4096,
    cache_bytes: int = 16_000_000,
    checkpoint_bytes: int = 4_000_000,
) -> apsw.Connection:
    """Open a file for durable, erasing writes: WAL, synchronous FULL, secure_delete, a busy time of 10 s.

    A new file is readable by its owner only. ``checkpoint_bytes`` of WAL make a commit checkpoint; 0 leaves that to
    others. Raises UnfitLibrary, UnfitFile, and FileNotFoundError if it is absent and not to be created.
    """
    check_library(library_version())
    if create:
        _create_private(path)
    elif not path.exists():
        raise FileNotFoundError(path)
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=512)
    connection.set_busy_timeout(BUSY_MS)
    connection.pragma("page_size", page_bytes)
    if connection.pragma("journal_mode", "wal") != "wal":
        raise UnfitFile(f"{path}: this file system does not support a write-ahead log")
    connection.pragma("synchronous", "full")
    connection.pragma("secure_delete", True)
    connection.pragma("cache_size", -(cache_bytes // 1024))
    connection.pragma("wal_autocheckpoint", checkpoint_bytes // page_bytes)
    if connection.pragma("synchronous") != 2 or connection.pragma("secure_delete") != 1:
        raise UnfitFile(f"{path}: synchronous and secure_delete could not be set")
    found = connection.pragma("user_version")
    if isinstance(found, int) and found > FORMAT:
        raise UnfitFile(f"{path}: written by a newer version (format {found}, this version knows {FORMAT}); upgrade first")
    return connection


def _create_private(path: Path) -> None:
    """Make an empty file of mode 0600; its WAL inherits the mode. An existing file is left alone.

    An existing file must not be opened and closed here: that would drop the locks that this process holds on it.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return


def migrate(connection: apsw.Connection, statements: str, tables: Iterable[str]) -> None:
    """Create what is missing in one transaction with its format number, so that nobody sees half of it.

    ``statements`` make ``tables`` and may be run again. A file that is complete is not locked, let alone written.
    """
    if is_ready(connection) and {name for (name,) in fetch(connection, "SELECT name FROM sqlite_schema")}.issuperset(tables):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(statements)
        connection.pragma("user_version", FORMAT)
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def is_ready(connection: apsw.Connection) -> bool:
    """Whether the tables of this file exist already."""
    return bool(connection.pragma("user_version") == FORMAT)


def is_refusal(error: BaseException) -> bool:
    """Whether an error says no more than that the disk refused something now, and nothing of damaged bytes.

    Who took a refusal for damage would pass over records that are whole.
    """
    return isinstance(error, UNWRITABLE) and getattr(error, "extendedresult", 0) not in _UNREAD


def raise_refusal(error: BaseException) -> None:
    """Raise an error that is a refusal; return for any other."""
    if is_refusal(error):
        raise error


def fetch(connection: apsw.Connection, statement: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
    """All rows of a question as tuples; their types are those of the columns."""
    return list(connection.execute(statement, bindings))


def roll_back(connection: apsw.Connection) -> None:
    """End the open transaction, if there still is one: some errors have already ended it."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def truncate_wal(connection: apsw.Connection) -> None:
    """Move all of the WAL into the file and cut it to nothing; waits for readers. Raises apsw.BusyError if they stay."""
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def sync_folder(folder: Path) -> None:
    """Make creations, renames and removals in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it durably, readable by its owner only; one that is there is left alone."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    # Also where it was there: whoever made it may have been cut short before the sync.
    sync_folder(folder.parent)


def replace_file(path: Path, body: bytes) -> None:
    """Put a small file in place as a whole, durably, readable by its owner only."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold an exclusive lock among processes (and threads) while inside; the file stays, empty."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
