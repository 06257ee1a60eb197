"""The digest sees every byte of every table it covers, and nothing of how they came there."""

from collections.abc import Callable
from typing import Any

import pytest

from conosco.engines.memory.state import MemoryState
from conosco.ports.state import Key, Table
from conosco.ports.tables import FEED, TABLES
from conosco.runtime.digest import digest

VALUES: dict[str, list[Any]] = {
    "int": [0, 1, 250, 70_000],
    "text": ["", "a", "b\x00", "ż"],
    "bytes": [b"", b"a", b"\x00", b"\xff"],
}


def rows_of(table: Table) -> dict[Key, bytes]:
    return {tuple(VALUES[column][number] for _, column in table.key): b"row %d" % number for number in range(4)}


def state_with(change: Callable[[MemoryState], None] = lambda state: None, *, batches: int = 1) -> MemoryState:
    """A State with rows in every table, written in so many transactions."""
    state = MemoryState()
    for batch in range(batches):
        state.begin(batch)
        for table in TABLES:
            state.put_many(table, dict(list(rows_of(table).items())[batch::batches]))
        state.commit(7)
    state.begin(batches)
    change(state)
    state.commit(None)
    return state


def test_equal_states_have_equal_digests_however_they_were_made() -> None:
    assert digest(state_with()) == digest(state_with(batches=3))
    assert len(bytes.fromhex(digest(MemoryState()))) == 32


@pytest.mark.parametrize("table", [table for table in TABLES if table.digest], ids=lambda table: table.name)
def test_any_change_of_a_covered_table_changes_it(table: Table) -> None:
    reference = digest(state_with())
    rows = rows_of(table)
    first, *_, last = rows
    changes: list[Callable[[MemoryState], None]] = [
        lambda state: state.put_many(table, {last: rows[last][:-1] + b"x"}),
        lambda state: state.put_many(table, {last: rows[last] + b"\x00"}),
        lambda state: state.delete(table, [last]),
        lambda state: state.put_many(table, {first: rows[last], last: rows[first]}),
    ]
    assert len({reference, *(digest(state_with(change)) for change in changes)}) == len(changes) + 1


def test_a_row_is_not_the_same_in_another_table() -> None:
    shapes: dict[tuple[str, ...], list[Table]] = {}
    for table in TABLES:
        if table.digest:
            shapes.setdefault(tuple(column for _, column in table.key), []).append(table)
    twins = next(tables for tables in shapes.values() if len(tables) > 1)
    digests = set()
    for table in twins:
        state = MemoryState()
        state.begin(1)
        state.put_many(table, dict(list(rows_of(table).items())[:1]))
        state.commit(1)
        digests.add(digest(state))
    assert len(digests) == len(twins)


def test_the_position_counts_and_the_epoch_does_not() -> None:
    def finish(epoch: int, position: int) -> str:
        state = state_with()
        state.begin(epoch)
        state.commit(position)
        return digest(state)

    assert finish(1, 7) == finish(9, 7) != finish(9, 8)


def test_what_is_not_covered_does_not_count() -> None:
    assert digest(state_with(lambda state: state.put_many(FEED, {(99,): b"more"}))) == digest(state_with())


def test_more_rows_than_a_page_are_all_covered() -> None:
    def many(last: bytes) -> str:
        state = MemoryState()
        state.begin(1)
        state.put_many(
            next(table for table in TABLES if table.name == "components"), {(n,): b"row" for n in range(4_999)} | {(4_999,): last}
        )
        state.commit(1)
        return digest(state)

    assert many(b"a") != many(b"b")
