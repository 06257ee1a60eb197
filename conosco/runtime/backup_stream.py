"""The file that a backup is: a header in the clear, then chunks that are compressed, encrypted and bound to their places.

Each chunk's nonce is its number and whether it is the last, and each is bound to the header: a chunk that is changed, left
out, repeated, moved or taken from another backup is not opened, and a file that was cut off has no last chunk.
"""

import hashlib
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from secrets import token_bytes
from typing import IO, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from conosco.model.problem import Refused, refuse
from conosco.runtime.backup_keys import SealedKey, file_key, open_data_key

MAGIC: Final = b"conosco backup\n"
FORMAT: Final = 1
CHUNK_BYTES: Final = 1 << 20
HEADER_BYTES_MAX: Final = 10_000
# What cannot be compressed grows a little, and each chunk carries a tag.
SEALED_BYTES_MAX: Final = CHUNK_BYTES + 4_096
# Level 1 takes a third of the time of level 6 and leaves a tenth more.
LEVEL: Final = 1
THREADS: Final = 2
AHEAD: Final = 8
_LENGTH: Final = struct.Struct(">I")


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What is said in the clear: nothing of anybody's data."""

    format: int
    made_at: int
    key: SealedKey
    salt: bytes


def write_stream(file: IO[bytes], chunks: Iterable[bytes], *, data: bytes, key: SealedKey, made_at: int) -> int:
    """Write a backup of these chunks (each at most CHUNK_BYTES, at least one); returns its size. The caller syncs the file."""
    header = msgspec.json.encode(Header(format=FORMAT, made_at=made_at, key=key, salt=(salt := token_bytes(32))))
    start = MAGIC + _LENGTH.pack(len(header)) + header
    file.write(start)
    bound = hashlib.blake2b(start, digest_size=32).digest()
    cipher = AESGCM(file_key(data, salt))

    def seal(number: int, chunk: bytes, last: bool) -> bytes:
        return cipher.encrypt(_nonce(number, last), zlib.compress(chunk, LEVEL), bound)

    size = len(start)
    with ThreadPoolExecutor(THREADS, "backup") as threads:
        sealed: deque[Future[bytes]] = deque()
        for number, chunk, last in _numbered(chunks):
            sealed.append(threads.submit(seal, number, chunk, last))
            while len(sealed) >= AHEAD or (last and sealed):
                body = sealed.popleft().result()
                file.write(_LENGTH.pack(len(body)) + body)
                size += _LENGTH.size + len(body)
    return size


def read_header(file: IO[bytes]) -> tuple[Header, bytes]:
    """The header, and what binds chunks to it. Raises Refused if this is no backup, is damaged, or of a newer version."""
    if file.read(len(MAGIC)) != MAGIC:
        raise refuse("backup_unknown_file")
    length = file.read(_LENGTH.size)
    size = _LENGTH.unpack(length)[0] if len(length) == _LENGTH.size else 0
    if not 0 < size <= HEADER_BYTES_MAX:
        raise refuse("backup_damaged", where="header")
    raw = file.read(size)
    try:
        header = msgspec.json.decode(raw, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise refuse("backup_damaged", where="header") from None
    if header.format > FORMAT:
        raise refuse("backup_newer", found=header.format, known=FORMAT)
    return header, hashlib.blake2b(MAGIC + length + raw, digest_size=32).digest()


def read_stream(file: IO[bytes], spelled_key: str) -> Iterator[bytes]:
    """The chunks of a backup, each proven before it is given. Raises Refused for a wrong key and at the first chunk that is not
    as it was written; that the backup is whole is known only once all were read.
    """
    header, bound = read_header(file)
    cipher = AESGCM(file_key(open_data_key(header.key, spelled_key), header.salt))

    def unseal(number: int, body: bytes, last: bool) -> bytes:
        try:
            inflate = zlib.decompressobj()
            chunk = inflate.decompress(cipher.decrypt(_nonce(number, last), body, bound), CHUNK_BYTES + 1)
        except (InvalidTag, zlib.error):
            raise _damaged(number) from None
        if len(chunk) > CHUNK_BYTES or not inflate.eof:
            raise _damaged(number)
        return chunk

    with ThreadPoolExecutor(THREADS, "restore") as threads:
        opened: deque[Future[bytes]] = deque()
        try:
            for number, body, last in _numbered(_bodies(file)):
                opened.append(threads.submit(unseal, number, body, last))
                while len(opened) >= AHEAD or (last and opened):
                    yield opened.popleft().result()
        finally:
            for each in opened:
                each.cancel()


def _bodies(file: IO[bytes]) -> Iterator[bytes]:
    number = 0
    while length := file.read(_LENGTH.size):
        size = _LENGTH.unpack(length)[0] if len(length) == _LENGTH.size else SEALED_BYTES_MAX + 1
        body = file.read(size) if size <= SEALED_BYTES_MAX else b""
        if len(body) != size:
            raise _damaged(number)
        yield body
        number += 1
    if not number:
        raise _damaged(0)


def _numbered(items: Iterable[bytes]) -> Iterator[tuple[int, bytes, bool]]:
    """(number, item, whether it is the last)."""
    number, before = 0, None
    for item in items:
        if before is not None:
            yield number, before, False
            number += 1
        before = item
    if before is not None:
        yield number, before, True


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _damaged(number: int) -> Refused:
    return refuse("backup_damaged", where=f"chunk {number + 1}")
