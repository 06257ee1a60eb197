"""Reports: what each role tells of itself once a second, in a small file, so that the front can speak for all of them.

A report carries no personal data: checks by name with a code where one fails, and samples of the metrics in
``runtime/metrics.py``. A role that is stuck or dead stops reporting, which is seen by the age of its report.
"""

import os
import resource
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from conosco.model.answer import Sample
from conosco.model.moment import SECOND

EVERY_S: Final = 1.0
# An older report is that of a role which no longer reports.
FRESH_US: Final = 4 * SECOND
# A role's loop may be at one thing for this long before it counts as stuck: large questions and backfills take their time.
STUCK_US: Final = 120 * SECOND
_PAGE_BYTES: Final = resource.getpagesize()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a role says: when (in ``ticks``), since when its loop has been at one turn, its checks (a code, or empty if well), its samples."""

    role: str
    pid: int
    at: int
    turned_at: int
    checks: dict[str, str] = {}
    samples: list[Sample] = []


def ticks() -> int:
    """Microseconds of the machine's own count, which all its processes share and which no change of the clock moves."""
    return time.monotonic_ns() // 1_000


class Reporter:
    """Writes one role's report once a second from a thread of its own.

    ``turn`` is called by the role's loop whenever it comes round, with what is in its way (empty if nothing is); ``samples``
    is called by the thread and must only read what may be read beside the loop.
    """

    def __init__(
        self,
        folder: Path,
        role: str,
        clock: Callable[[], int] = ticks,
        samples: Callable[[], Sequence[Sample]] = tuple,
    ) -> None:
        self._path = folder / f"{role}.report"
        self._role = role
        self._clock = clock
        self._samples = samples
        self._turned_at = clock()
        self._checks: Mapping[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="report", daemon=True)

    def start(self) -> "Reporter":
        """Begin to report."""
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        self._thread.start()
        return self

    def turn(self, **checks: str) -> None:
        """The loop has come round: what it found, by name; an empty text is well."""
        self._turned_at = self._clock()
        self._checks = checks

    def close(self) -> None:
        """Report no more."""
        self._stop.set()
        self._thread.join(2 * EVERY_S)
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.write()
            self._stop.wait(EVERY_S)

    def write(self) -> None:
        """Write the report as of now; a disk that does not take it leaves the old one, which then grows old."""
        report = Report(
            role=self._role,
            pid=os.getpid(),
            at=self._clock(),
            turned_at=self._turned_at,
            checks=dict(self._checks),
            samples=[*self._samples(), *_of_process(self._role)],
        )
        beside = self._path.with_suffix(".new")
        try:
            beside.write_bytes(msgspec.json.encode(report))
            beside.replace(self._path)
        except OSError:
            return


def read_reports(folder: Path) -> dict[str, Report]:
    """The newest report of each role that has written one."""
    found: dict[str, Report] = {}
    for path in sorted(folder.glob("*.report")):
        try:
            report = msgspec.json.decode(path.read_bytes(), type=Report)
        except (OSError, msgspec.DecodeError):
            continue
        found[report.role] = report
    return found


def trouble(report: Report | None, now: int) -> str:
    """What is wrong with a role by its report, as a code; empty if nothing is."""
    if report is None:
        return "not_reporting"
    # One from before the machine was started again lies ahead.
    if abs(now - report.at) > FRESH_US:
        return "not_reporting"
    failing = next((code for code in report.checks.values() if code), "")
    if failing:
        return failing
    return "stuck" if now - report.turned_at > STUCK_US else ""


def _of_process(role: str) -> list[Sample]:
    usage: Any = resource.getrusage(resource.RUSAGE_SELF)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return []
    return [
        Sample("conosco_role_resident_bytes", (role,), pages * _PAGE_BYTES),
        Sample("conosco_role_cpu_seconds_total", (role,), usage.ru_utime + usage.ru_stime),
    ]
