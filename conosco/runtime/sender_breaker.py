"""The breaker of one destination: whether it is spoken to at all, and how many attempts at once. It has no clock of its own."""

from typing import Final, Literal

from conosco.runtime.sender_pace import Pace, Patience

BreakerState = Literal["closed", "open", "half_open"]


class Breaker:
    """Closed while a destination answers; open, and nothing is sent, after too many failures in a row or when it asks for
    a pause; then half open: one attempt at a time until one succeeds.

    Times are microseconds; fractions are drawn from 0 to 1 by the caller.
    """

    def __init__(self, patience: Patience, pace: Pace) -> None:
        self._patience: Final = patience
        self._window_max: Final = pace.in_flight_per_destination_max
        self._window_first: Final = min(pace.in_flight_first, pace.in_flight_per_destination_max)
        self.state: BreakerState = "closed"
        self.until = 0
        self.failures = 0
        self.window = self._window_first
        self._times = 0

    def places(self, now: int) -> int:
        """How many attempts may be under way at this moment; 0 while the destination is left alone."""
        if self.state == "open":
            if now < self.until:
                return 0
            self.state = "half_open"
        return self.window if self.state == "closed" else 1

    def succeeded(self) -> None:
        """The destination took a delivery, or at least judged it."""
        if self.state != "closed":
            # Those who come back after a rest are not met by everything at once.
            self.window = 1
        self.state, self.failures, self._times, self.until = "closed", 0, 0, 0
        self.window = min(self._window_max, self.window + 1)

    def failed(self, now: int, fraction: float, asked_us: int = 0) -> None:
        """The destination did not take a delivery, for a reason of its own; it may have asked for a pause."""
        self.failures += 1
        if self.state == "open":
            # Attempts that were under way when it opened tell nothing new, unless they ask for a longer pause.
            self.until = max(self.until, now + min(asked_us, self._patience.asked_cap_us)) if asked_us else self.until
        elif self.state == "half_open" or self.failures >= self._patience.failures_max or asked_us:
            self._times += 1
            wait = max(self._patience.wait_us(self._times, fraction), min(asked_us, self._patience.asked_cap_us))
            self.state, self.until = "open", now + wait

    def probe(self) -> None:
        """Speak to the destination once, now: a person waits for it, or its definition was changed."""
        if self.state == "open":
            self.state = "half_open"
