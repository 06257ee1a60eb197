"""The suite of the Control door: rows by kind and name, expiry, and a take that only one caller wins."""

from functools import partial

from conosco.ports.control import Control
from conosco.testing.conformance.threads import all_at_once

NOW = 1_790_000_000_000_000


class ControlSuite:
    """Promises of every Control. Give it the fixture ``door``: an empty one."""

    def test_rows_are_kept_by_kind_and_name(self, door: Control) -> None:
        door.put("token", "a", b"1")
        door.put("token", "b", b"\x00\xff")
        door.put("session", "a", b"3")
        door.put("token", "a", b"2")
        assert door.get("token", "a", NOW) == b"2"
        assert door.get("session", "a", NOW) == b"3"
        assert door.get("job", "a", NOW) is None
        assert door.list("token", NOW) == [("a", b"2"), ("b", b"\x00\xff")]
        door.delete("token", "a")
        door.delete("token", "a")
        assert door.list("token", NOW) == [("b", b"\x00\xff")]

    def test_rows_expire_at_their_moment(self, door: Control) -> None:
        door.put("session", "s", b"1", NOW)
        assert door.get("session", "s", NOW - 1) == b"1"
        assert door.list("session", NOW - 1) == [("s", b"1")]
        assert door.get("session", "s", NOW) is None
        assert door.list("session", NOW) == []
        assert door.take("session", "s", NOW) is None
        door.put("session", "s", b"2")
        assert door.get("session", "s", NOW * 2) == b"2"

    def test_taking_sweeps_nothing_that_is_still_valid(self, door: Control) -> None:
        door.put("code", "c", b"1", NOW + 1)
        door.put("session", "s", b"2", NOW + 1)
        door.put("account", "a", b"3")
        assert door.take("code", "c", NOW) == b"1"
        assert door.get("session", "s", NOW) == b"2"
        assert door.get("account", "a", NOW) == b"3"

    def test_of_many_takers_one_wins(self, door: Control) -> None:
        for attempt in range(10):
            door.put("code", str(attempt), b"secret", NOW + 1)
            won = all_at_once(partial(door.take, "code", str(attempt), NOW), 4)
            assert sorted(won, key=bool) == [None, None, None, b"secret"]
