"""Mentions: which objects an event speaks of, by its own member ``objects`` and by the rules for known events.

The rules are data: ``object_rules.json``. A pure function of the event, so that State and the warehouse find the same.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from conosco.collect.objects import (
    OBJECT_ID_CHARACTERS_MAX,
    OBJECTS_MAX,
    PROPERTIES_MAX,
    VALUE_BYTES_MAX,
    Mention,
    id_of,
    read_objects,
)
from conosco.model.event import Event

_FILE: Final = Path(__file__).with_name("object_rules.json")


class ObjectRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One object of an event: its id is the first of ``id`` that is there, in the properties or in each element of ``each``.

    ``state`` names properties that are its own, ``renamed`` maps those that have another name there, ``set`` is always so.
    """

    kind: str
    id: tuple[str, ...]
    role: str = ""
    each: str = ""
    state: tuple[str, ...] = ()
    renamed: Mapping[str, str] = {}
    set: Mapping[str, msgspec.Raw] = {}


class _EventRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    events: tuple[str, ...]
    objects: tuple[ObjectRule, ...]


class _Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    about: str
    source: str
    licence: str
    roles_of_people_alone: frozenset[str]
    rules: tuple[_EventRule, ...]


RULES: Final = msgspec.json.decode(_FILE.read_bytes(), type=_Rules)
BY_EVENT: Final[Mapping[str | None, tuple[ObjectRule, ...]]] = {
    event: rule.objects for rule in RULES.rules for event in rule.events
}
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ELEMENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def speaks_of_objects(event: Event) -> bool:
    """Whether ``mentions_of`` may find anything: asked of every event, so nothing is read for it."""
    return event.event in BY_EVENT or event.objects != b""


def mentions_of(event: Event) -> Sequence[Mention]:
    """What an event says of objects, each object once, in a fixed order; what its own ``objects`` say wins over the rules.

    An event of a program (``automated``) makes nobody a viewer. Of a list the first 100 elements count, longer values
    and longer ids than those of ``objects`` may be are passed over: they stay in the event.
    """
    rules = BY_EVENT.get(event.event, ()) if event.type == "track" else ()
    if not rules and not event.objects:
        return ()
    found: dict[tuple[str, str], Mention] = {}
    # A text that is no text, such as half of a surrogate pair, says nothing; ``objects`` was judged at collect.
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        properties: Mapping[str, msgspec.Raw] = _MEMBERS.decode(event.properties) if rules else {}
        for rule in rules:
            for members in _elements(properties, rule.each):
                _add(found, _mention(rule, members, event.automated))
    for mention in read_objects(event.objects):
        _add(found, mention)
    return list(found.values())


def _elements(properties: Mapping[str, msgspec.Raw], each: str) -> Sequence[Mapping[str, msgspec.Raw]]:
    if not each:
        return (properties,)
    raw = bytes(properties.get(each, b""))
    if raw[:1] != b"[":
        return ()
    return [_MEMBERS.decode(element) for element in _ELEMENTS.decode(raw)[:OBJECTS_MAX] if bytes(element)[:1] == b"{"]


def _mention(rule: ObjectRule, members: Mapping[str, msgspec.Raw], is_automated: bool) -> Mention | None:
    ids = (id_of(bytes(members[name])) for name in rule.id if name in members)
    object_id = next((each for each in ids if each), None)
    if object_id is None or len(object_id) > OBJECT_ID_CHARACTERS_MAX:
        return None
    state = {name: bytes(members[name]) for name in rule.state if name in members}
    state.update((known_as, bytes(members[name])) for name, known_as in rule.renamed.items() if name in members)
    state = {name: value for name, value in state.items() if len(value) <= VALUE_BYTES_MAX}
    state.update((name, bytes(value)) for name, value in rule.set.items())
    is_told = rule.role and not (is_automated and rule.role in RULES.roles_of_people_alone)
    return Mention(rule.kind, object_id, (rule.role,) if is_told else (), state)


def _add(found: dict[tuple[str, str], Mention], mention: Mention | None) -> None:
    """Put together what an event says of one object in several places: the later place wins."""
    if mention is None:
        return
    key = (mention.kind, mention.object_id)
    known = found.get(key)
    if known is not None:
        roles = tuple(dict.fromkeys((*known.roles, *mention.roles)))
        state = {**known.state, **mention.state}
        mention = mention._replace(roles=roles, state=dict(sorted(state.items())[:PROPERTIES_MAX]))
    found[key] = mention
