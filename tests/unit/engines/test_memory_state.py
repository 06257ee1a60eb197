"""What is special about State in memory: keys sorted lazily, and a fence met in the middle of a batch."""

import random

import pytest

from conosco.engines.memory.state import MemoryState
from conosco.ports.state import Fenced, Key, scan_all
from conosco.ports.tables import CELLS, META
from conosco.testing.conformance.state import write


def test_keys_that_come_and_go_between_scans_stay_in_order() -> None:
    order, state = random.Random(1), MemoryState()
    rows: dict[Key, bytes] = {}
    for batch in range(120):
        put: dict[Key, bytes] = {
            (order.randrange(20), order.randrange(20)): b"%d" % batch for _ in range(order.choice([1, 5, 200]))
        }
        gone = order.sample(sorted(rows), min(len(rows), order.choice([0, 3, 300])))
        state.begin(1)
        state.put_many(CELLS, put)
        state.delete(CELLS, gone)
        state.commit(batch)
        rows |= put
        for key in gone:
            rows.pop(key, None)
        if order.random() < 0.6:
            assert list(scan_all(state, CELLS, page=7)) == sorted(rows.items())
            assert state.scan(CELLS, (5,), (12,), 30) == [row for row in sorted(rows.items()) if (5,) <= row[0] < (12,)][:30]


def test_a_writer_fenced_in_the_middle_of_a_batch_drops_it() -> None:
    state = MemoryState()
    rival = state.writer()
    state.begin(1)
    state.put_many(META, {("a",): b"old"})
    write(rival, META, {("a",): b"new"}, epoch=2, position=1)
    with pytest.raises(Fenced):
        state.commit(1)
    state = state.writer()
    state.begin(2)
    state.put_many(META, {("a",): b"old"})
    write(rival, META, {}, epoch=3)
    with pytest.raises(Fenced):
        state.begin(2)
    with pytest.raises(RuntimeError):
        state.commit(2)
    assert rival.reader().scan(META) == [(("a",), b"new")]
