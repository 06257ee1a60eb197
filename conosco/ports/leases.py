"""The Leases door: who is sending what right now, and the stop list. Durable, not derived from the log, kept by a rebuild."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol


class Take(NamedTuple):
    """A delivery to be leased, and to whom and what for it goes; ``batch`` is what it is sent in, empty for alone."""

    delivery_id: str
    identifiers: Sequence[tuple[str, str]] = ()
    purpose: str | None = None
    batch: str = ""


class RunOut(NamedTuple):
    """A lease that has run out, and the batch under which it was taken."""

    delivery_id: str
    batch: str = ""


class Leases(Protocol):
    """Leases of deliveries and the stop list, shared by several processes. Times are microseconds UTC.

    Every method raises StateFull if its change could not be made durable; then nothing of it is kept.
    """

    def lease(self, takes: Sequence[Take], until: int, now: int) -> list[bool]:
        """Take deliveries until a moment, all in one durable write. True is the point of no return: of several callers
        only one gets it.

        False if a delivery is leased already and that lease has not expired (it expires at its ``until``) or was taken
        under another batch, so that what was sent together is only ever sent together again; or if the stop list denies
        any of its identifiers for its purpose. All is read in the same write.
        """

    def release(self, delivery_ids: Iterable[str]) -> None:
        """Give leases up, all in one write, once their results are in the log; an absent one is no error."""

    def expired(self, now: int) -> list[RunOut]:
        """Leases that have run out without being released, longest ago first: what became of these deliveries is unknown."""

    def stop(self, identifiers: Sequence[tuple[str, str]], purpose: str | None, position: int) -> None:
        """Deny these identifiers for a purpose (None: for every purpose), because of the log record at ``position``.

        Durable on return. Stopping again keeps the highest position.
        """

    def stopped(self, identifiers: Sequence[tuple[str, str]], purpose: str | None) -> bool:
        """Whether any of the identifiers is denied for the purpose, or for every purpose.

        The purpose None asks about denials of every purpose only.
        """

    def close(self) -> None:
        """Release files."""
