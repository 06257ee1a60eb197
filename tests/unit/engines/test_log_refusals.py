"""A disk that refuses something now is told apart from one that lost bytes: no record is passed over because of the former."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from conosco.engines.sqlite import log_rescue
from conosco.engines.sqlite.connection import is_refusal
from conosco.engines.sqlite.log import SqliteLog
from conosco.engines.sqlite.log_archive import SqliteArchive
from conosco.engines.sqlite.log_file import LogFile, Row
from conosco.model.record import Draft
from conosco.ports.log import LogFull
from conosco.testing.clock import FrozenClock
from conosco.testing.conformance.archive import identify, no_pause
from conosco.testing.conformance.log import START

REFUSED = apsw.SQLITE_IOERR_SHMSIZE
LOST = apsw.SQLITE_IOERR_READ


def trouble(code: int) -> apsw.IOError:
    error = apsw.IOError("disk I/O error")
    vars(error)["extendedresult"] = code
    return error


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    with closing(SqliteLog(tmp_path / "log", FrozenClock(START), segment_bytes=1)) as made:
        for number in range(3):
            made.append([Draft(kind="request", slices=(b"%d" % number,))])
        yield made


def break_rows(patched: pytest.MonkeyPatch, code: int) -> None:
    def fail(self: LogFile, after: int, max_records: int) -> Iterator[Row]:
        raise trouble(code)

    patched.setattr(LogFile, "rows", fail)


def test_errors_are_told_apart() -> None:
    assert is_refusal(trouble(REFUSED))
    assert is_refusal(apsw.FullError())
    assert not is_refusal(trouble(LOST))
    assert not is_refusal(apsw.CorruptError())


def test_a_reader_that_is_refused_passes_no_record_over(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        break_rows(patched, REFUSED)
        with pytest.raises(apsw.IOError):
            log.read(0, 10)
        # Where bytes are lost each record is tried by itself, and these can be read.
        break_rows(patched, LOST)
        assert [record.position for record in log.read(0, 10)] == [1, 2, 3]
    assert [record.position for record in log.read(0, 10)] == [1, 2, 3]


def test_a_sealing_that_is_refused_is_no_damage(log: SqliteLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SqliteArchive(tmp_path / "log", FrozenClock(START))) as archive:
        with monkeypatch.context() as patched:
            break_rows(patched, REFUSED)
            with pytest.raises(LogFull):
                archive.seal(identify, no_pause)
        assert archive.alarms() == []
        assert archive.seal(identify, no_pause) is not None


def test_a_start_that_is_refused_makes_no_file_anew(log: SqliteLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.close()

    def fail(self: LogFile) -> None:
        raise trouble(REFUSED)

    def never(*_: object) -> None:
        raise AssertionError("a file was made anew")

    with monkeypatch.context() as patched:
        patched.setattr(LogFile, "tail", fail)
        patched.setattr(log_rescue, "_make_anew", never)
        with pytest.raises(LogFull):
            SqliteLog(tmp_path / "log", FrozenClock(START))
    with closing(SqliteLog(tmp_path / "log", FrozenClock(START))) as again:
        assert again.verify() == []
