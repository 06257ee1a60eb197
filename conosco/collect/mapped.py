"""Bodies of webhooks as events on the wire: the mappings of their source make them, and all rules for events hold for them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from conosco.collect.wire import Fault, breaks_limits
from conosco.model.definition import Source
from conosco.model.event import read_json
from conosco.model.outcome import Reason
from conosco.model.problem import Refused
from conosco.model.record import Envelope, Record, slice_stride
from conosco.rules.mapping import Cause, CompiledMapping, Made, Unmapped, compile_mapping, map_element
from conosco.rules.mapping import apply as apply_mappings
from conosco.rules.mapping_parse import parse_event_mappings

WEBHOOK: Final = "webhook"
# Slots are 16 bits wide wherever they are packed.
SLOTS_MAX: Final = 1 << 16
_REASONS: Final[dict[Cause, Reason]] = {
    "no_mapping_applies": "no_mapping_applies",
    "missing": "mapping_finds_nothing",
    "nothing_in_list": "mapping_finds_nothing",
    "unreadable": "mapping_cannot_read",
    "wrong_type": "mapping_wrong_type",
    "too_many_elements": "mapping_too_large",
    "too_large": "mapping_too_large",
}
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


class Told(NamedTuple):
    """An event that a body was turned into, as bytes in the shape of the tracking API, or why it was not."""

    slot: int
    message_id: str
    event: bytes | Fault
    # Where the mapping took the event's fields from: path by field, for a fault to name.
    paths: Mapping[str, str] = MappingProxyType({})
    mapping: int = 0


@lru_cache(maxsize=256)
def _compiled(mappings: bytes) -> tuple[CompiledMapping, ...]:
    """A pure function of the mappings as written, remembered because a source has many records."""
    try:
        return tuple(map(compile_mapping, parse_event_mappings(msgspec.json.decode(mappings))))
    except Refused:
        # It was right when it was written; what this version cannot read maps nothing and loses nothing.
        return ()


def compiled_mappings(source: Source) -> tuple[CompiledMapping, ...]:
    """The mappings of a source made ready."""
    return _compiled(msgspec.json.encode(source.spec.mappings)) if source.spec.mappings else ()


def map_record(record: Record, envelope: Envelope, source_of: Callable[[int], Source]) -> Iterator[tuple[Source, list[Told]]]:
    """What each body of a record is, in order of slices; erased ones are left out.

    ``source_of`` gives, for the index of a slice, its source with the mappings by which that slice is read.
    """
    stride = slice_stride(len(record.slices) - 1)
    whole = _Whole(record, envelope) if envelope.each else None
    for index, body in enumerate(record.slices[1:], 1):
        if body is None:
            continue
        source = source_of(index)
        mappings = compiled_mappings(source)
        # A body that is one of several, or an element, needs a number to be told from the others.
        body_id = envelope.body_id or f"{record.position}"
        if len(record.slices) > 2:
            body_id = f"{body_id}-{index}"
        found = _map_body(body, mappings) if whole is None else whole.map_element(index, body, mappings)
        if isinstance(found, Fault):
            yield source, [Told(index - 1, body_id, found)]
            continue
        if index - 1 + (len(found) - 1) * stride >= SLOTS_MAX:
            fault = Fault(reason="mapping_too_large", params={"limit": SLOTS_MAX // stride})
            yield source, [Told(index - 1, body_id, fault)]
            continue
        seen: set[str] = set()
        told: list[Told] = []
        for number, made in enumerate(found):
            message_id = _message_id(made, body_id, seen)
            made.event["messageId"] = message_id
            slot = index - 1 + number * stride
            told.append(Told(slot, message_id, _ENCODER.encode(made.event), mappings[made.mapping].paths, made.mapping + 1))
        yield source, told


def _message_id(made: Made, body_id: str, seen: set[str]) -> str:
    """The mapping's own id, else the body's; where several events would share one, their number tells them apart."""
    own = made.event.get("messageId")
    message_id = str(own or body_id)
    if made.element is not None and (not own or not made.has_own_id):
        message_id = f"{message_id}-{made.element + 1}"
    unique, count = message_id, 1
    while unique in seen:
        count += 1
        unique = f"{message_id}-{count}"
    seen.add(unique)
    return unique


def _map_body(body: bytes, mappings: Sequence[CompiledMapping]) -> Sequence[Made] | Fault:
    value = _read(body)
    if isinstance(value, Fault):
        return value
    found = apply_mappings(mappings, value)
    return _fault(found) if isinstance(found, Unmapped) else found.events


class _Whole:
    """A body whose list was taken apart: what stands around the elements, and the elements, as they came."""

    def __init__(self, record: Record, envelope: Envelope) -> None:
        self._each = envelope.each
        self._root: Any = None
        self._elements: list[Any] = []
        self._read_all(record, envelope)

    def _read_all(self, record: Record, envelope: Envelope) -> None:
        shared = bytes(envelope.shared)
        if shared[:1] == b'"':
            shared = msgspec.json.decode(shared, type=str).encode()
        self._root = _read(shared)
        for body in record.slices[1:]:
            element = None if body is None else _read(body)
            if element is not None and not isinstance(element, Fault):
                self._elements.append(element)
        inner = self._root
        for name in self._each[:-1]:
            inner = inner.get(name) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner[self._each[-1]] = self._elements

    def map_element(self, index: int, body: bytes, mappings: Sequence[CompiledMapping]) -> Sequence[Made] | Fault:
        """The events of one element: of all mappings that go through this list and apply to it."""
        element = _read(body)
        if isinstance(element, Fault):
            return element
        root = {} if isinstance(self._root, Fault) else self._root
        found = map_element(mappings, self._each, root, element, index - 1)
        return _fault(found) if isinstance(found, Unmapped) else found.events


def _read(body: bytes) -> Any:
    fault = breaks_limits(body)
    if fault is not None:
        return fault
    try:
        return read_json(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Fault(reason="unreadable_text")


def _fault(found: Unmapped) -> Fault:
    if found.cause == "no_mapping_applies":
        return Fault(reason="no_mapping_applies")
    params: dict[str, str | int] = {"mapping": found.mapping + 1, "field": found.field, "path": found.path}
    return Fault(reason=_REASONS[found.cause], params={name: value for name, value in params.items() if value != ""})


def named(fault: Fault, told: Told) -> Fault:
    """A fault of an event that a mapping made, with the place in the body that it comes from."""
    field = str(fault.params.get("field", ""))
    path = told.paths.get(field) if field or fault.reason == "no_usable_identifier" else ""
    params: dict[str, str | int] = {**fault.params, "mapping": told.mapping}
    return Fault(reason=fault.reason, params={**params, "path": path} if path else params)
