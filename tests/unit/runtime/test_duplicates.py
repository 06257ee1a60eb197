"""Duplicates: exact whatever is recent, sealed, dropped or restarted, and the same in State however records were batched."""

from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conosco.engines.memory.state import MemoryState
from conosco.engines.sqlite.state import SqliteState
from conosco.model.event import Event
from conosco.model.identifier import Identifier
from conosco.ports.state import State, scan_all
from conosco.ports.tables import DEDUP, DEDUP_FILTERS, DEDUP_RECENT, META
from conosco.runtime import duplicates
from conosco.runtime.digest import digest
from conosco.runtime.duplicates import Duplicates

SECRET = b"s" * 32
RUN_KEYS = 8
# The message ids of one record; the same ones come again and again.
RECORDS = st.lists(st.lists(st.integers(0, 120), min_size=1, max_size=9), min_size=1, max_size=60)


def event_of(position: int, slot: int, message: int) -> Event:
    return Event(position, slot, f"m{message}", "src_1", "track", (Identifier("user_id", "u"),), 0, 0, 0)


def fill(state: State, records: Sequence[Sequence[int]], cuts: Iterable[int], run_keys: int = RUN_KEYS) -> dict[int, int]:
    """Note all records, committed in batches of the given sizes; returns the first address of each message."""
    made, known = Duplicates(state, SECRET, run_keys), dict[int, int]()
    sizes, position = iter(cuts), 0
    while position < len(records):
        made.start_over()
        batch = records[position : position + next(sizes)]
        for record in batch:
            position += 1
            for slot, message in enumerate(record):
                first = made.note(event_of(position, slot, message), position)
                assert first == known.get(message)
                known.setdefault(message, position << 16 | slot)
        commit(state, made, position)
    return known


def commit(state: State, made: Duplicates, position: int) -> None:
    state.begin(1)
    made.write()
    state.commit(position)
    made.keep()


@given(RECORDS, st.integers(1, 7))
def test_it_knows_what_a_dictionary_knows_and_how_records_are_cut_does_not_show(records: list[list[int]], cut: int) -> None:
    whole, cut_up = MemoryState(), MemoryState()
    known = fill(whole, records, count(len(records)))
    assert fill(cut_up, records, (cut for _ in count())) == known
    assert digest(whole) == digest(cut_up)
    again = Duplicates(whole, SECRET, RUN_KEYS)
    assert {message: again.first(again.key("src_1", f"m{message}")) for message in range(121)} == {
        message: known.get(message) for message in range(121)
    }
    kept = sum(1 for _ in scan_all(whole, DEDUP_RECENT)), sum(1 for _ in scan_all(whole, DEDUP))
    # Sealing is what keeps memory bounded: with so few keys allowed there is some of it in every longer run.
    assert len(known) < 2 * RUN_KEYS or kept[1] > 0


@given(RECORDS, st.lists(st.sampled_from(["keep", "drop", "fail", "restart"]), min_size=60, max_size=60))
@settings(deadline=None)
def test_what_was_not_committed_was_never_noted(records: list[list[int]], fates: list[str]) -> None:
    state, calm = MemoryState(), MemoryState()
    made, known, kept = Duplicates(state, SECRET, RUN_KEYS), dict[int, int](), list[list[int]]()
    for fate, record in zip(fates, records, strict=False):
        made.start_over()
        position = len(kept) + 1
        if fate != "keep":
            for slot, message in enumerate(record):
                made.note(event_of(position, slot, message), position)
            if fate != "drop":
                state.begin(1)
                made.write()
                # A transaction that is begun anew drops what the one before it wrote.
                state.begin(1)
            if fate == "restart":
                made = Duplicates(state, SECRET, RUN_KEYS)
            made.start_over()
        for slot, message in enumerate(record):
            assert made.note(event_of(position, slot, message), position) == known.get(message)
            known.setdefault(message, position << 16 | slot)
        commit(state, made, position)
        kept.append(record)
    fill(calm, kept, count(1_000))
    assert digest(state) == digest(calm)


def test_an_event_that_is_seen_again_at_its_own_address_is_no_duplicate_of_itself() -> None:
    made = Duplicates(MemoryState(), SECRET)
    event = event_of(3, 1, 7)
    assert not made.is_first(event)
    assert made.note(event, 5) is None
    assert made.note(event, 6) is None
    assert made.is_first(event)
    assert not made.is_first(event_of(4, 1, 7))
    assert made.note(event_of(4, 1, 7), 6) == 3 << 16 | 1


def test_keys_of_different_sources_and_installations_differ() -> None:
    made = Duplicates(MemoryState(), SECRET)
    keys = {
        made.key("src_1", "m"),
        made.key("src_2", "m"),
        made.key("src_", "1m"),
        Duplicates(MemoryState(), b"t" * 32).key("src_1", "m"),
    }
    assert len(keys) == 4
    assert {len(key) for key in keys} == {16}
    assert made.key("src_1", "\udc80") != made.key("src_1", "\udc81")


def test_filters_grow_to_a_bound_and_an_unknown_key_is_hardly_ever_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "FILTER_RUNS_MAX", 4)
    state = MemoryState()
    records = [[number * 10 + slot for slot in range(10)] for number in range(300)]
    fill(state, records, count(50), run_keys=100)
    made = Duplicates(state, SECRET, 100)
    rows = [number for (number, _), _ in scan_all(state, DEDUP_FILTERS)]
    # 28 runs: 1 + 2 + 4, and then 4 at a time.
    assert rows == sorted(rows) and set(rows) == set(range(9))
    assert all(made.first(made.key("src_1", f"m{number}")) is not None for number in range(3_000))
    looked_up: list[object] = []
    scan = state.scan

    def counted(*arguments: object, **named: object) -> object:
        looked_up.append(arguments)
        return scan(*arguments, **named)  # type: ignore[arg-type]  # passes on whatever it is given

    monkeypatch.setattr(state, "scan", counted)
    assert all(made.first(made.key("src_1", f"new{number}")) is None for number in range(3_000))
    assert len(looked_up) < 150


def test_sealed_keys_survive_on_disk(tmp_path: Path) -> None:
    records = [[number * 10 + slot for slot in range(10)] for number in range(60)]
    state = SqliteState(tmp_path / "state")
    known = fill(state, records, count(7), run_keys=150)
    state.close()
    state = SqliteState(tmp_path / "state")
    made = Duplicates(state, SECRET, 150)
    assert {message: made.first(made.key("src_1", f"m{message}")) for message in known} == known
    assert state.get_many(META, [("dedup_runs",)])
    memory = MemoryState()
    fill(memory, records, count(1), run_keys=150)
    assert digest(memory) == digest(state)
    state.close()
