"""Broken variants of live evaluation and of its feeding, for law 5."""

from conosco.profile.cells import fold_rows
from conosco.rules.evaluate import attribute_value, count_at
from conosco.rules.streams import select
from conosco.runtime.backfill import Backfill
from conosco.runtime.flow import evaluate_segments
from conosco.segment.plans import SegmentPlans
from conosco.segment.stage import evaluate
from tests.laws.mutants.planting import Mutant

MUTANTS = (
    Mutant(
        "a window includes its beginning",
        count_at,
        "bisect_right(rows.times, now - within)",
        "bisect_right(rows.times, now - within - 1)",
    ),
    Mutant("a program's events count", select, "if event.automated and not candidate.stream.automated:", "if False:"),
    Mutant(
        "a program's events never count", select, "if event.automated and not candidate.stream.automated:", "if event.automated:"
    ),
    Mutant("only one cell is asked", fold_rows, "for cell in cells if", "for cell in cells[:1] if"),
    Mutant("the last value is the one that came last", attribute_value, "max(carrying)[3]", "carrying[0][3]"),
    Mutant("those known only from events ahead are asked", evaluate, "is_born and", "True and"),
    Mutant("who parted keeps what was inherited", evaluate, "not is_afresh and held", "held"),
    Mutant("nobody is asked on appearing", SegmentPlans.first, "(*self.newborn, *self._by_identifier)", "self._by_identifier"),
    Mutant("others' regrouping hides the event's own person", evaluate_segments, "if subject.person in settled:", "if settled:"),
    Mutant("history is not folded for new streams", Backfill.run, "if self._new:", "if False:"),
    Mutant("a new condition asks nobody", Backfill.run, "if changed or gone:", "if False:"),
)
