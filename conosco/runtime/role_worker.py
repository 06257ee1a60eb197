"""The worker's process: applies the log to State until told to stop."""

import threading
from collections.abc import Callable
from threading import Event as Signal
from typing import Final

from conosco.runtime.bootstrap import (
    INSTALLATION_SECRET,
    clock,
    make_gate,
    open_keys,
    open_log,
    open_worker_state,
    required_secret,
)
from conosco.runtime.journal import Journal
from conosco.runtime.process import settings_of_role, stop_signal
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
    worker = Worker(log, state, required_secret(keys, INSTALLATION_SECRET), make_gate(keys), clock, journal.note)
    folding = threading.Thread(target=_checkpoint, args=(checkpoint, stop), name="checkpoint", daemon=True)
    folding.start()
    journal.note("started", {"position": worker.position})
    worker.run(stop)
    folding.join(5)
    state.close()
    log.close()
    journal.note("stopped", {"position": worker.position})


def _checkpoint(checkpoint: Callable[[], object], stop: Signal) -> None:
    """Fold State's write-ahead log into its file, beside the worker so that no commit waits for it."""
    while not stop.wait(CHECKPOINT_S):
        checkpoint()


if __name__ == "__main__":
    run_worker(settings_of_role("worker"))
