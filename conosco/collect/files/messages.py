"""What the reading child is asked and what it says: MessagePack behind a length, so that a full pipe holds it back."""

from decimal import Decimal
from typing import Any, Final

import msgspec

from conosco.model.identifier import IdentityRules
from conosco.model.importing import Description, FileFormat, RejectedRow
from conosco.model.problem import Problem

_DESCRIPTION: Final = msgspec.json.Decoder(Description, float_hook=Decimal)
_EXACT: Final = msgspec.json.Encoder(decimal_format="number")
LENGTH_BYTES: Final = 4
FRAME_BYTES_MAX: Final = 64 << 20


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What to read and what to make of it. Without ``mapping`` the file is described only.

    ``handle`` is the open file's descriptor. ``key`` is that of this file's message ids, ``key_columns`` what tells rows apart
    (their number if empty). Rows up to ``after`` were done before. ``rows_max`` ends it early; 0 does not.
    """

    handle: int
    size: int
    format: FileFormat
    mapping: list[Any] | None = None
    key: bytes = b""
    key_columns: tuple[str, ...] = ()
    rules: IdentityRules = IdentityRules()
    after: int = 0
    rows_max: int = 0
    memory_bytes: int = 1 << 30
    cpu_s: int = 3_600


class Described(msgspec.Struct, frozen=True, kw_only=True, tag="described"):
    """What the file is: a Description as JSON, which alone carries numbers exactly."""

    told: bytes

    @property
    def description(self) -> Description:
        """Decoded. Raises msgspec.DecodeError."""
        return _DESCRIPTION.decode(self.told)


class Converted(msgspec.Struct, frozen=True, kw_only=True, tag="converted"):
    """The events of some rows, in file order, and the rows that gave none. ``last`` is the last row of them all."""

    slices: list[bytes]
    rejected: list[RejectedRow]
    last: int


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag="finished"):
    """The file is at its end."""

    rows: int


class CannotRead(msgspec.Struct, frozen=True, kw_only=True, tag="cannot_read"):
    """The file as a whole cannot be taken."""

    problems: tuple[Problem, ...]


Message = Described | Converted | Finished | CannotRead
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Message)
TASKS: Final = msgspec.msgpack.Decoder(Task)


def frame(message: Message | Task) -> bytes:
    """A message behind its length."""
    body = _ENCODER.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def read_message(body: bytes) -> Message:
    """Decode a message. Raises msgspec.DecodeError: the child is not trusted to speak well."""
    message: Message = _DECODER.decode(body)
    return message


def described(description: Description) -> Described:
    """The description as it travels."""
    return Described(told=_EXACT.encode(description))
