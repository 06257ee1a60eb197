"""Sealing: the warehouse process turns finished files of the log into their form for keeping, when nobody waits for it."""

import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from threading import Event as Signal
from typing import Any, Final

import msgspec

from conosco.collect.mentions import mentioned
from conosco.model.command import LinkIdentifiers, read_command
from conosco.model.event import Event
from conosco.model.identifier import Identifier
from conosco.model.record import Envelope, Record, slice_of
from conosco.ports.archive import HASH_KEY_BYTES, Archive, Identify
from conosco.ports.log import LogFull
from conosco.runtime.retention import Retention

CHECK_S: Final = 20.0
FIRST_CHECK_S: Final = 2.0
# While somebody waits for an answer, sealing rests; but not for longer than this at a time, or it would never be done.
YIELD_S_MAX: Final = 2.0
YIELD_STEP_S: Final = 0.02
# Of each stretch of work this part is given away, so that whoever shares the processor gets its turn.
REST_SHARE: Final = 0.25


class Stopping(Exception):
    """The process is told to stop; what was begun is begun again at the next start."""


def identifier_hash(secret: bytes, identifier: Identifier) -> bytes:
    """The key of an identifier in the index of sealed files: keyed, so that the index tells nobody who is in it."""
    namespace, value = identifier
    text = f"{len(namespace)}:{namespace}{value}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=HASH_KEY_BYTES, key=secret[:64]).digest()


def identify_with(read: Callable[[Record], list[Event]], secret: bytes) -> Identify:
    """What the index of sealed files holds: every identifier of every slice, those of events that break a rule included.

    ``read`` gives the events of a request, as the worker understands them.
    """

    def identify(record: Record) -> Iterator[tuple[int, bytes]]:
        for slot, identifier in _identifiers(record, read):
            yield slot, identifier_hash(secret, identifier)

    return identify


def _identifiers(record: Record, read: Callable[[Record], list[Event]]) -> Iterator[tuple[int, Identifier]]:
    if record.kind == "request":
        understood: set[int] = set()
        for event in read(record):
            index = slice_of(record, event.slot)
            understood.add(index)
            for identifier in event.identifiers:
                yield index, identifier
            if event.previous_id:
                yield index, Identifier("user_id", event.previous_id)
                yield index, Identifier("anonymous_id", event.previous_id)
        for slot, body in enumerate(record.slices):
            if slot and body is not None and slot not in understood:
                yield from ((slot, identifier) for identifier in mentioned(body))
        if record.slices and record.slices[0] is not None:
            yield from ((0, identifier) for identifier in _in_envelope(record.slices[0]))
    elif record.kind == "control":
        for slot, body in enumerate(record.slices):
            if body is not None:
                yield from ((slot, identifier) for identifier in _in_command(body))


def _in_envelope(raw: bytes) -> list[Identifier]:
    try:
        envelope = msgspec.json.decode(raw, type=Envelope)
    except msgspec.DecodeError:
        return []
    found = mentioned(bytes(envelope.shared))
    if envelope.header_anonymous_id:
        found.append(Identifier("anonymous_id", envelope.header_anonymous_id))
    return found


def _in_command(raw: bytes) -> list[Identifier]:
    try:
        command = read_command(raw)
    except msgspec.DecodeError:
        return []
    return [command.left, command.right] if isinstance(command, LinkIdentifiers) else []


class Sealing:
    """The job. ``is_asked`` says whether somebody waits for an answer of this process right now.

    What is sealed is what retention can destroy, so that is looked at in the same turn.
    """

    def __init__(
        self,
        archive: Archive,
        identify: Identify,
        is_asked: Callable[[], bool],
        note: Callable[[str, dict[str, Any]], None],
        retention: Retention | None = None,
    ) -> None:
        self._retention = retention
        self._archive = archive
        self._identify = identify
        self._is_asked = is_asked
        self._note = note
        self._stop = Signal()
        self._worked_since = time.monotonic()

    def run(self, stop: Signal) -> None:
        """Seal whatever is finished, again and again, until told to stop."""
        self._stop = stop
        wait_s = FIRST_CHECK_S
        while not stop.wait(wait_s):
            wait_s = CHECK_S
            try:
                while self.seal_next():
                    pass
                if self._retention is not None and (destroyed := self._retention.run(self._pause)):
                    self._note("retained", {"slices_destroyed": destroyed})
            except Stopping:
                return
            except LogFull as trouble:
                self._note("sealing_waits", {"error": str(trouble)})

    def seal_next(self) -> bool:
        """Seal the oldest file that can be; False if there is none. Raises Stopping, LogFull."""
        known = len(self._archive.alarms())
        self._worked_since = begun = time.monotonic()
        sealed = self._archive.seal(self._identify, self._pause)
        for alarm in self._archive.alarms()[known:]:
            self._note("log_damaged", {"file": alarm.file, "what": alarm.what, "lost": alarm.lost})
        if sealed is not None:
            took_s = round(time.monotonic() - begun, 2)
            self._note("sealed", {**msgspec.structs.asdict(sealed), "took_s": took_s})
        return sealed is not None

    def _pause(self) -> None:
        """Let others have their turn, and longer where somebody waits for an answer."""
        rest_s = REST_SHARE * (time.monotonic() - self._worked_since)
        deadline = time.monotonic() + YIELD_S_MAX
        if self._stop.wait(min(rest_s, 1.0)):
            raise Stopping
        while self._is_asked() and time.monotonic() < deadline:
            if self._stop.wait(YIELD_STEP_S):
                raise Stopping
        self._worked_since = time.monotonic()
