"""Broken variants of how objects are kept and of how visits are derived."""

from conosco.collect.touch import touch_of
from conosco.engines.duckdb.things import _object_people, _objects, _visits
from conosco.profile.objects import _observe, _relate, keep_objects
from conosco.runtime.digest import digest
from conosco.runtime.flow import fold_objects
from conosco.runtime.micro_batch import MicroBatch
from conosco.runtime.surroundings import Surroundings
from conosco.runtime.warehouse import _add_mentions
from tests.laws.mutants.planting import Mutant

OBJECT_MUTANTS = (
    Mutant("the last to come wins", _observe, "known[:3] < order", "True"),
    Mutant("an object is first seen when it is first told of", keep_objects, "min(row.first_at, event.event_at)", "row.first_at"),
    Mutant("a role lasts as long as the last to come says", _relate, "max(last_at, event.event_at)", "event.event_at"),
    Mutant("people are those of a guessed cell", _relate, "place = (*key, cell)", "place = (*key, 1)"),
    Mutant("events ahead speak at once", fold_objects, " and not subject.folded.waits", ""),
    Mutant("events ahead never speak", MicroBatch._release, "if speaks_of_objects(event):", "if False:"),
)
ARRIVAL_MUTANTS = (
    Mutant("of one moment the last to come wins", _observe, "known[:3] < order", "known[0] <= order[0]"),
    Mutant("the newest to come is the last seen", keep_objects, "max(row.last_at, event.event_at)", "event.event_at"),
    Mutant("a role begins when it is first told of", _relate, "min(first_at, event.event_at)", "first_at"),
)
HISTORY_MUTANTS = (
    Mutant("only events of a full batch speak", fold_objects, "if speaks", "if len(around.records) > 1 and speaks"),
    Mutant("what is told is not written", keep_objects, "work.put(OBJECTS, key, row)", 'work._rows["objects"][key] = row'),
    Mutant(
        "the record's last event speaks for all",
        Surroundings.read_mentions,
        "self._mentions[event.position, event.slot] = found",
        "self._mentions.update({key: found for key in self._mentions}); self._mentions[event.position, event.slot] = found",
    ),
    Mutant("the digest leaves objects out", digest, "if table.digest:", 'if table.digest and "object" not in table.name:'),
)
VISIT_MUTANTS = (
    Mutant("a pause of an hour ends a visit", _visits, "INTERVAL {PAUSE_MINUTES} ", "INTERVAL 60 "),
    Mutant("what is not known yet counts", _visits, "{known.format('t')}", ""),
    Mutant("the exit is the entry", _visits, "arg_max(page, place)", "arg_min(page, place)"),
    Mutant("a touch without a page is the entry", _visits, '"FILTER (WHERE page IS NOT NULL) AS entry', '"AS entry'),
    Mutant("programs visit too", touch_of, "event.automated or ", ""),
    Mutant("the device is the home", touch_of, 'if each.namespace == "anonymous_id"', "if False"),
    Mutant("every track call is a touch", touch_of, "not _is_full(context.page) and not _is_full(context.screen)", "False"),
    Mutant("the last to come wins", _objects, "row(event_at, source_id, message_id)", "row(position, source_id, message_id)"),
    Mutant("a role that is none is one", _object_people, "m.role <> ''", "true"),
    Mutant("one role an event", _add_mentions, "roles or", "roles[1:] or"),
)
