"""The progress desk: counts, readiness, and waiting for one's own writes."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

from conosco.model.answer import Job, JobStatus, Page, Readiness, Sample, SourceCounts, Status
from conosco.model.importing import ENDED, ImportRun, ImportStatus
from conosco.model.moment import SECOND, spell_moment
from conosco.ports.archive import Archive
from conosco.ports.tables import CURSORS
from conosco.runtime.asking import WarehouseUnavailable
from conosco.runtime.bootstrap import Folder
from conosco.runtime.imports.records import Imports
from conosco.runtime.office.reading import POLL_S, Reading, cursor_of, read_cursor
from conosco.runtime.report import read_reports, ticks, trouble
from conosco.runtime.source_activity import activity_key, read_activity

REPORTING: Final = ("worker", "sender", "warehouse")
OUTCOMES: Final = ("applied", "duplicates", "quarantined", "erased")
# How long a role may take until its first report: the largest files are opened and checked in this time.
STARTING: Final = 20 * SECOND
# What each finding means and what to do, for whoever is woken by it.
ADVICE: Final = {
    "unreadable": "Log or State cannot be read. Run `conosco doctor`; restore from a backup if a file is damaged.",
    "not_writable": "Nothing can be written to the data folder: the disk is full (or down to its reserve), read-only or failing. Make room or mend it.",
    "not_reporting": "This role does not run, or does not come round. The supervisor restarts it; see the journal for why it ends.",
    "store_full": "The worker cannot write: the disk is full, read-only or failing. It goes on by itself once it can.",
    "rebuilding": "The warehouse cannot be brought up to date and waits to be filled anew; see the journal.",
    "stuck": "This role has been at one thing for two minutes. See the journal; restarting it loses nothing.",
}
_JOB_STATUS: Final[dict[ImportStatus, JobStatus]] = {
    "waiting": "waiting",
    "running": "running",
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "undoing": "running",
    "undone": "done",
}


class ProgressDesk:
    """Implements ``web.office.Progress``. ``probe`` makes a real durable write and says whether it succeeded."""

    def __init__(self, reading: Reading, probe: Callable[[], bool], folder: Folder, archive: Archive, imports: Imports) -> None:
        self._imports = imports
        self._reading = reading
        self._archive = archive
        self._probe = probe
        self._folder = folder
        self._begun_at = ticks()

    async def status(self) -> Status:
        """The counts as of now. Accepted events that the worker has not reached are counted from the log's headers."""
        reading = self._reading
        counters = reading.meta("counters", {})
        position = reading.state.offset()[0]
        head = reading.log.head()
        waiting = reading.log.count(position) if head.position > position else 0
        lag_us = reading.clock() - reading.meta("now", head.logged_at) if waiting else 0
        return Status(
            accepted=counters.get("accepted", 0) + waiting,
            applied=counters.get("applied", 0),
            duplicates=counters.get("duplicates", 0),
            quarantined=counters.get("quarantined", 0),
            erased=counters.get("erased", 0),
            warehoused=await self._warehoused(),
            lag_seconds=max(0.0, lag_us / SECOND),
            position=position,
            alarms=len(alarms := self._archive.alarms()),
            records_lost=sum(alarm.lost for alarm in alarms),
        )

    async def _warehoused(self) -> int:
        try:
            return (await self._reading.asking.status()).warehoused
        except WarehouseUnavailable:
            return 0

    async def source_counts(self, source_id: str) -> SourceCounts:
        """What a source has brought so far, as of the last commit of the worker."""
        first, last, counts = read_activity(self._reading.meta(activity_key(source_id), None))
        return SourceCounts(
            first_event_at=None if first is None else spell_moment(first),
            last_event_at=None if last is None else spell_moment(last),
            accepted=sum(counts.values()),
            applied=counts["applied"],
            duplicates=counts["duplicate"],
            quarantined=counts["quarantined"],
            erased=counts["erased"],
        )

    async def readiness(self, what: Literal["all", "tracking"] = "all") -> Readiness:
        """Whether requests can be served: a real read of State, a real durable write, and what the other roles report.

        For tracking only what an acknowledgement needs is looked at: it goes on while a worker or the warehouse is away.
        """
        loop = asyncio.get_running_loop()
        wrong = {
            "state": "" if self._can_read() else "unreadable",
            "disk": "" if await loop.run_in_executor(None, self._probe) else "not_writable",
        }
        if what == "all":
            reports, now = read_reports(self._folder.run), ticks()
            for role in REPORTING:
                found = trouble(reports.get(role), now)
                # At a start roles come one after the other; one that has never reported is given time.
                is_coming = role not in reports and now - self._begun_at < STARTING
                wrong[role] = "" if is_coming else found
        return Readiness(
            ready=not any(wrong.values()),
            checks={name: not code for name, code in wrong.items()},
            wrong={name: ADVICE[code] for name, code in wrong.items() if code},
        )

    async def samples(self) -> list[Sample]:
        """What there is to measure, of this installation and as its roles report."""
        status, readiness = await self.status(), await self.readiness()
        files = sizes(self._folder.log)
        told = [
            Sample("conosco_build_info", (version("conosco"),), 1),
            Sample("conosco_events_accepted_total", (), status.accepted),
            Sample("conosco_events_warehoused", (), status.warehoused),
            Sample("conosco_lag_seconds", (), status.lag_seconds),
            Sample("conosco_log_position", (), status.position),
            Sample("conosco_log_bytes", (), sum(files)),
            Sample("conosco_log_files", (), len(files)),
            Sample("conosco_log_alarms", (), status.alarms),
            Sample("conosco_log_records_lost", (), status.records_lost),
            Sample("conosco_disk_free_bytes", (), shutil.disk_usage(self._folder.data).free),
        ]
        told += [Sample("conosco_events_total", (name,), getattr(status, name)) for name in OUTCOMES]
        told += [Sample("conosco_ready", (name,), is_well) for name, is_well in readiness.checks.items()]
        for report in read_reports(self._folder.run).values():
            told += report.samples
        return told

    def _can_read(self) -> bool:
        try:
            self._reading.log.head()
            # Before the first definitions are applied no write key is known, and a good client would be turned away.
            return self._reading.definition("source", "default") is not None
        except Exception:  # noqa: BLE001  # whatever a broken store raises, the answer is the same: not ready
            return False

    async def wait(self, position: int, wait_ms: int, where: Literal["state", "warehouse"]) -> bool:
        """Wait until State, or the warehouse, includes a position."""
        if where == "state":
            return await self._reading.applied(position, wait_ms)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_ms / 1_000
        while True:
            try:
                if (await self._reading.asking.status()).as_of >= position:
                    return True
            except WarehouseUnavailable:
                pass
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(POLL_S * 5)

    async def position_at(self, moment: int) -> int:
        """The newest position logged at or before a moment, found by halving."""
        low, high = 0, self._reading.log.head().position
        while low < high:
            middle = (low + high + 1) // 2
            records = self._reading.log.read(middle - 1, 1, 1)
            if records and records[0].logged_at <= moment:
                low = middle
            else:
                high = middle - 1
        return low

    async def jobs(self, cursor: str, limit: int) -> Page[Job]:
        """Long work: imports, newest first, and before them putting a definition in force over all history."""
        skip: int = read_cursor(cursor, int) or 0
        runs = self._imports.all()
        jobs = [] if cursor else self._backfill()
        jobs += [job_of(run) for run in runs[skip : skip + limit]]
        return Page(items=jobs, next=cursor_of(skip + limit) if len(runs) > skip + limit else None)

    def _backfill(self) -> list[Job]:
        row = self._reading.row(CURSORS, ("backfill",))
        if row is None:
            return []
        people = int(self._reading.meta("identifier_count", 0)) or 1
        share = max(0, row.value["cursor"]) / people if row.value["step"] == "people" else 0.0
        job = Job(
            job_id=row.value["job_id"],
            type="backfill",
            status="running",
            progress=min(1.0, share),
            created_at=spell_moment(row.value["begun_at"]),
        )
        return [job]


def job_of(run: ImportRun) -> Job:
    """An import as a job: waiting, running, or how it ended."""
    is_over = run.status in ENDED
    share = run.undo_progress if run.status == "undoing" else run.rows_read / max(run.rows_about, run.rows_read, 1)
    return Job(
        job_id=run.import_id,
        type="import",
        status=_JOB_STATUS[run.status],
        progress=1.0 if is_over else min(0.99, share),
        created_at=spell_moment(run.created_at),
        ended_at=None if run.ended_at is None else spell_moment(run.ended_at),
        problem=run.problem,
    )


def sizes(folder: Path) -> list[int]:
    """The sizes of a folder's files; what is removed meanwhile is left out."""
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.is_file():
                found.append(path.stat().st_size)
    return found
