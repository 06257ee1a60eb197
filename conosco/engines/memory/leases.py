"""The Leases in memory: leases and the stop list of one process."""

import threading
from collections.abc import Iterable, Sequence

from conosco.ports.leases import Take


class MemoryLeases:
    """The Leases door on dictionaries. Threads may share it."""

    def __init__(self) -> None:
        self._using = threading.Lock()
        self._until: dict[str, int] = {}
        # (namespace, value, purpose) -> position; the purpose None is every purpose.
        self._stops: dict[tuple[str, str, str | None], int] = {}

    def lease(self, takes: Sequence[Take], until: int, now: int) -> list[bool]:
        """Take deliveries, unless they are leased or stopped."""
        with self._using:
            return [self._take(take, until, now) for take in takes]

    def _take(self, take: Take, until: int, now: int) -> bool:
        if self._until.get(take.delivery_id, now) > now or self._stopped(take.identifiers, take.purpose):
            return False
        self._until[take.delivery_id] = until
        return True

    def release(self, delivery_ids: Iterable[str]) -> None:
        """Give leases up."""
        with self._using:
            for delivery_id in delivery_ids:
                self._until.pop(delivery_id, None)

    def expired(self, now: int) -> list[str]:
        """Deliveries whose lease has run out, longest ago first."""
        with self._using:
            return [delivery_id for until, delivery_id in sorted((u, d) for d, u in self._until.items()) if until <= now]

    def stop(self, identifiers: Sequence[tuple[str, str]], purpose: str | None, position: int) -> None:
        """Deny identifiers for a purpose, or for every purpose."""
        with self._using:
            for namespace, value in identifiers:
                key = (namespace, value, purpose)
                self._stops[key] = max(self._stops.get(key, position), position)

    def stopped(self, identifiers: Sequence[tuple[str, str]], purpose: str | None) -> bool:
        """Whether any of the identifiers is denied."""
        with self._using:
            return self._stopped(identifiers, purpose)

    def close(self) -> None:
        """Nothing to release: leases live as long as this object."""

    def _stopped(self, identifiers: Sequence[tuple[str, str]], purpose: str | None) -> bool:
        return any((*identifier, named) in self._stops for identifier in identifiers for named in (None, purpose))
