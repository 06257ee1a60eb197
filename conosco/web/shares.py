"""Fair shares of the front between sources: while several send, none may have more under way than its part of a bound.

A source alone may use everything. What is under way is counted from the first byte that is read until it is durable, so a
noisy source is turned away before its bytes cost the others anything but their passage through the network.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from conosco.web.committer import SourceOverloaded

# Competing sources may have so much under way together; more would lengthen each append, which all wait for.
CONTENDED_BYTES_MAX: Final = 2 << 20
# A source competes until it has been silent for so long.
ACTIVE_FOR_US: Final = 1_000_000
# A request larger than this part of the bound is followed by a pause of its source, so many times as long as it took: while
# it is written all others wait, so it must not be all that happens.
LARGE_PART: Final = 4
PAUSE_TIMES: Final = 3
# Requests of sources that have this little under way are not looked at: they harm nobody.
MODEST_BYTES: Final = 64 << 10
# How many sources are remembered as active. Only real ones come here, so this is reached by large installations only.
SOURCES_MAX: Final = 10_000


class Shares:
    """Counts what each source has under way. ``clock`` gives microseconds; used by one event loop."""

    def __init__(self, bytes_max: int, clock: Callable[[], int]) -> None:
        self._bytes_max = bytes_max
        self._clock = clock
        self._under_way: dict[str, int] = {}
        self._seen_at: dict[str, int] = {}
        self._free_at: dict[str, int] = {}

    @contextmanager
    def hold(self, source_id: str, size: int) -> Iterator[None]:
        """Count ``size`` bytes as under way while the block runs. Raises SourceOverloaded before it.

        One request is always let in, whatever its size, unless a large one has just been: so every source gets on.
        """
        held = self._under_way.get(source_id, 0)
        now = self._clock()
        self._seen_at.pop(source_id, None)
        self._seen_at[source_id] = now
        if size + held > MODEST_BYTES and (active := self._active(now)) > 1:
            if held and held + size > self._bytes_max // active:
                raise SourceOverloaded
            if now < self._free_at.get(source_id, 0):
                raise SourceOverloaded
        self._under_way[source_id] = held + size
        try:
            yield
        finally:
            left = self._under_way.get(source_id, 0) - size
            if left > 0:
                self._under_way[source_id] = left
            else:
                self._under_way.pop(source_id, None)
            self._free_at.pop(source_id, None)
            if size > self._bytes_max // LARGE_PART:
                done = self._clock()
                self._free_at[source_id] = done + PAUSE_TIMES * (done - now)

    def _active(self, now: int) -> int:
        """How many sources compete. Those that fell silent are at the front of the dictionary, and leave it."""
        for source_id, seen_at in list(self._seen_at.items()):
            if now - seen_at <= ACTIVE_FOR_US and len(self._seen_at) <= SOURCES_MAX:
                break
            del self._seen_at[source_id]
        return max(1, len(self._seen_at))
