"""Forwarding: events and profile changes, as they happen, become deliveries of the destinations that want them.

What the gate denies is counted and not kept: there is one for every event. What cannot be mapped is counted too.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from conosco.activate.outbox import DeliveryVersion, count_passed_over, put_intent
from conosco.govern.gate import BUILT_IN_BASES, Gate
from conosco.model import ids
from conosco.model.definition import Basis, Destination, Source
from conosco.model.delivery import Intent, ProfileChange
from conosco.model.event import Event, read_json
from conosco.model.moment import spell_moment
from conosco.model.problem import Refused
from conosco.ports.tables import OUTBOX, PersonRow
from conosco.ports.work import Work
from conosco.rules.interest import EVENT, PROFILE_CHANGED, Interest, Sieve, compile_body, read_interest
from conosco.rules.mapping import ABSENT, CompiledValue, Unmapped

UNMAPPED: Final = "unmapped"
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


class Forwarder(NamedTuple):
    """A destination that wants events or profile changes, made ready."""

    destination: Destination
    interest: Interest
    sieve: Sieve
    body: CompiledValue | None


def make_forwarders(destinations: Iterable[Destination], sources: Mapping[str, Source]) -> tuple[Forwarder, ...]:
    """The active destinations that want to be forwarded anything; ``sources`` are by id.

    One whose definition cannot be read, for it was written by another version, or whose purpose it does not serve,
    is given nothing.
    """
    made: list[Forwarder] = []
    for destination in destinations:
        if destination.state != "active":
            continue
        try:
            interest = read_interest(destination.spec)
            if interest.forwards and interest.purpose in destination.purposes:
                keys = {source.id: source.key for source in sources.values()}
                made.append(Forwarder(destination, interest, Sieve(interest.filter, keys), compile_body(interest.mapping)))
        except (msgspec.ValidationError, Refused):
            continue
    return tuple(made)


class Forwarding:
    """What forwarding needs in one micro-batch. ``bases`` are the legal bases of purposes; others count as consent."""

    def __init__(
        self,
        work: Work,
        forwarders: Sequence[Forwarder],
        gate: Gate,
        secret: bytes,
        bases: Mapping[str, Basis] = BUILT_IN_BASES,
    ) -> None:
        self._work = work
        self._gate = gate
        self._secret = secret
        self._bases = bases
        self._of_events = [each for each in forwarders if EVENT in each.interest.events]
        self._of_profiles = [each for each in forwarders if PROFILE_CHANGED in each.interest.events]

    @property
    def watches_profiles(self) -> bool:
        """Whether anybody wants to know of profile changes."""
        return bool(self._of_profiles)

    def event(self, event: Event, person: PersonRow, now: int) -> list[DeliveryVersion]:
        """Forward an event that was applied to whom wants it."""
        made: list[DeliveryVersion] = []
        identifiers = tuple((namespace, value) for namespace, value, _ in person.identifiers)
        envelope: bytes | None = None
        for each in self._of_events:
            if (event.historical and not each.interest.historical) or not each.sieve.takes(event):
                continue
            if envelope is None:
                envelope = _event_envelope(event, person.profile_id, identifiers, each.sieve.source_key(event))
            parts = (EVENT, event.position, event.slot)
            made.extend(self._put(each, parts, envelope, EVENT, person.profile_id, identifiers, event.position, now))
        return made

    def profile(self, change: ProfileChange, now: int, cause: tuple[int, int]) -> list[DeliveryVersion]:
        """Forward a profile change to whom wants it; ``cause`` is the address of what brought it about."""
        made: list[DeliveryVersion] = []
        for each in self._of_profiles:
            if not (change.live or each.interest.historical):
                continue
            envelope = _profile_envelope(change, each.interest.fields, now)
            parts = (PROFILE_CHANGED, change.position, *cause, change.anchor)
            made.extend(
                self._put(each, parts, envelope, PROFILE_CHANGED, change.profile_id, change.identifiers, change.position, now)
            )
        return made

    def _put(
        self,
        forwarder: Forwarder,
        parts: tuple[str | int, ...],
        envelope: bytes,
        type_: str,
        profile_id: str,
        identifiers: tuple[tuple[str, str], ...],
        position: int,
        now: int,
    ) -> list[DeliveryVersion]:
        destination, purpose = forwarder.destination, forwarder.interest.purpose
        verdict = self._gate.ask(purpose, self._bases.get(purpose, "consent"))
        if not verdict.allowed:
            count_passed_over(self._work, destination.key, verdict.reason, "denied")
            return []
        body = envelope
        if forwarder.body is not None:
            made = forwarder.body.apply(read_json(envelope))
            if made is ABSENT or isinstance(made, Unmapped):
                count_passed_over(self._work, destination.key, UNMAPPED)
                return []
            body = _ENCODER.encode(made)
        delivery_id = ids.derived("dlv", self._secret, destination.id, *parts)
        if self._work.get(OUTBOX, (delivery_id,)) is not None:
            return []
        intent = Intent(
            delivery_id=delivery_id,
            destination=destination.key,
            destination_version=destination.version,
            type=type_,
            payload={},
            position=position,
            created_at=now,
            permit=self._gate.permit(delivery_id, verdict),
            profile_id=profile_id,
            identifiers=identifiers,
            purpose=purpose,
            body=body,
        )
        return [put_intent(self._work, intent, "", now)]


def _named(identifiers: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"namespace": namespace, "value": value} for namespace, value in identifiers]


def _event_envelope(event: Event, profile_id: str, identifiers: tuple[tuple[str, str], ...], source: str) -> bytes:
    """An event as it is forwarded. The customer's own JSON is passed on byte by byte, so numbers stay exact."""
    told: dict[str, Any] = {
        "message_id": event.message_id,
        "type": event.type,
        "event": event.event,
        "user_id": event.user_id,
        "anonymous_id": event.anonymous_id,
        "group_id": event.group_id,
        "source": source,
        "event_at": spell_moment(event.event_at),
        "received_at": spell_moment(event.received_at),
        "historical": event.historical,
        "properties": msgspec.Raw(event.properties),
        "traits": msgspec.Raw(event.traits),
        "context": msgspec.Raw(event.context),
    }
    return msgspec.json.encode(
        {
            "type": EVENT,
            "profile_id": profile_id,
            "identifiers": _named(identifiers),
            "at": spell_moment(event.event_at),
            "event": told,
            "position": event.position,
        }
    )


def _profile_envelope(change: ProfileChange, fields: Sequence[str], now: int) -> bytes:
    """A profile change as it is forwarded: names of what changed, and values of the declared fields only."""
    values: dict[str, Any] = {}
    for name, (old, new) in change.traits.items():
        if name in fields:
            values[name] = {"old": msgspec.Raw(old or b"null"), "new": msgspec.Raw(new or b"null")}
    return msgspec.json.encode(
        {
            "type": PROFILE_CHANGED,
            "profile_id": change.profile_id,
            "identifiers": _named(change.identifiers),
            "at": spell_moment(now),
            "traits": list(change.traits),
            "values": values,
            "identifiers_added": _named(change.added),
            "identifiers_removed": _named(change.removed),
            "former_profile_ids": list(change.former_ids),
            "because": change.because,
            "position": change.position,
        }
    )
