"""Small notes beside the log's files, written twice with a digest each: one flipped bit is noticed and harms nothing."""

import os
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from conosco.engines.sqlite.connection import replace_file

_DIGEST_CHARACTERS: Final = 64
Said = TypeVar("Said")


def write_note(path: Path, body: Any) -> None:
    """Put a note in place as a whole, durably."""
    replace_file(path, 2 * _signed(msgspec.json.encode(body)))


def read_note(raw: bytes, kind: type[Said]) -> tuple[Said | None, bool]:
    """What a note says (None if neither half can be read), and whether it is whole."""
    half = len(raw) // 2
    said = [_checked(part, kind) for part in (raw[:half], raw[half:])]
    known = next((body for body in said if body is not None), None)
    return known, len(raw) % 2 == 0 and None not in said


def file_digest(path: Path) -> str:
    """The digest of all bytes of a file."""
    digest = blake2b(digest_size=32)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def sync_file(path: Path) -> None:
    """Make a file's bytes durable, and readable by its owner only."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fchmod(descriptor, 0o600)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _signed(body: bytes) -> bytes:
    return blake2b(body, digest_size=32).hexdigest().encode() + body


def _checked(part: bytes, kind: type[Said]) -> Said | None:
    body = part[_DIGEST_CHARACTERS:]
    if blake2b(body, digest_size=32).hexdigest().encode() != part[:_DIGEST_CHARACTERS]:
        return None
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError:
        return None
