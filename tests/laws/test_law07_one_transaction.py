"""Law 7: one transaction per micro-batch. Whatever call to State a kill falls on, everything is as before or as after."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest

from conosco.engines.memory.state import MemoryState
from conosco.engines.sqlite.state import SqliteState
from conosco.govern.gate import Gate
from conosco.ports.state import Key, State, StateFull, Table, scan_all
from conosco.ports.tables import CURSORS, FEED, TABLES, decode_row
from conosco.runtime.replay import UpTo
from conosco.runtime.worker import Worker
from tests.laws.harness import GATE_SECRET, SECRET, Installation, cramped
from tests.laws.histories import Define, Post, make_history
from tests.laws.mutants.one_transaction import MUTANTS
from tests.laws.mutants.planting import survivors

SEEDS = range(2)
Moment = Literal["before", "after"]


class Killed(BaseException):
    """The process ends here."""


class Fragile:
    """A State door of which one writing call fails, before or after it took effect."""

    def __init__(self, state: State, call: int, moment: Moment, failure: BaseException) -> None:
        self._state = state
        self._call = call
        self._moment = moment
        self._failure = failure
        self.calls: list[str] = []

    def _write(self, name: str, action: Any, *args: Any) -> None:
        self.calls.append(name)
        is_it = len(self.calls) == self._call
        if is_it and self._moment == "before":
            raise self._failure
        action(*args)
        if is_it:
            raise self._failure

    def put_many(self, table: Table, rows: Mapping[Key, bytes]) -> None:
        self._write("put_many", self._state.put_many, table, rows)

    def delete(self, table: Table, keys: Iterable[Key]) -> None:
        self._write("delete", self._state.delete, table, list(keys))

    def commit(self, position: int | None) -> None:
        self._write("commit", self._state.commit, position)

    def begin(self, epoch: int) -> None:
        self._write("begin", self._state.begin, epoch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)


def contents(state: State) -> dict[str, Any]:
    """Every row of every table, and the offset."""
    found: dict[str, Any] = {table.name: dict(scan_all(state, table)) for table in TABLES}
    return {**found, "offset": state.offset()[0]}


def copy_of(state: State) -> MemoryState:
    """Another State with the same rows."""
    copied = MemoryState()
    copied.begin(1)
    for table in TABLES:
        copied.put_many(table, dict(scan_all(state, table)))
    copied.commit(state.offset()[0])
    return copied


def is_whole(state: State) -> bool:
    """The feed has no gap, and its last number is the one that is noted."""
    numbers = [key[0] for key, _ in scan_all(state, FEED)]
    raw = state.get_many(CURSORS, [("feed_sequence",)]).get(("feed_sequence",))
    noted = 0 if raw is None else decode_row(CURSORS, raw).value
    return numbers == list(range(1, len(numbers) + 1)) and noted == len(numbers)


def worker_over(installation: Installation, state: Any, position: int) -> Worker:
    return Worker(UpTo(installation.log, position), state, SECRET, Gate(GATE_SECRET), lambda: 0, lambda event, fields: None)


def check(seed: int) -> None:
    """Every kill, and every full disk."""
    with cramped():
        check_trouble(seed)
        check_kills(seed)


def check_kills(seed: int) -> None:
    """Take one micro-batch of several requests and every way in which its writing can be cut short."""
    installation = Installation()
    acts = make_history(seed)
    random = Random(seed)
    chosen = random.choice([place for place in range(40, len(acts) - 3) if isinstance(acts[place], Post)])
    installation.perform_all(acts[:chosen])
    start = installation.state.offset()[0]
    for act in acts[chosen : chosen + 3]:
        if not isinstance(act, Define):
            installation.now = max(installation.now, act.at)
            installation.perform(act)
    end = installation.log.head().position
    assert isinstance(installation.state, MemoryState)

    begun = MemoryState()
    first = worker_over(installation, begun, start)
    while first.step():
        pass

    def fresh() -> MemoryState:
        return copy_of(begun)

    whole = fresh()
    before = contents(whole)
    counting = Fragile(whole, 0, "before", Killed())
    assert worker_over(installation, counting, end).step()
    after = contents(whole)
    assert after["offset"] == end
    assert before["outbox"] != after["outbox"] or before["memberships"] != after["memberships"]
    for call in range(1, len(counting.calls) + 1):
        for moment in ("before", "after"):
            state = fresh()
            with pytest.raises(Killed):
                worker_over(installation, Fragile(state, call, moment, Killed()), end).step()
            # A new process opens State anew: what was not committed is gone.
            reopened = state.writer()
            found = contents(reopened)
            committed = (counting.calls[call - 1], moment) == ("commit", "after")
            assert found == (after if committed else before), (call, counting.calls[call - 1], moment)
            again = worker_over(installation, reopened, end)
            while again.step():
                pass
            assert contents(reopened) == after
            assert is_whole(reopened)


def check_trouble(seed: int) -> None:
    """A full disk kills nobody: the same worker goes on where it was, and nothing is missing or there twice."""
    installation = Installation()
    installation.perform_all(make_history(seed)[:60])
    end = installation.state.offset()[0]
    random = Random(seed)
    state = MemoryState()
    worker = worker_over(installation, _Trouble(state, random), end)
    while True:
        try:
            if not worker.step():
                break
        except StateFull:
            continue
    assert is_whole(state)
    covered = [table.name for table in TABLES if table.digest]
    expected, found = contents(installation.state), contents(state)
    assert [name for name in covered if expected[name] != found[name]] == []


class _Trouble:
    """A State door whose every eighth write or so finds the disk full; as promised, the transaction is rolled back then."""

    def __init__(self, state: MemoryState, random: Random) -> None:
        self._state = state
        self._random = random

    def _fail(self) -> None:
        if self._random.random() < 0.12:
            self._state.close()
            raise StateFull("full")

    def put_many(self, table: Table, rows: Mapping[Key, bytes]) -> None:
        self._fail()
        self._state.put_many(table, rows)

    def commit(self, position: int | None) -> None:
        self._fail()
        self._state.commit(position)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_is_as_before_or_as_after(seed: int) -> None:
    check(seed)


def test_the_embedded_state_drops_what_was_not_committed(tmp_path: Path) -> None:
    installation = Installation()
    installation.perform_all(make_history(3, is_calm=True)[:60])
    end = installation.state.offset()[0]
    path = tmp_path / "state.sqlite"
    made = SqliteState(path)
    worker = worker_over(installation, made, end - 3)
    while worker.step():
        pass
    before = contents(made)
    made.close()
    call = 0
    while True:
        call += 1
        state = SqliteState(path)
        try:
            worker_over(installation, Fragile(state, call, "before", Killed()), end).step()
        except Killed:
            state.close()
            reopened = SqliteState(path)
            assert contents(reopened) == before
            reopened.close()
            continue
        break
    assert call > 5
    assert contents(state)["offset"] == end
    state.close()


def test_faults_are_seen() -> None:
    assert survivors(MUTANTS, check, SEEDS) == []
