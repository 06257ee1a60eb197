"""Broken variants of the commit, for law 7."""

from conosco.ports.work import Work
from conosco.runtime.duplicates import Duplicates
from conosco.runtime.feed import Feed
from conosco.runtime.worker import Worker
from tests.laws.mutants.planting import Mutant

MUTANTS = (
    Mutant(
        "the offset is committed first",
        Worker._commit,
        "sequence = batch.close",
        "self._state.commit(position); self._state.begin(self._epoch); sequence = batch.close",
    ),
    Mutant(
        "rows are committed table by table",
        Work.flush,
        "        if puts:",
        "        self._state.commit(None); self._state.begin(self._state.offset()[1])\n        if puts:",
    ),
    Mutant(
        "the feed is committed apart",
        Feed.write,
        "    return True",
        "    state.commit(None); state.begin(state.offset()[1])\n    return True",
    ),
    Mutant(
        "the feed's number moves on before the commit",
        Worker._commit,
        "sequence = batch.close(self._sequence)",
        "sequence = self._sequence = batch.close(self._sequence)",
    ),
    Mutant(
        "what was noted and not committed is remembered",
        Duplicates.start_over,
        "if self._is_unsaved:",
        "if False:",
    ),
)
