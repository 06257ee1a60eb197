"""A skipped test that is not named with a reason fails a strict run."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ALLOWED_SKIPS, read_allowed, unlisted

TEST = '''"""One test passes, one is skipped."""
import pytest

def test_good():
    assert True

@pytest.mark.skip(reason="no reason")
def test_skipped():
    assert False

@pytest.mark.xfail(reason="known", strict=True)
def test_expected_to_fail():
    assert False
'''


@pytest.mark.parametrize(
    ("allowed", "strict", "code"),
    [("", True, 1), ("", False, 0), ("test_it.py::test_skipped  # needs a moon\n", True, 0), ("test_it.py  # no\n", True, 1)],
)
def test_a_strict_run_fails_on_an_unlisted_skip(allowed: str, strict: bool, code: int, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path / "conftest.py")
    (tmp_path / "allowed_skips.txt").write_text(allowed)
    (tmp_path / "test_it.py").write_text(TEST)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *(["--strict-skips"] if strict else []),
        "test_it.py",
    ]
    run = subprocess.run(command, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True, check=False)
    assert run.returncode == code, run.stdout + run.stderr
    assert ("UNLISTED SKIP test_it.py::test_skipped" in run.stdout) == (code == 1)


def test_a_skip_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        read_allowed("tests/unit/test_x.py::test_y\n")


def test_patterns_match_whole_ids() -> None:
    allowed = read_allowed("# a comment\n\ntests/x\\.py::test_[ab]  # because\n")
    assert unlisted(["tests/x.py::test_a", "tests/x.py::test_ab", "tests/x.py"], allowed) == ["tests/x.py::test_ab", "tests/x.py"]


def test_the_list_in_use_can_be_read() -> None:
    read_allowed(ALLOWED_SKIPS.read_text())
