"""The parent's side of the reading child: it is started, listened to, held to its time, and killed when it is no longer wanted."""

import contextlib
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Final, Self

import msgspec

from conosco.collect.files.messages import FRAME_BYTES_MAX, LENGTH_BYTES, CannotRead, Message, Task, frame, read_message
from conosco.collect.files.opening import kind_of_file
from conosco.model.problem import Refused, refuse
from conosco.runtime.settings import bare_environment

# Memory that a child may have: text needs little, a workbook is held whole, the engine of column files maps a lot.
MEMORY_BYTES: Final = {"csv": 512 << 20, "jsonl": 512 << 20, "xlsx": 2 << 30, "parquet": 4 << 30}
MODULES: Final = {"parquet": "conosco.runtime.child_columns"}
TEXT_MODULE: Final = "conosco.collect.files.child_text"
# From one message to the next; a long file sends many.
SILENCE_S: Final = 120.0
POLL_S: Final = 0.2


class Reader:
    """One child over one file. ``messages`` gives what it says; leaving kills it. Descriptors but the file's are closed in it."""

    def __init__(self, path: Path, task: Task, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Start it. Refuses file_empty, file_kind_unknown, file_is_a_bomb, file_damaged by the file's first bytes, and not_found."""
        self._cancelled = cancelled
        try:
            self._file = path.open("rb")
        except OSError:
            raise refuse("not_found", status=404, kind="file", ref=path.name) from None
        try:
            size = os.fstat(self._file.fileno()).st_size
            kind, _ = kind_of_file(self._file, size)
            self._file.seek(0)
            handle = self._file.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-m", MODULES.get(kind, TEXT_MODULE)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(handle,),
                env=bare_environment(),
                cwd="/",
            )
            assert self._process.stdin is not None
            told = msgspec.structs.replace(task, handle=handle, size=size, memory_bytes=MEMORY_BYTES[kind])
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(frame(told))
                self._process.stdin.close()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdout, self._process.stdin):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._file.close()

    def messages(self) -> Iterator[Message]:
        """What the child says, in order. Raises Refused: what it refuses, file_reading_failed if it dies, Cancelled if asked to end."""
        output = self._process.stdout
        assert output is not None
        with selectors.DefaultSelector() as selector:
            selector.register(output.fileno(), selectors.EVENT_READ)
            while True:
                head = self._take(output.fileno(), LENGTH_BYTES, selector)
                if not head:
                    return self._buried()
                length = int.from_bytes(head, "big")
                body = self._take(output.fileno(), length, selector) if length <= FRAME_BYTES_MAX else b""
                try:
                    message = read_message(body)
                except msgspec.DecodeError:
                    raise refuse("file_reading_failed") from None
                if isinstance(message, CannotRead):
                    raise Refused(message.problems)
                yield message

    def _take(self, handle: int, length: int, selector: selectors.BaseSelector) -> bytes:
        """So many bytes, or fewer if the child ended."""
        parts = bytearray()
        deadline = monotonic() + SILENCE_S
        while len(parts) < length:
            if self._cancelled():
                raise Cancelled
            if not selector.select(POLL_S):
                if monotonic() > deadline:
                    raise refuse("file_reading_too_slow", seconds=round(SILENCE_S))
                continue
            body = os.read(handle, min(length - len(parts), 1 << 20))
            if not body:
                return b""
            parts += body
        return bytes(parts)

    def _buried(self) -> None:
        """How it ended: a child that was killed or ran out of memory says nothing any more."""
        code = self._process.wait()
        if code:
            raise refuse("file_needs_too_much_memory" if code in (-6, -9, -11) else "file_reading_failed")


class Cancelled(Exception):
    """Whoever asked no longer wants it."""
