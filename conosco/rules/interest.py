"""Interest: what a destination wants to be told, as written in its spec, whatever its type: which changes, of whom, and how."""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from conosco.model.definition import Destination
from conosco.model.event import Event, EventType, read_json
from conosco.model.problem import Problem, Refused
from conosco.rules.condition import Filter
from conosco.rules.mapping import CompiledValue, compile_value
from conosco.rules.mapping_parse import parse_value
from conosco.rules.values import at_path, compile_test
from conosco.rules.wire import Findings, echo, read_members, read_path, read_test, step

Told = Literal["segment.entered", "segment.exited", "event", "profile.changed"]
EVENT: Final = "event"
PROFILE_CHANGED: Final = "profile.changed"
TRANSITIONS: Final[tuple[Told, ...]] = ("segment.entered", "segment.exited")
FORWARDED: Final[tuple[Told, ...]] = ("event", "profile.changed")
FILTERS_MAX: Final = 50

Names = Annotated[tuple[str, ...], msgspec.Meta(max_length=1_000)]


class EventFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events are forwarded: those with one of these names, types and sources (keys) whose properties pass every test.

    What is left empty does not restrict.
    """

    events: Names = ()
    types: tuple[EventType, ...] = ()
    sources: Names = ()
    where: tuple[dict[str, Any], ...] = ()


class Interest(msgspec.Struct, frozen=True, kw_only=True):
    """What a destination wants to be told. The settings of every type of destination begin with these fields.

    ``segments`` are keys, or all. ``filter``, ``mapping``, ``purpose`` and ``historical`` are of events and profile
    changes: which ones, in what shape, for which purpose, and whether imported and late ones too. ``fields`` are the traits
    whose values a profile change may tell.
    """

    events: tuple[Told, ...] = TRANSITIONS
    segments: Literal["all"] | Names = "all"
    filter: EventFilter | None = None
    mapping: dict[str, Any] | None = None
    fields: Names = ()
    purpose: str = ""
    historical: bool = False

    @property
    def forwards(self) -> bool:
        """Whether events or profile changes are wanted."""
        return any(each in FORWARDED for each in self.events)


def read_interest(spec: dict[str, Any]) -> Interest:
    """The interest that a spec states. Raises msgspec.ValidationError; other fields of the spec are passed over."""
    return msgspec.convert(spec, Interest)


class Sieve:
    """A filter made ready. ``source_keys`` are the keys of sources by their ids, by which filters name them."""

    def __init__(self, filter_: EventFilter | None, source_keys: Mapping[str, str]) -> None:
        """Raises Refused for tests that cannot be read."""
        wanted = filter_ or EventFilter()
        found = Findings()
        tests = _read_where(found, wanted.where)
        if found.problems:
            raise Refused(found.problems)
        self._events = frozenset(wanted.events)
        self._types = frozenset(wanted.types)
        self._sources = frozenset(wanted.sources)
        self._where = [(each.path, compile_test(each.test)) for each in tests]
        self._source_keys = source_keys

    def source_key(self, event: Event) -> str:
        """The key of an event's source; empty for one that is gone."""
        return self._source_keys.get(event.source_id, "")

    def takes(self, event: Event) -> bool:
        """Whether the event is to be forwarded. A path through a list means any element."""
        if (self._types and event.type not in self._types) or (self._events and event.event not in self._events):
            return False
        if self._sources and self.source_key(event) not in self._sources:
            return False
        if not self._where:
            return True
        properties = read_json(event.properties)
        return all(any(passes(value, event.event_at) for value in at_path(properties, path)) for path, passes in self._where)


def compile_body(mapping: dict[str, Any] | None) -> CompiledValue | None:
    """The mapping of what is sent, made ready; None if it is sent as it is. Raises Refused."""
    return None if mapping is None else compile_value(parse_value(mapping))


def interest_problems(destination: Destination, sources: Collection[str]) -> Sequence[Problem]:
    """What is wrong with what a destination wants to be forwarded; ``sources`` are the keys that there are.

    There must be a purpose, and the destination must serve it.
    """
    try:
        interest = read_interest(destination.spec)
    except msgspec.ValidationError:
        # Said already, with its place.
        return ()
    found = Findings()
    served = ", ".join(destination.purposes)
    if interest.forwards and not interest.purpose:
        found.add("forwarding_needs_purpose", "/spec/purpose", purposes=served)
    elif interest.purpose and interest.purpose not in destination.purposes:
        found.add("purpose_not_served", "/spec/purpose", purpose=echo(interest.purpose), purposes=served)
    if interest.filter is not None:
        _read_where(found, interest.filter.where)
        for at, key in enumerate(interest.filter.sources):
            if key not in sources:
                found.add("unknown_source", f"/spec/filter/sources/{at}", source=echo(key), known=", ".join(sorted(sources)))
    if interest.mapping is not None:
        try:
            parse_value(interest.mapping, "/spec/mapping")
        except Refused as refused:
            return [*found.problems, *refused.problems]
    return found.problems


def _read_where(found: Findings, where: Sequence[dict[str, Any]]) -> list[Filter]:
    """The tests on properties, in the words of conditions."""
    made: list[Filter] = []
    if len(where) > FILTERS_MAX:
        found.add("too_many_filters", "/spec/filter/where", limit=FILTERS_MAX)
        return made
    for at, spec in enumerate(where):
        pointer = step("/spec/filter/where", at)
        members = read_members(found, spec, pointer, ("path", "test"), ("value", "case"))
        if members is None or "path" not in members:
            continue
        path = read_path(found, members["path"], step(pointer, "path"))
        test = read_test(found, members, pointer)
        if path is not None and test is not None:
            made.append(Filter(path=path, test=test))
    return made
