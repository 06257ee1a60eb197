"""Broken variants of recognising and of keeping aside, for law 3."""

from conosco.runtime.duplicates import Duplicates
from conosco.runtime.flow import recognise
from conosco.runtime.micro_batch import MicroBatch
from conosco.runtime.worker import Worker
from tests.laws.mutants.planting import Mutant

MUTANTS = (
    Mutant("conflicts pass as duplicates", recognise, '"quarantined", "conflicting_duplicate"', '"duplicate", "same_message"'),
    Mutant("only the very same bytes are the same", recognise, "or canonical_body(first) == canonical_body(second)", ""),
    Mutant("sources share their message ids", Duplicates.key, 'f"{len(source_id)}:{source_id}"', '"x"'),
    Mutant("what was replayed stays in quarantine", MicroBatch._try_again, "self._work.delete(QUARANTINE, address)", "pass"),
    Mutant("a replay counts twice", MicroBatch._try_again, 'self._counts["quarantined"] -= 1', "pass"),
    Mutant("a failing event is given up at once", Worker._remember, "if count >= TRIES:", "if count >= 1:"),
    Mutant("attempts are not added up", MicroBatch._quarantine, "attempts + (known.attempts if known else 0)", "attempts"),
)
