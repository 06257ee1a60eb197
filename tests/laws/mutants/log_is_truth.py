"""Broken variants of micro-batches and of the digest, for law 1."""

from conosco.runtime.backfill import Backfill
from conosco.runtime.digest import digest
from conosco.runtime.micro_batch import MicroBatch
from conosco.runtime.worker import Worker
from conosco.segment.stage import Ordinals
from tests.laws.mutants.planting import Mutant

MUTANTS = (
    Mutant(
        "rows are numbered through the micro-batch", Ordinals.take, "if position != self._position:", "if self._position < 0:"
    ),
    Mutant(
        "timers fire once a micro-batch",
        MicroBatch.run,
        "self._fire_until(record.logged_at)",
        "self._fire_until(records[-1].logged_at)",
    ),
    Mutant("counters begin anew with each micro-batch", MicroBatch.close, "row.value.get(name, 0) + ", ""),
    Mutant(
        "the offset is committed apart",
        Worker._commit,
        "self._state.commit(position)",
        "self._state.commit(None); self._state.begin(self._epoch); self._state.commit(position)",
    ),
    Mutant("a backfill begins anew after a kill", Backfill.run, 'meta(self._state, "backfill", None, CURSORS) or ', ""),
    Mutant("the digest leaves timers out", digest, "if table.digest:", 'if table.digest and table.name != "timers":'),
)
