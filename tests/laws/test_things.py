"""Visits and objects keep the laws: brute force, State and the warehouse agree, now and as of any position, however it came."""

import json
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conosco.ports.state import scan_all
from conosco.ports.tables import CELL_OBJECTS, IDENTIFIERS, OBJECT_PEOPLE, OBJECTS
from conosco.profile.objects import changed_at
from conosco.runtime.digest import digest
from tests.laws import things
from tests.laws.harness import Installation
from tests.laws.histories import DAY, HOUR, MINUTE, START, Claim, make_history, spell
from tests.laws.mutants.planting import survivors
from tests.laws.mutants.things import ARRIVAL_MUTANTS, HISTORY_MUTANTS, OBJECT_MUTANTS, VISIT_MUTANTS
from tests.laws.store import Store
from tests.laws.test_law01_log_is_truth import check_bytes, rebuilt
from tests.laws.test_law06_time_passes import calm_acts, shuffled

SEEDS = range(3)
DEEP_SEEDS = range(100, 140)
_VISIT = """
select profile_id, device_namespace, device_value, epoch_us(started_at), epoch_us(ended_at), duration_seconds, events, pages,
  entry_page, exit_page, entry_referrer, utm_source, utm_medium, utm_campaign, utm_term, utm_content, click_id,
  epoch_us((first_touch->>'at')::timestamp), epoch_us((last_touch->>'at')::timestamp), browser, os, device, country, source_id, visit_id
"""


class Then(NamedTuple):
    """A position, and what was so then."""

    true_at: int
    known_at: int
    profiles: dict[tuple[str, str], str]


def objects_in_state(installation: Installation) -> dict[tuple[str, str], Any]:
    """Every object as State has it."""
    return {
        key: (
            {name: json.loads(seen[3]) for name, seen in sorted(row.state.items()) if seen[3] != b"null"},
            row.first_at,
            row.last_at,
            changed_at(row),
        )
        for key, row in installation.rows(OBJECTS)
    }


def dealings_in_state(installation: Installation) -> dict[tuple[str, str, str, str], tuple[int, int]]:
    """Who deals with what, by State; its two tables must agree."""
    numbers = {row.number: name for name, row in installation.rows(IDENTIFIERS)}
    profiles = installation.profiles()
    found: dict[tuple[str, str, str, str], tuple[int, int]] = {}
    for (kind, object_id, cell), row in installation.rows(OBJECT_PEOPLE):
        assert numbers[cell] == (row.namespace, row.value)
        for role, (first_at, last_at) in row.roles.items():
            key = (kind, object_id, profiles[row.namespace, row.value], role)
            known = found.get(key, (first_at, last_at))
            found[key] = (min(known[0], first_at), max(known[1], last_at))
    places = {key for key, _ in installation.rows(OBJECT_PEOPLE)}
    assert {(key[1], key[2], key[0]) for key, _ in installation.rows(CELL_OBJECTS)} == places
    return found


def live(seed: int, check: Any = None) -> tuple[Installation, list[Then]]:
    """An installation that has lived through a history, and moments of it; ``check`` is called at each."""
    installation = Installation()
    moments: list[Then] = []
    acts = things.with_things(make_history(seed), seed)
    for number, act in enumerate(acts):
        installation.perform(act)
        installation.settle()
        if number == len(acts) - 1 or (number > 30 and number % 10 == 0):
            position = installation.state.offset()[0]
            then = Then(installation.log.read(position - 1, 1)[0].logged_at, position, installation.profiles())
            moments.append(then)
            if check is not None:
                check(installation, then)
    installation.assert_outcomes()
    return installation, moments


def check_objects(seed: int) -> None:
    """State has what brute force finds, at every moment."""

    def compare(installation: Installation, then: Then) -> None:
        events = things.known(things.happened(installation.addresses, seed), then.true_at, then.known_at)
        assert objects_in_state(installation) == things.objects(events)
        assert dealings_in_state(installation) == things.dealings(events, then.profiles)

    installation, moments = live(seed, compare)
    assert len(objects_in_state(installation)) >= 10
    merged = {len(set(then.profiles.values())) < len(then.profiles) for then in moments}
    assert merged == {True}, "no two identifiers were ever one person"


def check_rebuild(seed: int) -> None:
    """State derived anew has the same objects, in batches of any size."""
    installation, _ = live(seed)
    assert len(list(scan_all(installation.state, OBJECTS))) >= 10
    check_bytes(installation.state, Random(seed))
    for size in (1, 13):
        assert rebuilt(installation.log, installation.state.offset()[0], size) == digest(installation.state)


def check_arrival(seed: int) -> None:
    """However it arrives, it ends the same."""
    acts = things.with_things(calm_acts(seed), seed)
    results = []
    for version in (acts, shuffled(acts, seed)):
        installation = Installation()
        installation.perform_all(version)
        results.append((objects_in_state(installation), dealings_in_state(installation)))
    assert results[0] == results[1]


def compare_then(store: Store, events: list[things.Happened], then: Then) -> int:
    """The warehouse as of a moment has what brute force finds; returns how many visits there were."""
    asked = f"({then.true_at}, {then.known_at})"
    kept = things.known(events, then.true_at, then.known_at)
    rows = store.rows(
        f"select kind, object_id, state, epoch_us(first_seen_at), epoch_us(last_seen_at), epoch_us(changed_at) from store.objects_as_of{asked}"
    )
    assert {(row[0], row[1]): (json.loads(row[2]), *row[3:]) for row in rows} == things.objects(kept)
    rows = store.rows(
        f"select * replace (epoch_us(first_at) as first_at, epoch_us(last_at) as last_at) from store.object_people_as_of{asked}"
    )
    assert {(row[0], row[1], row[2], row[3]): (row[4], row[5]) for row in rows} == things.dealings(kept, then.profiles)
    rows = store.rows(
        f"select kind, object_id, name, value, previous, epoch_us(changed_at), message_id from store.object_history_as_of{asked}"
    )
    assert {tuple("null" if part is None else part for part in row) for row in rows} == things.changes(kept)
    return compare_visits(store, kept, then)


def compare_visits(store: Store, kept: list[things.Happened], then: Then) -> int:
    rows = store.rows(f"{_VISIT} from store.visits_as_of({then.true_at}, {then.known_at})")
    expected = things.visits(kept, then.profiles)
    found = {(row[0], (row[1], row[2]), *row[3:-1]) for row in rows}
    assert found == {visit[:-1] for visit in expected}
    assert len({row[-1] for row in rows}) == len(rows) == len(expected)
    return len(rows)


def filled(seed: int, folder: Path | None) -> tuple[Store, list[things.Happened], list[Then]]:
    installation, moments = live(seed)
    store = Store(installation, folder or Path())
    store.fill()
    return store, things.happened(installation.addresses, seed), moments


def check_warehouse(seed: int, folder: Path | None = None) -> None:
    """The warehouse knows what was known when; now is as of the end."""
    store, events, moments = filled(seed, folder)
    counts = [compare_then(store, events, then) for then in moments]
    assert counts[-1] > 30
    last = moments[-1]
    for name in ("visits", "objects", "object_people", "object_history"):
        now = store.rows(f"select * from {name}")
        then_rows = store.rows(f"select * from store.{name}_as_of({last.true_at}, {last.known_at})")
        assert sorted(map(repr, now)) == sorted(map(repr, then_rows)), name
    # A moment in the middle, by the knowledge of the end.
    compare_then(store, events, Then(moments[len(moments) // 2].true_at, last.known_at, last.profiles))
    store.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_state_has_the_objects_of_brute_force(seed: int) -> None:
    check_objects(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_warehouse_has_the_visits_and_objects_of_brute_force(seed: int, tmp_path: Path) -> None:
    check_warehouse(seed, tmp_path)


def test_a_rebuild_has_the_same_objects() -> None:
    check_rebuild(0)


@pytest.mark.parametrize("seed", SEEDS)
def test_arrival_does_not_matter(seed: int) -> None:
    check_arrival(seed)


@pytest.mark.deep
@pytest.mark.parametrize("seed", DEEP_SEEDS)
def test_things_in_many_worlds(seed: int, tmp_path: Path) -> None:
    check_objects(seed)
    check_arrival(seed)
    check_warehouse(seed, tmp_path)


def test_faults_are_seen() -> None:
    assert survivors(OBJECT_MUTANTS, check_objects, SEEDS) == []
    assert survivors(ARRIVAL_MUTANTS, check_arrival, SEEDS) == []
    assert survivors(HISTORY_MUTANTS, check_rebuild, SEEDS) == []
    assert survivors(VISIT_MUTANTS, check_warehouse, SEEDS) == []


# Permutations ------------------------------------------------------------------------------------------------------------

BASE = START + 30 * DAY


def told(number: int, at: int, object_id: str, role: str, source_id: str = "src_a", **state: Any) -> tuple[str, dict[str, Any]]:
    """An event of one of two people on one of two devices, that tells of one order."""
    body = {
        "type": "track",
        "event": "Told",
        "messageId": f"m{number}",
        "timestamp": spell(at),
        "userId": f"u{number % 2}",
        "objects": [{"kind": "order", "object_id": object_id, "role": role, "state": state}],
    }
    return source_id, body


TOLD = (
    told(1, BASE, "a", "buyer", status="new", total=1),
    told(2, BASE, "a", "owner", status="paid"),
    # The same moment, the same message id, another source.
    told(2, BASE, "a", "buyer", "src_b", status="sent", total=None),
    told(3, BASE + HOUR, "b", "buyer", status="new", note="x"),
    told(4, BASE - 20 * DAY, "b", "buyer", status="old", note=None, extra=[1]),
    told(5, BASE + 2 * HOUR, "a", "buyer", total=5),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(order=st.permutations(range(len(TOLD))), again=st.lists(st.integers(0, len(TOLD) - 1), max_size=4), seed=st.integers(0, 9))
def test_any_order_of_arrival_gives_the_same_objects(order: list[int], again: list[int], seed: int) -> None:
    installation = Installation()
    for name in ("src_a", "src_b"):
        installation.define({"kind": "source", "key": name, "name": "s", "type": "server", "region": "eu", "id": name})
    installation.now = BASE + DAY
    random = Random(seed)
    for place in [*order, *again]:
        source_id, body = TOLD[place]
        installation.send(body, source_id=source_id)
        if random.random() < 0.5:
            installation.settle()
    installation.settle()
    assert objects_in_state(installation) == {
        ("order", "a"): ({"status": "sent", "total": 5}, BASE, BASE + 2 * HOUR, BASE + 2 * HOUR),
        ("order", "b"): ({"extra": [1], "note": "x", "status": "new"}, BASE - 20 * DAY, BASE + HOUR, BASE + HOUR),
    }
    profiles = installation.profiles()
    one, other = profiles["user_id", "u1"], profiles["user_id", "u0"]
    assert dealings_in_state(installation) == {
        ("order", "a", one, "buyer"): (BASE, BASE + 2 * HOUR),
        ("order", "a", other, "owner"): (BASE, BASE),
        ("order", "a", other, "buyer"): (BASE, BASE),
        ("order", "b", one, "buyer"): (BASE + HOUR, BASE + HOUR),
        ("order", "b", other, "buyer"): (BASE - 20 * DAY, BASE - 20 * DAY),
    }


def test_a_merge_and_an_un_merge_take_the_objects_along() -> None:
    installation = Installation()
    installation.define({"kind": "source", "key": "s", "name": "s", "type": "server", "region": "eu", "id": "src_a"})
    installation.now = BASE + DAY
    for _, body in TOLD[:2]:
        installation.send(body)
    installation.settle()
    apart = dealings_in_state(installation)
    assert len({key[2] for key in apart}) == 2
    rows = dict(installation.rows(OBJECT_PEOPLE))
    link = Claim(installation.now + MINUTE, "lnk_1", "manual_same", ("user_id", "u0"), ("user_id", "u1"))
    installation.perform_all([link])
    assert len({key[2] for key in dealings_in_state(installation)}) == 1
    # Nothing was written for it.
    assert dict(installation.rows(OBJECT_PEOPLE)) == rows
    installation.perform_all([Claim(installation.now + MINUTE, "lnk_1", "retract")])
    assert dealings_in_state(installation) == apart


def test_an_event_ahead_of_now_tells_once_its_time_has_come() -> None:
    installation = Installation()
    installation.define({"kind": "source", "key": "s", "name": "s", "type": "server", "region": "eu", "id": "src_a"})
    installation.now = BASE
    installation.send(told(1, BASE + 3 * MINUTE, "a", "buyer", status="new")[1])
    installation.settle()
    assert objects_in_state(installation) == {}
    installation.now = BASE + 3 * MINUTE
    installation.settle()
    assert set(objects_in_state(installation)) == {("order", "a")}
