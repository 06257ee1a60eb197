"""Law 3: every accepted event has exactly one current Outcome, from the closed list, and the counts add up."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import msgspec
import pytest

from conosco.model.event import Event
from conosco.model.outcome import REASONS, Outcome
from conosco.ports.tables import FEED, QUARANTINE
from conosco.profile.stage import Folded
from conosco.runtime import flow
from tests.laws.harness import Installation
from tests.laws.histories import HOUR, Act, Define, Mend, Post, Wait, make_history
from tests.laws.mutants.outcomes import MUTANTS
from tests.laws.mutants.planting import survivors

SEEDS = range(4)
COUNTED = {"applied": "applied", "duplicate": "duplicates", "quarantined": "quarantined"}
# How many times an event that fails is tried before it is set aside.
TRIES = 3


def told(installation: Installation) -> dict[tuple[int, int], list[Outcome | None]]:
    """Every Outcome of every event in the order in which it was told; None stands for simply applied."""
    found: dict[tuple[int, int], list[Outcome | None]] = {}
    for _, row in installation.rows(FEED):
        body = msgspec.msgpack.decode(row.body)
        for position, slot in body.get("applied", ()):
            found.setdefault((position, slot), []).append(None)
        for raw in body.get("outcomes", ()):
            outcome = msgspec.convert(raw, Outcome)
            found.setdefault((outcome.position, outcome.slot), []).append(outcome)
    return found


def check_books(installation: Installation) -> None:
    """The counters, what was told, and what lies in quarantine are one and the same account."""
    outcomes = told(installation)
    current = {address: "applied" if each[-1] is None else each[-1].outcome for address, each in outcomes.items()}
    counters = installation.counters()
    assert current.keys() == {(position, slot) for position, slot, _ in installation.addresses}
    assert counters["accepted"] == len(current)
    assert counters["accepted"] == sum(counters[name] for name in ("applied", "duplicates", "quarantined", "erased"))
    for kind, name in COUNTED.items():
        assert counters[name] == sum(outcome == kind for outcome in current.values()), kind
    kept = {(key[0], key[1]): row for key, row in installation.rows(QUARANTINE)}
    assert kept.keys() == {address for address, outcome in current.items() if outcome == "quarantined"}
    for address, each in outcomes.items():
        for outcome in each:
            assert outcome is None or outcome.reason in REASONS
        # Nothing follows upon what is final.
        assert all(outcome is not None and outcome.outcome == "quarantined" for outcome in each[:-1]), address
        last = each[-1]
        if last is not None and last.outcome == "quarantined":
            assert (kept[address].reason, kept[address].attempts) == (last.reason, last.attempts)


def check(seed: int) -> None:
    installation = Installation()
    for act in make_history(seed):
        installation.perform(act)
        installation.settle()
        check_books(installation)
    outcomes = told(installation)
    for position, slot, sent in installation.addresses:
        last = outcomes[position, slot][-1]
        found = ("applied", "applied") if last is None else (last.outcome, last.reason)
        assert found == (sent.expected, sent.reason), (position, slot, sent.body)
    assert {"duplicates", "quarantined"} <= {name for name, count in installation.counters().items() if count > 5}
    check_poison(seed)


@contextmanager
def failing(messages: set[tuple[str, str]]) -> Iterator[None]:
    """The fold step fails on these messages, for as long as the block runs."""
    sound: Callable[..., Folded] = vars(flow)["fold"]

    def fold(work: Any, person: int, cell: int, event: Event, *args: Any) -> Folded:
        if (event.source_id, event.message_id) in messages:
            raise ZeroDivisionError
        return sound(work, person, cell, event, *args)

    vars(flow)["fold"] = fold
    try:
        yield
    finally:
        vars(flow)["fold"] = sound


def check_poison(seed: int) -> None:
    """A few events on which a step fails are set aside after three tries, the rest goes on; once mended they are applied, once."""
    acts: list[Act] = [act for act in make_history(seed, is_calm=True) if isinstance(act, Define | Post)]
    sent = [each for act in acts if isinstance(act, Post) for each in act.sent]
    times = Counter((each.source_id, each.message_id) for each in sent)
    alone = [each for each in sent if each.expected == "applied" and times[each.source_id, each.message_id] == 1]
    poison = {(each.source_id, each.message_id) for each in Random(seed).sample(alone, 4)}
    sound, poisoned = Installation(), Installation()
    sound.perform_all(acts)
    with failing(poison):
        poisoned.perform_all(acts)
        check_books(poisoned)
        spoiled = {(position, slot) for position, slot, each in poisoned.addresses if (each.source_id, each.message_id) in poison}
        check_set_aside(poisoned, spoiled, 1)
        assert [fields["try"] for event, fields in poisoned.notes if event == "stage_failed"] == [1, 2, 3] * 4
        # Still broken: it stays where it is, and says how often it was tried.
        poisoned.perform(Mend(poisoned.now + HOUR))
        poisoned.settle()
        check_books(poisoned)
        check_set_aside(poisoned, spoiled, 2)
    for _ in range(2):
        poisoned.perform(Mend(poisoned.now + HOUR))
        poisoned.settle()
        check_books(poisoned)
    for address in spoiled:
        last = told(poisoned)[address][-1]
        assert last is not None
        assert (last.outcome, last.reason) == ("applied", "applied_after_replay")
    end = Wait(poisoned.now + HOUR)
    for installation in (sound, poisoned):
        installation.perform_all([Mend(end.at), Wait(end.at + 1)])
    assert poisoned.counters() == sound.counters()
    assert poisoned.profiles() == sound.profiles()
    assert poisoned.stays() == sound.stays()


def check_set_aside(installation: Installation, spoiled: set[tuple[int, int]], rounds: int) -> None:
    kept = {(key[0], key[1]): row for key, row in installation.rows(QUARANTINE) if row.reason == "processing_failed"}
    assert kept.keys() == spoiled
    assert {(row.stage, row.attempts) for row in kept.values()} == {("fold", TRIES * rounds)}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_event_has_one_outcome(seed: int) -> None:
    check(seed)


def test_faults_are_seen() -> None:
    assert survivors(MUTANTS, check, SEEDS) == []
