"""Law 1: the log is the truth. Whoever derives State from it, however, wherever and however often interrupted, gets the same digest."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from conosco.activate.outbox import attempts_draft
from conosco.engines.memory.state import MemoryState
from conosco.engines.sqlite.log import SqliteLog
from conosco.engines.sqlite.state import SqliteState
from conosco.govern.gate import Gate
from conosco.model.command import LiveFrom, RetryDelivery
from conosco.model.delivery import Attempt, AttemptResult
from conosco.ports.log import Log
from conosco.ports.state import Key, State, Table, scan_all
from conosco.ports.tables import OUTBOX, OUTBOX_DUE, TABLES
from conosco.runtime import micro_batch
from conosco.runtime.digest import digest
from conosco.runtime.replay import UpTo, rebuild
from conosco.runtime.worker import Worker
from tests.laws.harness import GATE_SECRET, SECRET, Installation, cramped
from tests.laws.histories import MINUTE, make_history
from tests.laws.mutants.log_is_truth import MUTANTS
from tests.laws.mutants.planting import survivors

SEEDS = range(3)
DEEP_SEEDS = range(100, 140)


class Killed(BaseException):
    """The process ends here. No code of the product may catch it."""


class Mortal:
    """A State door that ends its process at the given call, or at the call that follows the given commit.

    What was begun and not committed is lost with it.
    """

    def __init__(self, state: State, calls: int, commits: int = 0) -> None:
        self._state = state
        self._left = calls
        self._commits_left = commits

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise Killed

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, bytes]:
        self._count()
        return self._state.get_many(table, keys)

    def put_many(self, table: Table, rows: Mapping[Key, bytes]) -> None:
        self._count()
        self._state.put_many(table, rows)

    def delete(self, table: Table, keys: Iterable[Key]) -> None:
        self._count()
        self._state.delete(table, keys)

    def scan(self, table: Table, start: Key = (), stop: Key | None = None, max_rows: int = 1_000) -> list[tuple[Key, bytes]]:
        self._count()
        return self._state.scan(table, start, stop, max_rows)

    def begin(self, epoch: int) -> None:
        self._count()
        self._state.begin(epoch)

    def commit(self, position: int | None) -> None:
        self._count()
        self._state.commit(position)
        self._commits_left -= 1
        if self._commits_left == 0:
            self._left = 1

    def offset(self) -> tuple[int, int]:
        return self._state.offset()

    def close(self) -> None:
        self._state.close()


def deliver(installation: Installation, random: Random) -> None:
    """What the sender and people add to the log: results of attempts, orders to try again, and a takeover now and then."""
    attempts: list[Attempt] = []
    rows = installation.outbox()
    by_time = sorted(key[1:] for key, _ in installation.rows(OUTBOX_DUE))
    for _, delivery_id in by_time[: random.randrange(6)]:
        result: AttemptResult = random.choice(("delivered", "retry", "dead", "unknown"))
        number = rows[delivery_id][0].attempts + 1
        due_at = installation.now + random.randrange(MINUTE) if result == "retry" else 0
        attempts.append(
            Attempt(delivery_id=delivery_id, attempt=number, result=result, code="http_500", at=installation.now, due_at=due_at)
        )
    if attempts:
        installation.log.append([attempts_draft([*attempts, attempts[0]])])
    for (delivery_id,), row in installation.rows(OUTBOX):
        if row.state == "dead" and random.random() < 0.2:
            installation.command(RetryDelivery(delivery_id=delivery_id))
    if random.random() < 0.05:
        installation.command(LiveFrom(position=installation.log.head().position))
    installation.settle()


def live(seed: int, log: Log | None = None) -> Installation:
    """An installation that has lived through a history, with deliveries."""
    installation = Installation(log)
    random = Random(seed)
    for act in make_history(seed):
        installation.perform(act)
        installation.settle()
        deliver(installation, random)
    assert installation.counters()["applied"] >= 200
    return installation


def rebuilt(log: Log, position: int, events_per_batch: int, state: State | None = None) -> str:
    """The digest of a State that was derived anew."""
    made = state or MemoryState()
    rebuild(log, made, position, SECRET, Gate(GATE_SECRET), ignore, events_per_batch=events_per_batch)
    return digest(made)


def ignore(event: str, fields: dict[str, Any]) -> None:
    """Notes are of no interest here."""


def rebuilt_with_kills(log: Log, position: int, seed: int, state_of: Callable[[], State]) -> str:
    """As ``rebuilt``, but the worker is killed again and again, at any of its calls to State."""
    random = Random(seed)
    kills = 0
    while True:
        calls = random.choice((random.randrange(1, 30), random.randrange(1, 400))) if kills < 60 else 0
        # The moment after a commit is one of many and the worst: every third life ends there.
        commits = random.randrange(1, 6) if kills < 60 and random.random() < 0.34 else 0
        state = state_of()
        try:
            worker = Worker(
                UpTo(log, position),
                Mortal(state, 0 if commits else calls, commits),
                SECRET,
                Gate(GATE_SECRET),
                lambda: 0,
                ignore,
                random.choice((1, 7, 50)),
            )
            while worker.step():
                pass
        except Killed:
            kills += 1
            state.close()
            continue
        assert kills >= 10
        return digest(state)


def check(seed: int) -> None:
    with cramped():
        check_rebuilds(seed)


def check_rebuilds(seed: int) -> None:
    installation = live(seed)
    expected = digest(installation.state)
    position = installation.state.offset()[0]
    head = installation.log.head()
    check_bytes(installation.state, Random(seed))
    for events_per_batch in (1, 7, 1_000):
        assert rebuilt(installation.log, position, events_per_batch) == expected, events_per_batch
    store = MemoryState()
    assert rebuilt_with_kills(installation.log, position, seed, store.writer) == expected
    assert installation.log.head() == head


def check_bytes(state: State, random: Random) -> None:
    """Any byte of any row counts."""
    before = digest(state)
    for table in TABLES:
        rows = list(scan_all(state, table))
        if not rows or not table.digest:
            continue
        key, row = random.choice(rows)
        at = random.randrange(len(row)) if row else 0
        changed = row[:at] + bytes([row[at] ^ (1 << random.randrange(8))]) + row[at + 1 :]
        state.begin(1 << 40)
        state.put_many(table, {key: changed})
        state.commit(None)
        assert digest(state) != before, table.name
        state.begin(1 << 40)
        state.put_many(table, {key: row})
        state.commit(None)
    assert digest(state) == before


@lru_cache(maxsize=1)
def history_on_disk(seed: int, folder: Path) -> tuple[str, int]:
    """A history lived on the embedded log: (digest, position)."""
    clock = [0]
    log = SqliteLog(folder / "log", lambda: clock[0])
    installation = Installation(log)
    random = Random(seed)
    for act in make_history(seed):
        clock[0] = max(clock[0], act.at)
        installation.perform(act)
        installation.settle()
        deliver(installation, random)
    found = digest(installation.state), installation.state.offset()[0]
    log.close()
    return found


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, int]:
    folder = tmp_path_factory.mktemp("installation")
    return (folder, *history_on_disk(1, folder))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rebuild_gives_the_same_digest(seed: int) -> None:
    check(seed)


@pytest.mark.deep
@pytest.mark.parametrize("seed", DEEP_SEEDS)
def test_a_rebuild_gives_the_same_digest_in_many_worlds(seed: int) -> None:
    check(seed)


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_another_process_gives_the_same_digest(disk: tuple[Path, str, int], hash_seed: str) -> None:
    folder, expected, position = disk
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from conosco.engines.sqlite.log import SqliteLog\n"
        "from tests.laws.test_law01_log_is_truth import rebuilt\n"
        "print(rebuilt(SqliteLog(Path(sys.argv[1]) / 'log', lambda: 0), int(sys.argv[2]), 13))\n"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", program, str(folder), str(position)],
        env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)},
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert found.stdout.strip() == expected


def test_the_embedded_state_gives_the_same_digest_even_if_killed(disk: tuple[Path, str, int], tmp_path: Path) -> None:
    folder, expected, position = disk
    log = SqliteLog(folder / "log", lambda: 0)
    state = SqliteState(tmp_path / "state.sqlite")
    assert rebuilt(log, position, 50, state) == expected
    assert rebuilt_with_kills(log, position, 1, lambda: SqliteState(tmp_path / "killed.sqlite")) == expected
    log.close()


def test_small_pages_give_the_same_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    installation = live(2)
    expected, position = digest(installation.state), installation.state.offset()[0]
    # Timers are fetched a page at a time: pages must not change the order in which they fire.
    monkeypatch.setattr(micro_batch, "TIMERS_PAGE", 2)
    for events_per_batch in (1, 1_000):
        assert rebuilt(installation.log, position, events_per_batch) == expected


def test_a_replay_cannot_append() -> None:
    installation = Installation()
    with pytest.raises(PermissionError):
        UpTo(installation.log, 0).append([])


def test_faults_are_seen() -> None:
    assert survivors(MUTANTS, check, SEEDS) == []
