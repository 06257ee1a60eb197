"""Broken variants of timers, of how late events are taken, and of regrouping, for law 6."""

from conosco.profile.cells import fold_observations, insert_row
from conosco.profile.stage import note_identifiers
from conosco.rules.evaluate import Plan, attribute_value
from conosco.runtime.flow import evaluate_segments
from conosco.runtime.micro_batch import MicroBatch
from conosco.segment.plans import _StreamIndex
from conosco.segment.stage import arm, evaluate
from tests.laws.mutants.planting import Mutant

ARRIVAL_MUTANTS = (
    Mutant("rows lie in order of arrival", insert_row, "bisect_right(times, at)", "len(times)"),
    Mutant("late events do not correct the beginning", evaluate, "_correct(work, person, view, made, cause, evaluated)", "pass"),
    Mutant("nobody is asked about an earlier birth", evaluate_segments, "if subject.redated:", "if False:"),
    Mutant("a later birth goes unnoticed", note_identifiers, "!= before", "< before"),
    Mutant("the last observation to come wins", fold_observations, "in row.traits.get(name, ())", "in row.traits.get(name, ())[-1:]"),
    Mutant("a late event turns only what it would have turned had it been new", _StreamIndex.turned, "if not times or times[-1] > event_at:", "if not times:"),
)  # fmt: skip
MOMENT_MUTANTS = (
    Mutant("timers have the time of the record", MicroBatch._fire_until, "self._fire(due, number, person)", "self._fire(moment, number, person)"),
    Mutant("timers fire after the record", MicroBatch.run, "self._fire_until(record.logged_at)", "self._fire_until(record.logged_at - 86_400_000_000)"),
    Mutant("a stretch begins when it is noticed", Plan.held_since, "since = point", "since = now"),
    Mutant("a timer once armed is never moved forward", arm, "if person.due and person.due <= due:", "if person.due:"),
    Mutant("only who holds is asked when time passes", evaluate, "(holds or not made.plan.monotone)", "holds"),
    Mutant("whole days are not counted down", Plan.next_change, "if leaf.timed and", "if leaf.timed and leaf.leaf.__class__.__name__ != 'AttributeTest' and"),
    Mutant("days begin at midnight", attribute_value, "(now - rows.times[upto - 1]) // DAY", "now // DAY - rows.times[upto - 1] // DAY"),
)  # fmt: skip
