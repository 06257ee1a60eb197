"""The tree keeps every rule of the house, and every rule finds what breaks it."""

from pathlib import Path

import pytest

from tests.house import rules

ROOT = Path(__file__).parents[2]
DOC = '"""A module."""\n'
SECRET_PATH = "/" + "work/main"

# For each rule: a file that breaks it, and its text.
PLANTED: dict[str, tuple[str, str]] = {
    "long_files": ("conosco/web/page.py", DOC + "x = 1\n" * rules.FILE_LINES_MAX),
    "long_functions": ("tests/unit/test_x.py", DOC + "async def f():\n" + "    x = 1\n" * rules.FUNCTION_LINES_MAX),
    "wide_ports": (
        "conosco/ports/door.py",
        DOC + "class Door(Protocol):\n" + "".join(f"    def m{n}(self): ...\n" for n in range(rules.PORT_METHODS_MAX + 1)),
    ),
    "drawers": ("conosco/collect/utils.py", DOC),
    "vague_classes": ("conosco/web/page.py", DOC + "class PageManager:\n    pass\n"),
    "engine_names": ("conosco/web/page.py", DOC + 'TREE = tree.sql(dialect="duckdb")\n'),
    "missing_docstrings": ("conosco/web/page.py", "x = 1\n"),
    "inner_imports": ("conosco/web/page.py", DOC + "def f():\n    from conosco.model import ids\n    return ids\n"),
    "forged_permits": ("conosco/activate/stage.py", DOC + "permit = delivery.Permit(mac=b'')\n"),
    "environment_reads": ("conosco/web/page.py", DOC + "import os\nHOST = os.environ['HOST']\n"),
    "ownerless_todos": ("docs/page.md", "TO" + "DO: write this\n"),
    "foreign_traces": ("docs/page.md", f"see {SECRET_PATH}/README.md\n"),
}
# What looks like a breach and is none.
INNOCENT: dict[str, tuple[str, str]] = {
    "long_files": ("conosco/web/page.py", "x = 1\n" * rules.FILE_LINES_MAX),
    "wide_ports": ("conosco/ports/door.py", "class Rows:\n" + "".join(f"    def m{n}(self): ...\n" for n in range(20))),
    "engine_names": ("conosco/web/page.py", 'SPARKLINE = "sparkline of kafka://host and sqlite://file"\n'),
    "missing_docstrings": ("conosco/web/__init__.py", ""),
    "inner_imports": ("conosco/web/page.py", "from conosco.model import ids\n"),
    "forged_permits": ("conosco/govern/gate.py", "permit = Permit(mac=b'')\n"),
    "environment_reads": ("conosco/runtime/settings.py", "import os\nHOST = os.environ['HOST']\n"),
    "ownerless_todos": ("docs/page.md", "TODO(anna): measure again\n"),
    "foreign_traces": ("docs/page.md", "conosco/ports/work.py and ./tmp/x and https://example.com/work/\n"),
}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(rule: rules.Rule) -> None:
    assert rule(ROOT) == [], rule.__doc__


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_rule_finds_a_breach(rule: rules.Rule, tmp_path: Path) -> None:
    name, text = PLANTED[rule.__name__]
    _plant(tmp_path, name, text)
    [found] = rule(tmp_path)
    assert found.startswith(name.removesuffix(".py"))


@pytest.mark.parametrize("rule", [rule for rule in rules.RULES if rule.__name__ in INNOCENT], ids=lambda rule: rule.__name__)
def test_the_rule_lets_the_innocent_be(rule: rules.Rule, tmp_path: Path) -> None:
    _plant(tmp_path, *INNOCENT[rule.__name__])
    assert rule(tmp_path) == []


def _plant(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
