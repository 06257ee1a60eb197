"""A full disk refuses writes, loses nothing, keeps reading possible, and needs no restart once there is room again."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conosco.engines.sqlite.control import SqliteControl
from conosco.engines.sqlite.leases import SqliteLeases
from conosco.engines.sqlite.log import SqliteLog
from conosco.engines.sqlite.state import SqliteState
from conosco.ports.control import ControlFull
from conosco.ports.leases import Take
from conosco.ports.log import LogFull
from conosco.ports.state import Key, StateFull
from conosco.ports.tables import COMPONENTS, META
from conosco.testing.clock import FrozenClock
from conosco.testing.conformance.log import START
from conosco.testing.conformance.processes import draft

Limit = Callable[[], None]


class Disk:
    """A folder that can be full."""

    def __init__(self, folder: Path, fill: Limit, free: Limit) -> None:
        self.folder = folder
        self.fill = fill
        self.free = free


@contextmanager
def small_mount(folder: Path) -> Iterator[Disk]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    ballast = folder / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(65_536)):
                    pass
            except OSError:
                return

    try:
        yield Disk(folder, fill, ballast.unlink)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def small_files(folder: Path) -> Iterator[Disk]:
    """Files that may not grow beyond a size: needs no rights, and gives another error than a full disk does."""
    folder.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield Disk(
            folder,
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard)),
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)),
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(params=[small_mount, small_files], ids=["small_mount", "small_files"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with request.param(tmp_path / "disk") as disk:
        yield disk


def test_the_log_refuses_and_recovers(disk: Disk) -> None:
    log = SqliteLog(disk.folder / "log", FrozenClock(START))
    kept = [log.append([draft("before")])[0].position]
    disk.fill()
    big = "x" * 30_000
    with pytest.raises(LogFull):
        for number in range(200):
            kept += [place.position for place in log.append([draft(f"{number}{big}"), draft("second")])]
    with pytest.raises(LogFull):
        for _ in range(20):
            kept += [place.position for place in log.append([draft(big * 10)])]
    assert log.head().position == kept[-1]
    assert [record.position for record in log.read(0, 10_000)] == kept == list(range(1, len(kept) + 1))
    disk.free()
    assert log.append([draft("after")])[0].position == len(kept) + 1
    assert log.verify() == []
    log.close()
    again = SqliteLog(disk.folder / "log", FrozenClock(START))
    assert again.head().position == len(kept) + 1
    assert again.verify() == []
    again.close()


def test_the_log_recovers_from_failing_to_make_its_next_file(disk: Disk) -> None:
    log = SqliteLog(disk.folder / "log", FrozenClock(START), segment_bytes=40_000)
    kept = [log.append([draft("before")])[0].position]
    disk.fill()
    with pytest.raises(LogFull):
        for number in range(200):
            kept += [place.position for place in log.append([draft(f"{number}{'x' * 450_000}")])]
    disk.free()
    for number in range(3):
        kept += [place.position for place in log.append([draft(f"{number}{'x' * 50_000}")])]
    assert [record.position for record in log.read(0, 10_000)] == kept == list(range(1, len(kept) + 1))
    assert log.verify() == []
    log.close()


def test_state_refuses_and_recovers(disk: Disk) -> None:
    state = SqliteState(disk.folder / "state.sqlite")
    state.begin(1)
    state.put_many(META, {("a",): b"before"})
    state.commit(1)
    disk.fill()
    rows: dict[Key, bytes] = {(number,): os.urandom(2_000) for number in range(500)}
    committed = 1
    with pytest.raises(StateFull):
        for _ in range(50):
            state.begin(1)
            state.put_many(META, {("a",): b"lost"})
            state.put_many(COMPONENTS, rows)
            state.commit(committed + 1)
            committed += 1
    assert state.offset() == (committed, 1)
    assert state.get_many(META, [("a",)]) == {("a",): b"before" if committed == 1 else b"lost"}
    with pytest.raises(RuntimeError):
        state.put_many(META, {("a",): b"no transaction"})
    assert state.checkpoint() >= 0
    disk.free()
    state.begin(1)
    state.put_many(COMPONENTS, rows)
    state.commit(99)
    assert state.get_many(COMPONENTS, list(rows)) == rows
    assert state.offset() == (99, 1)
    state.close()


def test_leases_and_control_refuse_and_recover(disk: Disk) -> None:
    leases, control = SqliteLeases(disk.folder / "leases.sqlite"), SqliteControl(disk.folder / "control.sqlite")
    assert leases.lease([Take("dlv_0")], 10, 0) == [True]
    disk.fill()
    taken = ["dlv_0"]
    with pytest.raises(StateFull):
        for number in range(1, 100_000):
            name = f"dlv_{number}_{'x' * 3_000}"
            assert leases.lease([Take(name)], 10, 0) == [True]
            taken.append(name)
    with pytest.raises(ControlFull):
        for number in range(100_000):
            control.put("job", str(number), bytes(3_000))
    assert sorted(lease.delivery_id for lease in leases.expired(10)) == sorted(taken)
    disk.free()
    assert leases.lease([Take("dlv_after")], 10, 0) == [True]
    control.put("job", "after", b"1")
    assert control.get("job", "after", 0) == b"1"
    leases.close()
    control.close()
