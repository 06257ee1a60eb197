"""Law 9: nobody is contacted twice for one intent. A transition makes one delivery a destination, with an id that every replay repeats."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

from conosco.activate import outbox
from conosco.activate.outbox import attempts_draft
from conosco.engines.memory.state import MemoryState
from conosco.govern.gate import Gate
from conosco.model.command import LiveFrom, ReplayDeliveries, RetryDelivery, TryDestination
from conosco.model.delivery import Attempt, AttemptResult
from conosco.model.record import Draft
from conosco.ports.tables import MEMBERSHIPS, OUTBOX, OUTBOX_DUE, PROFILES
from conosco.runtime.replay import rebuild
from tests.laws.harness import GATE_SECRET, SECRET, Installation
from tests.laws.histories import DAY, HOUR, MINUTE, START, Act, Claim, Post, destination, make_history, segment, spell
from tests.laws.mutants.nobody_twice import MUTANTS
from tests.laws.mutants.planting import survivors

SEEDS = range(3)
PURPOSE_DESTINATIONS = {"operations": "hook", "marketing": "ads"}


@contextmanager
def kept(us: int) -> Iterator[None]:
    """What ended leaves the outbox after so long inside."""
    usual = outbox.KEPT_US
    outbox.KEPT_US = us  # type: ignore[misc]  # a constant, but for this
    try:
        yield
    finally:
        outbox.KEPT_US = usual  # type: ignore[misc]


def check(seed: int) -> None:
    acts = make_history(seed)
    # For ever, so that all that ever was in the outbox can be counted.
    with kept(10_000 * DAY):
        installation = Installation()
        installation.perform_all(acts)
        check_one_each(installation)
        check_repetition(acts, installation)
        check_replay(installation)
    with kept(DAY):
        check_pruning(seed)
    check_again()
    check_merge(seed)
    check_results(seed)
    check_takeover()


Told = tuple[str, str, str, str, str]


def check_one_each(installation: Installation) -> None:
    """Each live transition of each person makes one delivery to the destination of its purpose, and nothing else makes one.

    Of people whose identity never changed this is plain from their memberships; what regrouping does has a check of its own.
    """
    rows = list(installation.rows(MEMBERSHIPS))
    regrouped = {key[0] for key, row in rows if is_of_regrouping(row.because) or is_of_regrouping(row.exit_because)}
    # Reasons name message ids without their source, so people who have the same one from two sources are left out.
    profiles = installation.profiles()
    named = Counter(
        (profiles.get(sent.home), sent.message_id) for _, _, sent in installation.addresses if sent.expected == "applied"
    )
    unclear = {profile_id for (profile_id, _), count in named.items() if count > 1}
    alone = {key[0] for key, row in installation.rows(PROFILES) if not row.members} - regrouped - unclear
    expected: Counter[Told] = Counter()
    for (profile_id, _, _), row in rows:
        if profile_id in alone:
            to = PURPOSE_DESTINATIONS[installation.definitions["segment", row.segment]["purpose"]]
            if is_live(installation, profile_id, row.because):
                expected[to, "segment.entered", profile_id, row.segment, row.because.decode()] += 1
            if row.exit_because and is_live(installation, profile_id, row.exit_because):
                expected[to, "segment.exited", profile_id, row.segment, row.exit_because.decode()] += 1
    found: Counter[Told] = Counter()
    for _, intent in installation.outbox().values():
        because = intent.payload["because"]
        assert because["cause"] != "definition"
        assert "backfill" not in because
        if intent.payload["profile_id"] in alone:
            told = json.dumps(because, separators=(",", ":"))
            found[intent.destination, intent.type, intent.payload["profile_id"], intent.payload["segment"], told] += 1
    assert found == expected
    assert found.total() > 30


def is_of_regrouping(because: bytes) -> bool:
    """Whether a stay began or ended by a merge or a split."""
    told = json.loads(because or b'{"cause": ""}')
    return told["cause"] in ("merge", "split") or "moved_from" in told


def is_live(installation: Installation, profile_id: str, because: bytes) -> bool:
    """Whether a transition came about now: by time, or by an event not older than an hour."""
    told = json.loads(because)
    if told["cause"] == "definition":
        return False
    if told["cause"] == "timer":
        return True
    profiles = installation.profiles()
    position, sent = next(
        (position, sent)
        for position, _, sent in installation.addresses
        if sent.message_id in told["message_ids"] and sent.expected == "applied" and profiles.get(sent.home) == profile_id
    )
    return installation.log.read(position - 1, 1)[0].logged_at - sent.event_at <= HOUR


def check_repetition(acts: list[Act], installation: Installation) -> None:
    """Repeated, conflicting and invalid messages make no delivery and prevent none."""
    plain = Installation()
    for act in acts:
        if isinstance(act, Post):
            plain.perform(act._replace(sent=tuple(sent for sent in act.sent if sent.expected == "applied")))
        else:
            plain.perform(act)
        plain.settle()
    assert plain.outbox().keys() == installation.outbox().keys()


def check_pruning(seed: int) -> None:
    """What ended leaves State in time and nothing else does; old news of it is no news, and a rebuild forgets exactly the same."""
    random = Random(seed)
    installation = shop()
    ends: dict[str, tuple[AttemptResult, int]] = {}
    for number in range(12):
        order(installation, f"m{number}", userId=f"user-{number}")
        fresh = sorted(installation.outbox().keys() - ends.keys())
        results: list[AttemptResult] = [random.choice(("delivered", "dead", "retry")) for _ in fresh]
        attempts = [
            Attempt(delivery_id=each, attempt=1, result=result, code="", at=installation.now, due_at=1)
            for each, result in zip(fresh, results, strict=True)
        ]
        installation.log.append([attempts_draft(attempts)])
        ends.update(zip(fresh, [(result, installation.now) for result in results], strict=True))
        installation.settle()
        installation.now += 5 * HOUR
    installation.log.append([Draft(kind="tick")])
    installation.settle()
    left = installation.outbox()
    gone = {each for each in ends if each not in left}
    assert gone == {each for each, (result, at) in ends.items() if result == "delivered" and at + DAY <= installation.now}
    assert gone
    old = [Attempt(delivery_id=each, attempt=1, result="delivered", code="", at=installation.now) for each in sorted(gone)]
    installation.log.append([attempts_draft(old)])
    installation.command(ReplayDeliveries(destination="hook", delivery_ids=tuple(sorted(gone))))
    installation.settle()
    assert installation.outbox() == left
    check_replay(installation)


def check_again() -> None:
    """What a person asks to be sent again goes out once a request, in a round of its own or under its own id; a replay repeats it."""
    installation = shop()
    order(installation, "m1", userId="user-1")
    ids = sorted(installation.outbox())
    ends: tuple[AttemptResult, ...] = ("delivered", "dead")
    attempts = [
        Attempt(delivery_id=each, attempt=1, result=result, code="", at=installation.now)
        for each, result in zip(ids, ends, strict=True)
    ]
    installation.log.append([attempts_draft(attempts)])
    installation.command(ReplayDeliveries(destination="hook", delivery_ids=(*ids, *ids)))
    installation.command(TryDestination(destination="hook"))
    installation.settle()
    found = installation.outbox()
    again = [each for each, (_, intent) in found.items() if intent.replay_of]
    assert [found[each][1].replay_of for each in again] == [ids[0]]
    assert (found[ids[0]][0].state, found[ids[1]][0].state) == ("delivered", "pending")
    assert sum(intent.type == "test" for _, intent in found.values()) == 1
    assert len(found) == 4
    check_replay(installation)


def check_replay(installation: Installation) -> None:
    """A rebuild finds the same deliveries under the same ids, and appends nothing."""
    head = installation.log.head()
    state = MemoryState()
    rebuild(installation.log, state, head.position, SECRET, Gate(GATE_SECRET), lambda event, fields: None, events_per_batch=3)
    again = Installation(installation.log, state)
    assert again.outbox() == installation.outbox()
    assert [key for key, _ in again.rows(OUTBOX_DUE)] == [key for key, _ in installation.rows(OUTBOX_DUE)]
    assert installation.log.head() == head


def shop() -> Installation:
    """An installation with one destination and two segments, of which one ends after a day."""
    installation = Installation()
    installation.define({"kind": "purpose", "key": "operations", "name": "o", "basis": "legitimate_interest", "id": "prp_1"})
    installation.define({"kind": "source", "key": "shop", "name": "s", "type": "server", "region": "eu", "id": "src_a"})
    installation.define(destination("hook", "operations"))
    for key, window in (("buyers", {}), ("recent", {"within": "1d"})):
        installation.define(segment(key, {"language": 1, "where": {"kind": "did", "event": "Order Completed", **window}}))
    installation.settle()
    return installation


def told(installation: Installation) -> list[tuple[str, str]]:
    """(type, segment) of all deliveries in the order in which they were decided."""
    intents = sorted(
        (intent for _, intent in installation.outbox().values()), key=lambda intent: (intent.created_at, intent.position)
    )
    return sorted((intent.type, intent.payload["segment"]) for intent in intents)


def order(installation: Installation, message_id: str, **names: str) -> None:
    """Somebody orders, now."""
    installation.now += MINUTE
    installation.send(
        {"type": "track", "event": "Order Completed", "messageId": message_id, "timestamp": spell(installation.now), **names}
    )
    installation.settle()


def check_merge(seed: int) -> None:
    """Who is in before and after a merge or a split does not enter again; an end is told once, when it is one."""
    random = Random(seed)
    installation = shop()
    order(installation, "m1", anonymousId="device-1")
    order(installation, "m2", userId="user-1")
    entered = [("segment.entered", key) for key in ("buyers", "recent")]
    assert told(installation) == sorted(entered * 2)
    # The device turns out to be the user's, and its profile id goes.
    installation.now += MINUTE
    installation.send({"type": "identify", "messageId": "m3", "userId": "user-1", "anonymousId": "device-1"})
    installation.settle()
    assert len({*installation.profiles().values()}) == 1
    order(installation, "m4", **random.choice(({"userId": "user-1"}, {"anonymousId": "device-1"})))
    assert told(installation) == sorted(entered * 2)
    # Parted again, each is still in for what it did itself.
    left, right = ("user_id", "user-1"), ("anonymous_id", "device-1")
    installation.send({"type": "identify", "messageId": "m5", "userId": "user-2", "anonymousId": "device-2"})
    installation.perform(_different(installation.now + MINUTE, left, right))
    installation.settle()
    assert len({installation.profiles()[name] for name in (left, right)}) == 2
    assert told(installation) == sorted(entered * 2)
    installation.now += 2 * DAY
    installation.settle()
    assert told(installation) == sorted([*entered * 2, *[("segment.exited", "recent")] * 2])


def _different(at: int, left: tuple[str, str], right: tuple[str, str]) -> Act:
    return Claim(at, "lnk_1", "manual_different", left, right)


def check_results(seed: int) -> None:
    """Results of attempts move a delivery on and make none anew; what was delivered is never due again."""
    random = Random(seed)
    installation = shop()
    for number in range(30):
        order(installation, f"m{number}", userId=f"user-{number}")
    ids = {key[0] for key, _ in installation.rows(OUTBOX)}
    assert len(ids) == 60
    delivered: set[str] = set()
    known: list[Attempt] = []
    for _ in range(20):
        installation.now += MINUTE
        attempts: list[Attempt] = []
        for delivery_id, (row, _) in random.sample(sorted(installation.outbox().items()), 8):
            result: AttemptResult = random.choice(("delivered", "retry", "dead", "unknown"))
            attempt = Attempt(
                delivery_id=delivery_id, attempt=row.attempts + 1, result=result, code="", at=installation.now, due_at=1
            )
            attempts += [attempt] * random.choice((1, 2))
            if result == "delivered":
                delivered.add(delivery_id)
            installation.command(RetryDelivery(delivery_id=random.choice(sorted(ids))))
        installation.log.append([attempts_draft(attempts)])
        if random.random() < 0.2:
            installation.command(LiveFrom(position=installation.log.head().position))
        installation.settle()
        # Old news once more, as after a crash of the sender, is no news.
        before = installation.outbox()
        old = [attempt for attempt in known if attempt.result != "delivered"][:5]
        installation.log.append([attempts_draft(old)])
        known += attempts
        installation.settle()
        assert installation.outbox() == before
        due = {key[2] for key, _ in installation.rows(OUTBOX_DUE)}
        assert due.isdisjoint(delivered)
        assert {key[0] for key, _ in installation.rows(OUTBOX)} == ids
        assert {row.state for delivery_id, (row, _) in installation.outbox().items() if delivery_id in delivered} <= {"delivered"}


def check_takeover() -> None:
    """What may have been sent before a takeover is set aside until a person releases it."""
    installation = shop()
    order(installation, "m1", userId="user-1")
    position = installation.log.head().position
    order(installation, "m2", userId="user-2")
    installation.command(LiveFrom(position=position))
    installation.settle()
    states = {intent.position <= position: row.state for row, intent in installation.outbox().values()}
    assert states == {True: "unknown", False: "pending"}


def test_entering_twice_is_told_twice() -> None:
    installation = shop()
    order(installation, "m1", userId="user-1")
    installation.now += 3 * DAY
    installation.settle()
    order(installation, "m2", userId="user-1")
    assert [each for each in told(installation) if each[1] == "recent"] == [
        ("segment.entered", "recent"),
        ("segment.entered", "recent"),
        ("segment.exited", "recent"),
    ]
    assert installation.now > START


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_is_told_of_twice(seed: int) -> None:
    check(seed)


def test_faults_are_seen() -> None:
    assert survivors(MUTANTS, check, SEEDS) == []
