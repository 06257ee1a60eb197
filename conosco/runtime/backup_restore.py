"""Restoring a backup: into a folder beside the wanted one, proven there, and only then renamed: nothing is half-restored."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

import msgspec

from conosco.model.problem import refuse
from conosco.ports.log import Log
from conosco.runtime.backup import FILE, MANIFEST, MORE, SUFFIX, FileEntry, Manifest, backups_in
from conosco.runtime.backup_stream import read_stream
from conosco.runtime.bootstrap import Folder, make_private_folder, open_log, open_spare_state, sync
from conosco.runtime.deriving import bring_to_end
from conosco.runtime.digest import digest
from conosco.runtime.migrations.steps import migrate
from conosco.runtime.settings import Settings

MANIFEST_BYTES_MAX: Final = 400_000_000


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that is ready to be served. ``position`` is the last record that came back: the mark, or later."""

    folder: Path
    manifest: Manifest
    position: int


def newest(source: Path) -> Path:
    """The backup to restore: the file itself, or the newest in a folder. Raises Refused if there is none."""
    if source.is_dir():
        found = backups_in(source) or sorted(source.glob(f"*{SUFFIX}"))
        if not found:
            raise refuse("backup_none_there", path=str(source))
        return found[-1]
    if not source.is_file():
        raise refuse("backup_none_there", path=str(source))
    return source


def restore(source: Path, target: Path, spelled_key: str) -> Restored:
    """Restore a backup into a new folder, synced and proven.

    Proven are every byte, the log's chain and its record at the mark, and the digest of State. Deliveries that were pending are
    parked, for they may have been made after the backup. Raises Refused for a folder that is not empty, another key, and
    anything in the backup that is not as it was written; then there is nothing in the folder.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise refuse("restore_not_empty", folder=str(target))
    make_private_folder(target.parent)
    draft = target.with_name(f".{target.name}.restoring")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    try:
        with newest(source).open("rb") as file:
            manifest = _unpack(read_stream(file, spelled_key), draft)
        migrate(draft, lambda: manifest.made_at, lambda event, fields: None, lambda found, wanted: None)
        position = _prove(draft, manifest)
        _sync_all(draft)
        draft.replace(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync(target.parent)
    return Restored(folder=target, manifest=manifest, position=position)


def replay_erasures(settings: Settings, log: Log) -> None:
    """The place where people who were erased after the backup was made are erased again, before anybody is served.

    There is no erasure yet, so there is nothing to do. Erasure keeps its list outside what is backed up, and is called from here.
    """


def _unpack(chunks: Iterator[bytes], folder: Path) -> Manifest:
    """Write all files, each checked against the manifest that comes at the end."""
    written: dict[str, FileEntry] = {}
    body = bytearray()
    unpacking = _Unpacking(folder, written)
    try:
        for chunk in chunks:
            kind, rest = chunk[:1], memoryview(chunk)[1:]
            if kind == MORE and not body:
                unpacking.more(rest)
            elif kind == FILE and not body:
                unpacking.begin(bytes(rest).decode())
            elif kind == MANIFEST and len(body) + len(rest) <= MANIFEST_BYTES_MAX:
                body += rest
            else:
                raise refuse("backup_damaged", where="order of chunks")
    finally:
        unpacking.end()
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except msgspec.DecodeError:
        raise refuse("backup_damaged", where="manifest") from None
    expected = {entry.path: entry for entry in manifest.files}
    # A file that was moved away while it was copied is written and not listed.
    for path in written.keys() - expected.keys():
        (folder / path).unlink()
    for path, entry in expected.items():
        if written.get(path) != entry:
            raise refuse("backup_damaged", where=path)
    return manifest


class _Unpacking:
    """Writes one file after the other; one that comes again replaces what came before."""

    def __init__(self, folder: Path, written: dict[str, FileEntry]) -> None:
        self._folder = folder
        self._written = written
        self._file: IO[bytes] | None = None
        self._path = ""
        self._size = 0
        self._hash: Any = None

    def begin(self, path: str) -> None:
        self.end()
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts:
            raise refuse("backup_damaged", where="name of a file")
        place = self._folder / pure
        if not place.parent.is_dir():
            make_private_folder(place.parent)
        descriptor = os.open(place, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._path, self._size, self._hash = path, 0, hashlib.blake2b(digest_size=32)

    def more(self, piece: memoryview) -> None:
        if self._file is None:
            raise refuse("backup_damaged", where="order of chunks")
        self._file.write(piece)
        self._hash.update(piece)
        self._size += len(piece)

    def end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._written[self._path] = FileEntry(path=self._path, size=self._size, hash=self._hash.hexdigest())
            self._file = None


def _prove(folder: Path, manifest: Manifest) -> int:
    """Prove chain, mark and digest, replay what must not come back, and park what may have been sent; the last position."""
    settings = Settings(data=folder)
    log = open_log(settings)
    try:
        wrong = log.verify()
        if wrong:
            raise refuse("restore_log_unproven", position=wrong[0][0], count=len(wrong))
        if manifest.position:
            records = log.read(manifest.position - 1, 1)
            if not records or records[0].position != manifest.position or records[0].chain.hex() != manifest.chain:
                raise refuse("restore_mark_missing", position=manifest.position)
        position = log.head().position
        _prove_state(folder, manifest, position)
        replay_erasures(settings, log)
    finally:
        log.close()
    if position and Folder(folder).state.exists():
        # Here, and not by the worker of the next start: its sender would see what is pending before it was parked.
        state = open_spare_state(Folder(folder).state)
        try:
            bring_to_end(settings, state, lambda event, fields: None)
        finally:
            state.close()
    return position


def _prove_state(folder: Path, manifest: Manifest, position: int) -> None:
    if not manifest.state_digest:
        return
    state = open_spare_state(Folder(folder).state)
    try:
        if digest(state) != manifest.state_digest or state.offset()[0] > position:
            raise refuse("restore_state_unproven")
    finally:
        state.close()


def _sync_all(folder: Path) -> None:
    """Make every file and name below a folder durable."""
    for path, _, names in os.walk(folder, topdown=False):
        for name in names:
            descriptor = os.open(Path(path) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync(Path(path))
