"""The doctor finds what is wrong, says what to do, and changes nothing."""

import os
import socket
from pathlib import Path

import pytest

from conosco.model.record import Draft
from conosco.ports.archive import Alarm
from conosco.runtime import doctor
from conosco.runtime.bootstrap import Folder, open_archive, open_log, prepare
from conosco.runtime.doctor import Finding, examine, listening_on, summary
from conosco.runtime.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(data=tmp_path / "data", port=1)
    os.umask(0o077)
    prepare(made)
    return made


def found(settings: Settings, check: str) -> list[Finding]:
    return [finding for finding in examine(settings) if finding.check == check]


def levels(findings: list[Finding]) -> set[str]:
    return {finding.level for finding in findings}


def test_a_fresh_installation_has_no_failure(settings: Settings) -> None:
    told = list(examine(settings))
    assert "failure" not in levels(told), told
    assert {"versions", "folder", "secrets", "sync", "clock", "limits", "server", "format", "log", "damage", "state"} <= {
        one.check for one in told
    }


def test_nothing_is_left_behind(settings: Settings) -> None:
    before = sorted(settings.data.iterdir())
    list(examine(settings))
    assert sorted(settings.data.iterdir()) == before


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    told = found(Settings(data=tmp_path / "none", port=1), "folder")
    assert [one.level for one in told] == ["note"]


def test_what_others_may_read_is_a_failure(settings: Settings) -> None:
    Folder(settings.data).admin_token.chmod(0o640)
    settings.data.chmod(0o755)
    (told,) = found(settings, "secrets")
    assert told.level == "failure"
    assert told.todo == f"chmod 0600 {Folder(settings.data).admin_token}"
    assert "warning" in levels(found(settings, "folder"))


def test_a_damaged_record_is_a_failure(settings: Settings) -> None:
    log = open_log(settings)
    log.append([Draft(kind="tick", slices=(b"a body to be damaged",))])
    log.close()
    damaged = 0
    for path in Folder(settings.data).log.iterdir():
        body = path.read_bytes()
        if b"to be damaged" in body:
            path.write_bytes(body.replace(b"to be damaged", b"to be dumaged"))
            damaged += 1
    assert damaged
    assert levels(found(settings, "log")) == {"failure"}


def test_a_log_that_lost_its_end_is_a_failure(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead:
        def offset(self) -> tuple[int, int]:
            return 1_000_000, 1

        def get_many(self, *_: object) -> dict[object, bytes]:
            return {}

        def close(self) -> None:
            return

    monkeypatch.setattr(doctor, "open_state", lambda _: Ahead())
    (told,) = found(settings, "state")
    assert (told.level, "conosco replay --swap" in told.todo) == ("failure", True)


def test_a_clock_that_was_set_back_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(settings)
    head = log.append([Draft(kind="tick")])[0].logged_at
    log.close()
    monkeypatch.setattr(doctor, "clock", lambda: head - 3_600_000_000)
    (told,) = found(settings, "clock")
    assert (told.level, "3600 s ahead" in told.said) == ("warning", True)
    monkeypatch.setattr(doctor, "clock", lambda: 0)
    assert levels(found(settings, "clock")) == {"failure"}


def test_a_look_that_fails_is_a_finding(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Settings) -> object:
        raise OSError("the disk is gone")

    monkeypatch.setattr(doctor, "open_log", broken)
    told = found(settings, "log")
    assert (told[0].level, "the disk is gone" in told[0].said) == ("failure", True)


def test_a_folder_of_a_newer_version_is_a_failure(settings: Settings) -> None:
    assert levels(found(settings, "format")) == {"note"}
    place = Folder(settings.data).format
    place.write_text('{"format": 99, "stores": {}}')
    (told,) = found(settings, "format")
    assert (told.level, "format 99" in told.said) == ("failure", True)
    place.write_text("{")
    assert levels(found(settings, "format")) == {"failure"}


def test_alarms_are_told(settings: Settings) -> None:
    archive = open_archive(settings)
    archive.raise_alarm(Alarm(found_at=1_790_000_000_000_000, file="a", what="mended"))
    assert levels(found(settings, "damage")) == {"warning"}
    archive.raise_alarm(Alarm(found_at=1_790_000_000_000_000, file="b", what="made_anew", lost=2))
    archive.close()
    (told,) = found(settings, "damage")
    assert (told.level, "2 records are lost" in told.said) == ("failure", True)


def test_an_old_backup_is_told_and_a_key_beside_the_data(settings: Settings) -> None:
    assert found(settings, "backup") == []
    folder = Folder(settings.data)
    folder.backups.mkdir()
    assert levels(found(settings, "backup")) == {"warning"}
    made = folder.backups / "before-format-2-from-1.backup"
    made.write_bytes(b"")
    assert levels(found(settings, "backup")) == {"ok"}
    os.utime(made, (0, 0))
    assert levels(found(settings, "backup")) == {"warning"}
    made.unlink()
    folder.backups.rmdir()
    folder.backup_key.write_text("KEY")
    assert levels(found(settings, "backup")) == {"warning"}


def test_a_lost_state_is_a_failure(settings: Settings) -> None:
    log = open_log(settings)
    log.append([Draft(kind="tick")])
    log.close()
    assert levels(found(settings, "state")) == {"failure"}


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_who_listens_is_read_from_the_system(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        port = listener.getsockname()[1]
        assert listening_on(port) == []
        listener.listen()
        assert listening_on(port) == [address]


def test_the_worst_level_is_the_level_of_all() -> None:
    findings = [Finding(check="a", level="note", said=""), Finding(check="b", level="warning", said="")]
    assert summary(findings)["level"] == "warning"
    assert summary([])["level"] == "ok"
