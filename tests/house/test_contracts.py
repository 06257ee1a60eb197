"""The import contracts hold, and each of them finds what breaks it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Contract -> a file that breaks it, and the import that does.
PLANTED = {
    "Imports go down only": ("collect/planted.py", "import conosco.resolve"),
    "Engines are blind": ("engines/sqlite/planted.py", "import conosco.engines.memory"),
    "Destinations are blind": ("connectors/destinations/one.py", "import conosco.connectors.destinations.two"),
    "Places are blind": ("connectors/places/one.py", "import conosco.connectors.places.two"),
    "Storage drivers": ("segment/planted.py", "import duckdb"),
    "The web framework": ("profile/planted.py", "import litestar"),
    "Runtime and commands": ("runtime/planted.py", "import litestar"),
    "Requests leave": ("connectors/destinations/three.py", "import httpx"),
    "Model and rules": ("rules/planted.py", "import random"),
    "Engines are chosen": ("web/planted.py", "import conosco.engines.memory"),
}


def test_the_contracts_hold() -> None:
    answer = _lint(ROOT)
    assert " 0 broken" in answer, answer


def test_a_new_floor_needs_a_place(tmp_path: Path) -> None:
    _build(tmp_path, {"drawer/__init__.py": ""})
    assert "drawer" in _lint(tmp_path)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the linter says of a house in which every contract is broken once."""
    root = tmp_path_factory.mktemp("house")
    _build(root, dict(PLANTED.values()) | {"connectors/destinations/two.py": "", "connectors/places/two.py": ""})
    return _lint(root)


@pytest.mark.parametrize("contract", PLANTED)
def test_each_contract_can_break(contract: str, broken: str) -> None:
    [line] = [line for line in broken.splitlines() if line.startswith(contract) and line.endswith(("KEPT", "BROKEN"))]
    assert line.endswith("BROKEN"), broken


def test_no_contract_is_left_unproven(broken: str) -> None:
    assert f"0 kept, {len(PLANTED)} broken" in broken


def _build(root: Path, files: dict[str, str]) -> None:
    """The empty house: every package of ours, no module, and the planted files."""
    shutil.copy(ROOT / ".importlinter", root)
    for package in (ROOT / "conosco").rglob("__init__.py"):
        copy = root / package.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
    for module in ("runtime/bootstrap.py", "runtime/bootstrap_warehouse.py", "runtime/discover.py"):
        (root / "conosco" / module).touch()
    for name, text in files.items():
        path = root / "conosco" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def _lint(root: Path) -> str:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    # A wide terminal, or the verdicts are broken over lines.
    environment = {"PATH": "", "COLUMNS": "250", "NO_COLOR": "1", "PYTHONPATH": str(root)}
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    return run.stdout + run.stderr
