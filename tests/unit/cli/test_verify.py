"""`conosco verify` and `conosco retention`: what they say, and with which exit code."""

from pathlib import Path

import apsw
import pytest
from typer.testing import CliRunner

from conosco.cli.main import app
from conosco.engines.sqlite.log import SqliteLog
from conosco.engines.sqlite.log_archive import SqliteArchive
from conosco.runtime.bootstrap import Folder, clock, prepare
from conosco.runtime.settings import read_settings
from conosco.testing.conformance.archive import seal_all
from conosco.testing.conformance.processes import draft


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An installation with sealed files and others."""
    data = tmp_path / "data"
    prepare(read_settings(data, "127.0.0.1", 0, {}))
    log, archive = SqliteLog(Folder(data).log, clock, segment_bytes=40_000), SqliteArchive(Folder(data).log, clock)
    for number in range(30):
        log.append([draft(f"{number:010000}")])
    seal_all(archive)
    archive.close()
    log.close()
    return data


def run(*words: str, **environment: str) -> tuple[int, str]:
    ran = CliRunner().invoke(app, list(words), env=environment)
    return ran.exit_code, ran.output


def test_a_sound_log(data: Path) -> None:
    code, said = run("verify", "--data", str(data))
    assert code == 0
    assert "Every record and every byte is as it was written." in said
    assert "sealed" in said


def test_a_bit_in_a_sealed_file_is_told_and_mended(data: Path) -> None:
    index = min(Folder(data).log.glob("*.index.parquet"))
    raw = bytearray(index.read_bytes())
    raw[len(raw) // 2] ^= 4
    index.write_bytes(raw)
    code, said = run("verify", "--data", str(data))
    assert (code, "no record depends on them" in said, "conosco verify --mend" in said) == (1, True, True)
    code, said = run("verify", "--data", str(data), "--mend")
    assert code == 0
    assert f"{index.name}: a bit in a sealed file was turned back" in said
    assert "Mended files: 1." in said


def test_a_changed_record_is_told_with_its_number(data: Path) -> None:
    newest = max(Folder(data).log.glob("*.sqlite"))
    connection = apsw.Connection(str(newest))
    position = connection.execute("SELECT max(position) FROM records").get
    body = connection.execute("SELECT body FROM records WHERE position = ?", (position,)).get
    connection.execute("UPDATE records SET body = ? WHERE position = ?", (body[:-1] + b"?", position))
    connection.close()
    code, said = run("verify", "--data", str(data))
    assert code == 1
    assert f"Record {position}: slice 1 is not as it was written." in said
    assert "What to do:" in said


def test_retention_says_what_is_kept(data: Path) -> None:
    code, said = run("retention", "--data", str(data), "--dry-run")
    assert (code, "raw requests: kept for ever" in said) == (0, True)
    code, said = run("retention", "--data", str(data), "--dry-run", CONOSCO_KEEP_RAW_DAYS="3")
    assert (code, "raw requests: kept for 3 days" in said) == (0, True)
    code, said = run("retention", "--data", str(data), CONOSCO_KEEP_RAW_DAYS="soon")
    assert (code, "CONOSCO_KEEP_RAW_DAYS holds soon" in said) == (2, True)
    code, said = run("replay", "--data", str(data), "--swap", CONOSCO_KEEP_RAW_DAYS="3")
    assert (code, "Not swapped" in said) == (1, True)
