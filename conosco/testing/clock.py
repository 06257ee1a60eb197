"""A clock that stands still until it is told the time."""


class FrozenClock:
    """Call it for the time in microseconds UTC. It may be set back, as real clocks are."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def set(self, now: int) -> None:
        """Make it this time."""
        self.now = now

    def advance(self, micros: int) -> int:
        """Let time pass; a negative value sets the clock back. Returns the new time."""
        self.now += micros
        return self.now
