"""The Leases in memory: leases and the stop list of one process."""

import threading
from collections.abc import Iterable, Sequence

from conosco.ports.leases import RunOut, Take


class MemoryLeases:
    """The Leases door on dictionaries. Threads may share it."""

    def __init__(self) -> None:
        self._using = threading.Lock()
        # Delivery id -> (until, batch).
        self._leases: dict[str, tuple[int, str]] = {}
        # (namespace, value, purpose) -> position; the purpose None is every purpose.
        self._stops: dict[tuple[str, str, str | None], int] = {}

    def lease(self, takes: Sequence[Take], until: int, now: int) -> list[bool]:
        """Take deliveries, unless they are leased or stopped."""
        with self._using:
            return [self._take(take, until, now) for take in takes]

    def _take(self, take: Take, until: int, now: int) -> bool:
        held = self._leases.get(take.delivery_id)
        if held is not None and (held[0] > now or held[1] != take.batch):
            return False
        if self._stopped(take.identifiers, take.purpose):
            return False
        self._leases[take.delivery_id] = (until, take.batch)
        return True

    def release(self, delivery_ids: Iterable[str]) -> None:
        """Give leases up."""
        with self._using:
            for delivery_id in delivery_ids:
                self._leases.pop(delivery_id, None)

    def expired(self, now: int) -> list[RunOut]:
        """Leases that have run out, longest ago first."""
        with self._using:
            found = sorted((until, delivery_id, batch) for delivery_id, (until, batch) in self._leases.items() if until <= now)
            return [RunOut(delivery_id, batch) for _, delivery_id, batch in found]

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
