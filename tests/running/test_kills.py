"""Processes are killed under load, one after the other, at points drawn over their system calls.

Nothing that was acknowledged may be lost, nothing applied twice, and every transition is told under one id only. That a
process was killed says nothing about power cuts: what the kernel held is still there.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import pytest

from tests.running.installation import ROLES, Installation, NotInTime, is_settled, until
from tests.running.killing import CAN_TRACE, Points
from tests.running.load import Ledger, Load, define
from tests.running.sink import Sink

WAY = "system_calls" if CAN_TRACE else "moments"
SERIES = 4
SERIES_AT_ONCE = 2
# A role that dies again and again is started later each time, so each series begins with a fresh supervisor.
WAVES = 4
REFUSED_SHARE = 0.03
# A delivery that a killed sender had in hand is taken up when its lease of 30 s has run out.
DELIVERED_WITHIN_S = 90.0
# It takes a second; a role that is just starting on a busy machine takes as long as it needs to start.
ROLES_STOP_WITHIN_S = 10.0
PAGE = 10_000


class Battered:
    """An installation after a series of kills. ``stopped_s`` is how long the roles of a killed supervisor lived on."""

    def __init__(self, installation: Installation, sink: Sink, ledger: Ledger) -> None:
        self.installation = installation
        self.sink = sink
        self.ledger = ledger
        self.kills: list[str] = []
        self.stopped_s: list[float] = []

    def rows(self, columns: str, table: str, order: str) -> list[list[Any]]:
        """All rows of a table, page by page."""
        rows: list[list[Any]] = []
        while len(rows) % PAGE == 0:
            page = self.installation.sql(f"select {columns} from {table} order by {order} limit {PAGE} offset {len(rows)}")
            rows += page
            if not page:
                break
        return rows


@contextmanager
def battered_by(series: int, folder: Path, waves: int = WAVES) -> Iterator[Battered]:
    """Run a loaded installation, kill each of its roles in turn, ``waves`` times, and then its supervisor or all of it."""
    chance = Random(f"kills/{series}")
    folder.mkdir()
    with Sink(REFUSED_SHARE) as sink, Installation(folder) as installation:
        define(installation, sink.url)
        with Load(installation, series) as load:
            battered = Battered(installation, sink, load.ledger)
            points = {role: Points.of(pid, folder / "calls") for role, pid in installation.pids().items()}
            assert set(points) == set(ROLES)
            for _ in range(waves):
                for role in chance.sample(ROLES, len(ROLES)):
                    pid = running(installation, role)
                    battered.kills.append(f"{role} {points[role].strike(pid, chance)}")
            for role in ROLES:
                running(installation, role)
            if series % 2:
                installation.kill_all()
                battered.kills.append("all at once")
            else:
                installation.kill_supervisor()
                battered.kills.append("supervisor alone")
            if series % 4 == 0:
                killed_s = monotonic()
                until(lambda: not installation.everyone(), "the roles stop by themselves")
                battered.stopped_s.append(monotonic() - killed_s)
            installation.start()
        yield battered


def running(installation: Installation, role: str) -> int:
    """The process id of a role, once it runs again."""
    until(lambda: role in installation.pids(), f"{role} runs again")
    return installation.pids()[role]


@pytest.fixture(scope="module")
def battered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Battered]]:
    """All series, a few at a time. They end side by side, because leases of killed senders take their time to run out."""
    folder = tmp_path_factory.mktemp("kills")
    with ExitStack() as stack, ThreadPoolExecutor(SERIES_AT_ONCE) as pool:
        yield list(pool.map(lambda series: stack.enter_context(battered_by(series, folder / str(series))), range(SERIES)))


pytestmark = pytest.mark.timeout(400)


@pytest.mark.parametrize("way", [WAY])
def test_at_least_sixty_processes_were_killed(battered: list[Battered], way: str) -> None:
    kills = Counter(kill.split()[0] for each in battered for kill in each.kills)
    assert {role: kills[role] for role in ROLES} == dict.fromkeys(ROLES, SERIES * WAVES)
    assert kills["supervisor"] and kills["all"] and kills.total() >= 60
    reached = sum(" before " in kill for each in battered for kill in each.kills)
    assert way == "moments" or reached > kills.total() / 2, [each.kills for each in battered]


def test_roles_of_a_killed_supervisor_stop_by_themselves(battered: list[Battered]) -> None:
    stopped_s = [each for found in battered for each in found.stopped_s]
    assert stopped_s
    assert max(stopped_s) < ROLES_STOP_WITHIN_S


@pytest.mark.parametrize("series", range(SERIES))
def test_what_was_acknowledged_is_applied_exactly_once(battered: list[Battered], series: int) -> None:
    check_ledger(battered[series])


@pytest.mark.parametrize("series", range(SERIES))
def test_segments_and_attributes_are_what_the_ledger_says(battered: list[Battered], series: int) -> None:
    check_people(battered[series])


@pytest.mark.parametrize("series", range(SERIES))
def test_every_transition_is_told_under_one_id(battered: list[Battered], series: int) -> None:
    check_webhooks(battered[series])


@pytest.mark.parametrize("series", range(SERIES))
def test_a_replay_gives_the_same_digest(battered: list[Battered], series: int) -> None:
    live, rebuilt, code = battered[series].installation.replay()
    assert (live, code) == (rebuilt, 0), battered[series].kills


@pytest.mark.deep
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("series", range(100, 119))
def test_three_hundred_kills(folder: Path, series: int) -> None:
    with battered_by(series, folder / "deep") as battered:
        assert len(battered.kills) > len(ROLES) * WAVES
        check_ledger(battered)
        check_people(battered)
        check_webhooks(battered)
        assert battered.installation.replay()[2] == 0


def check_ledger(battered: Battered) -> None:
    """Every acknowledged event is applied once, or quarantined if the answer said so; every copy of it is a duplicate."""
    status, ledger = battered.installation.settled(), battered.ledger
    assert is_settled(status)
    assert set(ledger.acknowledged) == set(ledger.sent)
    outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    rows = battered.rows("message_id, outcome, reason", "outcomes", "position, slot")
    for message_id, outcome, reason in rows:
        outcomes[message_id][outcome] += 1
        assert reason in ("applied", "same_message", "no_usable_identifier"), (message_id, reason)
    assert len(rows) == status["accepted"]
    wrong = {
        message_id: found
        for message_id, told in ledger.acknowledged.items()
        if (found := outcomes[message_id])["applied"] != (told == "stored") or (told == "rejected") != (found["quarantined"] > 0)
    }
    assert not wrong, battered.kills
    assert set(outcomes) == set(ledger.sent)
    counted = Counter(outcome for _, outcome, _ in rows)
    assert counted == {
        name: count
        for name, count in (
            ("applied", status["applied"]),
            ("duplicate", status["duplicates"]),
            ("quarantined", status["quarantined"]),
        )
        if count
    }
    # The rows themselves, not only what is told about them.
    events = "select count(*), count(distinct (source_id, message_id)), count(distinct (position, slot)) from events"
    assert battered.installation.sql(events) == [[status["applied"]] * 3], battered.kills


def check_people(battered: Battered) -> None:
    """What State has counted: an event that was applied twice would be seen here, whatever the log says."""
    installation, ledger = battered.installation, battered.ledger
    installation.settled()
    orders = ledger.orders()
    people = sorted({event["userId"] for event in ledger.sent.values() if "userId" in event})
    shown = {user: installation.get(f"/api/profiles/user_id:{user}") for user in people}
    counted = {user: [trait["value"] for trait in found["traits"] if trait["name"] == "orders"] for user, found in shown.items()}
    assert counted == {user: [orders[user]] if orders[user] else [] for user in people} or counted == {
        user: [orders[user]] for user in people
    }, battered.kills
    for segment, expected in (("buyers", {user for user in people if orders[user] >= 2}), ("active", ledger.active())):
        stays = {
            user: [stay for stay in found["memberships"] if stay["segment"] == segment and stay["exited_at"] is None]
            for user, found in shown.items()
        }
        assert {user for user in people if stays[user]} == expected, (segment, battered.kills)
        assert all(len(open_stays) <= 1 for open_stays in stays.values())
        members = installation.get(f"/api/segments/{segment}/members?limit=1000")["items"]
        assert {member["profile_id"] for member in members} == {shown[user]["profile_id"] for user in expected}
    computed = installation.sql("select profile_id, value from traits where name = 'orders'")
    in_sql = {profile_id: json.loads(value) for profile_id, value in computed}
    assert {user: in_sql.get(shown[user]["profile_id"], 0) for user in people} == {user: orders[user] for user in people}


def check_webhooks(battered: Battered) -> None:
    """Every transition is delivered, and whatever is sent about it bears one id and says the same."""
    installation, sink = battered.installation, battered.sink
    installation.settled()

    def undelivered() -> int:
        return int(installation.sql("select count(*) from deliveries where state = 'pending'")[0][0])

    try:
        until(lambda: undelivered() == 0, "everything is delivered", DELIVERED_WITHIN_S)
    except NotInTime as late:
        raise AssertionError(f"{late}: {undelivered()} left; {battered.kills}") from None
    bodies: defaultdict[str, set[bytes]] = defaultdict(set)
    ids: defaultdict[bytes, set[str]] = defaultdict(set)
    delivered: set[str] = set()
    for received in sink.received():
        bodies[received.webhook_id].add(received.body)
        ids[received.body].add(received.webhook_id)
        if received.answered == 200:
            delivered.add(received.webhook_id)
    assert all(len(found) == 1 for found in bodies.values())
    told = {webhook_id: json.loads(next(iter(found))) for webhook_id, found in bodies.items()}
    # A late event may prove that a stay which was thought to have ended had begun with an earlier one: the position tells
    # these two apart.
    transitions = Counter(
        (body["type"], body["segment"], body["profile_id"], body["position"], body["at"]) for body in told.values()
    )
    assert max(transitions.values()) == 1, [each for each, count in transitions.items() if count > 1]
    assert max(map(len, ids.values())) == 1
    assert {row[0] for row in battered.rows("delivery_id", "deliveries", "delivery_id")} == set(told) == delivered
    assert all(state == ["delivered"] for state in installation.sql("select distinct state from deliveries"))
    stays = battered.rows("segment, profile_id, position, exited_at", "memberships", "profile_id, position, segment, entered_at")
    entered = Counter((segment, profile_id, position) for segment, profile_id, position, _ in stays)
    exited = Counter((segment, profile_id, exited_at) for segment, profile_id, _, exited_at in stays if exited_at)
    assert Counter(each[1:4] for each in transitions if each[0] == "segment.entered") == entered, battered.kills
    assert Counter((*each[1:3], each[4]) for each in transitions if each[0] == "segment.exited") == exited, battered.kills
