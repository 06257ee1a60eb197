"""The profile stage: events folded into cells, those ahead of time waiting, and cells that follow their people."""

from typing import Any

import msgspec

from conosco.engines.memory.state import MemoryState
from conosco.model.event import Event
from conosco.model.identifier import Identifier
from conosco.ports.tables import (
    CELLS,
    MEMBERS,
    PERSONS,
    PROFILES,
    TIMERS,
    TRAITS,
    CellRow,
    FlagRow,
    PersonRow,
    ProfileRow,
    TraitRow,
)
from conosco.ports.work import Work
from conosco.profile.stage import fold, next_waiting, note_identifiers, profile_id_of, regroup, release
from conosco.profile.view import PersonView
from conosco.rules.condition import Stream
from conosco.rules.streams import StreamPlan

SECRET = b"s" * 32
ORDERS = StreamPlan(0, Stream(type="track", event="Order"), ())
VALUES = StreamPlan(1, Stream(type="track", event="Order", value=("v",)), ())


def event_at(at: int, position: int = 1, **changes: Any) -> Event:
    made = Event(
        position=position,
        slot=0,
        message_id=f"m{position}",
        source_id="src",
        type="track",
        event="Order",
        identifiers=(Identifier("user_id", "u"),),
        event_at=at,
        received_at=at,
        logged_at=at,
        properties=b'{"v":5}',
    )
    return msgspec.structs.replace(made, **changes)


def person(*cells: int, memberships: dict[int, tuple[int, int, int]] | None = None, due: int = 0) -> PersonRow:
    return PersonRow(
        profile_id=profile_id_of(SECRET, Identifier("user_id", f"u{cells[0]}")),
        anchor=("user_id", f"u{cells[0]}"),
        cells=list(cells),
        identifiers=[("user_id", f"u{cell}", 100 * cell) for cell in cells],
        memberships=memberships or {},
        due=due,
    )


def work_with(*people: PersonRow) -> Work:
    work = Work(MemoryState())
    for row in people:
        number = row.cells[0]
        work.put(PERSONS, (number,), row)
        work.put(PROFILES, (row.profile_id,), ProfileRow(anchor=number, namespace=row.anchor[0], value=row.anchor[1]))
        for segment in row.memberships:
            work.put(MEMBERS, (segment, number), FlagRow())
        if row.due:
            work.put(TIMERS, (row.due, number), FlagRow())
    return work


def folded(work: Work, event: Event, now: int) -> Any:
    return fold(work, 1, 1, event, (ORDERS, VALUES), lambda stream: 0, {"country"}, now)


def test_an_event_becomes_a_row_of_each_stream() -> None:
    work = work_with(person(1))
    found = folded(work, event_at(50), 60)
    assert (found.streams, found.traits, found.waits) == ((0, 1), (), False)
    view = PersonView(work, 1, work.get(PERSONS, (1,)))
    assert list(view.rows(0).times) == [50]
    assert tuple(view.rows(1).extras[0]) == (b"5", "src", "m1")


def test_an_event_ahead_of_time_waits_and_comes_once() -> None:
    row = person(1)
    work = work_with(row)
    for place, at in enumerate((80, 70, 90), start=1):
        assert folded(work, event_at(at, position=place), 60).waits
    assert next_waiting(work, row, 1) == 70
    assert release(work, row, 1, 69) == []
    assert release(work, row, 1, 80) == [(70, 2, 0, 1), (80, 1, 0, 1)]
    assert release(work, row, 1, 80) == []
    assert next_waiting(work, row, 1) == 90
    assert list(PersonView(work, 1, row).rows(0).times) == []


def identify(at: int, position: int, traits: bytes, priority: int = 0) -> Event:
    return event_at(at, position, type="identify", event=None, traits=traits, properties=b"{}", source_priority=priority)


def test_traits_tell_only_what_may_have_changed() -> None:
    row = person(1, 2)
    work = work_with(row)

    def observed(event: Event) -> tuple[str, ...]:
        return fold(work, 1, 1, event, (), lambda stream: 0, {"country"}, 1_000).traits

    assert observed(identify(10, 1, b'{"country":"IT","plan":"free"}')) == ("country",)
    assert observed(identify(10, 1, b'{"country":"IT","plan":"free"}')) == ()
    # Newer, and says the same.
    assert observed(identify(20, 2, b'{"country":"IT"}')) == ()
    # Older, so it may move the beginning of a stretch although it says the same.
    assert observed(identify(5, 3, b'{"country":"IT"}')) == ("country",)
    assert observed(identify(30, 4, b'{"country":null}')) == ("country",)
    # Newer, of a source that counts for less: what wins does not change, what won before may.
    assert observed(identify(7, 5, b'{"country":"PL"}', priority=1)) == ("country",)
    view = PersonView(work, 1, row)
    assert view.trait_names() == ["country", "plan"]
    assert max(view.observations("country")).value == b'"PL"'


def test_a_trait_that_was_not_read_for_a_while_is_not_stale() -> None:
    row = person(1)
    work = work_with(row)
    for at, traits_read in ((10, {"country"}), (20, set[str]()), (30, {"plan"})):
        fold(work, 1, 1, identify(at, at, b'{"country":"%d"}' % at), (), lambda stream: 0, traits_read, 1_000)
    view = PersonView(work, 1, row)
    assert [view.trait("country", at) for at in (5, 10, 25, 40)] == [None, b'"10"', b'"20"', b'"30"']


def test_a_corrected_date_tells_who_is_known_since_another_moment() -> None:
    work = work_with(person(1, 2), person(3))
    changes = [("user_id", "u2", 2, 1, 150), ("user_id", "u3", 3, 3, 300), ("email", "gone", 9, 0, 0)]
    assert note_identifiers(work, changes) == {}
    assert work.get(PERSONS, (1,)).identifiers[1] == ("user_id", "u2", 150)
    assert note_identifiers(work, [("user_id", "u2", 2, 1, 50), ("user_id", "u3", 3, 3, 350)]) == {1: 100, 3: 300}


def test_cells_follow_their_people() -> None:
    one, other = person(1, memberships={7: (10, 1, 0)}, due=500), person(2, 3, memberships={7: (20, 2, 0), 8: (30, 3, 0)})
    work = work_with(one, other)
    for number, cell in ((1, 1), (2, 2), (2, 3)):
        work.put(CELLS, (number, cell), CellRow(pending=[(cell, 1, 0)]))
    work.put(TRAITS, (2, 3), TraitRow(traits={"v": [(1, "src", "m", 0, b"1")]}))
    regrouped, gone = regroup(work, {1: (1,), 2: (2, 3)}, {1: (1, 3), 2: (2,)}, [], SECRET)
    assert gone == []
    assert [(made.number, made.former_ids) for made in regrouped] == [
        (1, (one.profile_id, other.profile_id)),
        (2, (other.profile_id,)),
    ]
    assert regrouped[0].inherited == {
        7: [(one.profile_id, 10, 1, 0), (other.profile_id, 20, 2, 0)],
        8: [(other.profile_id, 30, 3, 0)],
    }
    assert work.get(CELLS, (1, 3)).pending == [(3, 1, 0)]
    assert work.get(TRAITS, (1, 3)).traits["v"]
    assert [work.get(CELLS, key) for key in ((2, 3),)] == [None]
    assert work.scan(TIMERS, (), None, 10) == []
    assert work.scan(MEMBERS, (), None, 10) == []
    assert work.get(PERSONS, (1,)).memberships == {}
    # Both profile ids remember whom they stood for.
    assert work.get(PROFILES, (other.profile_id,)).members == [("user_id", "u2"), ("user_id", "u3")]


def test_who_loses_all_evidence_is_no_more() -> None:
    alone = person(5, memberships={7: (10, 1, 0)})
    work = work_with(alone)
    regrouped, gone = regroup(work, {5: (5,)}, {}, [("user_id", "u5", 5, 0, 0)], SECRET)
    assert regrouped == []
    assert gone == [alone]
    assert work.get(PERSONS, (5,)) is None


def test_a_profile_id_is_of_the_anchor_and_its_erasures() -> None:
    anchor = Identifier("user_id", "u")
    assert profile_id_of(SECRET, anchor) == profile_id_of(SECRET, anchor)
    assert len({profile_id_of(SECRET, anchor), profile_id_of(SECRET, anchor, 1), profile_id_of(b"x" * 32, anchor)}) == 3
