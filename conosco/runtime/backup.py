"""A backup: one encrypted file with all of an installation that cannot be derived, made while the server runs.

What it holds is consistent up to a mark, a position of the log: State is copied before the log, so it has applied nothing
that the copy of the log lacks, and leases, control and keys after it, so they know whatever its records speak of. State could
be derived from the log; it is taken along because copying it is many times faster. The warehouse is left out: it is filled anew.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

import msgspec

from conosco.model.moment import spell_moment
from conosco.model.problem import refuse
from conosco.ports.state import StateAbsent
from conosco.runtime.backup_keys import SealedKey, data_key, has_backup_key, new_backup_key
from conosco.runtime.backup_stream import CHUNK_BYTES, write_stream
from conosco.runtime.bootstrap import (
    Folder,
    alone,
    copy_store,
    is_left_behind,
    is_store,
    make_private_folder,
    open_keys,
    open_log,
    open_spare_state,
    snapshot_state,
    sync,
)
from conosco.runtime.digest import digest
from conosco.runtime.settings import Settings

SUFFIX: Final = ".backup"
DEFAULT_KEY: Final = "default"
FILES_MAX: Final = 1_000_000
# A walk over State in order needs few pages at a time, however large it is.
DIGEST_CACHE_BYTES: Final = 8_000_000
# Listing the log again finds files that came while it was copied; it settles at once unless files come faster than that.
LISTINGS_MAX: Final = 20
# The first byte of a chunk: a file begins (path and mode), more of its bytes, the manifest.
FILE, MORE, MANIFEST = b"F", b"D", b"M"
_PIECE: Final = CHUNK_BYTES - 1
# Names at the top of the folder that are derived, made for a moment, or backups themselves.
_LEFT_OUT: Final = ("state-rebuilt", "state-snapshot")


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A file in a backup: its path below the folder, and what proves its content."""

    path: str
    size: int
    hash: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds, and the mark: everything acknowledged up to ``position`` is in it.

    ``chain`` is the chain value of the record at the mark. ``state_digest`` is empty where there was no State yet.
    """

    made_at: int
    position: int
    logged_at: int
    chain: str
    events: int
    state_position: int
    state_digest: str
    files: tuple[FileEntry, ...]


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that is on the disk; ``removed`` are older ones that made room for it."""

    path: Path
    manifest: Manifest
    size: int
    has_new_key: bool = False
    removed: tuple[Path, ...] = ()


def back_up(
    settings: Settings,
    to: Path,
    clock: Callable[[], int],
    keep_key: Callable[[str], None],
    *,
    key_name: str = DEFAULT_KEY,
    keep: int = 0,
    closed: bool = False,
) -> Made:
    """Make a backup into a new file, or under a name of its own into a folder, and sync it.

    ``keep_key`` is given the backup key if there was none yet: it must reach the operator, for it is kept nowhere else. With
    ``keep`` only so many backups stay in that folder, the newest. The server may run, unless ``closed``: then files are copied without
    looking into them, whatever version wrote them, and the mark is not known. There must be room for the backup at its
    place, and in the installation's folder for a copy of its largest file. Raises Refused if there is nothing to back up, the file exists already, or files
    keep changing; OSError, StateFull or LogFull if the destination cannot be written. Then nothing new is left there.
    """
    if not Folder(settings.data).log.is_dir():
        raise refuse("backup_nothing_there", folder=str(settings.data))
    made_at = clock()
    manifest = _marked(settings, made_at, closed=closed)
    is_named = to.suffix == SUFFIX and not to.is_dir()
    stamp = spell_moment(made_at)[:19].replace(":", "").replace("-", "")
    path = to if is_named else to / f"conosco-{stamp}Z-{manifest.position}{SUFFIX}"
    if path.exists():
        raise refuse("backup_exists", path=str(path))
    make_private_folder(path.parent)
    with alone(Folder(settings.data).backup_lock):
        keys = open_keys(settings)
        has_new_key = not has_backup_key(keys, key_name)
        if has_new_key:
            new_backup_key(keys, key_name, keep_key)
        contents = _Contents(settings, manifest, closed=closed)
        size = _write(path, contents, *data_key(keys, key_name, made_at), made_at)
    removed = () if is_named or not keep else _remove_older(path.parent, keep)
    return Made(path=path, manifest=contents.manifest, size=size, has_new_key=has_new_key, removed=removed)


def _marked(settings: Settings, made_at: int, *, closed: bool) -> Manifest:
    """A manifest without files, whose mark is the newest record of the log."""
    blank = Manifest(made_at=made_at, position=0, logged_at=0, chain="", events=0, state_position=0, state_digest="", files=())
    if closed:
        return blank
    log = open_log(settings)
    try:
        head = log.head()
        return msgspec.structs.replace(
            blank, position=head.position, logged_at=head.logged_at, chain=head.chain.hex(), events=log.count(0)
        )
    finally:
        log.close()


def _write(path: Path, contents: "_Contents", data: bytes, key: SealedKey, made_at: int) -> int:
    # One name for all, so that what a killed backup left is used again by the next.
    draft = path.with_name(f".{key.key_id}.part")
    try:
        with _private(draft) as file:
            size = write_stream(file, contents.chunks(), data=data, key=key, made_at=made_at)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync(path.parent)
        return size
    finally:
        draft.unlink(missing_ok=True)
        contents.close()


def backups_in(folder: Path) -> list[Path]:
    """The backups in a folder that were named by ``back_up``, oldest first."""
    return sorted(folder.glob(f"conosco-*Z-*{SUFFIX}"))


def _remove_older(folder: Path, keep: int) -> tuple[Path, ...]:
    removed = tuple(backups_in(folder)[:-keep])
    for path in removed:
        path.unlink()
    sync(folder)
    return removed


class _Contents:
    """Walks an installation in the order that keeps a backup consistent; ``manifest`` is complete after the walk."""

    def __init__(self, settings: Settings, manifest: Manifest, *, closed: bool) -> None:
        self._settings = settings
        self._closed = closed
        self._folder = Folder(settings.data)
        # In the clear, so it lies where the data lie and never at the destination. A killed backup may have left one.
        self._scratch = self._folder.backup_copy
        self.close()
        self._entries: dict[str, FileEntry] = {}
        self.manifest = manifest

    def chunks(self) -> Iterator[bytes]:
        """All chunks, the manifest's at the end."""
        yield from self._state()
        yield from self._log()
        for path in self._others():
            yield from self._file(path)
        files = tuple(entry for _, entry in sorted(self._entries.items()))
        if len(files) > FILES_MAX:
            raise refuse("backup_too_many_files", limit=FILES_MAX)
        self.manifest = msgspec.structs.replace(self.manifest, files=files)
        body = msgspec.json.encode(self.manifest)
        for at in range(0, len(body), _PIECE):
            yield MANIFEST + body[at : at + _PIECE]

    def close(self) -> None:
        """Remove what was only needed on the way."""
        for suffix in ("", "-wal", "-shm"):
            self._scratch.with_name(self._scratch.name + suffix).unlink(missing_ok=True)

    def _state(self) -> Iterator[bytes]:
        if self._closed:
            yield from self._file(self._folder.state)
            return
        try:
            snapshot_state(self._settings, self._scratch)
        except StateAbsent:
            self.close()
            return
        state = open_spare_state(self._scratch, cache_bytes=DIGEST_CACHE_BYTES)
        try:
            position, state_digest = state.offset()[0], digest(state)
        finally:
            state.close()
        self.manifest = msgspec.structs.replace(self.manifest, state_position=position, state_digest=state_digest)
        yield from self._bytes(self._name(self._folder.state), self._scratch)
        self.close()

    def _log(self) -> Iterator[bytes]:
        """The log's files. What a file says of others must not be newer than those, so files that are replaced as a whole go first;
        and where a new file has come, the last one before it may have grown until then, so it is copied again.
        """
        seen: set[Path] = set()
        last: Path | None = None
        for _ in range(LISTINGS_MAX):
            fresh = [path for path in self._walk(self._folder.log) if path not in seen]
            if not fresh:
                return
            stores = sorted(path for path in fresh if is_store(path.name))
            for path in (*(path for path in fresh if not is_store(path.name)), *([last] if last and stores else []), *stores):
                yield from self._file(path)
            seen.update(fresh)
            last = stores[-1] if stores else last
        raise refuse("backup_keeps_changing", folder=str(self._folder.log))

    def _others(self) -> Iterator[Path]:
        folder = self._folder
        # A backup key that lies here waits to be moved away; it has no business in what it opens.
        kept_apart = {folder.backups, folder.backup_key, folder.backup_copy}
        taken = {folder.state, folder.log, folder.warehouse, folder.run, *kept_apart}
        for entry in sorted(self._settings.data.iterdir()):
            if entry not in taken and not entry.name.startswith(_LEFT_OUT):
                yield from self._walk(entry) if entry.is_dir() else filter(_is_kept, [entry])

    def _walk(self, folder: Path) -> list[Path]:
        return sorted(path for path in folder.rglob("*") if _is_kept(path))

    def _file(self, path: Path) -> Iterator[bytes]:
        """The chunks of a file; none if it is gone by now: what it held was moved into one that is listed next, or is not wanted."""
        try:
            if is_store(path.name):
                self.close()
                copy_store(path, self._scratch)
                yield from self._bytes(self._name(path), self._scratch)
            else:
                yield from self._bytes(self._name(path), path)
        except FileNotFoundError:
            self._entries.pop(self._name(path), None)
        finally:
            self.close()

    def _bytes(self, name: str, path: Path) -> Iterator[bytes]:
        with path.open("rb") as file:
            yield FILE + name.encode()
            running, size = hashlib.blake2b(digest_size=32), 0
            while piece := file.read(_PIECE):
                running.update(piece)
                size += len(piece)
                yield MORE + piece
        self._entries[name] = FileEntry(path=name, size=size, hash=running.hexdigest())

    def _name(self, path: Path) -> str:
        return PurePosixPath(path.relative_to(self._settings.data)).as_posix()


def _is_kept(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode) and not is_left_behind(path.name)
    except FileNotFoundError:
        return False


def _private(path: Path) -> IO[bytes]:
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")
