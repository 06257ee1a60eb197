"""Mends a sealed file in which one bit of a block has fallen over: a checksum of each block says which bit it was."""

import zlib
from pathlib import Path
from typing import Final

BLOCK_BYTES: Final = 65_536


def block_sums(path: Path) -> tuple[int, ...]:
    """A checksum (CRC-32) of each block of a file."""
    sums = []
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            sums.append(zlib.crc32(block))
    return tuple(sums)


def mended_bytes(path: Path, sums: tuple[int, ...]) -> bytes | None:
    """The bytes of a file with one bit turned back in each block that needs it; None where that does not help."""
    raw = bytearray(path.read_bytes())
    if -(-len(raw) // BLOCK_BYTES) != len(sums):
        return None
    for number, wanted in enumerate(sums):
        begin = number * BLOCK_BYTES
        block = bytes(raw[begin : begin + BLOCK_BYTES])
        syndrome = zlib.crc32(block) ^ wanted
        if syndrome:
            bit = _bit(syndrome, len(block))
            if bit is None:
                return None
            raw[begin + bit // 8] ^= 1 << bit % 8
    return bytes(raw)


def _bit(syndrome: int, length: int) -> int | None:
    """Which one bit of a block changes its checksum by this much: the sum is linear, so it depends on the place alone."""
    # The last byte's bits first; each step moves the bit one place further from the end.
    change = 0xEDB88320
    for place in range(length * 8):
        if change == syndrome:
            byte, bit = length - 1 - place // 8, 7 - place % 8
            return byte * 8 + bit
        change = change >> 1 ^ (0xEDB88320 if change & 1 else 0)
    return None
