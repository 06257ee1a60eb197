"""Recording an operation's calls by a library that is compiled here and preloaded into its process."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

from tests.running.installation import REPOSITORY
from tests.running.power.disk import Call, Cut, Disk, draw_cuts, play_cuts, read_trace
from tests.running.power.operations import Operation

SOURCE = Path(__file__).with_name("shim.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")
WITHIN_S = 60.0
MEMORY = Path("/dev/shm")


def compile_shim(folder: Path) -> Path | None:
    """The library, or None where there is no compiler or a library cannot be preloaded."""
    library = folder / "shim.so"
    if COMPILER is None or sys.platform != "linux":
        return None
    made = subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl", "-lpthread"], check=False)
    return library if made.returncode == 0 else None


class Recorded:
    """An operation that was performed once: what lay in its folder before, and every call since."""

    def __init__(self, operation: Operation, folder: Path, library: Path, variant: str = "", kill_at: int = 0) -> None:
        self.operation = operation
        self.before = folder / "before"
        self.root = folder / "root"
        trace = folder / "trace"
        self.before.mkdir(parents=True)
        operation.before(self.before / "data")
        shutil.copytree(self.before, self.root)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CONOSCO_")}
        environment |= {
            "PYTHONPATH": str(REPOSITORY),
            "LD_PRELOAD": str(library),
            "POWER_ROOT": str(self.root),
            "POWER_TRACE": str(trace),
            "POWER_KILL_AT": str(kill_at),
        }
        command = [sys.executable, "-m", "tests.running.power.acting", operation.name, str(self.root / "data"), variant]
        self.ended = subprocess.run(
            command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=WITHIN_S
        )
        self.calls: list[Call] = read_trace(trace)

    def cut(self, count: int, seed: int) -> list[tuple[Cut, BaseException]]:
        """Cut the power so many times; the cuts after which something was wrong, and what."""
        failures: list[tuple[Cut, BaseException]] = []
        # What comes after a cut is only looked at: where there is memory for it, no real disk has to sync it again.
        scratch = Path(tempfile.mkdtemp(prefix="power-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
        after = scratch / "after"

        def check(cut: Cut, disk: Disk) -> None:
            disk.fail(cut.way, Random(cut.seed), after)
            try:
                self.operation.check(after / "data", disk.marks)
            except Exception as error:  # noqa: BLE001 - a storage that does not open raises whatever its engine raises
                failures.append((cut, error))
            finally:
                shutil.rmtree(after)

        try:
            play_cuts(self.before, self.root, self.calls, draw_cuts(self.calls, count, Random(seed)), check)
        finally:
            shutil.rmtree(scratch)
        return failures
