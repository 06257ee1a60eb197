"""Cells: rows in order of time whatever their arrival, what is folded away, and which observations are kept."""

from collections.abc import Sequence
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from conosco.ports.tables import CellRow, TraitRow
from conosco.profile.cells import (
    NO_ROWS,
    OBSERVATIONS_KEPT,
    ROWS_KEPT,
    ROWS_MOST,
    address_of,
    fold_observations,
    fold_rows,
    insert_row,
    observe,
    split_address,
)
from conosco.rules.evaluate import Extra, Observation


def filled(times: Sequence[int], fold_before: int = 0) -> CellRow:
    cell = CellRow()
    for place, at in enumerate(times):
        insert_row(cell, 0, at, place, Extra(b"%d" % (at % 10), "src", f"m{at}"), fold_before)
    return cell


@given(st.integers(0, 2**40), st.integers(0, 2**16 - 1))
def test_an_address_is_one_number_in_log_order(position: int, slot: int) -> None:
    assert split_address(address_of(position, slot)) == (position, slot)
    assert address_of(position, slot) < address_of(position + 1, 0)


@given(st.lists(st.integers(-50, 50), max_size=30))
def test_rows_lie_in_order_of_time(times: list[int]) -> None:
    rows = fold_rows([filled(times)], 0)
    assert list(rows.times) == sorted(times)
    assert [extra[2] for extra in rows.extras] == [f"m{at}" for at in sorted(times)]
    assert sorted(rows.addresses) == list(range(len(times)))
    assert rows.base_count == 0


@given(st.lists(st.integers(-50, 50), max_size=30), st.integers(1, 4))
def test_the_cells_of_a_person_are_one(times: list[int], cells: int) -> None:
    parts = [filled(times[place::cells]) for place in range(cells)]
    whole, folded = fold_rows([filled(times)], 0), fold_rows(parts, 0)
    assert list(folded.times) == list(whole.times)
    assert folded[3:] == whole[3:]
    assert sorted(extra[2] for extra in folded.extras) == sorted(extra[2] for extra in whole.extras)


def test_a_stream_that_nothing_reached_has_no_rows() -> None:
    assert fold_rows([CellRow(), filled([1])], 7) is NO_ROWS


def test_too_many_old_rows_are_folded_and_still_count() -> None:
    times = list(range(ROWS_MOST + 1))
    rows = fold_rows([filled(times, fold_before=10**9)], 0)
    assert len(rows.times) == ROWS_KEPT
    assert rows.base_count + len(rows.times) == len(times)
    assert rows.base_sum == sum(at % 10 for at in times[: rows.base_count]) * 1_000_000
    assert rows.base_newest == rows.times[0] - 1


def test_rows_inside_a_window_are_never_folded() -> None:
    rows = fold_rows([filled(list(range(ROWS_MOST + 1)), fold_before=100)], 0)
    assert rows.base_count == 100
    assert rows.times[0] == 100


def test_a_late_row_older_than_what_was_folded_joins_it() -> None:
    cell = filled(list(range(ROWS_MOST + 1)), fold_before=10**9)
    before = fold_rows([cell], 0)
    insert_row(cell, 0, 3, 9_999, Extra(b"3", "src", "late"), 10**9)
    after = fold_rows([cell], 0)
    assert (after.base_count, after.base_newest, len(after.times)) == (before.base_count + 1, before.base_newest, ROWS_KEPT)
    assert after.base_sum == before.base_sum + 3_000_000


def test_rows_older_than_1970_are_rows_like_others() -> None:
    rows = fold_rows([filled([-30, -10, -20], fold_before=10**9)], 0)
    assert list(rows.times) == [-30, -20, -10]
    old = fold_rows([filled([at - 10**6 for at in range(ROWS_MOST + 1)], fold_before=10**9), filled([5])], 0)
    assert old.base_newest == old.times[0] - 1 < 0


def seen(at: int, value: bytes, priority: int = 0) -> Observation:
    return Observation(priority, at, "src", f"m{at:03d}", value)


def test_the_winning_observation_does_not_depend_on_arrival() -> None:
    told = [seen(1, b'"a"'), seen(2, b'"b"'), seen(2, b'"c"', priority=1), seen(3, b"null")]
    for order in permutations(told):
        row = TraitRow()
        assert all(observe(row, "v", each) for each in order)
        assert not observe(row, "v", order[0])
        assert max(fold_observations([row, TraitRow()], "v")) == told[2]
        assert len(fold_observations([row], "v")) == 4


def test_the_first_of_a_stretch_is_kept_however_often_it_is_repeated() -> None:
    row = TraitRow()
    for at in range(100):
        observe(row, "v", seen(at, b'"same"'))
    kept = sorted(fold_observations([row], "v"))
    assert len(kept) == OBSERVATIONS_KEPT
    assert (kept[0].event_at, kept[-1].event_at) == (0, 99)


def test_of_differing_observations_the_least_go() -> None:
    row = TraitRow()
    for at in (*range(1, 60), 0):
        observe(row, "v", seen(at, b"%d" % at))
    assert [each.event_at for each in sorted(fold_observations([row], "v"))] == list(range(60 - OBSERVATIONS_KEPT, 60))
    assert not observe(row, "v", seen(0, b"0"))
