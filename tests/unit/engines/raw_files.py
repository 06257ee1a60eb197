"""Looks at the bytes of files as they lie on the disk, from another process: opening them in this one would drop its locks."""

import subprocess
import sys
from pathlib import Path

_SCAN = """
import pathlib, sys
needle = bytes.fromhex(sys.argv[2])
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*")):
    if path.is_file():
        print(path.name, path.read_bytes().count(needle))
"""


def occurrences(folder: Path, needle: bytes) -> dict[str, int]:
    """How often bytes occur in each file under a folder."""
    ran = subprocess.run(
        [sys.executable, "-I", "-c", _SCAN, str(folder), needle.hex()], check=True, capture_output=True, text=True
    )
    return {name: int(count) for name, count in (line.rsplit(" ", 1) for line in ran.stdout.splitlines())}


def copy_live(folder: Path, copy: Path) -> None:
    """Copy the files of an engine that is open, WAL and all, as a crash would leave them."""
    subprocess.run(["cp", "-r", str(folder), str(copy)], check=True)
