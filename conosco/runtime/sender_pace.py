"""How fast the sender goes: back-off of a delivery, patience with a destination, and the limits of everything it holds."""

import msgspec

from conosco.model.moment import HOUR, MINUTE, SECOND


class BackOff(msgspec.Struct, frozen=True, kw_only=True):
    """When to try a delivery again: after a random part of a wait that doubles from ``base_us`` to ``cap_us``.

    60 attempts take about a day. After ``attempts_max`` a delivery that fails while its destination takes others is dead,
    and is kept until a person tries it again. While the destination itself is failing, nothing dies.
    """

    base_us: int = SECOND
    cap_us: int = HOUR
    attempts_max: int = 60

    def wait_us(self, attempt: int, fraction: float) -> int:
        """The wait after this many attempts (at least 1), for a fraction drawn from 0 to 1."""
        return int(min(self.cap_us, self.base_us << min(attempt - 1, 40)) * fraction)


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """When a destination is left alone, and for how long: from ``base_us``, doubling to ``cap_us``, half of it random.

    A destination that asks for a longer pause itself is given it, up to ``asked_cap_us``.
    """

    failures_max: int = 8
    base_us: int = SECOND
    cap_us: int = 5 * MINUTE
    asked_cap_us: int = HOUR

    def wait_us(self, times: int, fraction: float) -> int:
        """The pause when a destination is left alone for the n-th time in a row, for a fraction drawn from 0 to 1."""
        return int(min(self.cap_us, self.base_us << min(times - 1, 40)) * (0.5 + fraction / 2))


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How much at once and how often: counts of deliveries and rows; seconds, or microseconds where said.

    Of one destination at most ``in_flight_per_destination_max`` attempts are made at once. It begins with
    ``in_flight_first`` and gets one more with every success, so that one that hangs from the start holds few places.
    """

    in_flight_max: int = 512
    in_flight_per_destination_max: int = 32
    in_flight_first: int = 8
    queued_max: int = 16_384
    queued_per_destination_max: int = 1_000
    # So many are queued for a destination however full all queues together are.
    queued_per_destination_least: int = 16
    unlogged_max: int = 1_024
    unapplied_max: int = 50_000
    page_rows: int = 256
    # New leases wait behind those that are being given up, so not too many of these at once.
    released_at_once: int = 32
    lease_us: int = 30 * SECOND
    # Rows become visible a little after their due time; so much of the recent past is looked at again and again.
    overlap_us: int = SECOND // 2
    busy_poll_s: float = 0.005
    idle_poll_s: float = 0.02
    # So long after the last delivery that was found the sender still counts as busy.
    busy_s: float = 0.25
    # Looking takes at most this share of the time, however many destinations have something due.
    look_share: float = 0.25
    sweep_s: float = 0.05
    # How often leases that have run out, and definitions that may have been mended, are looked at.
    recall_s: float = 1.0
    put_off_s: float = 1.0
    log_retry_s: float = 0.5
    stop_s: float = 5.0
