"""Files are opened with the settings that durability and erasure need, or not at all."""

import stat
from pathlib import Path

import pytest

from conosco.engines.sqlite.connection import UnfitFile, UnfitLibrary, check_library, connect, migrate, only_one, replace_file


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2", "2.9.9"])
def test_libraries_that_can_lose_rows_are_refused(version: str) -> None:
    with pytest.raises(UnfitLibrary, match=version):
        check_library(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.54.1", "4.0.0", "3.60"])
def test_newer_libraries_are_taken(version: str) -> None:
    check_library(version)


def test_settings_are_in_force(tmp_path: Path) -> None:
    connection = connect(tmp_path / "a.sqlite", page_bytes=8192, checkpoint_bytes=819_200)
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2
    assert connection.pragma("secure_delete") == 1
    assert connection.pragma("page_size") == 8192
    assert connection.pragma("wal_autocheckpoint") == 100
    connection.close()


def test_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    connection = connect(tmp_path / "a.sqlite")
    connection.execute("CREATE TABLE t (a)")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"a.sqlite": 0o600, "a.sqlite-wal": 0o600, "a.sqlite-shm": 0o600}
    connection.close()


def test_files_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    connection = connect(tmp_path / "a.sqlite")
    connection.pragma("user_version", 2)
    connection.close()
    with pytest.raises(UnfitFile, match="newer version"):
        connect(tmp_path / "a.sqlite")


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path) -> None:
    connection = connect(tmp_path / "a.sqlite")
    with pytest.raises(Exception, match="syntax error"):
        migrate(connection, "CREATE TABLE t (a); CREATE NONSENSE", ("t",))
    assert connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
    assert not connection.in_transaction
    connection.close()


def test_small_files_are_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "note"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [other.name for other in tmp_path.iterdir()] == ["note"]


def test_a_replacement_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "note"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(path, b"body")
    assert [other.name for other in tmp_path.iterdir()] == ["note"]


def test_the_folder_lock_is_let_go(tmp_path: Path) -> None:
    for _ in range(2):
        with only_one(tmp_path / "lock"):
            pass
