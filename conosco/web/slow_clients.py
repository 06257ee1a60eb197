"""The HTTP protocol of the front with a limit on patience: a client that does not finish its request is sent away.

The server underneath waits for ever for headers and bodies, so a few thousand half-open connections would use it up.
"""

import asyncio
from collections import OrderedDict
from typing import Any, Final, Literal

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_LATE: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
_LATE_WORDS: Final = b"The request did not come whole in time. Send it again."
_Due = Literal["headers", "body", "nothing"]


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long the parts of a request may take, and how many connections may be without one at the same moment.

    Who was answered before the body was whole is not read for ``early_answer_seconds``.
    """

    header_seconds_max: float = 10.0
    body_seconds_max: float = 30.0
    half_open_max: int = 8_192
    early_answer_seconds: float = 1.0


class HalfOpen:
    """Connections that owe the rest of a request, the one that has waited longest first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: OrderedDict[int, PatientProtocol] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, protocol: "PatientProtocol") -> None:
        """Note a connection; if there are too many, the one that has waited longest must go."""
        self.leave(protocol)
        self._waiting[id(protocol)] = protocol
        if len(self._waiting) > self._most:
            _, longest = self._waiting.popitem(last=False)
            longest.send_away()

    def leave(self, protocol: "PatientProtocol") -> None:
        """Forget a connection; no error if it is not known."""
        self._waiting.pop(id(protocol), None)


class PatientProtocol(HttpToolsProtocol):
    """Sends a client away that is late with its headers or its body. Made for one server by ``patient_protocol``."""

    patience: Patience
    half_open: HalfOpen

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._due: _Due = "headers"
        self._awaited: _Due = "nothing"
        self._has_spoken = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the class above
        """From now on the headers of a request are due."""
        super().connection_made(transport)
        self._await()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._due = "nothing"
        self._await()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came. Timers are set only afterwards, so that a request that comes in one piece needs none."""
        self._has_spoken = True
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._due == "nothing" and self.timeout_keep_alive_task is None and self.cycle.response_complete:
            # Blank lines, or the end of a body after its answer: what follows is a request or nothing.
            self._due = "headers"
        if self._due != self._awaited:
            self._await()

    def on_message_begin(self) -> None:
        """The headers are due."""
        self._due = "headers"
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The body is due."""
        self._due = "body"
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole; until the next one the server's own limit for idle connections holds."""
        self._due = "nothing"
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A client that was answered before its body was whole (it sends too much, or has a wrong key) is read slowly.

        Its bytes are passed over anyway; reading them as fast as it can send would cost the others most of a core.
        """
        super().on_response_complete()
        if self._due == "body" and not self.transport.is_closing():
            self.flow.pause_reading()
            self.loop.call_later(self.patience.early_answer_seconds, self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def send_away(self) -> None:
        """Close the connection, with a word if the client has begun to speak and has no answer yet."""
        is_unanswered = self._awaited == "headers" or not self.cycle.response_started
        self._due = "nothing"
        self._await()
        if self.transport.is_closing():
            return
        if self._has_spoken and is_unanswered:
            self.transport.write(_LATE % (len(_LATE_WORDS), _LATE_WORDS))
        self.transport.close()

    def _await(self) -> None:
        """Set the timer for what is due, or none."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._awaited = self._due
        if self._due == "nothing":
            self.half_open.leave(self)
            return
        patience = self.patience
        seconds = patience.header_seconds_max if self._due == "headers" else patience.body_seconds_max
        self._deadline = self.loop.call_later(seconds, self.send_away)
        self.half_open.enter(self)


def patient_protocol(patience: Patience) -> type[PatientProtocol]:
    """The protocol of one server, with its own limits and its own list of half-open connections."""

    class Patient(PatientProtocol):
        """The protocol of this server."""

    Patient.patience = patience
    Patient.half_open = HalfOpen(patience.half_open_max)
    return Patient
