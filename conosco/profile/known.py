"""What is known of a person, before and after something happened, and so what changed: names, and values to tell or not."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from conosco.model.delivery import ProfileChange
from conosco.ports.tables import PERSONS, PersonRow
from conosco.ports.work import Work
from conosco.profile.view import PersonView
from conosco.rules.evaluate import winning_value

_NULL: Final = b"null"


class Known(NamedTuple):
    """A person at one moment: profile id, identifiers, and the value (JSON) of every trait."""

    profile_id: str
    identifiers: frozenset[tuple[str, str]]
    traits: Mapping[str, bytes]


def know(work: Work, numbers: Iterable[int], now: int) -> list[Known]:
    """What is known now of these people, by their internal numbers; who is nobody is left out."""
    found: list[Known] = []
    for number in numbers:
        person: PersonRow | None = work.get(PERSONS, (number,))
        if person is None:
            continue
        view = PersonView(work, number, person)
        values = {name: winning_value(view.observations(name), now) for name in view.trait_names()}
        traits = {name: value for name, value in values.items() if value is not None and value != _NULL}
        found.append(Known(person.profile_id, frozenset((name, value) for name, value, _ in person.identifiers), traits))
    return found


def changes(
    before: Sequence[Known], work: Work, numbers: Iterable[int], because: dict[str, Any], position: int, now: int, *, live: bool
) -> list[ProfileChange]:
    """How these people differ from those who shared an identifier with them before; who does not differ is left out."""
    made: list[ProfileChange] = []
    for number in sorted(set(numbers)):
        person: PersonRow | None = work.get(PERSONS, (number,))
        if person is None:
            continue
        after = know(work, (number,), now)[0]
        former = [each for each in before if each.identifiers & after.identifiers]
        # Of several people who become one, the one whose profile id stays is what it was before.
        was = next((each for each in former if each.profile_id == after.profile_id), former[0] if former else None)
        known = was.identifiers if was else frozenset()
        old = was.traits if was else {}
        names = [name for name in sorted({*old, *after.traits}) if old.get(name) != after.traits.get(name)]
        former_ids = sorted({each.profile_id for each in former} - {after.profile_id})
        if not (names or known != after.identifiers or former_ids):
            continue
        made.append(
            ProfileChange(
                profile_id=after.profile_id,
                anchor=":".join(person.anchor),
                identifiers=tuple((name, value) for name, value, _ in person.identifiers),
                added=tuple(sorted(after.identifiers - known)),
                removed=tuple(sorted(known - after.identifiers)),
                traits={name: (old.get(name), after.traits.get(name)) for name in names},
                former_ids=tuple(former_ids),
                because=because,
                position=position,
                live=live,
            )
        )
    return made
