"""Broken variants of what becomes a delivery, and when, for law 9."""

from conosco.activate.outbox import park, settle
from conosco.activate.stage import _delivery_id, activate
from conosco.runtime.flow import evaluate_segments, recognise
from conosco.segment.stage import carry_over
from tests.laws.mutants.planting import Mutant

MUTANTS = (
    Mutant("history is delivered", evaluate_segments, "not event.historical", "True"),
    Mutant("what is not live is delivered", activate, "if change.live", "if True"),
    Mutant("a repeated message is applied again", recognise, "if address is None:", "if True:"),
    Mutant(
        "whoever takes over a membership enters anew",
        carry_over,
        "work.put(PERSONS, (number,), person)",
        "person.memberships.clear()",
    ),
    Mutant("ids depend on when they are made", _delivery_id, "change.position)", "change.position, id(change))"),
    Mutant("what was delivered may be moved", settle, 'row.state in ("delivered", "denied")', 'row.state == "denied"'),
    Mutant("news that is not new counts", settle, "attempt.attempt <= row.attempts or", ""),
    Mutant("a takeover sends again", park, "if intent.position <= position:", "if False:"),
)
