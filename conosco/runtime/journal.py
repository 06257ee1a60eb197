"""The journal: one JSON object a line on standard error, for operators. Never personal data: positions, counts and codes only."""

import sys
from collections.abc import Callable
from typing import Any, TextIO

import msgspec

from conosco.model.moment import spell_moment


class Journal:
    """Writes lines that start with time, role and event. Control bytes cannot break a line: JSON escapes them."""

    def __init__(self, role: str, clock: Callable[[], int], stream: TextIO | None = None) -> None:
        self._role = role
        self._clock = clock
        self._stream = stream

    def note(self, event: str, fields: dict[str, Any]) -> None:
        """Write one line."""
        stream = sys.stderr if self._stream is None else self._stream
        line = {"at": spell_moment(self._clock()), "role": self._role, "event": event, **fields}
        stream.write(msgspec.json.encode(line).decode() + "\n")
        stream.flush()
