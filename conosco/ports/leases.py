"""The Leases door: who is sending what right now, and the stop list. Durable, not derived from the log, kept by a rebuild."""

from collections.abc import Sequence
from typing import Protocol


class Leases(Protocol):
    """Leases of deliveries and the stop list, shared by several processes. Times are microseconds UTC.

    Every method raises StateFull if its change could not be made durable; then nothing of it is kept.
    """

    def lease(
        self, delivery_id: str, until: int, now: int, *, identifiers: Sequence[tuple[str, str]] = (), purpose: str | None = None
    ) -> bool:
        """Take a delivery until a moment. True is the point of no return: of several callers only one gets it.

        False if it is leased already and that lease has not expired (it expires at its ``until``), or if the stop list
        denies any of the identifiers for this purpose; both are read in the same write. Durable on return.
        """

    def release(self, delivery_id: str) -> None:
        """Give a lease up once its result is in the log; an absent one is no error."""

    def expired(self, now: int) -> list[str]:
        """Deliveries whose lease has run out without being released, longest ago first: what became of them is unknown."""

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
