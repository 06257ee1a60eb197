"""Result tables: the part of a README between two marks, rewritten by the benchmark that stands beside it."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def machine() -> str:
    """What the figures were measured on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{os.cpu_count()} x {model}, {memory:.0f} GiB, Python {platform.python_version()}"


def commit() -> str:
    """The state of the code that was measured."""
    made = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return made.stdout.strip() or "unknown"


def rewrite(folder: Path, header: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
    """Put a new table into the folder's README and show it."""
    lines = [
        BEGIN,
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {machine()}, commit {commit()}.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + " --- |" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        *(f"{note}\n" for note in notes),
        END,
    ]
    path = folder / "README.md"
    text = path.read_text()
    before, _, rest = text.partition(BEGIN)
    path.write_text(before + "\n".join(lines) + rest.partition(END)[2])
    print("\n".join(lines[2:-1]))
