"""What a migration step is, and the file that says which format a folder has."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from conosco.model.problem import refuse
from conosco.runtime.bootstrap import Folder, put_file


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step from the format before to ``number``.

    ``apply`` may be cut short at any moment and is then called again on what it left, so it makes each change in a transaction or by
    a rename, and finds out what is done already. It does not write the format: that is its record, written after it.
    """

    number: int
    name: str
    apply: Callable[[Path], None]


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A step that was taken, or the first start of a new folder."""

    number: int
    name: str
    at: int


class FormatFile(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``DIR/format``: the folder's format, the format of each store in it, and how it came to have it."""

    format: int
    stores: dict[str, int]
    taken: tuple[Taken, ...] = ()


# What this version writes. A store whose files change gets the next number here and a step that brings old files there.
STORES: Final = {"log": 1, "state": 1, "leases": 1, "control": 1, "keys": 1, "warehouse": 1}


def read_format(data: Path) -> FormatFile:
    """The format of a folder; 0 where nothing says so, as in folders made before there was such a file. Raises Refused."""
    try:
        return msgspec.json.decode(Folder(data).format.read_bytes(), type=FormatFile)
    except FileNotFoundError:
        return FormatFile(format=0, stores={})
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise refuse("format_unreadable", path=str(Folder(data).format)) from None


def write_format(data: Path, found: FormatFile, number: int, name: str, at: int) -> FormatFile:
    """Record that a folder has this format now, durably and as a whole."""
    made = FormatFile(format=number, stores=STORES, taken=(*found.taken, Taken(number=number, name=name, at=at)))
    put_file(Folder(data).format, msgspec.json.format(msgspec.json.encode(made)) + b"\n")
    return made
