"""The suite of the Leases door: one holder at a time, expiry, and a stop list that can only deny."""

from functools import partial

from conosco.ports.leases import Leases, RunOut, Take
from conosco.testing.conformance.threads import all_at_once

NOW = 1_790_000_000_000_000
MAIL = ("email", "ada@example.com")
PHONE = ("phone", "+390000000")


class LeasesSuite:
    """Promises of every Leases. Give it the fixture ``door``: an empty one."""

    def test_a_lease_has_one_holder_until_it_expires(self, door: Leases) -> None:
        assert door.lease([Take("dlv_1")], NOW + 10, NOW) == [True]
        assert door.lease([Take("dlv_1")], NOW + 99, NOW) == [False]
        assert door.lease([Take("dlv_2")], NOW + 5, NOW) == [True]
        assert door.expired(NOW + 4) == []
        assert door.expired(NOW + 10) == [RunOut("dlv_2"), RunOut("dlv_1")]
        assert door.lease([Take("dlv_1")], NOW + 99, NOW + 9) == [False]
        assert door.lease([Take("dlv_1")], NOW + 99, NOW + 10) == [True]
        assert door.expired(NOW + 10) == [RunOut("dlv_2")]

    def test_many_are_taken_in_one_write_each_for_itself(self, door: Leases) -> None:
        door.stop([MAIL], "marketing", 7)
        takes = [Take("dlv_1"), Take("dlv_2", [MAIL], "marketing"), Take("dlv_1"), Take("dlv_3")]
        assert door.lease(takes, NOW + 10, NOW) == [True, False, False, True]

    def test_a_released_lease_is_free(self, door: Leases) -> None:
        assert door.lease([Take("dlv_1")], NOW + 10, NOW) == [True]
        door.release(["dlv_1", "dlv_9"])
        assert door.expired(NOW + 99) == []
        assert door.lease([Take("dlv_1")], NOW + 10, NOW) == [True]

    def test_of_many_takers_one_wins(self, door: Leases) -> None:
        for attempt in range(10):
            won = all_at_once(partial(door.lease, [Take(f"dlv_{attempt}")], NOW + 1, NOW), 4)
            assert sorted(won) == [[False], [False], [False], [True]]

    def test_a_stop_denies_its_purpose_only(self, door: Leases) -> None:
        door.stop([MAIL], "marketing", 7)
        assert door.stopped([MAIL], "marketing")
        assert door.stopped([PHONE, MAIL], "marketing")
        assert not door.stopped([MAIL], "operations")
        assert not door.stopped([PHONE], "marketing")
        assert not door.stopped([MAIL], None)
        assert not door.stopped([], "marketing")
        assert not door.stopped([("user_id", MAIL[1])], "marketing")

    def test_a_stop_of_every_purpose_denies_everything(self, door: Leases) -> None:
        door.stop([MAIL, PHONE], None, 7)
        door.stop([MAIL], None, 3)
        assert door.stopped([MAIL], "marketing")
        assert door.stopped([PHONE], "operations")
        assert door.stopped([MAIL], None)

    def test_what_is_stopped_is_not_leased(self, door: Leases) -> None:
        door.stop([MAIL], "marketing", 7)
        assert door.lease([Take("dlv_1", [PHONE, MAIL], "marketing")], NOW + 10, NOW) == [False]
        assert door.expired(NOW + 99) == []
        assert door.lease([Take("dlv_1", [PHONE, MAIL], "operations")], NOW + 10, NOW) == [True]
        assert door.lease([Take("dlv_2", [PHONE], "marketing")], NOW + 10, NOW) == [True]
        assert door.lease([Take("dlv_3")], NOW + 10, NOW) == [True]

    def test_names_cannot_be_confused(self, door: Leases) -> None:
        door.stop([("ab", "c")], "p", 1)
        assert not door.stopped([("a", "bc")], "p")
        assert door.stopped([("ab", "c")], "p")
