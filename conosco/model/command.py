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
    # The name of a rebuilt State that waits beside the live one; empty where the exchange has already been made.
    rebuilt: str = ""


class BeginImport(msgspec.Struct, frozen=True, kw_only=True, tag_field="command", tag="begin_import"):
    """Somebody imports a file: who answers for it says why. It changes nothing; the records that name it follow."""

    import_id: str
    name: str
    source_id: str
    file_digest: str
    basis: str
    note: str


class UndoImport(msgspec.Struct, frozen=True, kw_only=True, tag_field="command", tag="undo_import"):
    """An import is taken back: its slices are erased after this, and State is derived anew without them."""

    import_id: str


Command = (
    LinkIdentifiers
    | RetractLink
    | ReplayQuarantined
    | RetryDelivery
    | TryDestination
    | ReplayDeliveries
    | LiveFrom
    | BeginImport
    | UndoImport
)

_DECODER: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)


def read_command(raw: bytes) -> Command:
    """Decode a command from its log slice."""
    return _DECODER.decode(raw)
