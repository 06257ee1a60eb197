"""Fair shares between sources."""

from contextlib import ExitStack

import pytest

from conosco.web.committer import SourceOverloaded
from conosco.web.shares import ACTIVE_FOR_US, MODEST_BYTES, PAUSE_TIMES, Shares

MOST = 2 << 20


class Clock:
    now = 1_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shares(clock: Clock) -> Shares:
    return Shares(MOST, clock)


def test_a_source_alone_may_have_everything(shares: Shares) -> None:
    with ExitStack() as held:
        for _ in range(99):
            held.enter_context(shares.hold("noisy", 1 << 20))


def test_while_another_sends_a_source_keeps_to_its_part(shares: Shares) -> None:
    with shares.hold("quiet", 10), shares.hold("noisy", 1 << 20):
        with pytest.raises(SourceOverloaded), shares.hold("noisy", 1 << 20):
            raise AssertionError
        # What is modest is let in whoever sends it, and the other has all of its own part.
        with shares.hold("quiet", 1 << 19), shares.hold("quiet", 1 << 18):
            pass


def test_one_request_is_let_in_whatever_its_size(shares: Shares) -> None:
    with shares.hold("quiet", 10), shares.hold("noisy", MOST * 5):
        pass


def test_a_large_one_is_followed_by_a_pause(shares: Shares, clock: Clock) -> None:
    with shares.hold("quiet", 10):
        pass
    with shares.hold("noisy", MOST):
        clock.now += 20_000
    clock.now += PAUSE_TIMES * 20_000 - 1
    with pytest.raises(SourceOverloaded), shares.hold("noisy", MOST):
        raise AssertionError
    with shares.hold("noisy", MODEST_BYTES), shares.hold("quiet", MOST // 2):
        pass
    clock.now += 1
    with shares.hold("noisy", MOST):
        pass


def test_who_fell_silent_competes_no_more(shares: Shares, clock: Clock) -> None:
    with shares.hold("quiet", 10):
        pass
    clock.now += ACTIVE_FOR_US + 1
    with shares.hold("noisy", MOST), shares.hold("noisy", MOST):
        pass


def test_what_was_held_is_given_back_whatever_happens(shares: Shares) -> None:
    for _ in range(9):
        with pytest.raises(ZeroDivisionError), shares.hold("noisy", 1 << 20):
            raise ZeroDivisionError
    with shares.hold("noisy", 0):
        pass
    with shares.hold("quiet", 10), shares.hold("noisy", MODEST_BYTES + 1):
        pass
