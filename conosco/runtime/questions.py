"""What is asked of the warehouse process over its local socket, and what comes back: frames of JSON behind their length.

JSON and not MessagePack, because numbers of any length cross it exactly.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from conosco.ports.warehouse import Answer, Extracted, QueryFailed

LENGTH_BYTES: Final = 4
QUESTION_BYTES_MAX: Final = 16_000_000
REPLY_BYTES_MAX: Final = 256_000_000
# The longest path that the operating system takes as the address of a socket.
_ADDRESS_BYTES_MAX: Final = 100


class Query(msgspec.Struct, frozen=True, kw_only=True, tag="query"):
    """SQL with a list of parameters for its ``?``."""

    sql: str
    params: list[Any]
    trusted: bool
    max_rows: int
    timeout_s: float


class Extract(msgspec.Struct, frozen=True, kw_only=True, tag="extract"):
    """Write the rows of a trusted question to a new file of this name in the folder for extracts."""

    sql: str
    params: list[Any]
    name: str
    timeout_s: float


class StatusQuestion(msgspec.Struct, frozen=True, kw_only=True, tag="status"):
    """How far the warehouse is."""


class Define(msgspec.Struct, frozen=True, kw_only=True, tag="define"):
    """Replace the computed traits: name to SQL."""

    views: dict[str, str]


class Wait(msgspec.Struct, frozen=True, kw_only=True, tag="wait"):
    """Answer once the warehouse includes this log position, or after ``timeout_s``."""

    position: int
    timeout_s: float


Question = Query | Extract | StatusQuestion | Define | Wait


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A question under a number by which its reply is recognised: replies come in any order."""

    number: int
    question: Question


class WarehouseStatus(msgspec.Struct, frozen=True, kw_only=True, tag="status"):
    """How far the warehouse is: everything up to log position ``as_of`` is in it, ``warehoused`` events among it.

    ``needs_rebuild`` says why the change feed alone cannot bring it up to date; empty if it can.
    """

    warehoused: int
    as_of: int
    last_batch: int
    needs_rebuild: str = ""


class Answered(msgspec.Struct, frozen=True, kw_only=True, tag="answer"):
    """The answer to a query."""

    answer: Answer


class ExtractedTo(msgspec.Struct, frozen=True, kw_only=True, tag="extracted"):
    """The file is there."""

    extracted: Extracted


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """The definition was taken (``reached`` True), or what became of waiting for a position."""

    reached: bool = True


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The question could not be answered; as ``QueryFailed``."""

    code: str
    params: dict[str, str | int]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The reply to the question with this number."""

    number: int
    reply: Answered | ExtractedTo | WarehouseStatus | Done | Failed


def _number(text: str) -> float | Decimal:
    """A number with a point or exponent: as float where that says the same."""
    near, exact = float(text), Decimal(text)
    return near if Decimal(repr(near)) == exact else exact


_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")
_ASKED: Final = msgspec.json.Decoder(Asked, float_hook=_number)
_REPLY: Final = msgspec.json.Decoder(Reply, float_hook=_number)


def frame(message: Asked | Reply) -> bytes:
    """A message behind its length."""
    body = _ENCODER.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def read_asked(body: bytes) -> Asked:
    """Decode a question. Raises msgspec.DecodeError."""
    return _ASKED.decode(body)


def read_reply(body: bytes) -> Reply:
    """Decode a reply. Raises msgspec.DecodeError."""
    return _REPLY.decode(body)


def failed(failure: QueryFailed) -> Failed:
    """The failure as it travels."""
    return Failed(code=failure.code, params=failure.params)


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """An address for this path that is short enough, valid inside the block."""
    if len(os.fsencode(path)) <= _ADDRESS_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def connect(path: Path, timeout_s: float | None) -> socket.socket:
    """Connect to the warehouse process. Raises OSError if nothing listens there."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        line.settimeout(timeout_s)
        with socket_address(path) as address:
            line.connect(address)
    except BaseException:
        line.close()
        raise
    return line
