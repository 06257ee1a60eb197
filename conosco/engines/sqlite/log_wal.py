"""Mends a write-ahead log in which one bit has fallen over, before the engine reads it.

The engine stops at the first frame whose checksum is wrong and forgets everything behind it without a word: one bit costs
every commit since the last checkpoint. The checksum is linear, so the bit can be computed from it and turned back. Where
several bits would explain it (the upper ones of a word can), the frame stays as it is and gets a checksum that fits: then
what was hit is harmed, and found by its own hash, and all behind it is kept. What is not the work of a single bit is left
to the engine: the end of a log that was being written looks like that, too.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from conosco.engines.sqlite.log_file import PAGE_BYTES

HEADER_BYTES: Final = 32
FRAME_BYTES: Final = 24 + PAGE_BYTES
_MAGICS: Final = (0x377F0682, 0x377F0683)
_MASK: Final = 0xFFFFFFFF
Sum = tuple[int, int]


class Mended(NamedTuple):
    """The log as it should be, and how many bits were turned back."""

    body: bytes
    bits: int


def mend(raw: bytes) -> Mended:
    """Turn back single bits, one a frame at most; the body is unchanged where nothing can or need be mended."""
    # ``so_far`` is the sum by which frames are judged, ``true`` the one that is written once a frame was left as it is.
    wal = bytearray(raw)
    if len(wal) < HEADER_BYTES + FRAME_BYTES:
        return Mended(raw, 0)
    bits = 0
    if not _is_header(wal):
        if not _mend_header(wal):
            return Mended(raw, 0)
        bits += 1
    order = ">" if wal[3] & 1 else "<"
    salts = bytes(wal[16:24])
    true = so_far = struct.unpack_from(">2I", wal, 24)
    size = 0
    for at in range(HEADER_BYTES, len(wal) - FRAME_BYTES + 1, FRAME_BYTES):
        unlike = _bits_between(wal[at + 8 : at + 16], salts)
        if unlike > 1:
            break
        computed = _sum(order, wal[at : at + 8] + wal[at + 24 : at + FRAME_BYTES], so_far)
        stored = struct.unpack_from(">2I", wal, at + 16)
        is_left = False
        if unlike or computed != stored:
            if unlike and computed == stored:
                wal[at + 8 : at + 16] = salts
            elif unlike == 0 and _bits_between(struct.pack(">2I", *computed), struct.pack(">2I", *stored)) == 1:
                struct.pack_into(">2I", wal, at + 16, *computed)
                stored = computed
            elif unlike:
                break
            else:
                places = _explanations(wal, at, order, computed, stored)
                if not places:
                    break
                chosen = places[0] if len(places) == 1 else next((each for each in places if _is_wild(wal, at, each, size)), None)
                is_left = chosen is None
                if chosen is not None:
                    wal[chosen // 8] ^= 1 << chosen % 8
            bits += 1
        if is_left or true != so_far:
            true = _sum(order, wal[at : at + 8] + wal[at + 24 : at + FRAME_BYTES], true)
            struct.pack_into(">2I", wal, at + 16, *true)
        else:
            true = stored
        so_far = stored
        size = max(size, *struct.unpack_from(">2I", wal, at))
    return Mended(bytes(wal), bits)


def committed_pages(raw: bytes) -> dict[int, bytes]:
    """The newest committed version of each page in a log."""
    wal = bytearray(raw)
    pages: dict[int, bytes] = {}
    if len(wal) < HEADER_BYTES or not _is_header(wal):
        return pages
    order = ">" if wal[3] & 1 else "<"
    so_far: Sum = struct.unpack_from(">2I", wal, 24)
    open_pages: dict[int, bytes] = {}
    for at in range(HEADER_BYTES, len(wal) - FRAME_BYTES + 1, FRAME_BYTES):
        so_far = _sum(order, wal[at : at + 8] + wal[at + 24 : at + FRAME_BYTES], so_far)
        if wal[at + 8 : at + 16] != wal[16:24] or so_far != struct.unpack_from(">2I", wal, at + 16):
            break
        number, size = struct.unpack_from(">2I", wal, at)
        open_pages[number] = bytes(wal[at + 24 : at + FRAME_BYTES])
        if size:
            pages.update(open_pages)
            open_pages = {}
    return pages


def read_wal(path: Path) -> bytes:
    """The bytes of a log; empty if there is none. Only while nobody has the file open."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _is_header(wal: bytearray) -> bool:
    magic, _, page_bytes = struct.unpack_from(">3I", wal)
    if magic not in _MAGICS or page_bytes != PAGE_BYTES:
        return False
    return _sum(">" if magic & 1 else "<", wal[:24], (0, 0)) == struct.unpack_from(">2I", wal, 24)


def _mend_header(wal: bytearray) -> bool:
    for bit in range(HEADER_BYTES * 8):
        wal[bit // 8] ^= 1 << bit % 8
        if _is_header(wal):
            return True
        wal[bit // 8] ^= 1 << bit % 8
    return False


def _sum(order: str, body: bytes | bytearray, start: Sum) -> Sum:
    first, second = start
    words = struct.unpack(f"{order}{len(body) // 4}I", body)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _MASK
        second = (second + odd + first) & _MASK
    return first, second


def _explanations(wal: bytearray, at: int, order: str, computed: Sum, stored: Sum) -> list[int]:
    """The bits of a frame (counted from the log's beginning) each of which would make its checksum what it should be."""
    wanted = ((stored[0] - computed[0]) & _MASK, (stored[1] - computed[1]) & _MASK)
    found = []
    for word, effect in _effects((8 + PAGE_BYTES) // 4):
        place = at + 4 * word if word < 2 else at + 24 + 4 * (word - 2)
        (value,) = struct.unpack_from(f"{order}I", wal, place)
        for bit in range(32):
            change = -(1 << bit) if value >> bit & 1 else 1 << bit
            if change * effect[0] & _MASK == wanted[0] and change * effect[1] & _MASK == wanted[1]:
                byte = bit // 8 if order == "<" else 3 - bit // 8
                found.append((place + byte) * 8 + bit % 8)
    return found


def _is_wild(wal: bytearray, at: int, bit: int, size: int) -> bool:
    """Whether a bit lies in the head of a frame that names a page far beyond the file: then it surely is the one."""
    return bit < (at + 8) * 8 and max(struct.unpack_from(">2I", wal, at)) > 2 * size + (1 << 16)


def _effects(words: int) -> Iterator[tuple[int, Sum]]:
    """What one more in each word adds to the two sums, from the last word to the first."""
    # A pair (a, b) of words: first += a + second, second += b + first. What was added before goes through all later pairs.
    of_even, of_odd = (1, 1), (0, 1)
    for pair in range(words // 2 - 1, -1, -1):
        yield 2 * pair + 1, of_odd
        yield 2 * pair, of_even
        of_even, of_odd = _next(of_even), _next(of_odd)


def _next(effect: Sum) -> Sum:
    first = (effect[0] + effect[1]) & _MASK
    return first, (effect[1] + first) & _MASK


def _bits_between(one: bytes | bytearray, other: bytes | bytearray) -> int:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()
