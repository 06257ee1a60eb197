"""The breaker with a set clock: when a destination is left alone, for how long, and how it is spoken to again."""

from hypothesis import given
from hypothesis import strategies as st

from conosco.model.moment import HOUR, MINUTE, SECOND
from conosco.runtime.sender_breaker import Breaker
from conosco.runtime.sender_pace import Pace, Patience

PACE = Pace()


def opened(failures: int = 8, at: int = 0) -> Breaker:
    breaker = Breaker(Patience(), PACE)
    for _ in range(failures):
        breaker.failed(at, 1.0)
    return breaker


def test_places_grow_with_successes_up_to_a_limit() -> None:
    breaker = Breaker(Patience(), PACE)
    assert breaker.places(0) == PACE.in_flight_first
    for _ in range(100):
        breaker.succeeded()
    assert breaker.places(0) == PACE.in_flight_per_destination_max


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = opened(7)
    breaker.succeeded()
    for _ in range(7):
        breaker.failed(0, 1.0)
    assert breaker.state == "closed"
    breaker.failed(0, 1.0)
    assert (breaker.state, breaker.places(SECOND - 1), breaker.places(SECOND)) == ("open", 0, 1)


def test_pauses_double_up_to_five_minutes_and_a_success_forgets_them() -> None:
    breaker = opened()
    now, pauses = 0, []
    for _ in range(12):
        pauses.append(breaker.until - now)
        now = breaker.until
        assert breaker.places(now) == 1
        breaker.failed(now, 1.0)
    assert pauses[:4] == [SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND]
    assert pauses[-1] == 5 * MINUTE
    assert breaker.places(breaker.until) == 1
    breaker.succeeded()
    # Not everything at once after a rest.
    assert (breaker.state, breaker.places(now)) == ("closed", 2)
    for _ in range(8):
        breaker.failed(now, 1.0)
    assert breaker.until - now == SECOND


def test_what_was_under_way_when_it_opened_changes_nothing() -> None:
    breaker = opened()
    until = breaker.until
    for _ in range(30):
        breaker.failed(10, 1.0)
    assert breaker.until == until


def test_a_pause_that_is_asked_for_is_given_at_once_and_has_a_limit() -> None:
    breaker = Breaker(Patience(), PACE)
    breaker.failed(0, 0.0, 90 * SECOND)
    assert (breaker.state, breaker.until) == ("open", 90 * SECOND)
    breaker.failed(0, 0.0, 1_000 * HOUR)
    assert breaker.until == HOUR


def test_a_probe_speaks_to_it_once() -> None:
    breaker = opened()
    breaker.probe()
    assert breaker.places(0) == 1
    breaker.failed(0, 1.0)
    assert (breaker.state, breaker.until) == ("open", 2 * SECOND)


@given(st.integers(1, 100), st.floats(0, 1))
def test_pauses_are_random_by_half(times: int, fraction: float) -> None:
    whole = min(5 * MINUTE, SECOND * 2 ** (times - 1))
    assert whole // 2 <= Patience().wait_us(times, fraction) <= whole
