"""How the sender stands towards each destination, told to other processes: a small file that is replaced, never trusted to last.

It holds no personal data. Whoever reads it looks at ``at``: a sender that is gone leaves an old file behind.
"""

import os
from pathlib import Path
from typing import Final

import msgspec

from conosco.model.moment import SECOND
from conosco.runtime.sender import Sender
from conosco.runtime.sender_breaker import BreakerState

STALE_US: Final = 10 * SECOND


class LaneStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One destination: its breaker, until when it is left alone (microseconds), and what is in hand."""

    breaker: BreakerState
    until: int
    failures: int
    queued: int
    in_flight: int


class SenderStanding(msgspec.Struct, frozen=True, kw_only=True):
    """All destinations that the sender has in hand, as of a moment."""

    at: int
    lanes: dict[str, LaneStanding]


_DECODER: Final = msgspec.json.Decoder(SenderStanding)


def standing_of(sender: Sender, now: int) -> SenderStanding:
    """How a sender stands now."""
    return SenderStanding(
        at=now,
        lanes={
            key: LaneStanding(
                breaker=lane.breaker.state,
                until=lane.breaker.until,
                failures=lane.breaker.failures,
                queued=len(lane.queue),
                in_flight=lane.in_flight,
            )
            for key, lane in sender.lanes.items()
        },
    )


def write_standing(path: Path, standing: SenderStanding) -> None:
    """Replace the file at once. A disk that is full or gone is no reason to stop sending."""
    fresh = path.with_suffix(".new")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(standing))
        fresh.replace(path)
    except OSError:
        return


def read_standing(path: Path, now: int) -> SenderStanding | None:
    """How the sender stands; None if it does not say, or has not for a while."""
    try:
        standing = _DECODER.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    return standing if now - standing.at <= STALE_US else None
