"""Leases, Control and Keys in their files: durable, shared by processes, private, and naming nobody."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conosco.engines.sqlite.connection import UnfitFile
from conosco.engines.sqlite.control import SqliteControl
from conosco.engines.sqlite.keys import FileKeys
from conosco.engines.sqlite.leases import SqliteLeases
from conosco.ports.leases import RunOut, Take
from tests.unit.engines.raw_files import occurrences

MAIL = ("email", "ada.canary@example.com")


def test_leases_and_stops_are_shared_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "leases.sqlite"
    first, second = SqliteLeases(path, secret=b"s"), SqliteLeases(path, secret=b"s")
    assert first.lease([Take("dlv_1")], 10, 0) == [True]
    assert second.lease([Take("dlv_1")], 10, 5) == [False]
    second.stop([MAIL], "marketing", 3)
    assert first.stopped([MAIL], "marketing")
    first.close()
    second.close()
    again = SqliteLeases(path, secret=b"s")
    assert again.expired(10) == [RunOut("dlv_1")]
    assert again.lease([Take("dlv_2", [MAIL], "marketing")], 10, 5) == [False]
    again.close()


def test_a_stop_list_of_another_secret_is_refused(tmp_path: Path) -> None:
    SqliteLeases(tmp_path / "leases.sqlite", secret=b"one").close()
    with pytest.raises(UnfitFile, match="another secret"):
        SqliteLeases(tmp_path / "leases.sqlite", secret=b"two")
    SqliteLeases(tmp_path / "leases.sqlite", secret=b"one").close()


def test_the_stop_list_names_nobody(tmp_path: Path) -> None:
    leases = SqliteLeases(tmp_path / "leases.sqlite", secret=b"s")
    leases.stop([MAIL], "marketing", 3)
    assert sum(occurrences(tmp_path, b"marketing").values()) > 0
    assert sum(occurrences(tmp_path, MAIL[1].encode()).values()) == 0
    leases.close()


def test_control_is_shared_and_kept(tmp_path: Path) -> None:
    first, second = SqliteControl(tmp_path / "control.sqlite"), SqliteControl(tmp_path / "control.sqlite")
    first.put("code", "c", b"1", 10)
    assert second.take("code", "c", 5) == b"1"
    assert first.take("code", "c", 5) is None
    first.put("token", "t", b"2")
    first.close()
    second.close()
    again = SqliteControl(tmp_path / "control.sqlite")
    assert again.get("token", "t", 0) == b"2"
    again.close()


def test_taking_sweeps_out_what_has_expired(tmp_path: Path) -> None:
    control = SqliteControl(tmp_path / "control.sqlite")
    control.put("session", "canary-session", b"1", 10)
    control.take("code", "none", 10)
    control.close()
    assert sum(occurrences(tmp_path, b"canary-session").values()) == 0


def test_keys_are_private_and_seen_by_other_processes(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    first, second = FileKeys(path), FileKeys(path)
    assert not path.exists()
    first.put("a", b"1")
    assert second.secret("a") == b"1"
    second.put("b", b"2")
    first.destroy("a")
    assert (second.secret("a"), first.secret("b")) == (None, b"2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(other.name for other in tmp_path.iterdir()) == ["keys", "keys.lock"]
    assert FileKeys(path).secret("b") == b"2"


def test_keys_put_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: FileKeys(path).put(f"key-{number}", b"%d" % number), range(60)))
    assert [FileKeys(path).secret(f"key-{number}") for number in range(60)] == [b"%d" % number for number in range(60)]


def test_a_damaged_file_of_keys_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keys = FileKeys(path)
    keys.put("a", b"1")
    path.write_bytes(b'{"a": "MQ=')
    with pytest.raises(UnfitFile, match="restore"):
        FileKeys(path)
    with pytest.raises(UnfitFile):
        keys.put("b", b"2")
    assert path.read_bytes() == b'{"a": "MQ='
