"""Backups: what is closed opens with its key only, any change is found, and nothing is ever half-restored."""

import io
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conosco.engines.memory.keys import MemoryKeys
from conosco.model.problem import Refused
from conosco.model.record import Draft
from conosco.runtime.backup import Made, back_up, backups_in
from conosco.runtime.backup_keys import data_key, key_id, new_backup_key, read_key, spell_key
from conosco.runtime.backup_restore import newest, restore
from conosco.runtime.backup_stream import CHUNK_BYTES, MAGIC, read_header, read_stream, write_stream
from conosco.runtime.bootstrap import Folder, open_control, open_keys, open_leases, open_log, open_spare_state, prepare
from conosco.runtime.settings import Settings

NOW = 1_790_000_000_000_000
MONTH = 31 * 86_400_000_000


def code(raised: pytest.ExceptionInfo[Refused]) -> str:
    return raised.value.problems[0].code


class Safe:
    """A backup key, the Keys that close for it, and what it closes."""

    def __init__(self) -> None:
        self.keys = MemoryKeys()
        self.key = ""
        new_backup_key(self.keys, "default", self._keep)

    def _keep(self, key: str) -> None:
        self.key = key

    def close(self, *chunks: bytes, now: int = NOW) -> bytes:
        file = io.BytesIO()
        data, sealed = data_key(self.keys, "default", now)
        assert write_stream(file, chunks, data=data, key=sealed, made_at=now) == len(file.getvalue())
        return file.getvalue()


def opened(body: bytes, key: str) -> list[bytes]:
    return list(read_stream(io.BytesIO(body), key))


@pytest.fixture(scope="module")
def safe() -> Safe:
    """A backup key that several tests share."""
    return Safe()


# Keys.


@given(st.binary(min_size=32, max_size=32))
def test_a_key_is_read_as_it_was_spelled(private: bytes) -> None:
    spelled = spell_key(private)
    assert read_key(spelled) == private
    assert read_key(f" {spelled.lower().replace('-', ' ')}\n") == private


@given(st.binary(min_size=32, max_size=32), st.integers(0, 61), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_a_slip_in_a_key_is_noticed(private: bytes, at: int, other: str) -> None:
    spelled = spell_key(private)
    if spelled[at] not in ("-", other):
        with pytest.raises(Refused) as raised:
            read_key(spelled[:at] + other + spelled[at + 1 :])
        assert code(raised) == "backup_key_mistyped"


def test_the_key_reaches_the_operator_before_anything_is_closed_with_it() -> None:
    keys = MemoryKeys()

    def fail(key: str) -> None:
        raise OSError("the terminal is gone")

    with pytest.raises(OSError, match="terminal"):
        new_backup_key(keys, "default", fail)
    with pytest.raises(Refused) as raised:
        data_key(keys, "default", NOW)
    assert code(raised) == "backup_key_absent"


def test_each_month_has_its_own_data_key_and_the_former_is_forgotten(safe: Safe) -> None:
    first, second = (data_key(safe.keys, "default", NOW)[0] for _ in range(2))
    assert first == second
    before = safe.close(b"before")
    later = data_key(safe.keys, "default", NOW + MONTH)[0]
    assert later != first
    held = b"".join(safe.keys.secret(name) or b"" for name in ("backup_recipient_default", "backup_epoch_default"))
    assert first not in held
    assert opened(before, safe.key) == [b"before"]


# The stream.


@pytest.mark.parametrize("sizes", [(0,), (1,), (CHUNK_BYTES,), (5, 0, CHUNK_BYTES, 7), (1,) * 40])
def test_chunks_come_back(safe: Safe, sizes: tuple[int, ...]) -> None:
    chunks = [Random(size + index).randbytes(size) for index, size in enumerate(sizes)]
    body = safe.close(*chunks)
    assert opened(body, safe.key) == chunks
    assert safe.close(*chunks) != body


def test_another_key_is_told_by_name(safe: Safe) -> None:
    body, other = safe.close(b"x"), Safe()
    with pytest.raises(Refused) as raised:
        opened(body, other.key)
    problem = raised.value.problems[0]
    header = read_header(io.BytesIO(body))[0]
    assert (problem.code, problem.params["wanted"]) == ("backup_key_wrong", header.key.key_id)
    assert problem.params["given"] != problem.params["wanted"] != key_id(b"")


def test_every_flipped_bit_is_found(safe: Safe) -> None:
    body = safe.close(b"first" * 20, b"second" * 20)
    rng = Random(1)
    for at in range(len(body)):
        changed = bytearray(body)
        changed[at] ^= 1 << rng.randrange(8)
        with pytest.raises(Refused):
            opened(bytes(changed), safe.key)


def test_every_shortened_or_lengthened_file_is_found(safe: Safe) -> None:
    body = safe.close(b"first", b"second", b"third")
    for length in range(len(body)):
        with pytest.raises(Refused):
            opened(body[:length], safe.key)
    with pytest.raises(Refused):
        opened(body + b"\0", safe.key)


def test_chunks_in_other_places_are_found(safe: Safe) -> None:
    body, other = safe.close(b"a" * 9, b"b" * 9, b"c" * 9), safe.close(b"a" * 9, b"b" * 9, b"c" * 9)
    start, frames = frames_of(body)
    foreign = frames_of(other)[1]
    for wrong in (
        [frames[1], frames[0], frames[2]],
        [frames[0], frames[2]],
        [frames[0], frames[1], frames[1], frames[2]],
        [frames[0], frames[1]],
        [foreign[0], frames[1], frames[2]],
        [*frames, frames[2]],
        [],
    ):
        with pytest.raises(Refused):
            opened(start + b"".join(wrong), safe.key)
    assert opened(start + b"".join(frames), safe.key) == [b"a" * 9, b"b" * 9, b"c" * 9]


def frames_of(body: bytes) -> tuple[bytes, list[bytes]]:
    at = len(MAGIC) + 4 + int.from_bytes(body[len(MAGIC) : len(MAGIC) + 4], "big")
    start, frames = body[:at], []
    while at < len(body):
        end = at + 4 + int.from_bytes(body[at : at + 4], "big")
        frames.append(body[at:end])
        at = end
    return start, frames


# A whole installation.


class House:
    """A small installation without processes, and its backups."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(data=folder / "data", log_segment_bytes=40_000)
        prepare(self.settings)
        open_spare_state(Folder(self.settings.data).state).close()
        open_leases(self.settings).close()
        open_control(self.settings).put("account", "anna", b"admin")
        self.key = ""
        self.now = NOW

    def append(self, count: int) -> list[bytes]:
        log = open_log(self.settings)
        bodies = [f"event {number} ".encode() * 60 for number in range(count)]
        for body in bodies:
            log.append([Draft(kind="tick", slices=(body,))])
        log.close()
        return bodies

    def back_up(self, to: Path | None = None, keep: int = 0) -> Made:
        self.now += 1_000_000
        return back_up(self.settings, to or self.folder / "backups", lambda: self.now, self._keep, keep=keep)

    def _keep(self, key: str) -> None:
        self.key = key


@pytest.fixture
def house(tmp_path: Path) -> House:
    """An installation with a few hundred records."""
    return House(tmp_path)


def bodies_in(data: Path) -> list[bytes]:
    log = open_log(Settings(data=data))
    found = [record.slices[0] or b"" for record in log.read(0, 100_000) if record.kind == "tick"]
    log.close()
    return found


def test_what_comes_back_is_what_was_there(house: House) -> None:
    bodies = house.append(300)
    (house.settings.data / "imports" / "more").mkdir(parents=True)
    (house.settings.data / "imports" / "more" / "file.csv").write_bytes(b"a,b\n")
    (Folder(house.settings.data).run / "worker").write_bytes(b"{}")
    made = house.back_up()
    assert len([entry for entry in made.manifest.files if entry.path.startswith("log/log-")]) > 3
    assert not any(entry.path.startswith(("run/", "warehouse")) for entry in made.manifest.files)
    restored = restore(made.path, house.folder / "new", house.key)
    assert restored.position == made.manifest.position == 304
    assert bodies_in(restored.folder) == bodies
    settings = Settings(data=restored.folder)
    assert open_control(settings).get("account", "anna", 0) == b"admin"
    assert (restored.folder / "imports" / "more" / "file.csv").read_bytes() == b"a,b\n"
    assert open_keys(settings).secret("installation") == open_keys(house.settings).secret("installation")
    assert all(path.stat().st_mode & 0o077 == 0 for path in [restored.folder, *restored.folder.rglob("*")])


def test_whatever_was_acknowledged_before_the_mark_is_there_while_files_come_and_grow(house: House) -> None:
    stop, acknowledged = threading.Event(), [0]

    def write() -> None:
        log = open_log(house.settings)
        number = 0
        while not stop.is_set():
            log.append([Draft(kind="tick", slices=(b"%d " % number * 300,))])
            number += 1
            acknowledged[0] = number
        log.close()

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for attempt in range(4):
            least = acknowledged[0]
            made = house.back_up()
            restored = restore(made.path, house.folder / f"new{attempt}", house.key)
            found = bodies_in(restored.folder)
            assert [int(body.split()[0]) for body in found] == list(range(len(found)))
            assert len(found) >= least
            assert made.manifest.position >= least + 4
    finally:
        stop.set()
        writing.join()


def test_a_changed_backup_is_refused_and_leaves_nothing(house: House) -> None:
    house.append(50)
    made = house.back_up(house.folder / "one.backup")
    body, rng = made.path.read_bytes(), Random(2)
    changes: list[Callable[[], bytes]] = [
        *(lambda: flipped(body, rng) for _ in range(40)),
        *(lambda: body[: rng.randrange(len(body))] for _ in range(10)),
        lambda: swapped(body),
    ]
    for change in changes:
        wrong = house.folder / "wrong.backup"
        wrong.write_bytes(change())
        with pytest.raises(Refused):
            restore(wrong, house.folder / "new", house.key)
        assert not (house.folder / "new").exists()
        assert not list(house.folder.glob(".new*"))


def flipped(body: bytes, rng: Random) -> bytes:
    changed = bytearray(body)
    changed[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def swapped(body: bytes) -> bytes:
    start, frames = frames_of(body)
    return start + b"".join([frames[1], frames[0], *frames[2:]])


def test_a_folder_that_is_not_empty_is_refused(house: House) -> None:
    made = house.back_up()
    target = house.folder / "new"
    target.mkdir()
    restore(made.path, target, house.key)
    before = sorted(target.rglob("*"))
    with pytest.raises(Refused) as raised:
        restore(made.path, target, house.key)
    assert code(raised) == "restore_not_empty"
    assert sorted(target.rglob("*")) == before


def test_only_the_newest_are_kept(house: House) -> None:
    made = [house.back_up() for _ in range(3)]
    last = house.back_up(keep=2)
    assert backups_in(house.folder / "backups") == [made[2].path, last.path]
    assert last.removed == (made[0].path, made[1].path)
    assert newest(house.folder / "backups") == last.path


def test_a_backup_is_no_plain_text_and_leaves_no_scrap(house: House) -> None:
    house.append(3)
    made = house.back_up()
    assert b"event 1" not in made.path.read_bytes()
    assert list(made.path.parent.iterdir()) == [made.path]
    assert made.path.stat().st_mode & 0o077 == 0


def test_refusals_name_what_is_wrong(house: House, tmp_path: Path) -> None:
    with pytest.raises(Refused) as raised:
        back_up(Settings(data=tmp_path / "nothing"), tmp_path / "b", lambda: NOW, lambda key: None)
    assert code(raised) == "backup_nothing_there"
    house.back_up(tmp_path / "one.backup")
    with pytest.raises(Refused) as raised:
        house.back_up(tmp_path / "one.backup")
    assert code(raised) == "backup_exists"
    with pytest.raises(Refused) as raised:
        newest(tmp_path / "data")
    assert code(raised) == "backup_none_there"
    (tmp_path / "text").write_text("not a backup")
    with pytest.raises(Refused) as raised:
        restore(tmp_path / "text", tmp_path / "new", house.key)
    assert code(raised) == "backup_unknown_file"


def test_what_a_killed_backup_left_is_removed_and_not_taken_along(house: House) -> None:
    house.append(3)
    made = house.back_up()
    left = [Folder(house.settings.data).backup_copy, made.path.with_name(f".{key_of(made.path)}.part")]
    for path in left:
        path.write_bytes(b"left")
    again = house.back_up()
    assert [entry.path for entry in again.manifest.files] == [entry.path for entry in made.manifest.files]
    assert not any(path.exists() for path in left)


def key_of(path: Path) -> str:
    with path.open("rb") as file:
        return read_header(file)[0].key.key_id


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from conosco.cli.main import app
app(sys.argv[2:])
"""


def test_want_of_room_is_told_and_leaves_nothing(house: House) -> None:
    house.append(20)
    made = house.back_up(house.folder / "one.backup")
    (house.folder / "key").write_text(house.key)
    new, wanted = house.folder / "new", house.folder / "backups"
    for limit, arguments in (
        (60_000, ["backup", "--data", str(house.settings.data), "--to", str(wanted)]),
        (1_000, ["backup", "--data", str(house.settings.data), "--to", str(wanted)]),
        (10_000, ["restore", "--from", str(made.path), "--to", str(new), "--key-file", str(house.folder / "key")]),
    ):
        ran = subprocess.run(
            [sys.executable, "-c", LIMITED, str(limit), *arguments], capture_output=True, text=True, check=False, timeout=60
        )
        assert ran.returncode == 1, ran.stderr
        assert "Traceback" not in ran.stderr
        assert "was not made" in ran.stderr or "Nothing was restored" in ran.stderr
        assert not new.exists()
        assert not list(house.folder.glob(".new*"))
        assert not wanted.exists() or not list(wanted.iterdir())


def test_the_key_of_an_upgrade_is_no_part_of_a_backup(house: House) -> None:
    Folder(house.settings.data).backup_key.write_text("secret")
    made = house.back_up()
    assert "backup-key" not in [entry.path for entry in made.manifest.files]
    assert "keys" in [entry.path for entry in made.manifest.files]


def test_a_state_that_is_not_what_it_was_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conosco.runtime.backup.digest", lambda state: "0" * 64)
    made = house.back_up()
    with pytest.raises(Refused) as raised:
        restore(made.path, house.folder / "new", house.key)
    assert code(raised) == "restore_state_unproven"
    assert not (house.folder / "new").exists()
