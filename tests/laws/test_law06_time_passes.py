"""Law 6: time passes without events. Arrival does not matter in the end, and who moves for time alone moves at the exact moment."""

import json
from random import Random
from typing import Any

import pytest

from conosco.ports.tables import COMPONENTS
from tests.laws import oracle
from tests.laws.harness import Installation
from tests.laws.histories import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    START,
    Act,
    Claim,
    Define,
    Post,
    Sent,
    Wait,
    make_history,
    segment,
    spell,
)
from tests.laws.mutants.planting import survivors
from tests.laws.mutants.time_passes import ARRIVAL_MUTANTS, MOMENT_MUTANTS

SEEDS = range(4)
DEEP_SEEDS = range(100, 160)
UNITS = {"d": DAY, "h": HOUR}
# The moments that texts of the worlds spell: conditions on ages change their answer some time after them.
MOMENTS = tuple(START + offset for offset in (4 * DAY, 4 * DAY + 10 * HOUR, 7 * DAY + 10 * HOUR + 30 * MINUTE + 123_456))


ORDERED = {"kind": "did", "event": "Order Completed"}
# Segments in which time alone lets people in, and out again.
PULSES = (
    {"kind": "purpose", "key": "operations", "name": "o", "basis": "legitimate_interest", "id": "prp_1"},
    {
        "kind": "attribute",
        "key": "age",
        "name": "age",
        "id": "atr_age",
        "spec": {"language": 1, "aggregate": "days_since", "event": "Order Completed"},
    },
    segment("aged", {"language": 1, "where": {"kind": "attribute", "key": "age", "test": "between", "value": [2, 4]}}),
    segment(
        "pulse",
        {
            "language": 1,
            "where": {"kind": "all", "of": [{**ORDERED, "within": "3d"}, {"kind": "not", "of": {**ORDERED, "within": "12h"}}]},
        },
    ),
)


# Arrival -----------------------------------------------------------------------------------------------------------------


def calm_acts(seed: int) -> list[Act]:
    """A history whose outcome is to be the same however it arrives: all that is sent is applied, or repeated to the letter."""
    first: dict[tuple[str, str], str] = {}
    acts: list[Act] = []
    for act in make_history(seed, is_calm=True):
        if isinstance(act, Post):
            kept = tuple(
                sent
                for sent in act.sent
                if sent.expected != "quarantined" and first.setdefault((sent.source_id, sent.message_id), sent.body) == sent.body
            )
            acts.append(act._replace(sent=kept))
        else:
            acts.append(act)
    return acts


def shuffled(acts: list[Act], seed: int) -> list[Act]:
    """The same, but all events arrive in disorder, and in other requests, after the last of them has happened."""
    random = Random(seed)
    events = [sent for act in acts if isinstance(act, Post) for sent in act.sent]
    random.shuffle(events)
    others: list[Act] = [act for act in acts if isinstance(act, Define | Claim)]
    at = max(act.at for act in acts if isinstance(act, Post)) + HOUR
    posts: list[Act] = []
    while events:
        size = random.choice((1, 1, 3, 20))
        batch, events = events[:size], events[size:]
        for source_id in sorted({sent.source_id for sent in batch}):
            posts.append(Post(at, source_id, tuple(sent for sent in batch if sent.source_id == source_id)))
        at += random.choice((0, 1, SECOND))
    return [*others, *posts, acts[-1]]


def result(acts: list[Act]) -> dict[str, Any]:
    """What is to be the same."""
    installation = Installation()
    installation.perform_all(acts)
    assert installation.counters()["applied"] >= 200
    members = {
        member.number: (member.namespace, member.value) for _, row in installation.rows(COMPONENTS) for member in row.members
    }
    links = {
        (
            members[link.left],
            members[link.right],
            link.kind,
            link.first_seen_at,
            link.evidence,
            link.refused_by,
            link.retracted_position is None,
        )
        for _, row in installation.rows(COMPONENTS)
        for link in row.links
    }
    return {
        "counters": installation.counters(),
        "links": links,
        "profiles": installation.profiles(),
        "first seen": installation.first_seen(),
        "traits": installation.traits(),
        "memberships": installation.stays(),
    }


def check_arrival(seed: int) -> None:
    acts = calm_acts(seed)
    expected, found = result(acts), result(shuffled(acts, seed))
    for name, there in expected.items():
        assert found[name] == there, name


@pytest.mark.parametrize("seed", SEEDS)
def test_arrival_does_not_matter(seed: int) -> None:
    check_arrival(seed)


# Moments -----------------------------------------------------------------------------------------------------------------


def punctual_acts(seed: int) -> list[Act]:
    """Every event arrives when it happens, and every person is known by one identifier, so that nobody's past changes."""
    acts: list[Act] = [Define(START, definition) for definition in PULSES]
    happened: dict[int, list[Sent]] = {}
    for act in make_history(seed, posts=32, is_calm=True):
        if isinstance(act, Define):
            acts.append(act)
        elif isinstance(act, Post):
            for sent in act.sent:
                if sent.expected == "applied" and sent.home[0] == "user_id" and sent.type != "alias" and sent.event_at >= START:
                    body = {
                        "type": sent.type,
                        "messageId": sent.message_id,
                        "userId": sent.home[1],
                        "timestamp": spell(sent.event_at),
                    }
                    if sent.event is not None:
                        body["event"] = sent.event
                    raw = json.dumps(body)[:-1] + f',"properties":{sent.properties},"traits":{sent.traits}}}'
                    if '"email"' not in raw:
                        happened.setdefault(sent.event_at, []).append(sent._replace(body=raw, automated=False))
    for at, sent_then in sorted(happened.items()):
        for source_id in sorted({sent.source_id for sent in sent_then}):
            acts.append(Post(at, source_id, tuple(sent for sent in sent_then if sent.source_id == source_id)))
    return [*acts, Wait(acts[-1].at + 45 * DAY)]


def stretches(case: oracle.Case, where: Any, texts: str) -> list[tuple[int, int | None]]:
    """When a condition held, by asking at every moment at which the answer could change, and between them."""
    spans = [int(text[:-1]) * UNITS[text[-1]] for text in ("12h", "1d", "3d", "10d", "30d", "9999d") if f'"{text}"' in texts]
    days = [number * DAY for number in range(1, 60)] if "days_since" in texts else []
    bases = {event["event_at"] for event in case.events} | set(case.first_seen.values()) | set(MOMENTS)
    points = sorted({point for base in bases for point in (base, *(base + span for span in (*spans, *days)))})
    found: list[tuple[int, int | None]] = []
    begun: int | None = None
    for point in points:
        if point > case.true_at:
            break
        holds = bool(oracle.people(case._replace(true_at=point), where))
        if holds and begun is None:
            begun = point
        elif not holds and begun is not None:
            found.append((begun, point))
            begun = None
    return found if begun is None else [*found, (begun, None)]


def check_moments(seed: int, down: bool = False) -> None:
    installation = Installation()
    acts = punctual_acts(seed)
    if down:
        # The log grows while no worker runs; afterwards it applies everything in one go.
        for act in acts:
            installation.now = max(installation.now, act.at)
            if not isinstance(act, Wait):
                installation.perform(act)
        installation.settle()
    else:
        installation.perform_all(acts)
    position = installation.state.offset()[0]
    case = installation.case(installation.log.read(position - 1, 1)[0].logged_at, position)
    told: dict[tuple[str, str], list[tuple[int, int | None]]] = {}
    for stay in installation.stays():
        told.setdefault((stay.profile_id, stay.segment), []).append((stay.entered_at, None))
    for row in installation.past():
        assert row.exited_at is not None
        if row.exited_at > row.entered_at:
            told.setdefault((row.profile_id, row.segment), []).append((row.entered_at, row.exited_at))
    random = Random(seed)
    moved = 0
    for key in ("aged", "pulse", *random.sample(sorted(case.segments), 5)):
        where = case.segments[key]["where"]
        texts = json.dumps([where, case.segments["inner"]])
        texts += json.dumps([spec for name, spec in case.attributes.items() if f'"{name}"' in texts])
        for profile_id in sorted(case.everyone()):
            home = next(name for name, owner in case.profiles.items() if owner == profile_id)
            own = case._replace(
                events=case.events_of(profile_id), profiles={home: profile_id}, first_seen={home: case.first_seen[home]}
            )
            expected = stretches(own, where, texts)
            found = merged(sorted(told.get((profile_id, key), []), key=lambda span: span[0]))
            assert found == expected, (profile_id, key, where)
            moved += len(expected)
    assert moved > 30


def merged(spans: list[tuple[int, int | None]]) -> list[tuple[int, int | None]]:
    """Stays that touch, as when simultaneous events end one and begin the next, are one."""
    found: list[tuple[int, int | None]] = []
    for begun, ended in spans:
        if found and found[-1][1] == begun:
            found[-1] = (found[-1][0], ended)
        else:
            found.append((begun, ended))
    return found


@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
@pytest.mark.parametrize("seed", SEEDS)
def test_people_move_at_the_moment_itself(seed: int, down: bool) -> None:
    check_moments(seed, down)


@pytest.mark.deep
@pytest.mark.parametrize("seed", DEEP_SEEDS)
def test_time_passes_in_many_worlds(seed: int) -> None:
    check_arrival(seed)
    check_moments(seed, down=seed % 2 == 0)


def test_faults_are_seen() -> None:
    assert survivors(ARRIVAL_MUTANTS, check_arrival, SEEDS) == []
    assert survivors(MOMENT_MUTANTS, check_moments, SEEDS) == []
