"""The suite of the State door: tables in key order, one transaction per batch, readers of commits only, fencing."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from conosco.ports.state import Fenced, Key, State, Table, scan_all
from conosco.ports.tables import CELLS, COMPONENTS, DEDUP, IDENTIFIERS, MEMBERSHIPS, META, OUTBOX_DUE, TABLES

LARGEST = 2**63 - 1
# Every shape of key there is, with keys that are easy to put in a wrong order; each list is in the right one.
ORDERED: dict[str, tuple[Table, list[Key]]] = {
    "int": (COMPONENTS, [(-(2**63),), (-1,), (0,), (1,), (2,), (10,), (LARGEST,)]),
    "text": (META, [("",), ("\x00",), ("A",), ("Z",), ("a",), ("a\x00",), ("a\x00b",), ("aa",), ("ż",), ("\uffff",), ("😀",)]),
    "bytes": (DEDUP, [(b"",), (b"\x00",), (b"\x00\x01",), (b"\x7f",), (b"\x80",), (b"\xff",), (b"\xff\x00",)]),
    "int, int": (CELLS, [(1, 9), (2, -1), (2, 3), (2, 10), (10, 0), (10, 1)]),
    "text, text": (IDENTIFIERS, [("e", "x"), ("email", ""), ("email", "a"), ("email", "b"), ("user_id", "a")]),
    "text, int, int": (MEMBERSHIPS, [("p", 1, 2), ("p", 1, 10), ("p", 2, 0), ("q", 0, 0), ("q", 0, 1)]),
    "text, int, text": (OUTBOX_DUE, [("c", 1, "z"), ("c", 2, ""), ("c", 2, "a"), ("c", 2, "b"), ("c", 3, "a"), ("d", -1, "a")]),
}


def write(state: State, table: Table, rows: dict[Key, bytes], *, epoch: int = 1, position: int | None = None) -> None:
    """Commit rows."""
    state.begin(epoch)
    state.put_many(table, rows)
    state.commit(position)


def expect(rows: dict[Key, bytes], start: Key, stop: Key | None, max_rows: int) -> list[tuple[Key, bytes]]:
    """What a scan must give: Python's order of tuples, in which a prefix comes before what it begins."""
    keys = (key for key in sorted(rows) if start <= key and (stop is None or key < stop))
    return [(key, rows[key]) for key in keys][:max_rows]


class StateSuite:
    """Promises of every State. Give it ``door`` (an empty one), ``reader`` and ``rival`` (make further doors on it)."""

    def test_it_starts_empty(self, door: State) -> None:
        assert door.offset() == (0, 0)
        for table in TABLES:
            assert door.scan(table) == []

    @pytest.mark.parametrize("shape", ORDERED)
    def test_rows_come_back_in_key_order(self, door: State, shape: str) -> None:
        table, keys = ORDERED[shape]
        rows = {key: repr(key).encode() for key in reversed(keys)}
        write(door, table, rows)
        assert [key for key, _ in door.scan(table)] == keys
        assert door.get_many(table, keys) == rows
        for key in keys:
            assert door.get_many(table, [key]) == {key: rows[key]}
        assert dict(scan_all(door, table, page=2) if keys[-1] != (LARGEST,) else door.scan(table)) == rows

    @pytest.mark.parametrize("shape", ORDERED)
    def test_scans_take_bounds_and_prefixes_of_keys(self, door: State, shape: str) -> None:
        table, keys = ORDERED[shape]
        rows = dict.fromkeys(keys, b"row")
        write(door, table, rows)
        prefixes = sorted({key[:columns] for key in keys for columns in range(len(key) + 1)})
        for start in prefixes:
            for stop in (None, *prefixes):
                assert door.scan(table, start, stop) == expect(rows, start, stop, 1_000)
        assert door.scan(table, (), None, 2) == expect(rows, (), None, 2)
        assert door.scan(table, (), None, 0) == []

    def test_only_rows_that_exist_are_found(self, door: State) -> None:
        rows: dict[Key, bytes] = {(number,): bytes(number % 7) for number in range(0, 2_000, 2)}
        write(door, COMPONENTS, rows)
        assert door.get_many(COMPONENTS, [(number,) for number in range(1_999, -1, -1)]) == rows
        assert door.get_many(COMPONENTS, [(2,), (2,), (3,)]) == {(2,): rows[2,]}
        assert door.get_many(COMPONENTS, [(3,)]) == {}
        assert door.get_many(COMPONENTS, []) == {}
        pairs: dict[Key, bytes] = {("email", f"{number}\x00@example.com"): b"%d" % number for number in range(1_000)}
        write(door, IDENTIFIERS, pairs)
        absent: list[Key] = [("email", f"{number}") for number in range(1_000)]
        assert door.get_many(IDENTIFIERS, [*pairs, *absent]) == pairs

    def test_rows_are_replaced_and_deleted(self, door: State) -> None:
        write(door, CELLS, {(1, 1): b"a", (1, 2): b"b"})
        door.begin(1)
        door.put_many(CELLS, {(1, 1): b"c", (1, 3): b""})
        door.delete(CELLS, [(1, 2), (7, 7)])
        door.commit(None)
        assert door.scan(CELLS) == [((1, 1), b"c"), ((1, 3), b"")]
        assert door.scan(COMPONENTS) == []

    def test_the_writer_sees_its_own_changes_and_readers_only_commits(self, door: State, reader: Callable[[], State]) -> None:
        write(door, CELLS, {(1, 1): b"old", (1, 2): b"old"}, position=5)
        write(door, CELLS, {(9, 9): b"old"}, position=5)
        door.begin(1)
        door.delete(CELLS, [(1, 1), (1, 2)])
        assert door.scan(CELLS, (), None, 1) == [((9, 9), b"old")]
        door.delete(CELLS, [(9, 9)])
        door.put_many(CELLS, {(1, 1): b"old", (1, 2): b"old"})
        door.commit(5)
        other = reader()
        door.begin(1)
        door.put_many(CELLS, {(1, 1): b"new", (1, 3): b"new"})
        door.delete(CELLS, [(1, 2)])
        mine = {(1, 1): b"new", (1, 3): b"new"}
        assert dict(door.scan(CELLS)) == door.get_many(CELLS, [(1, 1), (1, 2), (1, 3)]) == mine
        assert door.scan(CELLS, (1, 2), None, 1) == [((1, 3), b"new")]
        assert dict(other.scan(CELLS)) == other.get_many(CELLS, [(1, 1), (1, 2), (1, 3)]) == {(1, 1): b"old", (1, 2): b"old"}
        assert other.offset() == (5, 1)
        door.commit(6)
        assert dict(other.scan(CELLS)) == other.get_many(CELLS, [(1, 1), (1, 2), (1, 3)]) == mine
        assert other.offset() == (6, 1)
        other.close()

    def test_readers_write_nothing(self, door: State, reader: Callable[[], State]) -> None:
        write(door, CELLS, {(1, 1): b"row"})
        other = reader()
        with pytest.raises(RuntimeError):
            other.begin(1)
        with pytest.raises(RuntimeError):
            other.put_many(CELLS, {(1, 1): b"changed"})
        assert door.scan(CELLS) == [((1, 1), b"row")]
        other.close()

    def test_the_offset_commits_with_the_rows(self, door: State) -> None:
        write(door, META, {("a",): b"1"}, epoch=3, position=41)
        assert door.offset() == (41, 3)
        write(door, META, {("a",): b"2"}, epoch=3)
        assert door.offset() == (41, 3)

    def test_what_was_begun_and_not_committed_leaves_nothing(self, door: State, reader: Callable[[], State]) -> None:
        write(door, META, {("a",): b"1"}, position=1)
        door.begin(1)
        door.put_many(META, {("a",): b"2", ("b",): b"2"})
        door.delete(META, [("a",)])
        door.begin(1)
        assert door.scan(META) == [(("a",), b"1")]
        door.commit(2)
        door.begin(1)
        door.put_many(META, {("c",): b"3"})
        door.close()
        other = reader()
        assert other.scan(META) == [(("a",), b"1")]
        assert other.offset() == (2, 1)
        other.close()

    def test_nothing_is_written_outside_a_transaction(self, door: State) -> None:
        with pytest.raises(RuntimeError):
            door.put_many(META, {("a",): b"1"})
        with pytest.raises(RuntimeError):
            door.delete(META, [("a",)])
        with pytest.raises(RuntimeError):
            door.commit(1)
        assert door.scan(META) == []

    def test_a_writer_that_was_taken_over_is_fenced(self, door: State, rival: Callable[[], State]) -> None:
        write(door, META, {("a",): b"old"}, epoch=1, position=1)
        new = rival()
        write(new, META, {("a",): b"new"}, epoch=2, position=2)
        with pytest.raises(Fenced):
            door.begin(1)
        with pytest.raises(RuntimeError):
            door.put_many(META, {("a",): b"old again"})
        assert new.scan(META) == [(("a",), b"new")]
        assert new.offset() == (2, 2)
        write(new, META, {}, epoch=2, position=3)
        write(door, META, {}, epoch=3, position=4)
        with pytest.raises(Fenced):
            new.begin(2)
        new.close()

    def test_closing_twice_is_no_error(self, door: State) -> None:
        write(door, META, {("a",): b"1"})
        door.close()
        door.close()


_KEYS: dict[str, st.SearchStrategy[Key]] = {
    "int": st.tuples(st.integers(-5, 5)),
    "text": st.tuples(st.text(alphabet="a\x00bż", max_size=3)),
    "bytes": st.tuples(st.binary(max_size=2)),
    "int, int": st.tuples(st.integers(-2, 3), st.integers(-2, 3)),
    "text, text": st.tuples(st.sampled_from(["email", "user_id"]), st.text(alphabet="ab\x00", max_size=2)),
    "text, int, int": st.tuples(st.sampled_from("pq"), st.integers(0, 3), st.integers(0, 2)),
    "text, int, text": st.tuples(st.sampled_from("cd"), st.integers(0, 3), st.text(alphabet="ab", max_size=2)),
}
SHAPES = st.sampled_from(sorted(_KEYS))


class StateMachine(RuleBasedStateMachine):
    """Random histories against plain dictionaries. Subclass it with ``fresh``, ``reader`` and, if durable, ``reopen``."""

    def __init__(self) -> None:
        super().__init__()
        self.state: State
        self.committed: dict[str, dict[Key, bytes]] = {shape: {} for shape in _KEYS}
        self.position = 0
        self.open: dict[str, dict[Key, bytes]] | None = None

    def fresh(self) -> State:
        """An empty State."""
        raise NotImplementedError

    def reader(self) -> State:
        """A door that sees commits only."""
        raise NotImplementedError

    def reopen(self) -> State:
        """Close State and open it again; an engine that is not durable gives a new writer on the same tables."""
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        """Begin with an empty State."""
        self.state = self.fresh()

    @rule()
    def begin(self) -> None:
        """Begin, which drops what was open."""
        self.state.begin(1)
        self.open = {shape: dict(rows) for shape, rows in self.committed.items()}

    @rule(data=st.data(), shape=SHAPES)
    @precondition(lambda self: self.open is not None)
    def put(self, data: st.DataObject, shape: str) -> None:
        """Write rows."""
        rows = data.draw(st.dictionaries(_KEYS[shape], st.binary(max_size=20), max_size=12))
        self.state.put_many(ORDERED[shape][0], rows)
        self._opened()[shape].update(rows)

    @rule(data=st.data(), shape=SHAPES)
    @precondition(lambda self: self.open is not None)
    def delete(self, data: st.DataObject, shape: str) -> None:
        """Delete rows, some of which exist."""
        keys = data.draw(st.lists(_KEYS[shape], max_size=8))
        self.state.delete(ORDERED[shape][0], keys)
        for key in keys:
            self._opened()[shape].pop(key, None)

    @rule(passed=st.integers(0, 3) | st.none())
    @precondition(lambda self: self.open is not None)
    def commit(self, passed: int | None) -> None:
        """Commit, with or without a new position."""
        self.position += passed or 0
        self.state.commit(None if passed is None else self.position)
        self.committed, self.open = self._opened(), None

    @rule(data=st.data(), shape=SHAPES, max_rows=st.integers(0, 10))
    def look(self, data: st.DataObject, shape: str, max_rows: int) -> None:
        """The writer sees its own changes, a reader the last commit, in gets and in scans alike."""
        table = ORDERED[shape][0]
        keys = data.draw(st.lists(_KEYS[shape], max_size=12))
        start, stop = (data.draw(_bounds(shape)) for _ in range(2))
        other = self.reader()
        for door, tables in ((self.state, self.open or self.committed), (other, self.committed)):
            rows = tables[shape]
            assert door.get_many(table, keys) == {key: rows[key] for key in keys if key in rows}
            assert door.scan(table, start, stop or None, max_rows) == expect(rows, start, stop or None, max_rows)
            assert list(scan_all(door, table, page=3)) == sorted(rows.items())
        assert other.offset()[0] == self.position
        other.close()

    @rule()
    def open_again(self) -> None:
        """Leave and come back, which drops what was open."""
        self.state = self.reopen()
        self.open = None

    def _opened(self) -> dict[str, dict[Key, bytes]]:
        assert self.open is not None
        return self.open

    def teardown(self) -> None:
        """Release State."""
        if hasattr(self, "state"):
            self.state.close()


def _bounds(shape: str) -> st.SearchStrategy[Key]:
    columns = len(ORDERED[shape][0].key)

    def cut(drawn: tuple[Key, Any]) -> Key:
        return drawn[0][: drawn[1]]

    return st.tuples(_KEYS[shape], st.integers(0, columns)).map(cut)
