"""A folder of this machine below the one that the administrator has opened. No link is followed below it."""

import errno
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Any, Final

import msgspec

from conosco.connectors.place import CHUNK, LIST_MAX, Entry, Place, PlaceContext, PlaceFailed, is_name
from conosco.connectors.settings import convert_settings

type: Final = "folder"
writes_files: Final = True

PARTS_MAX: Final = 8
_PART: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_. -]{0,62}[A-Za-z0-9_-])?\Z", re.ASCII)
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``folder``: below the one that the administrator has opened, such as ``crm/in``."""

    folder: str

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for a folder that cannot be used."""
        parts = self.folder.split("/")
        if len(parts) > PARTS_MAX or not all(map(_PART.match, parts)):
            raise ValueError(
                f"a folder has at most {PARTS_MAX} names joined by /, each of letters, digits, _ - . and blanks, "
                "not beginning with a dot: it lies below the folder that the administrator has opened"
            )


def read_settings(spec: dict[str, Any]) -> Settings:
    """Check a place's spec. Raises Refused: ``spec_invalid`` with the field's pointer and a sentence."""
    return convert_settings(spec, Settings, "folder")


def open_place(settings: Settings, context: PlaceContext) -> Place:
    """Open it. Raises PlaceFailed: place_not_allowed, place_failed."""
    if context.root is None:
        raise PlaceFailed("place_not_allowed")
    try:
        handle = os.open(context.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in settings.folder.split("/"):
            inner = _inner(handle, part)
            os.close(handle)
            handle = inner
    except OSError as error:
        raise _failed(error, settings.folder) from None
    return FolderPlace(handle)


class FolderPlace:
    """Implements ``Place`` over one open folder, so that nobody can put a link in its way later."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def list(self) -> list[Entry]:
        """Its files, by name."""
        found: list[Entry] = []
        try:
            with os.scandir(self._handle) as entries:
                for entry in entries:
                    if not is_name(entry.name) or not entry.is_file(follow_symlinks=False):
                        continue
                    facts = entry.stat(follow_symlinks=False)
                    version = f"{facts.st_size}-{facts.st_mtime_ns}-{facts.st_ino}-{facts.st_ctime_ns}"
                    changed_at = max(facts.st_mtime_ns, 0) // 1_000
                    found.append(Entry(name=entry.name, bytes=facts.st_size, version=version, changed_at=changed_at))
                    if len(found) > LIST_MAX:
                        raise PlaceFailed("place_too_full", limit=LIST_MAX)
        except OSError as error:
            raise _failed(error, "") from None
        return sorted(found, key=lambda entry: entry.name)

    def get(self, name: str, path: Path, bytes_max: int) -> str:
        """Fetch a file; one that is changed meanwhile counts as vanished, for nobody knows what was read."""
        digest, size = hashlib.sha256(), 0
        try:
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._handle)
            with os.fdopen(handle, "rb") as source, path.open("xb") as target:
                before = os.fstat(handle)
                if not stat.S_ISREG(before.st_mode):
                    raise PlaceFailed("file_vanished", name=name)
                while part := source.read(CHUNK):
                    size += len(part)
                    if size > bytes_max:
                        raise PlaceFailed("file_too_large", name=name, limit=bytes_max)
                    digest.update(part)
                    target.write(part)
                after = os.fstat(handle)
                if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or size != after.st_size:
                    raise PlaceFailed("file_vanished", name=name)
                target.flush()
                os.fsync(target.fileno())
        except PlaceFailed:
            path.unlink(missing_ok=True)
            raise
        except OSError as error:
            path.unlink(missing_ok=True)
            raise _failed(error, name) from None
        return digest.hexdigest()

    def put(self, path: Path, name: str) -> None:
        """Write beside, sync and rename."""
        fresh = f".{name}.new"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(fresh, flags, 0o640, dir_fd=self._handle)
            with path.open("rb") as source, os.fdopen(handle, "wb") as target:
                while part := source.read(CHUNK):
                    target.write(part)
                target.flush()
                os.fsync(target.fileno())
            os.replace(fresh, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
            os.fsync(self._handle)
        except OSError as error:
            raise _failed(error, name) from None

    def move(self, name: str, folder: str, as_name: str) -> None:
        """Move a file into a folder inside this one."""
        try:
            inner = _inner(self._handle, folder)
            try:
                os.replace(name, as_name, src_dir_fd=self._handle, dst_dir_fd=inner)
                os.fsync(inner)
                os.fsync(self._handle)
            finally:
                os.close(inner)
        except OSError as error:
            raise _failed(error, name) from None

    def delete(self, name: str) -> None:
        """Delete a file."""
        try:
            os.unlink(name, dir_fd=self._handle)
            os.fsync(self._handle)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _failed(error, name) from None

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._handle)


def _inner(parent: int, name: str) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except FileNotFoundError:
        os.mkdir(name, 0o750, dir_fd=parent)
        os.fsync(parent)
        return os.open(name, _FOLDER, dir_fd=parent)


def _failed(error: OSError, name: str) -> PlaceFailed:
    if isinstance(error, FileNotFoundError):
        return PlaceFailed("file_vanished", name=name)
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return PlaceFailed("place_not_allowed")
    return PlaceFailed("place_failed", detail=error.strerror or "")
