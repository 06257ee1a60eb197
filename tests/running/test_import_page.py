"""Every command of docs/how-to/import.md, run in its order on a folder whose server is not running."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.running.installation import COMMAND, REPOSITORY

PAGE = REPOSITORY / "docs" / "how-to" / "import.md"
ORDERS = "codice cliente;e-mail;nome;data;importo\nC1;anna@example.it;Anna;03/04/2024;1.234,50\nC2;bea@example.it;Bea;05/04/2024;10,00\nbroken\n"


def commands() -> list[str]:
    """The lines of the page's shell blocks."""
    return [line for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) for line in block.splitlines()]


def run(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    words = shlex.split(line)
    assert words[0] == "conosco"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CONOSCO_")}
    environment = {**inherited, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}
    return subprocess.run(
        [*COMMAND, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=110, check=False
    )


@pytest.mark.timeout(300)
def test_every_command_of_the_page_does_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text(ORDERS)
    asked = run(tmp_path, "conosco import orders.csv --data ./conosco-data --dry-run")
    assert asked.returncode == 1 and "conosco serve" in asked.stderr
    (tmp_path / "conosco-data").mkdir(mode=0o700)
    (tmp_path / "conosco-data" / "admin-token").write_text("token-of-the-page\n")
    look, ordered, write, bring, listed, undo = commands()
    found = run(tmp_path, look)
    assert found.returncode == 1 and "day first or month first" in found.stdout, found
    found = run(tmp_path, ordered)
    assert found.returncode == 0 and "3 rows read: 2 events, 1 rejected." in found.stdout, found
    assert "2 new people" in found.stdout and "Nothing was imported" in found.stdout
    found = run(tmp_path, write)
    assert found.returncode == 0 and '"user_id"' in (tmp_path / "mapping.json").read_text(), found
    found = run(tmp_path, bring)
    assert found.returncode == 0 and "2 events imported, 1 row rejected" in found.stdout, found
    assert (tmp_path / "rejected.csv").read_text().splitlines()[1].startswith("3,wrong_width")
    found = run(tmp_path, listed)
    import_id = found.stdout.split()[0]
    assert import_id.startswith("imp_") and "done" in found.stdout
    found = run(tmp_path, undo.replace("IMPORT_ID", import_id))
    assert found.returncode == 0 and "2 events erased" in found.stdout, found
