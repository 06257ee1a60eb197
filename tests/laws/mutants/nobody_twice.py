"""Broken variants of what becomes a delivery, and when, for law 9."""

from conosco.activate.outbox import park, prune, settle
from conosco.activate.stage import _delivery_id, _put_again, activate, replay
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
    Mutant("what may be sent again never leaves", prune, "work.delete(OUTBOX, (delivery_id,))", "pass"),
    Mutant("a replay hides what it is", _put_again, "replay_of=intent.replay_of or intent.delivery_id", 'replay_of=""'),
    Mutant("a replay goes out under the old id", replay, 'row.state == "delivered" if is_own', "False if is_own"),
    Mutant("a takeover sends again", park, "if intent.position <= position:", "if False:"),
)
