"""The first look at a file: what kind it is by its bytes, never by its name, and its bytes inflated within limits."""

import gzip
import io
import os
import zlib
from collections import Counter
from typing import BinaryIO, Final

from conosco.collect.files.limits import INFLATED_BYTES_MAX, INFLATED_FREE_BYTES, INFLATION_MAX, SAMPLE_BYTES
from conosco.model.importing import FileKind
from conosco.model.problem import refuse

_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"
_PARQUET: Final = b"PAR1"
_BOMS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
# The letters of Polish, Italian and Portuguese beyond ASCII: a reading of the bytes that gives these is the likely one.
_LETTERS: Final = frozenset("ąćęłńóśźżĄĆĘŁŃÓŚŹŻàèéìíòóùúÀÈÉÌÒÙãõçáâêôÃÕÇÁÂÊÔÍÓÚäöüßÄÖÜñÑ")
_USUAL: Final = frozenset("€’“”„–—…°«»£§©®ºª \u00a0")
_CANDIDATES: Final = ("cp1252", "cp1250", "iso8859-2")
ENCODINGS: Final = frozenset({"utf-8", "utf-16-le", "utf-16-be", "cp1250", "cp1252", "iso8859-2", "iso8859-1"})
_WIDE_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")
_CHUNK: Final = 1 << 20


class _FromStart(io.RawIOBase):
    """An open file read from its beginning, apart from every other reading of it, and left open at the end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # the base takes any buffer
        """Fill the buffer."""
        body = os.pread(self._descriptor, len(buffer), self._at)
        self._at += len(body)
        buffer[: len(body)] = body
        return len(body)


class Inflating(io.RawIOBase):
    """A gzip file read as what it holds; refuses to go on once it has grown beyond what honest data does."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._inner = gzip.GzipFile(fileobj=file, mode="rb")
        self._most = min(INFLATED_BYTES_MAX, max(INFLATED_FREE_BYTES, size * INFLATION_MAX))
        self._done = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # the base takes any buffer
        """Fill the buffer. Refuses file_is_a_bomb and file_damaged."""
        try:
            body = self._inner.read1(len(buffer))
        except (EOFError, OSError, zlib.error):
            raise refuse("file_damaged", kind="gzip") from None
        self._done += len(body)
        if self._done > self._most:
            raise refuse("file_is_a_bomb", limit=self._most)
        buffer[: len(body)] = body
        return len(body)


def is_gzip(file: BinaryIO) -> bool:
    """Whether the file is compressed."""
    file.seek(0)
    return file.read(2) == _GZIP


def content(file: BinaryIO, size: int, compressed: bool) -> BinaryIO:
    """The file from its beginning, inflated if need be; it cannot be sought in. Closing it leaves the file open."""
    plain = io.BufferedReader(_FromStart(file.fileno()), _CHUNK)
    return io.BufferedReader(Inflating(plain, size), _CHUNK) if compressed else plain


def kind_of_file(file: BinaryIO, size: int) -> tuple[FileKind, bool]:
    """(kind, whether it is compressed) by the first bytes. Refuses file_empty and file_kind_unknown."""
    compressed = is_gzip(file)
    head = content(file, size, compressed).read(4_096)
    if not head.strip(b"\x00\xef\xbb\xbf\xff\xfe \r\n\t"):
        raise refuse("file_empty")
    if head.startswith(_GZIP):
        # One layer is a habit of exports; two are a trick.
        raise refuse("file_is_a_bomb", limit=INFLATED_BYTES_MAX)
    if head.startswith(_ZIP):
        return "xlsx", compressed
    if head.startswith(_PARQUET):
        return "parquet", compressed
    if head.startswith(_WIDE_BOMS) or _looks_wide(head):
        return "csv", compressed
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{"):
        return "jsonl", compressed
    if head.count(b"\x00") or sum(byte < 9 for byte in head) > 0:
        raise refuse("file_kind_unknown")
    return "csv", compressed


def _looks_wide(head: bytes) -> str:
    """The name of a 16-bit encoding without a mark, told by where the zero bytes are; empty if it is none."""
    sample = head[: len(head) // 2 * 2]
    if len(sample) < 8:
        return ""
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    half = len(sample) // 2
    if odd > half * 0.6 and even < half * 0.1:
        return "utf-16-le"
    return "utf-16-be" if even > half * 0.6 and odd < half * 0.1 else ""


def detect_encoding(file: BinaryIO) -> tuple[str, tuple[str, ...]]:
    """(encoding, others that fit just as well): the whole file is looked at, for one late letter can decide.

    ``file`` stands at its beginning and is read to its end.
    """
    head = file.read(4_096)
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return encoding, ()
    if wide := _looks_wide(head):
        return wide, ()
    is_utf8, rest, high = True, b"", Counter[int]()
    ascii_bytes = bytes(range(128))
    while head:
        if is_utf8:
            is_utf8, rest = _goes_on(rest + head)
        high.update(head.translate(None, ascii_bytes))
        head = file.read(_CHUNK)
    if is_utf8 and not rest:
        return "utf-8", ()
    return _choose(high)


def _goes_on(body: bytes) -> tuple[bool, bytes]:
    """Whether these bytes are UTF-8 so far, and the beginning of a character at their end."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and len(body) - error.start < 4:
            return True, body[error.start :]
        return False, b""
    return True, b""


def _choose(high: Counter[int]) -> tuple[str, tuple[str, ...]]:
    """The one-byte encoding under which the high bytes are letters of our languages; ties that read otherwise are told."""
    scores: dict[str, int] = {}
    readings: dict[str, str] = {}
    for encoding in _CANDIDATES:
        text = bytes(sorted(high)).decode(encoding, "replace")
        readings[encoding] = text
        weights = (_weight(character) for character in text)
        scores[encoding] = sum(weight * high[byte] for byte, weight in zip(sorted(high), weights, strict=True))
    best = max(_CANDIDATES, key=lambda encoding: scores[encoding])
    rivals = [
        other for other in _CANDIDATES if other != best and scores[other] == scores[best] and readings[other] != readings[best]
    ]
    return best, tuple(rivals)


def _weight(character: str) -> int:
    if character in _LETTERS:
        return 2
    if character in _USUAL:
        return 1
    return 0 if character.isalpha() else -4


def sample_text(file: BinaryIO, encoding: str) -> str:
    """The beginning of a file as text, up to its last whole line, with one line break for all kinds."""
    body = file.read(SAMPLE_BYTES)
    text = body.decode(encoding, "replace").removeprefix("\ufeff")
    if len(body) == SAMPLE_BYTES:
        text = text[: text.rfind("\n") + 1] or text
    return text.replace("\r\n", "\n").replace("\r", "\n")
