"""Sealing, erasing and pruning cut short (R3, R4): killed before any of their steps, or refused by the disk at any of them, the
log is as it was before or as it should be after, and the work can be finished."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb  # noqa: F401  # loaded before forking, so that no child has to
import pytest

from conosco.engines.sqlite.log import SqliteLog
from conosco.engines.sqlite.log_archive import SqliteArchive
from conosco.model.record import Draft, Record
from conosco.ports.log import LogFull
from conosco.testing.clock import FrozenClock
from conosco.testing.conformance.archive import hash_of, identify, no_pause, seal_all
from conosco.testing.conformance.log import START
from conosco.testing.conformance.processes import draft

TINY = 40_000
PART = 15_000
CANARY = b"canary"
# What the steps of these operations are made of; what comes between them leads to files that nothing names yet.
STEPS = ("fsync", "replace", "unlink")
KILLED = 9

Operation = Callable[[Path], None]


def open_both(folder: Path) -> tuple[SqliteLog, SqliteArchive]:
    clock = FrozenClock(START)
    return SqliteLog(folder, clock, segment_bytes=TINY), SqliteArchive(folder, clock, part_bytes=PART)


def close_both(log: SqliteLog, archive: SqliteArchive) -> None:
    archive.close()
    log.close()


def seal(folder: Path) -> None:
    log, archive = open_both(folder)
    archive.seal(identify, no_pause)
    close_both(log, archive)


def erase(folder: Path) -> None:
    log, archive = open_both(folder)
    log.erase(canaries(log))
    close_both(log, archive)


def prune(folder: Path) -> None:
    log, archive = open_both(folder)
    log.prune(6)
    close_both(log, archive)


def canaries(log: SqliteLog) -> list[tuple[int, int]]:
    return [(record.position, 1) for record in log.read(0, 1_000) if record.kind == "request" and record.position % 3 == 0]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    """Two sealed files, two that are finished, and the newest; every third record is the canary's."""
    folder = tmp_path_factory.mktemp("faults") / "log"
    log, archive = open_both(folder)
    for number in range(1, 16):
        if len(archive.stock()) == 3:
            seal_all(archive)
        name = CANARY.decode() if number % 3 == 0 else "user"
        log.append([draft(f"{name}-{number:010000}") if number % 3 else Draft(kind="request", slices=(b"{}", body(number)))])
    assert [file.is_sealed for file in archive.stock()].count(True) == 2
    assert len(archive.stock()) >= 5
    records = log.read(0, 1_000)
    close_both(log, archive)
    return folder, records


def body(number: int) -> bytes:
    return CANARY + b"-%d-" % number + os.urandom(9_000)


def in_a_child(operation: Operation, folder: Path, fault: Callable[[], None], at: int) -> int:
    """Run an operation in a process of its own with a fault before its step number ``at``; the exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            plant(fault, at)
            operation(folder)
            code = 0
        except LogFull:
            code = 3
        except OSError:
            code = 4
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def plant(fault: Callable[[], None], at: int) -> list[int]:
    """Let the fault happen before the step number ``at`` of this process; the steps that are left until then."""
    left = [at]

    def wrapped(step: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*given: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                fault()
            return step(*given, **named)

        return stepping

    for name in STEPS:
        setattr(os, name, wrapped(getattr(os, name)))
    return left


def die() -> None:
    os._exit(KILLED)


def refuse() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def check(operation: Operation, folder: Path, records: list[Record]) -> None:
    """What is there now is as before or as after, and doing it again finishes it."""
    for is_again in (False, True):
        if is_again:
            operation(folder)
        log, archive = open_both(folder)
        found = log.read(0, 1_000)
        assert log.verify() == []
        assert archive.alarms() == []
        if operation is prune:
            first = found[0].position
            assert found == records[first - 1 :]
            assert first == 6 if is_again else first <= 6
        elif operation is erase:
            for now, then in zip(found, records, strict=True):
                is_canary = then.position % 3 == 0
                assert now == then or (is_canary and now.slices[1] is None and now.salts[1] is None)
                assert not (is_again and is_canary and now.slices[1] is not None)
        else:
            assert found == records
        if is_again:
            if operation is erase:
                seal_all(archive)
                assert archive.find([hash_of(CANARY)], identify) == []
                assert not any(b"canary-" in path.read_bytes() for path in folder.rglob("*") if path.is_file())
            assert log.append([Draft(kind="tick")])[0].position == records[-1].position + 1
            seal_all(archive)
            check_nothing_is_left_over(folder, archive)
        close_both(log, archive)


def check_nothing_is_left_over(folder: Path, archive: SqliteArchive) -> None:
    """Every file belongs to a file of the log that there is."""
    stems = {Path(file.name).stem for file in archive.stock()}
    for path in folder.glob("log-*"):
        assert path.name[:10] in stems, path.name
    for note in folder.glob("*.sealed"):
        assert not note.with_suffix(".sqlite").exists()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory where there is one: these tests sync thousands of times, and it is not the disk that is tested."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("fault", [die, refuse])
@pytest.mark.parametrize("operation", [seal, erase, prune])
def test_at_every_step(begun: tuple[Path, list[Record]], tmp_path: Path, operation: Operation, fault: Callable[[], None]) -> None:
    folder, records = begun
    steps = count_steps(operation, folder, tmp_path / "counted")
    assert 3 < steps < 100
    for at in range(1, steps + 1, 1 if fault is die else 2):
        copy = tmp_path / str(at)
        shutil.copytree(folder, copy)
        code = in_a_child(operation, copy, fault, at)
        # A refused step that only tidies, or writes a note that may be old, is no failure of the whole.
        assert code in ((KILLED,) if fault is die else (0, 3, 4))
        check(operation, copy, records)
        shutil.rmtree(copy)


def count_steps(operation: Operation, folder: Path, copy: Path) -> int:
    """How many steps an operation takes when nothing happens to it."""
    shutil.copytree(folder, copy)
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        count = plant(die, 1_000_000)
        operation(copy)
        os.write(theirs, str(1_000_000 - count[0]).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    shutil.rmtree(copy)
    return int(os.read(ours, 20))


_ONE = """
import sys
from pathlib import Path
from tests.unit.engines import test_log_faults as faults
getattr(faults, sys.argv[1])(Path(sys.argv[2]))
"""


@pytest.mark.deep
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("call", ["fsync", "fdatasync", "rename", "unlink", "pwrite64", "ftruncate"])
@pytest.mark.parametrize("operation", [seal, erase, prune])
@pytest.mark.parametrize("how", ["signal=KILL", "error=EIO"])
def test_at_every_system_call(
    begun: tuple[Path, list[Record]], tmp_path: Path, operation: Operation, call: str, how: str
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    folder, records = begun
    for at in range(1, 60):
        copy = tmp_path / str(at)
        shutil.copytree(folder, copy)
        strace = [
            "strace",
            "-f",
            "-qq",
            "-e",
            f"trace={call}",
            "-e",
            f"inject={call}:{how}:when={at}",
            "-o",
            str(tmp_path / "trace"),
        ]
        ran = subprocess.run(
            [*strace, sys.executable, "-c", _ONE, operation.__name__, str(copy)],
            check=False,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(Path.cwd()), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        check(operation, copy, records)
        shutil.rmtree(copy)
        if "INJECTED" not in (tmp_path / "trace").read_text() and ran.returncode == 0:
            return
