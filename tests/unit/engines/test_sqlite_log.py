"""What is special about the log in files: rolling, pruning whole files, bytes that are gone, damage that is noticed."""

import subprocess
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path

import apsw
import pytest

from conosco.engines.sqlite.log import SqliteLog
from conosco.engines.sqlite.log_archive import SqliteArchive
from conosco.engines.sqlite.log_file import LogFile, Row
from conosco.model.record import GENESIS, Draft
from conosco.testing.clock import FrozenClock
from conosco.testing.conformance.log import START, check_chain, texts
from conosco.testing.conformance.processes import draft
from tests.unit.engines.raw_files import copy_live, occurrences

TINY = 40_000
CANARY = b"ada.canary@example.com"


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(START)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def log(folder: Path, clock: FrozenClock) -> Iterator[SqliteLog]:
    log = SqliteLog(folder, clock, segment_bytes=TINY)
    yield log
    log.close()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("log-*.sqlite"))


def fill(log: SqliteLog, numbers: range, size: int = 10_000) -> None:
    for number in numbers:
        log.append([draft(f"{number:0{size}}")])


def test_files_follow_one_another_with_one_chain(log: SqliteLog, folder: Path) -> None:
    fill(log, range(20))
    assert len(files(folder)) > 3
    assert files(folder)[0] == "log-000001.sqlite"
    records = log.read(0, 100)
    assert [record.position for record in records] == list(range(1, 21))
    check_chain(records, GENESIS)
    for after in range(21):
        assert [record.position for record in log.read(after, 3)] == list(range(after + 1, min(after + 4, 21)))
    assert log.verify() == []
    assert log.verify(9) == []


def test_a_door_notices_that_another_one_rolled(log: SqliteLog, folder: Path, clock: FrozenClock) -> None:
    other = SqliteLog(folder, clock, segment_bytes=TINY)
    log.append([draft("first")])
    assert other.head().position == 1
    fill(log, range(20))
    assert other.head() == log.head()
    assert other.append([draft("last")])[0].position == 22
    assert texts(log.read(21, 5)) == ["last"]
    assert [record.position for record in other.read(0, 100)] == list(range(1, 23))
    other.close()


def test_a_door_left_behind_by_rolling_and_pruning_goes_on_at_the_right_place(
    log: SqliteLog, folder: Path, clock: FrozenClock
) -> None:
    log.append([draft("first")])
    behind = SqliteLog(folder, clock, segment_bytes=TINY)
    assert len(behind.read(0, 5)) == 1
    fill(log, range(20))
    assert log.prune(19) == 18
    assert files(folder)[0] != "log-000001.sqlite"
    assert behind.append([draft("more")])[0].position == 22
    assert [record.position for record in behind.read(0, 100)] == [19, 20, 21, 22]
    assert behind.head() == log.head()
    assert behind.verify() == []
    behind.close()


def test_a_file_that_is_sealed_while_it_is_read_is_read_to_its_end(
    log: SqliteLog, folder: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SqliteLog(folder, clock, segment_bytes=TINY)
    fill(writer, range(2), 100)
    rows = LogFile.rows

    def slow_rows(file: LogFile, after: int, max_records: int) -> Generator[Row, None, None]:
        yield from rows(file, after, max_records)
        monkeypatch.setattr(LogFile, "rows", rows)
        fill(writer, range(20))

    monkeypatch.setattr(LogFile, "rows", slow_rows)
    seen = [record.position for record in log.read(0, 100)]
    assert len(files(folder)) > 2
    seen += [record.position for record in log.read(seen[-1], 100)]
    assert seen == list(range(1, 23))
    writer.close()


def test_pruning_drops_whole_files_and_their_bytes(log: SqliteLog, folder: Path) -> None:
    log.append([Draft(kind="request", slices=(CANARY,))])
    fill(log, range(20))
    before = len(files(folder))
    assert sum(occurrences(folder, CANARY).values()) > 0
    assert log.prune(12) == 11
    assert len(files(folder)) < before
    assert sum(occurrences(folder, CANARY).values()) == 0
    assert [record.position for record in log.read(0, 100)] == list(range(12, 22))


@pytest.mark.parametrize("size", [10, 700, 20_000])
def test_erased_bytes_are_in_no_file_while_the_log_is_open(folder: Path, clock: FrozenClock, size: int) -> None:
    log = SqliteLog(folder, clock)
    canary = CANARY + b"." * size
    for number in range(60):
        log.append([Draft(kind="request", slices=(b"{}", b"other" * size, canary if number % 7 == 3 else b"x" * size))])
    log.read(0, 100)
    found = occurrences(folder, CANARY)
    assert sum(found.values()) >= 8
    salts = [record.salts[2] for record in log.read(0, 100) if record.slices[2] == canary]
    assert sum(occurrences(folder, salts[0] or b"").values()) >= 1
    assert log.erase([(position, 2) for position in range(1, 61) if (position - 1) % 7 == 3]) == len(salts) == 9
    assert sum(occurrences(folder, CANARY).values()) == 0
    for salt in salts:
        assert sum(occurrences(folder, salt or b"").values()) == 0
    assert log.verify() == []
    assert log.read(0, 100)[0].slices[2] == b"x" * size
    log.close()


def test_erasing_reaches_sealed_files(log: SqliteLog, folder: Path) -> None:
    fill(log, range(3))
    log.append([Draft(kind="request", slices=(CANARY,))])
    fill(log, range(20))
    assert len(files(folder)) > 3
    assert log.erase([(4, 0)]) == 1
    assert sum(occurrences(folder, CANARY).values()) == 0
    assert log.verify() == []


def test_changed_bytes_are_found_where_they_are(folder: Path, clock: FrozenClock) -> None:
    log = SqliteLog(folder, clock, segment_bytes=TINY)
    fill(log, range(12))
    log.close()
    connection = apsw.Connection(str(folder / "log-000002.sqlite"))
    first = connection.execute("SELECT min(position) FROM records").get
    body = bytearray(connection.execute("SELECT body FROM records WHERE position = ?", (first,)).get)
    body[-1] ^= 1
    connection.execute("UPDATE records SET body = ? WHERE position = ?", (bytes(body), first))
    connection.execute("UPDATE records SET logged_at = logged_at + 1 WHERE position = ?", (first + 1,))
    connection.close()
    log = SqliteLog(folder, clock, segment_bytes=TINY)
    assert log.verify() == [(first, 1), (first + 1, -1)]
    assert log.verify(first) == [(first + 1, -1)]
    assert log.verify(first + 1) == []
    assert len(log.read(0, 100)) == 12
    log.close()


def test_a_body_that_cannot_be_unpacked_harms_nobody_else(folder: Path, clock: FrozenClock) -> None:
    log = SqliteLog(folder, clock)
    log.append([draft("one"), draft("two"), draft("three")])
    connection = apsw.Connection(str(folder / "log-000001.sqlite"))
    connection.execute("UPDATE records SET body = ? WHERE position = 2", (b"\xc1" + CANARY,))
    connection.close()
    assert [record.slices[1] for record in log.read(0, 10)] == [b"one", None, b"three"]
    assert log.verify() == [(2, -1)]
    assert log.erase([(2, 1)]) == 1
    assert sum(occurrences(folder, CANARY).values()) == 0
    log.close()


def test_a_record_taken_out_is_a_gap(folder: Path, clock: FrozenClock) -> None:
    log = SqliteLog(folder, clock)
    log.append([draft(str(number)) for number in range(6)])
    log.close()
    connection = apsw.Connection(str(folder / "log-000001.sqlite"))
    connection.pragma("secure_delete", True)
    connection.execute("DELETE FROM records WHERE position IN (3, 4)")
    connection.close()
    log = SqliteLog(folder, clock)
    assert log.verify() == [(3, -1), (4, -1)]
    assert log.verify(3) == [(4, -1)]
    assert log.verify(4) == []
    log.close()


def test_rows_lost_with_a_damaged_wal_are_counted_and_their_positions_not_given_again(
    folder: Path, tmp_path: Path, clock: FrozenClock
) -> None:
    log = SqliteLog(folder, clock)
    for number in range(100):
        log.append([draft(str(number))])
    crashed = tmp_path / "crashed"
    copy_live(folder, crashed)
    log.close()
    (crashed / "log.head").write_bytes((folder / "log.head").read_bytes())
    wal = crashed / "log-000001.sqlite-wal"
    damaged = bytearray(wal.read_bytes())
    damaged[len(damaged) // 2] ^= 5
    wal.write_bytes(damaged)
    log = SqliteLog(crashed, clock)
    left = log.head().position
    assert [(alarm.what, alarm.lost) for alarm in SqliteArchive(crashed, clock).alarms()] == [("records_lost", 100 - left)]
    assert 0 < left < 100
    lost = [(position, -1) for position in range(left + 1, 101)]
    assert log.verify() == lost
    clock.advance(-1_000)
    assert log.append([draft("new")])[0].position == 101
    assert log.head().logged_at == START
    assert log.verify() == lost
    log.close()
    log = SqliteLog(crashed, clock)
    assert log.verify() == lost
    assert texts(log.read(left, 10)) == ["new"]
    log.close()


def test_a_log_cut_short_and_closed_keeps_the_evidence(folder: Path, clock: FrozenClock) -> None:
    log = SqliteLog(folder, clock)
    log.append([draft(str(number)) for number in range(6)])
    log.close()
    connection = apsw.Connection(str(folder / "log-000001.sqlite"))
    connection.execute("DELETE FROM records WHERE position > 4")
    connection.close()
    for _ in range(2):
        log = SqliteLog(folder, clock)
        assert log.verify() == [(5, -1), (6, -1)]
        log.close()


def test_a_note_that_cannot_be_read_stops_nobody(folder: Path, clock: FrozenClock) -> None:
    log = SqliteLog(folder, clock)
    log.append([draft("one")])
    log.close()
    for body in (b"", b"{", b'{"position": 1, "logged_at": 1, "chain": "zz"}'):
        (folder / "log.head").write_bytes(body)
        log = SqliteLog(folder, clock)
        assert log.verify() == []
        log.close()
    assert b'"position":1' in (folder / "log.head").read_bytes()


def test_a_crash_between_two_files_is_made_good(log: SqliteLog, folder: Path, clock: FrozenClock) -> None:
    for number in count():
        log.append([draft(f"{number:010000}")])
        if sealed(folder / "log-000001.sqlite"):
            break
    assert files(folder) == ["log-000001.sqlite"]
    # What a crash while making the next file leaves behind.
    (folder / "log-000002.sqlite").touch(0o600)
    head = log.head()
    assert len(log.read(0, 100)) == head.position
    other = SqliteLog(folder, clock, segment_bytes=TINY)
    assert other.head() == head
    assert other.append([draft("next")])[0].position == head.position + 1
    assert log.head() == other.head()
    assert log.verify() == []
    other.close()


def sealed(path: Path) -> bool:
    connection = apsw.Connection(str(path))
    try:
        return bool(connection.execute("SELECT sealed FROM file").get)
    finally:
        connection.close()


def test_files_of_the_log_are_private(log: SqliteLog, folder: Path) -> None:
    fill(log, range(5))
    modes = subprocess.run(["stat", "-c", "%a", *map(str, folder.iterdir())], check=True, capture_output=True, text=True)
    assert set(modes.stdout.split()) == {"600"}
