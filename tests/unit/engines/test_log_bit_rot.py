"""Bit rot (R6): one bit falls over anywhere in the log's files. It is noticed, the log starts and serves, and hardly anything is lost."""

import random
import shutil
from pathlib import Path

import pytest

from conosco.engines.sqlite.log import SqliteLog
from conosco.engines.sqlite.log_archive import SqliteArchive
from conosco.engines.sqlite.log_file import PAGE_BYTES
from conosco.engines.sqlite.log_wal import committed_pages
from conosco.model.record import Draft, Record
from conosco.testing.clock import FrozenClock
from conosco.testing.conformance.archive import hash_of, identify, no_pause, seal_all
from conosco.testing.conformance.log import START
from tests.unit.engines.raw_files import copy_live

SEGMENT = 400_000
PART = 150_000
# Records that one damaged page of a file that is not sealed can hold.
PAGE_RECORDS_MAX = 40


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    """A log as a crash leaves it: files that are sealed, one that is finished, the newest with a WAL, and the head's note."""
    root = tmp_path_factory.mktemp("rot")
    draw = random.Random(7)
    clock = FrozenClock(START)
    log = SqliteLog(root / "live", clock, segment_bytes=SEGMENT)
    archive = SqliteArchive(root / "live", clock, part_bytes=PART)

    def fill(files: int) -> None:
        while len(archive.stock()) < files:
            bodies = [draw.randbytes(draw.choice([5, 300, 900, 3_000])) for _ in range(draw.choice([1, 1, 8, 20]))]
            log.append([Draft(kind="request", source_id="src_1", slices=(b"{}", b"user-" + bodies[0], *bodies))])
            log.append([Draft(kind="tick")])

    fill(3)
    seal_all(archive)
    fill(5)
    log.append([Draft(kind="request", source_id="src_1", slices=(b"{}", b"user-last"))])
    copy_live(root / "live", root / "sound")
    shutil.copy(root / "live" / "log.head", root / "sound" / "log.head")
    records = log.read(0, 100_000, 1 << 30)
    archive.close()
    log.close()
    return root / "sound", records


def flip_and_start(sound: Path, copy: Path, bit: int, name: str, records: list[Record]) -> None:
    shutil.copytree(sound, copy)
    path = copy / name
    body = bytearray(path.read_bytes())
    body[bit // 8] ^= 1 << bit % 8
    path.write_bytes(body)
    where = f"{name}, bit {bit}"
    clock = FrozenClock(START)
    log = SqliteLog(copy, clock, segment_bytes=SEGMENT)
    archive = SqliteArchive(copy, clock, part_bytes=PART)
    found = {record.position: record for record in log.read(0, 100_000, 1 << 30)}
    wrong = log.verify()
    assert wrong or archive.alarms(), f"nobody noticed: {where}"
    harmed = {record.position for record in records if found.get(record.position) != record}
    assert harmed <= {position for position, index in wrong if index >= -1}, f"harmed and not told: {where}"
    assert len(harmed) <= (PAGE_RECORDS_MAX if ".sqlite" in name else 1), f"too much is lost: {where}"
    assert log.append([Draft(kind="tick")])[0].position == records[-1].position + 1
    if ".sqlite" not in name:
        # What is sealed and notes are mended to the last bit.
        archive.mend()
        assert log.read(0, 100_000, 1 << 30)[: len(records)] == records, f"not mended: {where}"
        assert log.verify() == [], f"not mended: {where}"
        assert (records[-1].position, 1) in archive.find([hash_of(b"user-last")], identify)
    archive.close()
    log.close()
    shutil.rmtree(copy)


def flip_many(sound: Path, records: list[Record], copies: Path, count: int, seed: int) -> None:
    draw = random.Random(seed)
    names = [path.name for path in sorted(sound.iterdir()) if path.is_file() and path.stat().st_size and "shm" not in path.name]
    assert {Path(name).suffix for name in names} == {".sqlite", ".sqlite-wal", ".parquet", ".sealed", ".head"}
    newest = max(name for name in names if name.endswith(".sqlite"))
    # Pages of which the WAL holds a newer version are written over before anybody reads them.
    outdated = committed_pages((sound / f"{newest}-wal").read_bytes()).keys()
    done = 0
    while done < count:
        # Small files get their turn as well as large ones.
        name = draw.choice(names)
        bit = draw.randrange((sound / name).stat().st_size * 8)
        if name != newest or bit // 8 // PAGE_BYTES + 1 not in outdated:
            flip_and_start(sound, copies / str(done), bit, name, records)
            done += 1


def test_one_bit_is_noticed_and_costs_little(sound: tuple[Path, list[Record]], tmp_path: Path) -> None:
    flip_many(*sound, tmp_path, 30, 1)


@pytest.mark.deep
@pytest.mark.timeout(1_800)
def test_500_bits_are_noticed_and_cost_little(sound: tuple[Path, list[Record]], tmp_path: Path) -> None:
    flip_many(*sound, tmp_path, 500, 2)


def test_a_sound_log_says_so(sound: tuple[Path, list[Record]], tmp_path: Path) -> None:
    shutil.copytree(sound[0], tmp_path / "copy")
    log = SqliteLog(tmp_path / "copy", FrozenClock(START), segment_bytes=SEGMENT)
    archive = SqliteArchive(tmp_path / "copy", FrozenClock(START))
    assert log.verify() == []
    assert archive.mend() == 0
    assert archive.alarms() == []
    assert log.read(0, 100_000, 1 << 30) == sound[1]
    while archive.seal(identify, no_pause) is not None:
        pass
    assert log.read(0, 100_000, 1 << 30) == sound[1]
    archive.close()
    log.close()
