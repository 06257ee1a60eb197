"""The forecast of who would be who, against what the worker then does."""

import pytest

from conosco.engines.memory.state import MemoryState
from conosco.model.event import Event
from conosco.model.identifier import Identifier, IdentityRules
from conosco.ports.work import Work
from conosco.resolve.stage import resolve
from conosco.runtime.imports.identity import IdentityForecast

RULES = IdentityRules()


def event(position: int, *identifiers: tuple[str, str]) -> Event:
    return Event(
        position, 0, f"m{position}", "src", "track", tuple(Identifier(*one) for one in identifiers), position, position, position
    )


def known(*events: Event) -> MemoryState:
    state = MemoryState()
    state.begin(1)
    work = Work(state)
    for each in events:
        resolve(work, each, RULES)
    work.flush()
    state.commit(len(events))
    return state


USER, OTHER = ("user_id", "u1"), ("user_id", "u2")
MAIL, PHONE = ("email", "a@example.com"), ("phone", "+48600100200")


@pytest.mark.parametrize(
    ("before", "rows", "told"),
    [
        ([], [(USER,), (USER,)], {"new": 2, "new_people": 1}),
        ([(USER,)], [(USER, MAIL)], {"known": 1, "known_people": 1}),
        ([(USER,), (MAIL,)], [(USER, MAIL)], {"merging": 1, "known_people": 1, "people_merged": 1}),
        ([(USER, MAIL)], [(OTHER, MAIL)], {"conflicting": 1, "new_people": 1}),
        ([(MAIL,)], [(USER,), (USER, MAIL)], {"new": 1, "known": 1, "known_people": 1}),
        ([], [(USER,), (OTHER,), (USER, PHONE)], {"new": 3, "new_people": 2}),
    ],
)
def test_rows_are_counted_by_what_they_do(
    before: list[tuple[tuple[str, str], ...]], rows: list[tuple[tuple[str, str], ...]], told: dict[str, int]
) -> None:
    state = known(*(event(number, *identifiers) for number, identifiers in enumerate(before, 1)))
    forecast = IdentityForecast(state, RULES)
    forecast.add([event(number, *identifiers) for number, identifiers in enumerate(rows, 100)])
    found = forecast.told()
    counted = {
        name: getattr(found, name)
        for name in ("new", "known", "merging", "conflicting", "new_people", "known_people", "people_merged")
    }
    assert counted == dict.fromkeys(counted, 0) | told
    assert found.rows == len(rows)
