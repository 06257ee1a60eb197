"""What is special about State in a file: absence, checkpoints beside the writer, and a rewrite that leaves no trace."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from conosco.engines.sqlite.connection import UnfitFile, connect
from conosco.engines.sqlite.state import SqliteState
from conosco.ports.state import Key, StateAbsent
from conosco.ports.tables import CELLS, COMPONENTS, META
from conosco.testing.conformance.state import write
from tests.unit.engines.raw_files import occurrences

CANARY = b"ada.canary@example.com"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def state(path: Path) -> Iterator[SqliteState]:
    state = SqliteState(path)
    yield state
    state.close()


def test_a_reader_of_a_fresh_folder_is_told_so(path: Path) -> None:
    with pytest.raises(StateAbsent, match="does not exist yet"):
        SqliteState(path, read_only=True)
    assert not path.exists()
    connect(path).close()
    with pytest.raises(StateAbsent, match="is being made"):
        SqliteState(path, read_only=True)
    SqliteState(path).close()
    SqliteState(path, read_only=True).close()


def test_a_reader_works_while_nobody_writes_and_after(state: SqliteState, path: Path) -> None:
    write(state, META, {("a",): b"1"}, position=3)
    state.close()
    reader = SqliteState(path, read_only=True)
    assert reader.scan(META) == [(("a",), b"1")]
    writer = SqliteState(path)
    write(writer, META, {("a",): b"2"}, position=4)
    assert reader.get_many(META, [("a",)]) == {("a",): b"2"}
    assert reader.offset() == (4, 1)
    writer.close()
    reader.close()


def test_opening_again_keeps_everything(state: SqliteState, path: Path) -> None:
    write(state, META, {("a",): b"1"}, epoch=4, position=9)
    state.close()
    again = SqliteState(path)
    assert (again.scan(META), again.offset()) == ([(("a",), b"1")], (9, 4))
    again.close()


def test_tables_that_came_later_are_added(state: SqliteState, path: Path) -> None:
    write(state, META, {("a",): b"1"})
    state.close()
    connection = apsw.Connection(str(path))
    connection.execute("DROP TABLE cells")
    connection.close()
    again = SqliteState(path)
    write(again, CELLS, {(1, 1): b"2"})
    assert again.scan(META) == [(("a",), b"1")]
    again.close()


def test_a_file_of_a_newer_version_is_refused(state: SqliteState, path: Path) -> None:
    state.close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 99)
    connection.close()
    with pytest.raises(UnfitFile):
        SqliteState(path)
    with pytest.raises(UnfitFile):
        SqliteState(path, read_only=True)


def wal_bytes(path: Path) -> int:
    return path.with_name(path.name + "-wal").stat().st_size


def test_commits_never_checkpoint_and_checkpoints_never_wait_for_the_writer(state: SqliteState, path: Path) -> None:
    for batch in range(40):
        write(state, COMPONENTS, {(batch * 100 + number,): bytes(2_000) for number in range(100)}, position=batch)
    assert wal_bytes(path) > 8_000_000
    state.begin(1)
    state.put_many(COMPONENTS, {(1,): b"open"})
    left: list[int] = []
    thread = threading.Thread(target=lambda: left.append(state.checkpoint()))
    thread.start()
    thread.join()
    assert left == [0]
    assert state.get_many(COMPONENTS, [(1,)]) == {(1,): b"open"}
    state.commit(40)
    assert state.checkpoint(empty=True) == 0
    assert wal_bytes(path) == 0
    assert state.get_many(COMPONENTS, [(1,), (3_999,)]) == {(1,): b"open", (3_999,): bytes(2_000)}


def test_a_reader_that_stays_holds_up_the_checkpoint_and_nobody_else(state: SqliteState, path: Path) -> None:
    write(state, COMPONENTS, {(1,): b"old"})
    state.checkpoint(empty=True)
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN")
    assert reader.execute("SELECT row FROM components").get == b"old"
    write(state, COMPONENTS, {(number,): bytes(3_000) for number in range(100)})
    assert state.checkpoint() > 300_000
    write(state, COMPONENTS, {(1,): b"new"})
    assert reader.execute("SELECT row FROM components WHERE component = 1").get == b"old"
    reader.close()
    assert state.checkpoint() == 0


def test_deleting_and_rewriting_leaves_no_trace(state: SqliteState, tmp_path: Path) -> None:
    order = random.Random(1)
    marked: set[Key] = set()
    for _ in range(40):
        rows: dict[Key, bytes] = {}
        for _ in range(250):
            key = (order.randrange(10_000), order.randrange(100))
            marked.discard(key)
            if order.random() < 0.02:
                marked.add(key)
            rows[key] = (CANARY if key in marked else b"some other one@example.org") * order.randrange(2, 12)
        write(state, CELLS, rows)
    assert sum(occurrences(tmp_path, CANARY).values()) > len(marked) > 50
    before = [row for row in state.scan(CELLS, max_rows=20_000) if row[0] not in marked]
    state.begin(1)
    state.delete(CELLS, marked)
    with pytest.raises(RuntimeError):
        state.rewrite()
    state.commit(None)
    state.rewrite()
    assert sum(occurrences(tmp_path, CANARY).values()) == 0
    assert state.scan(CELLS, max_rows=20_000) == before


def test_many_keys_are_read_as_of_one_commit(state: SqliteState, path: Path) -> None:
    keys: list[Key] = [(number, 1) for number in range(200)]
    write(state, CELLS, dict.fromkeys(keys, b"0"))
    reader = SqliteState(path, read_only=True)
    done = threading.Event()

    def work() -> None:
        for number in range(60):
            write(state, CELLS, dict.fromkeys(keys, b"%d" % number))
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    seen: set[frozenset[bytes]] = set()
    while not done.is_set():
        seen.add(frozenset(reader.get_many(CELLS, keys).values()))
        seen.add(frozenset(row for _, row in reader.scan(CELLS)))
    thread.join()
    assert all(len(values) == 1 for values in seen)
    reader.close()


def test_threads_may_share_a_reader(state: SqliteState, path: Path) -> None:
    write(state, COMPONENTS, {(number,): b"%d" % number for number in range(500)})
    reader = SqliteState(path, read_only=True)
    wrong: list[int] = []

    def work(first: int) -> None:
        for number in range(first, 500, 4):
            if reader.get_many(COMPONENTS, [(number,)]) != {(number,): b"%d" % number} or len(reader.scan(COMPONENTS)) != 500:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    reader.close()
