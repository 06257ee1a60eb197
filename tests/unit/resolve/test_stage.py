"""The resolve stage at its door: what each event or command brings about."""

from collections.abc import Sequence

import pytest

from conosco.engines.memory.state import MemoryState
from conosco.model.event import Event, EventType
from conosco.model.identifier import Identifier, IdentityRules
from conosco.model.moment import LATEST
from conosco.model.problem import Refused
from conosco.ports.state import Key, Table
from conosco.ports.tables import COMPONENTS, HUB_LINKS, IDENTIFIERS
from conosco.ports.work import Work
from conosco.resolve.stage import Resolution, assert_link, identifier_keys, resolve, retract_link

RULES = IdentityRules()
USER, OTHER = Identifier("user_id", "u1"), Identifier("user_id", "u2")
EMAIL = Identifier("email", "ada@mail.example")
DEVICE, PHONE = Identifier("anonymous_id", "d1"), Identifier("anonymous_id", "d2")


class Scene:
    """A Work, and events that follow one another in the log."""

    def __init__(self) -> None:
        self.work = Work(MemoryState())
        self.position = 0

    def see(
        self,
        *identifiers: Identifier,
        at: int = 100,
        previous_id: str | None = None,
        may_assert: bool = True,
        message_id: str = "",
    ) -> Resolution:
        self.position += 1
        return resolve(self.work, make_event(identifiers, self.position, at, previous_id, may_assert, message_id), RULES)

    def same(self, left: Identifier, right: Identifier, link_id: str = "lnk_1") -> Resolution:
        self.position += 1
        return assert_link(self.work, "manual_same", left, right, 100, self.position, link_id, "seen in person", RULES)

    def retract(self, link_id: str = "lnk_1") -> Resolution | None:
        self.position += 1
        return retract_link(self.work, link_id, self.position, RULES)


def make_event(
    identifiers: Sequence[Identifier], position: int, at: int, previous_id: str | None, may_assert: bool, message_id: str
) -> Event:
    kind: EventType = "track" if previous_id is None else "alias"
    return Event(
        position=position,
        slot=0,
        message_id=message_id or f"m{position}",
        source_id="src",
        type=kind,
        user_id=next((value for namespace, value in identifiers if namespace == "user_id"), None),
        previous_id=previous_id,
        identifiers=tuple(identifiers),
        event_at=at,
        received_at=at,
        logged_at=at,
        may_assert=may_assert,
    )


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_first_event_makes_a_person(scene: Scene) -> None:
    made = scene.see(USER, DEVICE)
    assert made.regrouping is not None
    assert (made.person, made.regrouping.before, made.regrouping.after) == (1, {}, {1: (1, 2)})
    assert made.identifier_changes == [("user_id", "u1", 1, 1, 100), ("anonymous_id", "d1", 2, 1, 100)]
    assert [(link.left_value, link.right_value, link.kind, link.evidence) for link in made.link_changes] == [
        ("u1", "d1", "observed", "m1")
    ]


def test_an_event_that_adds_nothing_changes_nothing(scene: Scene) -> None:
    scene.see(USER, DEVICE)
    assert scene.see(USER, DEVICE, at=101) == Resolution(person=1)
    assert scene.see(DEVICE, at=102) == Resolution(person=1)


def test_a_merge_says_who_was_before_and_who_is_after(scene: Scene) -> None:
    assert scene.see(DEVICE, at=50).person == 1
    scene.see(EMAIL)
    merged = scene.see(USER, DEVICE, EMAIL)
    assert merged.person == 3 and merged.regrouping is not None
    assert merged.regrouping.before == {1: (1,), 2: (2,)}
    assert merged.regrouping.after == {3: (1, 2, 3)}


def test_late_evidence_is_older_evidence(scene: Scene) -> None:
    scene.see(USER, DEVICE)
    late = scene.see(USER, DEVICE, at=40)
    assert late.regrouping is None
    assert [change.first_seen_at for change in late.identifier_changes] == [40, 40]
    assert [(link.first_seen_at, link.evidence, link.position) for link in late.link_changes] == [(40, "m2", 1)]
    assert scene.see(USER, DEVICE, at=40, message_id="a").link_changes[0].evidence == "a"
    assert scene.see(USER, DEVICE, at=40, message_id="b").link_changes == []


def test_a_shared_device_goes_to_whoever_had_it_first_even_if_that_is_learnt_later(scene: Scene) -> None:
    scene.see(USER, DEVICE, at=100)
    contested = scene.see(OTHER, DEVICE, at=200)
    assert contested.link_changes[0].refused_by == "unique"
    late = scene.see(OTHER, DEVICE, at=50)
    assert late.regrouping is not None
    assert late.regrouping.before == {1: (1, 2), 3: (3,)} and late.regrouping.after == {1: (1,), 3: (2, 3)}
    assert {(link.left_value, link.refused_by) for link in late.link_changes} == {("u1", "unique"), ("u2", "")}


def test_only_a_source_that_may_assert_joins_user_ids(scene: Scene) -> None:
    scene.see(USER)
    assert scene.see(OTHER, previous_id="u1", may_assert=False).link_changes[0].refused_by == "unique"
    assert scene.see(OTHER, previous_id="u1").person == scene.see(USER).person


def test_a_previous_id_means_a_user_as_soon_as_any_event_uses_it_as_one(scene: Scene) -> None:
    scene.see(OTHER, previous_id="u1")
    assert scene.work.get(IDENTIFIERS, ("anonymous_id", "u1")).person == 1
    learnt = scene.see(USER, DEVICE)
    assert [(link.left_namespace, link.kind, link.retracted_position) for link in learnt.link_changes] == [
        ("anonymous_id", "asserted", 2),
        ("user_id", "asserted", None),
        ("user_id", "observed", None),
    ]
    assert ("anonymous_id", "u1", 2, 0, LATEST) in learnt.identifier_changes
    assert scene.work.get(IDENTIFIERS, OTHER).person == scene.work.get(IDENTIFIERS, USER).person


@pytest.mark.parametrize("previous_id", ["", "null", "00-00", "u1"])
def test_a_previous_id_that_says_nothing_links_nothing(scene: Scene, previous_id: str) -> None:
    assert scene.see(USER, previous_id=previous_id).link_changes == []


def test_blocked_identifiers_are_no_evidence(scene: Scene) -> None:
    seen = scene.see(USER, Identifier("anonymous_id", "undefined"))
    assert [change.value for change in seen.identifier_changes] == ["u1"] and seen.link_changes == []
    with pytest.raises(ValueError, match="no usable identifier"):
        scene.see(Identifier("anonymous_id", "guest"))


def test_an_identifier_named_twice_is_named_once(scene: Scene) -> None:
    assert len(scene.see(USER, EMAIL, EMAIL).link_changes) == 1


def test_a_link_that_was_taken_back_stays_so(scene: Scene) -> None:
    scene.see(USER)
    scene.see(OTHER)
    assert scene.same(USER, OTHER).person == scene.see(OTHER).person
    parted = scene.retract()
    assert parted is not None and parted.regrouping is not None
    assert parted.regrouping.after == {1: (1,), 2: (2,)}
    assert parted.link_changes[0].retracted_position == scene.position
    assert scene.same(USER, OTHER).regrouping is None
    again = scene.retract()
    assert again is not None and (again.regrouping, again.link_changes) == (None, [])
    assert scene.same(USER, OTHER, "lnk_2").regrouping is not None


def test_an_observed_link_that_was_taken_back_is_not_revived_by_the_next_event(scene: Scene) -> None:
    scene.see(USER, DEVICE)
    parted = retract_link(scene.work, (DEVICE, USER, "observed"), 9, RULES)
    assert parted is not None and parted.regrouping is not None and parted.regrouping.after == {1: (1,), 2: (2,)}
    assert scene.see(USER, DEVICE, at=300) == Resolution(person=1)
    assert scene.see(USER, DEVICE, at=20).regrouping is None
    aliased = scene.see(USER, previous_id="d1", may_assert=False)
    assert aliased.regrouping is None and aliased.link_changes[0].retracted_position == 9


def test_what_only_a_link_named_is_nobody_once_it_is_taken_back(scene: Scene) -> None:
    scene.see(USER)
    assert scene.same(USER, EMAIL).identifier_changes == [("email", "ada@mail.example", 2, 1, 100)]
    parted = scene.retract()
    assert parted is not None and parted.identifier_changes == [("email", "ada@mail.example", 2, 0, LATEST)]
    assert parted.regrouping is not None and parted.regrouping.after == {1: (1,)}
    assert scene.see(EMAIL, at=70).person == 2


def test_links_that_cannot_be_are_refused(scene: Scene) -> None:
    with pytest.raises(Refused, match="blocked_identifier"):
        scene.same(USER, Identifier("email", "null"))
    with pytest.raises(Refused, match="same_identifier"):
        scene.same(USER, USER)
    assert scene.retract("lnk_unknown") is None
    assert retract_link(scene.work, (USER, DEVICE, "observed"), 1, RULES) is None
    scene.see(USER)
    scene.see(DEVICE)
    assert retract_link(scene.work, (USER, DEVICE, "observed"), 1, RULES) is None


def test_a_kiosk_ties_nobody_together_and_its_visitors_lie_apart(scene: Scene) -> None:
    visitors = [Identifier("user_id", f"visitor-{number}") for number in range(30)]
    for place, visitor in enumerate(visitors):
        seen = scene.see(visitor, DEVICE, at=100 + place)
        assert seen.link_changes[-1].refused_by == ("" if place == 0 else "unique" if place < 8 else "hub")
    components = {scene.work.get(IDENTIFIERS, visitor).component for visitor in visitors}
    assert len(components) == 30
    assert all(len(scene.work.get(COMPONENTS, (component,)).links) == 0 for component in components)
    assert len(scene.work.scan(HUB_LINKS, (), None, 100)) == 30
    assert scene.see(visitors[3], DEVICE, at=500) == Resolution(person=scene.work.get(IDENTIFIERS, visitors[3]).person)
    for visitor in visitors[:22]:
        assert retract_link(scene.work, (visitor, DEVICE, "observed"), 99, RULES) is not None
    assert scene.work.get(IDENTIFIERS, DEVICE).person == scene.work.get(IDENTIFIERS, visitors[22]).person


class Watched(MemoryState):
    """A State that counts the keys asked of each table."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, bytes]:
        self.asked += [table.name] * len(keys)
        return super().get_many(table, keys)


def test_reading_ahead_spares_every_look_up_of_an_identifier() -> None:
    state = Watched()
    events = [
        make_event((USER, EMAIL, DEVICE), 1, 100, None, True, ""),
        make_event((OTHER,), 2, 100, "u1", True, ""),
        make_event((OTHER, PHONE), 3, 100, None, True, ""),
    ]
    work = Work(state)
    work.prefetch(IDENTIFIERS, [key for event in events for key in identifier_keys(event)])
    state.asked.clear()
    for event in events:
        resolve(work, event, RULES)
    assert "identifiers" not in state.asked
    state.begin(1)
    work.flush()
    state.commit(3)
    state.asked.clear()
    resolve(Work(state), make_event((USER, EMAIL, DEVICE), 4, 200, None, True, ""), RULES)
    assert state.asked == ["identifiers"] * 3
