"""What a place is: somewhere outside that has files in one folder, to be fetched or put there. One file a kind in ``places/``.

Places block: they are used by a process of its own. Names of files are single parts without ``/``.
"""

import hashlib
import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from conosco.connectors.outbound import Network, checked_address

LIST_MAX: Final = 10_000
CHUNK: Final = 1 << 18
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f/\\]{1,255}\Z")


class PlaceFailed(Exception):
    """What was wanted of a place could not be done. ``code`` and ``params`` are those of a Problem."""

    def __init__(self, code: str, **params: str | int) -> None:
        super().__init__(code)
        self.code: Final = code
        self.params: Final = params


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A file in a place. ``version`` changes when the file does, as far as the place can tell; ``changed_at`` in microseconds."""

    name: str
    bytes: int
    version: str
    changed_at: int


class PlaceContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a place is opened with: ``root`` is the administrator's folder for files, ``networks`` the private ones that are
    opened, ``secret`` gives a secret by name, ``clock`` the time in microseconds. ``scratch`` is a folder for own passing files.
    """

    root: Path | None
    networks: Sequence[Network]
    secret: Callable[[str], bytes | None]
    clock: Callable[[], int]
    scratch: Path


class Place(Protocol):
    """One folder somewhere. Every method raises PlaceFailed."""

    def list(self) -> list[Entry]:
        """Its files, by name; hidden ones, folders and links are left out. At most LIST_MAX, else ``place_too_full``."""

    def get(self, name: str, path: Path, bytes_max: int) -> str:
        """Fetch a file into a new local file; its SHA-256. ``file_vanished``, ``file_too_large`` (then nothing is left)."""

    def put(self, path: Path, name: str) -> None:
        """Put a local file there under a name, whole or not at all; one of that name is replaced."""

    def move(self, name: str, folder: str, as_name: str) -> None:
        """Move a file into a folder inside this one, which is made if need be, under a name; ``file_vanished``."""

    def delete(self, name: str) -> None:
        """Delete a file; one that is gone is no error."""

    def close(self) -> None:
        """Let go of connections."""


class PlaceConnector(Protocol):
    """A module of ``connectors/places``."""

    @property
    def type(self) -> str:
        """The name of the kind."""

    @property
    def writes_files(self) -> bool:
        """Whether it is a folder of this machine, which the administrator must have opened."""

    def read_settings(self, spec: dict[str, Any]) -> Any:
        """Check a place's spec (without ``type``). Raises Refused: ``spec_invalid``."""

    def open_place(self, settings: Any, context: PlaceContext) -> Place:
        """Open it. Raises PlaceFailed."""


def is_name(name: str) -> bool:
    """Whether this is a plain name of one visible file."""
    return bool(_NAME.match(name)) and not name.startswith(".")


def addresses_of(host: str, port: int, networks: Sequence[Network]) -> list[str]:
    """The addresses of a host, all checked. Raises PlaceFailed: place_unresolvable, place_address_refused."""
    try:
        ipaddress.ip_address(host)
        found = [host]
    except ValueError:
        try:
            found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError):
            raise PlaceFailed("place_unresolvable", host=host) from None
    checked = [checked_address(address, networks) for address in found]
    passed = list(dict.fromkeys(address for address in checked if address is not None))
    if None in checked or not passed:
        raise PlaceFailed("place_address_refused", host=host)
    return passed


def digest_of(path: Path) -> str:
    """The SHA-256 of a local file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
