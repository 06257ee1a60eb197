"""The wiring of files that go out: Parquet is made by a process of its own, so that the sender need not load an engine."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

PARQUET_CHILD: Final = "conosco.engines.duckdb.parquet_child"
PARQUET_S: Final = 60.0
PARQUET_LONG_S: Final = 1_800.0


def parquet_of(lines: Path, made: Path, columns: Sequence[str]) -> None:
    """Make a Parquet file of a file of JSON Lines, whose members are these columns. Raises OSError if it could not be made."""
    names = msgspec.json.encode(dict.fromkeys(columns, ""))
    command = [sys.executable, "-m", PARQUET_CHILD, str(lines), str(made), names.decode()]
    try:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=PARQUET_LONG_S, check=False).returncode
    except subprocess.TimeoutExpired:
        status = -1
    if status != 0:
        raise OSError(f"the Parquet file was not made: the process ended with {status}")


async def to_parquet(lines: bytes) -> bytes:
    """A Parquet file of JSON Lines. Raises OSError if it could not be made in a minute."""
    with TemporaryDirectory(prefix="conosco-parquet-") as folder:
        given, made = Path(folder, "lines"), Path(folder, "parquet")
        given.write_bytes(lines)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", PARQUET_CHILD, str(given), str(made), stdin=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(PARQUET_S):
                status = await child.wait()
        except TimeoutError:
            status = -1
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if status != 0:
            raise OSError(f"the Parquet file was not made: the process ended with {status}")
        return made.read_bytes()
