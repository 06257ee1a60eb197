"""Law 5: one definition, equal answers. Live memberships, SQL and brute force agree about who is in, now and as of any position."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from conosco.model.number import UNIT, exact
from conosco.ports.tables import PERSONS
from conosco.ports.work import Work
from conosco.profile.view import PersonView
from conosco.rules.catalogue import Catalogue
from conosco.rules.evaluate import attribute_value
from conosco.runtime.configuration import load
from tests.laws import oracle
from tests.laws.harness import Installation
from tests.laws.histories import make_history
from tests.laws.mutants.one_definition import MUTANTS
from tests.laws.mutants.planting import survivors
from tests.laws.store import Store

SEEDS = range(5)
DEEP_SEEDS = range(100, 200)


class Verdicts(NamedTuple):
    """What was asked at one position, and the answer on which all agreed then."""

    true_at: int
    known_at: int
    catalogue: Catalogue
    people: dict[str, set[str]]


def verdicts_now(installation: Installation, store: Store | None) -> tuple[Verdicts, int]:
    """The live answer, proven against the others; and how many people were asked about."""
    known_at = installation.state.offset()[0]
    true_at = installation.log.read(known_at - 1, 1)[0].logged_at
    case = installation.case(true_at, known_at)
    catalogue = Catalogue(segments=installation.specs("segment"), attributes=installation.specs("attribute"))
    stays = installation.stays()
    found: dict[str, set[str]] = {}
    for key, spec in catalogue.segments.items():
        live = {stay.profile_id for stay in stays if stay.segment == key}
        assert live == oracle.people(case, spec["where"]), (known_at, key, spec)
        if store is not None:
            assert live == store.people(spec, catalogue, true_at, known_at), (known_at, key, spec)
        found[key] = live
    return Verdicts(true_at, known_at, catalogue, found), len(case.everyone())


def check(seed: int, folder: Path | None = None) -> None:
    """One world: all agree, and neither yes nor no is rare."""
    assert 0.2 <= share_of_members(seed, folder) <= 0.8


def share_of_members(seed: int, folder: Path | None) -> float:
    """Prove that all agree; returns how many of all verdicts were yes.

    Without a folder SQL is left out: it has nothing to do with the faults of live evaluation, and takes most of the time.
    """
    installation = Installation()
    store = None if folder is None else Store(installation, folder)
    kept: list[Verdicts] = []
    met = asked = 0
    acts = make_history(seed)
    for number, act in enumerate(acts):
        installation.perform(act)
        installation.settle()
        if number == len(acts) - 1 or (number > 30 and number % 12 == 0):
            if store is not None:
                store.fill()
            verdicts, everyone = verdicts_now(installation, store)
            met += sum(map(len, verdicts.people.values()))
            asked += everyone * len(verdicts.people)
            kept.append(verdicts)
    assert len(installation.addresses) >= 200
    compare_attributes(installation)
    if store is not None:
        compare_then(store, kept)
        store.close()
    return met / asked


def compare_then(store: Store, kept: list[Verdicts]) -> None:
    """What was known then is still known to have been known then."""
    for verdicts in kept:
        for key, spec in verdicts.catalogue.segments.items():
            then = store.people(spec, verdicts.catalogue, verdicts.true_at, verdicts.known_at)
            assert then == verdicts.people[key], (verdicts.known_at, key, spec)


def compare_attributes(installation: Installation) -> None:
    """Computed traits of everyone, live and by brute force."""
    known_at = installation.state.offset()[0]
    true_at = installation.log.read(known_at - 1, 1)[0].logged_at
    case = installation.case(true_at, known_at)
    configuration = load(installation.state)
    work = Work(installation.state)
    for key, spec in configuration.attributes.items():
        found: dict[str, Any] = {}
        for (number,), person in installation.rows(PERSONS):
            rows = PersonView(work, number, person).rows(configuration.streams.number(spec.stream))
            value = attribute_value(spec, rows, true_at)
            if value is not None:
                found[person.profile_id] = value
        expected = oracle.attribute_values(case, installation.specs("attribute")[key])
        assert {who: millionths(value) for who, value in found.items()} == {
            who: millionths(value) for who, value in expected.items()
        }, (key, spec)


def millionths(value: Any) -> Any:
    """Numbers of either side as whole millionths."""
    if isinstance(value, list):
        return [millionths(each) for each in value]
    if isinstance(value, str | bool):
        return value
    found = exact(value)
    return ("number", found if found is not None else int(value * UNIT))


@pytest.mark.parametrize("seed", SEEDS)
def test_live_sql_and_brute_force_agree(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)


def test_verdicts_are_mixed() -> None:
    assert 0.3 <= sum(share_of_members(seed, None) for seed in SEEDS) / len(SEEDS) <= 0.7


@pytest.mark.deep
@pytest.mark.parametrize("seed", DEEP_SEEDS)
def test_live_sql_and_brute_force_agree_in_many_worlds(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)


def test_faults_are_seen() -> None:
    assert survivors(MUTANTS, check, range(20)) == []
