"""Streams by number: which of the events that conditions read does an event belong to."""

from collections.abc import Callable, Iterable
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
        return all(any(passes(value, now) for value in at_path(properties, path)) for path, passes in self.filters)


class Streams:
    """All numbered streams of a workspace. Numbers are given in the order of definitions and never used again."""

    def __init__(self, known: Iterable[str]) -> None:
        self._texts: list[str] = []
        self._numbers: dict[Stream, int] = {}
        self._by_name: dict[tuple[str, str | None], list[StreamPlan]] = {}
        for text in known:
            self._add(text)

    def _add(self, text: str) -> StreamPlan:
        stream = msgspec.json.decode(text, type=Stream)
        made = StreamPlan(len(self._texts), stream, tuple(_ready(part) for part in stream.where))
        self._texts.append(text)
        self._numbers[stream] = made.number
        self._by_name.setdefault((stream.type, stream.event), []).append(made)
        return made

    def register(self, condition: Condition) -> list[StreamPlan]:
        """Number the streams that a condition reads; returns those that are new, in a fixed order."""
        missing = sorted(canonical(stream).decode() for stream in reads(condition).streams if stream not in self._numbers)
        return [self._add(text) for text in missing]

    def texts(self) -> list[str]:
        """The streams in order of their numbers, as they are kept in State."""
        return list(self._texts)

    def since(self, number: int) -> list[StreamPlan]:
        """The streams numbered from here on."""
        return sorted(made for plans in self._by_name.values() for made in plans if made.number >= number)

    def number(self, stream: Stream) -> int:
        """The number of a registered stream."""
        return self._numbers[stream]

    def touching(self, event: Event) -> list[StreamPlan]:
        """The streams that this event belongs to."""
        named = self._by_name.get((event.type, event.event), ()) if event.event is not None else ()
        unnamed = self._by_name.get((event.type, None), ())
        if not named and not unnamed:
            return []
        return select([*named, *unnamed], event)


def select(candidates: Iterable[StreamPlan], event: Event) -> list[StreamPlan]:
    """Of streams with the event's type and name, those whose filters it passes."""
    taken: list[StreamPlan] = []
    properties: Any = _UNREAD
    for candidate in candidates:
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
