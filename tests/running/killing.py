"""Killing a process at a drawn system call, where tracing is possible, else at a drawn moment."""

import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.running.installation import NotInTime, is_alive, kill, until

# What changes the world outside the process: files, their names, and what others are told.
CALLS = (
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fallocate",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "sendto",
    "sendmsg",
)
COUNTED_S = 0.5
COUNTED_S_MAX = 8.0
STRIKES_WITHIN_S = 3.0
MOMENT_S_MAX = 0.6
_CALL = re.compile(r"^(\d+) +(\w+)\(", re.MULTILINE)


def _can_trace() -> bool:
    strace = shutil.which("strace")
    return (
        strace is not None
        and not subprocess.run([strace, "-o", "/dev/null", "true"], check=False, capture_output=True).returncode
    )


CAN_TRACE = _can_trace()


class Points:
    """The system calls of one process under load, from which points to kill it at are drawn."""

    def __init__(self, counts: dict[str, int]) -> None:
        self._counts = counts

    @staticmethod
    def of(pid: int, scratch: Path) -> "Points":
        """Watch a process for a moment. Each kind of call counts as often as its busiest thread makes it."""
        if not CAN_TRACE:
            return Points({})
        names = ",".join(f"?{name}" for name in CALLS)
        tracing = subprocess.Popen(
            ["strace", "-f", "-qq", "-e", f"trace={names}", "-e", "signal=none", "-p", str(pid), "-o", str(scratch)],
            stderr=subprocess.DEVNULL,
        )
        time.sleep(COUNTED_S)
        # A process that works in bursts is watched until it has worked.
        until(lambda: bool(scratch.read_bytes()), f"process {pid} does something", COUNTED_S_MAX)
        time.sleep(COUNTED_S / 4)
        tracing.send_signal(signal.SIGINT)
        tracing.wait(10)
        by_thread = Counter(_CALL.findall(scratch.read_text(errors="replace")))
        counts: dict[str, int] = {}
        for (_, name), count in by_thread.items():
            counts[name] = max(count, counts.get(name, 0))
        return Points(counts)

    def strike(self, pid: int, chance: Random) -> str:
        """Kill the process at a drawn point; in words, where that was."""
        if not self._counts:
            time.sleep(chance.random() * MOMENT_S_MAX)
            kill(pid)
            return "at a moment"
        # Rare calls (an unlink, a rename) are where files change hands, so every kind is as likely as the others.
        name = chance.choice(sorted(self._counts))
        number = chance.randint(1, self._counts[name])
        inject = f"inject={name}:signal=KILL:when={number}"
        tracing = subprocess.Popen(
            ["strace", "-f", "-qq", "-e", f"trace={name}", "-e", inject, "-p", str(pid), "-o", "/dev/null"],
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: not is_alive(pid), f"{name} {number} is reached", STRIKES_WITHIN_S)
            return f"before {name} {number}"
        except NotInTime:
            kill(pid)
            return f"waiting for {name} {number}"
        finally:
            # The process is dead, so nothing can be left stopped by a tracer that goes without a word.
            tracing.kill()
            tracing.wait(10)
