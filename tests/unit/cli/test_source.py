"""`conosco source` says what it needs and what is wrong; what it shows is tested against a whole installation (running/test_wire.py)."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from conosco.cli.main import app
from tests.running.installation import free_port


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["list"], "Give the data folder with --data, or the admin token with --token."),
        (["list", "--token", "t", "--url", "nowhere"], "nowhere is no address"),
        (["show", "a", "--data", "{missing}"], "Cannot read the admin token"),
        (["create", "a", "--token", "t", "--url", "{silent}"], "Is `conosco serve` running?"),
    ],
)
def test_it_says_what_to_do(words: list[str], told: str, tmp_path: Path) -> None:
    places = {"{missing}": str(tmp_path / "missing"), "{silent}": f"http://127.0.0.1:{free_port()}"}
    ran = CliRunner().invoke(app, ["source", *(places.get(word, word) for word in words)])
    assert ran.exit_code == 1
    assert told in ran.output
