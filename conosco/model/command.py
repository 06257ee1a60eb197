"""Commands: what people and the system itself ask for, as control records in the log."""

from typing import Literal

import msgspec

from conosco.model.identifier import Identifier


class LinkIdentifiers(msgspec.Struct, frozen=True, kw_only=True, tag_field="command", tag="link"):
    """A person says that two identifiers are, or are not, one person."""

    link_id: str
    kind: Literal["manual_same", "manual_different"]
    left: Identifier
    right: Identifier
    reason: str = ""


class RetractLink(msgspec.Struct, frozen=True, kw_only=True, tag_field="command", tag="retract_link"):
    """A person takes a link back; everything derived follows."""

    link_id: str


class ReplayQuarantined(msgspec.Struct, frozen=True, kw_only=True, tag_field="command", tag="replay_quarantined"):
    """Try these quarantined events (position, slot) again."""

    addresses: tuple[tuple[int, int], ...]


class RetryDelivery(msgspec.Struct, frozen=True, kw_only=True, tag_field="command", tag="retry_delivery"):
    """Try a dead or unknown delivery again."""

    delivery_id: str


class TryDestination(msgspec.Struct, frozen=True, kw_only=True, tag_field="command", tag="test_destination"):
    """Send a delivery that is marked as a test and concerns nobody to a destination (its key)."""

    destination: str


class ReplayDeliveries(msgspec.Struct, frozen=True, kw_only=True, tag_field="command", tag="replay_deliveries"):
    """Send these deliveries again to a destination (its key): delivered ones in a new round, dead and unknown ones as they are.

    Those of another destination are made anew for this one, if it wants them.
    """

    destination: str
    delivery_ids: tuple[str, ...]


class LiveFrom(msgspec.Struct, frozen=True, kw_only=True, tag_field="command", tag="live_from"):
    """A rebuilt State took over: pending intents up to this position are parked, for they may have been sent."""

    position: int


Command = LinkIdentifiers | RetractLink | ReplayQuarantined | RetryDelivery | TryDestination | ReplayDeliveries | LiveFrom

_DECODER: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)


def read_command(raw: bytes) -> Command:
    """Decode a command from its log slice."""
    return _DECODER.decode(raw)
