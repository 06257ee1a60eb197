"""The worker's process: applies the log to State until told to stop."""

import threading
from collections.abc import Callable
from threading import Event as Signal
from typing import Final

from conosco.model.answer import Sample
from conosco.runtime.bootstrap import (
    INSTALLATION_SECRET,
    Folder,
    clock,
    make_gate,
    open_keys,
    open_log,
    open_worker_state,
    required_secret,
)
from conosco.runtime.exchange import exchange
from conosco.runtime.journal import Journal
from conosco.runtime.process import settings_of_role, stop_signal
from conosco.runtime.report import Reporter
from conosco.runtime.settings import Settings
from conosco.runtime.worker import Worker

# How often the worker's log of writes is folded into State's file, off the commit path.
CHECKPOINT_S: Final = 1.0


def run_worker(settings: Settings) -> None:
    """Apply the log to State until told to stop."""
    stop = stop_signal(settings.supervisor)
    journal = Journal("worker", clock)
    keys = open_keys(settings)
    log = open_log(settings)
    state, checkpoint = open_worker_state(settings)
    worker = Worker(
        log, state, required_secret(keys, INSTALLATION_SECRET), make_gate(keys), clock, journal.note, take_over=exchange(settings)
    )
    folding = threading.Thread(target=_checkpoint, args=(checkpoint, stop), name="checkpoint", daemon=True)
    folding.start()
    journal.note("started", {"position": worker.position})
    reporter = Reporter(Folder(settings.data).run, "worker", samples=lambda: samples(worker)).start()
    worker.run(stop, lambda trouble: reporter.turn(state=trouble))
    reporter.close()
    folding.join(5)
    state.close()
    log.close()
    journal.note("stopped", {"position": worker.position})


def samples(worker: Worker) -> list[Sample]:
    """What the worker has counted; copied at once, for the worker goes on counting."""
    told = [Sample("conosco_stage_seconds_total", (stage,), ns / 1e9) for stage, ns in list(worker.step_ns.items())]
    told += [Sample("conosco_source_events_total", of, count) for of, count in list(worker.outcomes.items())]
    told += [
        Sample("conosco_commits_total", (), worker.commits),
        Sample("conosco_commit_seconds_total", (), worker.commit_ns / 1e9),
    ]
    return told


def _checkpoint(checkpoint: Callable[[], object], stop: Signal) -> None:
    """Fold State's write-ahead log into its file, beside the worker so that no commit waits for it."""
    while not stop.wait(CHECKPOINT_S):
        checkpoint()


if __name__ == "__main__":
    run_worker(settings_of_role("worker"))
