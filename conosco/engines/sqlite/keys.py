"""The embedded Keys: one small JSON file, readable by its owner only, replaced as a whole on every change."""

import threading
from pathlib import Path
from typing import Final

import msgspec

from conosco.engines.sqlite.connection import UnfitFile, only_one, replace_file

_DECODER: Final = msgspec.json.Decoder(dict[str, bytes])
# What tells that another process has replaced the file: (inode, time of change in ns, size).
_Stamp = tuple[int, int, int]


class FileKeys:
    """The Keys door on one file of mode 0600: ``{name: base64}``. Several processes may read and write it."""

    def __init__(self, path: Path) -> None:
        """Open; the file is made by the first ``put``. Raises UnfitFile if it is there and cannot be read."""
        self._path = path
        self._using = threading.Lock()
        self._stamp: _Stamp | None = None
        self._secrets: dict[str, bytes] = {}
        with self._using:
            self._refresh()

    def secret(self, name: str) -> bytes | None:
        """A secret by name, as the newest file has it."""
        with self._using:
            self._refresh()
            return self._secrets.get(name)

    def put(self, name: str, value: bytes) -> None:
        """Set a secret; other processes' secrets are read again first, so none is lost. Raises OSError if it is not durable."""
        self._change(name, value)

    def destroy(self, name: str) -> None:
        """Forget a secret. The file system may keep the old file's blocks until it uses them again."""
        self._change(name, None)

    def _change(self, name: str, value: bytes | None) -> None:
        with self._using, only_one(self._path.with_name(self._path.name + ".lock")):
            self._refresh()
            secrets = {other: secret for other, secret in self._secrets.items() if other != name}
            if value is not None:
                secrets[name] = value
            if secrets == self._secrets:
                return
            replace_file(self._path, msgspec.json.encode(secrets, order="sorted"))
            self._refresh()

    def _refresh(self) -> None:
        """Read the file if it was replaced since it was last read."""
        try:
            found = self._path.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if stamp == self._stamp:
                return
            secrets = _DECODER.decode(self._path.read_bytes())
        except FileNotFoundError:
            self._stamp, self._secrets = None, {}
            return
        except msgspec.DecodeError as error:
            raise UnfitFile(f"{self._path}: the secrets cannot be read; restore this file from a backup") from error
        self._stamp, self._secrets = stamp, secrets
