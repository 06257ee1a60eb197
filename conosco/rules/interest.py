"""Interest: what a destination wants to be told, as written in its spec, whatever its type: which changes, of whom, and how."""

from collections.abc import Sequence
from typing import Any, Final, Literal, get_args

import msgspec

from conosco.model.definition import Destination
from conosco.model.event import EventType
from conosco.model.problem import Problem

Told = Literal["segment.entered", "segment.exited", "event", "profile.changed"]
TRANSITIONS: Final[tuple[Told, ...]] = ("segment.entered", "segment.exited")
FORWARDED: Final[tuple[Told, ...]] = ("event", "profile.changed")
NAMES_MAX: Final = 1_000
TYPES: Final[tuple[EventType, ...]] = get_args(EventType)

Names = tuple[str, ...]


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


def purpose_problems(destination: Destination) -> Sequence[Problem]:
    """What is wrong with the purpose for which events are forwarded: there must be one, and the destination must serve it."""
    try:
        interest = read_interest(destination.spec)
    except msgspec.ValidationError:
        # Said already, with its place.
        return ()
    served = ", ".join(destination.purposes)
    if interest.forwards and not interest.purpose:
        return [Problem(code="forwarding_needs_purpose", params={"purposes": served}, pointer="/spec/purpose")]
    if interest.purpose and interest.purpose not in destination.purposes:
        params: dict[str, str | int] = {"purpose": interest.purpose, "purposes": served}
        return [Problem(code="purpose_not_served", params=params, pointer="/spec/purpose")]
    return ()
