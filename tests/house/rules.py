"""The rules of the house as pure functions: each takes a source tree and gives what breaks the rule, one line a place."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

FILE_LINES_MAX: Final = 600
FUNCTION_LINES_MAX: Final = 70
PORT_METHODS_MAX: Final = 8

# Folders that tools make, and that are not ours.
NOT_OURS: Final = frozenset({"__pycache__", "node_modules", "build", "dist", "conosco-data", "conosco-demo"})
PYTHON_FOLDERS: Final = ("conosco", "tests", "tools", "benchmarks")
# The list of forbidden words cannot avoid them; every other file can.
THIS_FILE: Final = "tests/house/rules.py"

Rule = Callable[[Path], list[str]]


def long_files(root: Path) -> list[str]:
    """Python files of more than 600 lines: split them by idea."""
    counted = ((path, path.read_text().count("\n")) for path in _python(root, *PYTHON_FOLDERS))
    return [f"{_name(root, path)}: {lines} lines" for path, lines in counted if lines > FILE_LINES_MAX]


def long_functions(root: Path) -> list[str]:
    """Functions of more than 70 lines."""
    found = []
    for path, tree in _parsed(root, *PYTHON_FOLDERS):
        for function in _functions(tree):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                found.append(f"{_name(root, path)}:{function.lineno}: {function.name} has {lines} lines")
    return found


def wide_ports(root: Path) -> list[str]:
    """Doors of more than 8 methods: a door as wide as an engine can only be entered by that engine."""
    found = []
    for path, tree in _parsed(root, "conosco/ports"):
        for door in _classes(tree):
            if any(ast.unparse(base).split("[")[0].endswith("Protocol") for base in door.bases):
                methods = sum(isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) for part in door.body)
                if methods > PORT_METHODS_MAX:
                    found.append(f"{_name(root, path)}:{door.lineno}: {door.name} has {methods} methods")
    return found


def drawers(root: Path) -> list[str]:
    """Modules whose name says nothing, so that anything can be put there."""
    banned = {"utils", "util", "common", "helpers", "helper", "types", "misc", "shared"}
    paths = {path for file in _python(root, *PYTHON_FOLDERS) for path in (file, *file.parents) if path != root}
    return sorted(_name(root, path) for path in paths if path.is_relative_to(root) and path.stem in banned)


def vague_classes(root: Path) -> list[str]:
    """Classes named after no thing of ours."""
    ending = re.compile(r"(Manager|Service|Helper|Util|Utils|Handler|Impl|Data|Info)\Z")
    return [
        f"{_name(root, path)}:{found.lineno}: {found.name}"
        for path, tree in _parsed(root, "conosco", "tools")
        for found in _classes(tree)
        if ending.search(found.name)
    ]


def engine_names(root: Path) -> list[str]:
    """Engines named outside engines/ and the wiring: ask for a capability, never for a name. URL schemes may be named."""
    engine = re.compile(r"sqlite|duckdb|apsw|postgres|kafka|clickhouse|(?<![a-z])spark(?![a-z])", re.IGNORECASE)
    scheme = re.compile(r"\b(sqlite|duckdb|postgres|postgresql|kafka|spark|clickhouse)://", re.IGNORECASE)
    apart = (
        "conosco/engines/",
        "conosco/runtime/bootstrap.py",
        "conosco/runtime/bootstrap_warehouse.py",
        "conosco/runtime/bootstrap_files.py",
    )
    found = []
    for path in _text(root, "conosco"):
        name = _name(root, path)
        if not name.startswith(apart):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                code = line.split("#")[0] if name == "conosco/runtime/settings.py" else line
                if named := engine.search(scheme.sub("", code)):
                    found.append(f"{name}:{number}: {named[0]}")
    return found


def missing_docstrings(root: Path) -> list[str]:
    """Modules that do not say in a sentence what they are. A package file may be empty."""
    return [
        _name(root, path)
        for path, tree in _parsed(root, *PYTHON_FOLDERS)
        if ast.get_docstring(tree) is None and not (path.name == "__init__.py" and not tree.body)
    ]


def inner_imports(root: Path) -> list[str]:
    """Imports of our own modules inside functions: they hide a cycle or a wrong floor."""
    found = set()
    for path, tree in _parsed(root, "conosco"):
        for function in _functions(tree):
            for part in ast.walk(function):
                names = [part.module or ""] if isinstance(part, ast.ImportFrom) else []
                names += [alias.name for alias in part.names] if isinstance(part, ast.Import) else []
                if any(name.split(".")[0] == "conosco" for name in names):
                    found.add(f"{_name(root, path)}:{part.lineno}" if isinstance(part, ast.stmt) else "")
    return sorted(found)


def forged_permits(root: Path) -> list[str]:
    """Permits made outside the gate."""
    return [
        f"{_name(root, path)}:{call.lineno}"
        for path, tree in _parsed(root, "conosco")
        if _name(root, path) != "conosco/govern/gate.py"
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] == "Permit"
    ]


def environment_reads(root: Path) -> list[str]:
    """Reads of the environment outside runtime/settings.py."""
    return [
        f"{_name(root, path)}:{part.lineno}"
        for path, tree in _parsed(root, "conosco")
        if _name(root, path) != "conosco/runtime/settings.py"
        for part in ast.walk(tree)
        if isinstance(part, ast.Attribute) and ast.unparse(part) in {"os.environ", "os.getenv", "os.environb"}
    ]


def ownerless_todos(root: Path) -> list[str]:
    """Notes of things to do that name nobody: write TODO(owner), or do it."""
    return _lines(root, re.compile(r"\b(TODO(?!\([a-z])|FIXME|XXX)\b"))


def foreign_traces(root: Path) -> list[str]:
    """Machine paths, addresses of package registries, and words about how a text was made: they are nobody's business."""
    return _lines(
        root,
        re.compile(
            r"(?<![\w.*}])/(work|tmp|root|home/\w+)/|pypi\.org|pythonhosted\.org|registry\.npmjs\.org|registry\.yarnpkg"
            r"|\b(claude|anthropic|openai|chatgpt|copilot|gemini|llm|language model|sub-?agent|ai assistant)\b",
            re.IGNORECASE,
        ),
    )


RULES: Final[tuple[Rule, ...]] = (
    long_files,
    long_functions,
    wide_ports,
    drawers,
    vague_classes,
    engine_names,
    missing_docstrings,
    inner_imports,
    forged_permits,
    environment_reads,
    ownerless_todos,
    foreign_traces,
)


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _ours(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name not in NOT_OURS and not path.name.endswith(".egg-info") and (path.name[0] != "." or path.name == ".ci"):
                yield from _ours(path)
        elif path.name != ".git":  # in a second work tree this is a file that names the first
            yield path


def _python(root: Path, *folders: str) -> Iterator[Path]:
    for folder in folders:
        if (root / folder).is_dir():
            yield from (path for path in _ours(root / folder) if path.suffix == ".py")


def _text(root: Path, folder: str = "") -> Iterator[Path]:
    """Files that can be read as text; data and pictures are passed over."""
    for path in _ours(root / folder):
        if path.suffix not in {".gz", ".png", ".ico", ".woff2", ".parquet"} and b"\0" not in path.read_bytes()[:8_192]:
            yield path


def _parsed(root: Path, *folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in _python(root, *folders):
        yield path, ast.parse(path.read_bytes())


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (part for part in ast.walk(tree) if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef))


def _classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    return (part for part in ast.walk(tree) if isinstance(part, ast.ClassDef))


def _lines(root: Path, pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{_name(root, path)}:{number}: {found[0]}"
        for path in _text(root)
        if _name(root, path) != THIS_FILE
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if (found := pattern.search(line))
    ]
