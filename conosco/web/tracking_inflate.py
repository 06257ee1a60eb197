"""Inflating a request body as it arrives, never beyond a cap: a bomb costs no more memory than an honest body."""

import zlib
from typing import Final

_GZIP: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = 31


class BodyTooLarge(Exception):
    """The body, inflated or as sent, is larger than the cap."""


class BodyUnreadable(Exception):
    """The body begins like gzip and is not."""


class Body:
    """A body in the making. Gzip is known by its first two bytes, for proxies and clients often mislabel it."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._parts: list[bytes] = []
        self._first = b""
        self._size = 0
        self._inflater: zlib._Decompress | None = None
        self._begun = False

    @property
    def size(self) -> int:
        """How many bytes are held."""
        return self._size

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes off the wire. Raises BodyTooLarge or BodyUnreadable."""
        if not self._begun:
            chunk = self._first + chunk
            if len(chunk) < len(_GZIP):
                self._first = chunk
                return
            self._begun = True
            if chunk.startswith(_GZIP):
                self._inflater = zlib.decompressobj(_GZIP_WINDOW)
        if self._inflater is None:
            self._keep(chunk)
        else:
            self._inflate(chunk)

    def finish(self) -> bytes:
        """The whole body. Raises BodyUnreadable if it ends too early."""
        if not self._begun:
            return self._first
        if self._inflater is not None and not self._inflater.eof:
            raise BodyUnreadable
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._bytes_max:
            raise BodyTooLarge
        self._parts.append(part)

    def _inflate(self, chunk: bytes) -> None:
        while chunk:
            if self._inflater is None or self._inflater.eof:
                # A gzip stream may have several members; zeros after the last one are padding.
                chunk = chunk.lstrip(b"\0")
                if not chunk:
                    return
                self._inflater = zlib.decompressobj(_GZIP_WINDOW)
            try:
                part = self._inflater.decompress(chunk, self._bytes_max - self._size + 1)
            except zlib.error:
                raise BodyUnreadable from None
            self._keep(part)
            chunk = self._inflater.unconsumed_tail or self._inflater.unused_data
