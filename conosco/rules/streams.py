"""Streams by number: which of the events that conditions read does an event belong to."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from conosco.model.event import Event, read_json
from conosco.rules.condition import Condition, Filter, Stream, canonical
from conosco.rules.usage import reads
from conosco.rules.values import at_path, compile_test, value_at

Passes = Callable[[Any, int], bool]


class StreamPlan(NamedTuple):
    """A stream made ready. ``horizon`` is the longest window that any condition puts on it, None if one has no window."""

    number: int
    stream: Stream
    filters: tuple[tuple[tuple[str, ...], Passes], ...]

    def takes(self, properties: Any, now: int) -> bool:
        """Whether an event of the right type and name passes the filters."""
        for path, passes in self.filters:
            for value in at_path(properties, path):
                if passes(value, now):
                    break
            else:
                return False
        return True


class Streams:
    """All numbered streams of a workspace. Numbers are given in the order of definitions and never used again."""

    def __init__(self, known: Iterable[str]) -> None:
        self._texts: list[str] = []
        self._numbers: dict[Stream, int] = {}
        self._plans: list[StreamPlan] = []
        # By type and name the streams to look at: those of the name and, after them, those of any name, which lie under None.
        self._by_name: dict[tuple[str, str | None], tuple[StreamPlan, ...]] = {}
        self._add(known)

    def _add(self, texts: Iterable[str]) -> list[StreamPlan]:
        added: list[StreamPlan] = []
        for text in texts:
            stream = msgspec.json.decode(text, type=Stream)
            added.append(StreamPlan(len(self._texts), stream, tuple(_ready(part) for part in stream.where)))
            self._texts.append(text)
            self._numbers[stream] = added[-1].number
        self._plans += added
        own: dict[tuple[str, str | None], list[StreamPlan]] = {}
        for made in self._plans:
            own.setdefault((made.stream.type, made.stream.event), []).append(made)
        self._by_name = {
            (kind, name): (*found, *(own.get((kind, None), ()) if name is not None else ()))
            for (kind, name), found in own.items()
        }
        return added

    def register(self, condition: Condition) -> list[StreamPlan]:
        """Number the streams that a condition reads; returns those that are new, in a fixed order."""
        missing = sorted(canonical(stream).decode() for stream in reads(condition).streams if stream not in self._numbers)
        return self._add(missing) if missing else []

    def texts(self) -> list[str]:
        """The streams in order of their numbers, as they are kept in State."""
        return list(self._texts)

    def since(self, number: int) -> list[StreamPlan]:
        """The streams numbered from here on."""
        return self._plans[number:]

    def number(self, stream: Stream) -> int:
        """The number of a registered stream."""
        return self._numbers[stream]

    def candidates(self, event: Event) -> Sequence[StreamPlan]:
        """The streams of the event's type and name, whatever their filters."""
        return self._by_name.get((event.type, event.event)) or self._by_name.get((event.type, None), ())

    def touching(self, event: Event) -> Sequence[StreamPlan]:
        """The streams that this event belongs to."""
        candidates = self.candidates(event)
        return select(candidates, event) if candidates else ()


def select(candidates: Iterable[StreamPlan], event: Event) -> list[StreamPlan]:
    """Of streams with the event's type and name, those whose filters it passes; a program's event only where they are wanted."""
    taken: list[StreamPlan] = []
    properties: Any = _UNREAD
    for candidate in candidates:
        if event.automated and not candidate.stream.automated:
            continue
        if candidate.filters:
            if properties is _UNREAD:
                properties = read_json(event.properties)
            if not candidate.takes(properties, event.event_at):
                continue
        taken.append(candidate)
    return taken


def value_of(stream: Stream, event: Event) -> bytes:
    """The value that an event brings to the stream, as JSON (several at the path as a list); empty if there is none."""
    if stream.value is None:
        return b""
    value = value_at(read_json(event.properties), stream.value)
    return b"" if value is None else _ENCODER.encode(value)


def _ready(part: Filter) -> tuple[tuple[str, ...], Passes]:
    return part.path, compile_test(part.test)


# Decimals are spelled as JSON numbers, so that a value is read back as it was sent.
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")
_UNREAD: Final = object()
