"""The mapping language: a definition without code that makes one JSON value, an event for one, out of another. Pure.

Here is how a mapping is applied; what one is stands in mapping_tree.py. Reading what people wrote is in mapping_parse.py, turning a value
into a number, a moment or an address in mapping_convert.py. Values come as ``model.event.read_json`` gives them: numbers exact.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, cast

import msgspec

from conosco.model.moment import parse_moment
from conosco.rules.mapping_convert import ABSENT, Unreadable, compile_conversion, text_of
from conosco.rules.mapping_tree import (
    EVERY,
    ITEM,
    Const,
    EventMapping,
    First,
    From,
    Items,
    Object,
    ObjectMapping,
    Path,
    Template,
    Value,
    is_proportionate,
    paths_of,
)
from conosco.rules.values import Passes, at_path, compile_test

# Elements that one ``each`` or ``*`` may have, and how large the result of a mapping may become, in characters.
ELEMENTS_MAX: Final = 10_000
RESULT_CHARACTERS_MAX: Final = 1 << 20
# A number counts for eight characters and may be one: what is spelled is smaller than what is counted by this at most.
_ROUGHNESS: Final = 16

Cause = Literal["missing", "unreadable", "wrong_type", "no_mapping_applies", "nothing_in_list", "too_many_elements", "too_large"]


# What applying one gives --------------------------------------------------------------------------------------------------


class Unmapped(msgspec.Struct, frozen=True):
    """Why a value could not be mapped, and where: ``field`` of the result, ``path`` in what came, ``mapping`` of several."""

    cause: Cause
    field: str = ""
    path: str = ""
    mapping: int = 0


class Made(msgspec.Struct, frozen=True):
    """An event that was made, in the shape of the tracking API: ``element`` of the list that it comes from, None without."""

    event: dict[str, Any]
    mapping: int
    element: int | None = None
    # Whether its message id comes from the element, and so tells it from the others.
    has_own_id: bool = True


class Mapped(msgspec.Struct, frozen=True):
    """What a value was mapped to."""

    events: tuple[Made, ...]


_Make = Callable[[Any, Any], Any]
_IDS: Final = ("userId", "anonymousId", "groupId", "previousId", "messageId")
_TEXTS: Final = ("type", "event")
_OBJECTS: Final = ("properties", "traits", "context")
# Conversions that give a text, or nothing.
_TEXTUAL: Final = ("text", "lower", "upper", "trim", "moment", "email", "phone")
# Rows come in the order of time, so that the same moment is looked at many times over; longer texts are not kept.
_MOMENTS_KEPT: Final = 4_096
_MOMENT_CHARACTERS: Final = 40
_WIRE_NAMES: Final = {
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "group_id": "groupId",
    "previous_id": "previousId",
    "message_id": "messageId",
}


class CompiledMapping:
    """An event mapping made ready. ``applies`` asks its tests, ``make`` makes the event of one element (or of the whole)."""

    def __init__(self, mapping: EventMapping) -> None:
        self.each = mapping.each
        self._when = [(when.path, compile_test(when.test)) for when in mapping.when]
        self._fields = [
            (
                wire := _WIRE_NAMES.get(name, name),
                _compile(value, name),
                _check_of(wire, name) if _needs_check(value, wire) else None,
            )
            for name, value in mapping.fields
        ]
        self._objects = [_compile_object(made, f"objects/{at}") for at, made in enumerate(mapping.objects)]
        # Where fields come from, for whoever must say what is wrong with one: path by name on the wire, "" for who it is.
        self.paths = {_WIRE_NAMES.get(name, name): _shown_path(value) for name, value in mapping.fields}
        self.paths[""] = ", ".join(_paths_to_people(mapping))
        # The members, as named on the wire, that an event may have.
        self.members = frozenset(wire for wire, _, _ in self._fields) | ({"objects"} if self._objects else frozenset())
        # Whether what is made cannot be larger than its value by much, so that it may be measured when it is spelled.
        self.is_proportionate = not self._objects and is_proportionate(mapping)
        ids = [value for name, value in mapping.fields if name == "message_id"]
        self.has_own_id = self.each is None or any(reads_item(value) for value in ids)

    def applies(self, root: Any, item: Any = None) -> bool:
        """Whether all tests pass."""
        if not self._when:
            return True
        return all(_passes(root, item, path, passes, self.each is not None) for path, passes in self._when)

    def elements(self, root: Any) -> list[Any] | Unmapped:
        """The elements of the list that ``each`` names."""
        found = root
        for part in self.each or ():
            found = found.get(part) if isinstance(found, dict) else None
        path = spell_path(self.each or ())
        if found is None:
            return Unmapped("missing", "each", path)
        if not isinstance(found, list):
            return Unmapped("wrong_type", "each", path)
        return found if len(found) <= ELEMENTS_MAX else Unmapped("too_many_elements", "each", path)

    def make(self, root: Any, item: Any = None) -> dict[str, Any] | Unmapped:
        """The event. Never raises, whatever the value."""
        event = self.make_unmeasured(root, item)
        return Unmapped("too_large") if not isinstance(event, Unmapped) and is_outgrown(event) else event

    def make_unmeasured(self, root: Any, item: Any = None) -> dict[str, Any] | Unmapped:
        """The event, however large it is: for whoever asks ``is_outgrown`` where it may be."""
        event: dict[str, Any] = {}
        try:
            for name, make, check in self._fields:
                value = make(root, item)
                if value is not ABSENT:
                    event[name] = value if check is None else check(value)
            if self._objects:
                found = [made for make in self._objects if (made := make(root, item)) is not ABSENT]
                if found:
                    event["objects"] = found
        except Unreadable as unreadable:
            path = unreadable.path or self.paths.get(_WIRE_NAMES.get(unreadable.field, unreadable.field), "")
            return Unmapped(cast(Cause, unreadable.cause), unreadable.field, path)
        return event


def is_outgrown(event: Any, spelled_bytes: int = RESULT_CHARACTERS_MAX) -> bool:
    """Whether what was made is larger than a mapping may make it. What takes few bytes as JSON surely is not."""
    return spelled_bytes > RESULT_CHARACTERS_MAX // _ROUGHNESS and _outgrows(event, RESULT_CHARACTERS_MAX) < 0


def compile_mapping(mapping: EventMapping) -> CompiledMapping:
    """Make a mapping ready: what follows costs little more than reading the value."""
    return CompiledMapping(mapping)


def apply(mappings: Sequence[CompiledMapping] | CompiledMapping, value: Any) -> Mapped | Unmapped:
    """Map a value by all mappings that apply to it, in their order. A value is mapped whole or not at all. Never raises."""
    made: list[Made] = []
    nothing = Unmapped("no_mapping_applies")
    for number, mapping in enumerate([mappings] if isinstance(mappings, CompiledMapping) else mappings):
        if mapping.each is None:
            if mapping.applies(value):
                event = mapping.make(value)
                if isinstance(event, Unmapped):
                    return msgspec.structs.replace(event, mapping=number)
                made.append(Made(event, number))
            continue
        if not mapping.applies(value, ABSENT):
            continue
        elements = mapping.elements(value)
        if isinstance(elements, Unmapped):
            return msgspec.structs.replace(elements, mapping=number)
        if not elements:
            nothing = Unmapped("nothing_in_list", "each", spell_path(mapping.each), number)
        for at, element in enumerate(elements):
            if mapping.applies(value, element):
                event = mapping.make(value, element)
                if isinstance(event, Unmapped):
                    return msgspec.structs.replace(event, mapping=number)
                made.append(Made(event, number, at, mapping.has_own_id))
    return Mapped(tuple(made)) if made else nothing


def map_element(
    mappings: Sequence[CompiledMapping], each: tuple[str, ...], root: Any, element: Any, at: int
) -> Mapped | Unmapped:
    """Map one element of the list at ``each`` by all mappings that go through it: as ``apply`` would, for this element alone."""
    made: list[Made] = []
    for number, mapping in enumerate(mappings):
        if mapping.each == each and mapping.applies(root, element):
            event = mapping.make(root, element)
            if isinstance(event, Unmapped):
                return msgspec.structs.replace(event, mapping=number)
            made.append(Made(event, number, at, mapping.has_own_id))
    return Mapped(tuple(made)) if made else Unmapped("no_mapping_applies")


class CompiledValue:
    """A single value made ready: what turns an event into the body of a message, say."""

    def __init__(self, value: Value) -> None:
        self._make = _compile(value, "")

    def apply(self, root: Any) -> Any:
        """The value made of another, ABSENT if there is none, or Unmapped. Never raises."""
        try:
            made = self._make(root, None)
        except Unreadable as unreadable:
            return Unmapped(cast(Cause, unreadable.cause), unreadable.field, unreadable.path)
        return Unmapped("too_large") if is_outgrown(made) else made


def compile_value(value: Value) -> CompiledValue:
    """Make a value ready."""
    return CompiledValue(value)


def spell_path(path: Sequence[str | int]) -> str:
    """A path as it is shown to people."""
    return ".".join(map(str, path))


def reads_item(value: Value) -> bool:
    """Whether anything of a value comes from the element of an ``each``."""
    return any(path[:1] == (ITEM,) for path in paths_of(value))


def _paths_to_people(mapping: EventMapping) -> list[str]:
    """The paths that lead to what identifies a person."""
    found: dict[str, None] = {}
    for name, value in mapping.fields:
        inner = value.source.members if isinstance(value.source, Object) else ()
        contacts = [member for key, member in inner if key in ("email", "phone")]
        for key, member in inner:
            if name == "context" and key == "traits" and isinstance(member.source, Object):
                contacts += [contact for at, contact in member.source.members if at in ("email", "phone")]
        for each in [value] if name in ("user_id", "anonymous_id", "previous_id") else contacts if name != "properties" else []:
            found.update(dict.fromkeys(spell_path(path) for path in paths_of(each)))
    return list(found)


# Compiling ----------------------------------------------------------------------------------------------------------------


def _passes(root: Any, item: Any, path: tuple[str, ...], passes: Passes, in_each: bool) -> bool:
    if in_each and path[0] == ITEM:
        # Before there are elements, only what is asked of the whole is answered.
        return item is ABSENT or any(passes(found, 0) for found in at_path(item, path[1:]))
    return any(passes(found, 0) for found in at_path(root, path))


def _needs_check(value: Value, wire: str) -> bool:
    """What was converted to what its field must be, and not changed after, is that; so is an object that is made here."""
    if value.renames or value.default is not ABSENT:
        return True
    if not value.conversions:
        return not (isinstance(value.source, Object) and wire in _OBJECTS)
    kind = value.conversions[-1].kind
    return kind != "moment" if wire == "timestamp" else kind not in _TEXTUAL or wire in _OBJECTS


def _check_of(wire: str, field: str) -> Callable[[Any], Any] | None:
    """What a field of an event must be."""

    def as_id(value: Any) -> Any:
        if isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise Unreadable("wrong_type", field)

    def as_text(value: Any) -> Any:
        if isinstance(value, str):
            return value
        raise Unreadable("wrong_type", field)

    def parses(text: str) -> bool:
        return parse_moment(text) is not None

    is_moment = lru_cache(_MOMENTS_KEPT)(parses)

    def as_moment(value: Any) -> Any:
        if isinstance(value, str) and (is_moment if len(value) <= _MOMENT_CHARACTERS else parses)(value):
            return value
        raise Unreadable("unreadable" if isinstance(value, str) else "wrong_type", field)

    def as_object(value: Any) -> Any:
        if isinstance(value, dict):
            return value
        raise Unreadable("wrong_type", field)

    if wire in _IDS:
        return as_id
    if wire in _TEXTS:
        return as_text
    if wire in _OBJECTS:
        return as_object
    return as_moment if wire == "timestamp" else None


def _compile(value: Value, field: str) -> _Make:
    make = _compile_source(value.source, field)
    path = _shown_path(value)
    if value.conversions:
        make = _converted(make, [compile_conversion(conversion) for conversion in value.conversions], field, path)
    if value.renames:
        make = _renamed(make, dict(value.renames), value.otherwise)
    if value.default is not ABSENT:
        make = _defaulted(make, value.default)
    return make


def _shown_path(value: Value) -> str:
    found = paths_of(value)
    return spell_path(found[0]) if found else ""


def _compile_source(source: From | Const | Template | First | Object | Items, field: str) -> _Make:
    match source:
        case From(path=path):
            return _compile_path(path)
        case Const(value=value):
            return lambda root, item: value
        case Template(parts=parts):
            return _compile_template(parts)
        case First(of=of):
            return _compile_first([_compile(inner, field) for inner in of])
        case Object():
            return _compile_members(source, field)
        case Items(path=path, of=inner):
            return _compile_items(path, _compile(inner, field), field)


def _compile_path(path: Path) -> _Make:
    is_in_item = path[:1] == (ITEM,)
    steps = path[1:] if is_in_item else path
    if not steps:
        return lambda root, item: ABSENT if item is None else item
    if EVERY in steps:
        return (lambda root, item: _spread(item, steps)) if is_in_item else (lambda root, item: _spread(root, steps))
    if len(steps) == 1 and isinstance(steps[0], str):
        return _one_step(steps[0], is_in_item)

    def walk(found: Any) -> Any:
        for part in steps:
            if isinstance(part, int):
                found = found[part] if isinstance(found, list) and part < len(found) else None
            else:
                found = found.get(part) if isinstance(found, dict) else None
            if found is None:
                return ABSENT
        return found

    return (lambda root, item: walk(item)) if is_in_item else (lambda root, item: walk(root))


def _one_step(name: str, is_in_item: bool) -> _Make:
    """The commonest path by far: a column of a row, a member of a body."""

    def of_root(root: Any, item: Any) -> Any:
        found = root.get(name) if root.__class__ is dict else None
        return ABSENT if found is None else found

    def of_item(root: Any, item: Any) -> Any:
        found = item.get(name) if item.__class__ is dict else None
        return ABSENT if found is None else found

    return of_item if is_in_item else of_root


def _spread(value: Any, steps: Path) -> Any:
    """All values at a path with a ``*`` in it, as a list; ABSENT if there is none."""
    found = [value]
    for part in steps:
        if part == EVERY:
            found = [element for each in found if isinstance(each, list) for element in each]
        elif isinstance(part, int):
            found = [each[part] for each in found if isinstance(each, list) and part < len(each)]
        else:
            found = [each[part] for each in found if isinstance(each, dict) and part in each]
        if len(found) > ELEMENTS_MAX:
            raise Unreadable("too_many_elements", "", spell_path(steps))
    found = [each for each in found if each is not None]
    return found or ABSENT


def _compile_template(parts: tuple[str | Path, ...]) -> _Make:
    makes = [part if isinstance(part, str) else _compile_path(part) for part in parts]

    def make(root: Any, item: Any) -> Any:
        texts: list[str] = []
        is_any = False
        for part in makes:
            if isinstance(part, str):
                texts.append(part)
            elif (found := text_of(part(root, item))) is not None:
                is_any = True
                texts.append(found)
        return "".join(texts) if is_any else ABSENT

    return make


def _compile_first(makes: list[_Make]) -> _Make:
    def make(root: Any, item: Any) -> Any:
        for each in makes:
            found = each(root, item)
            if found is not ABSENT:
                return found
        return ABSENT

    return make


def _compile_members(source: Object, field: str) -> _Make:
    makes = [(name, _compile(value, f"{field}/{name}" if field else name)) for name, value in source.members]
    used = source.rest

    def make(root: Any, item: Any) -> Any:
        made: dict[str, Any] = {}
        if used is not None:
            whole = root if item is None else item
            if isinstance(whole, dict):
                # Few names are used elsewhere, beside the columns of a row.
                made = whole.copy()
                for name in used:
                    made.pop(name, None)
        for name, each in makes:
            found = each(root, item)
            if found is not ABSENT:
                made[name] = found
        return made or ABSENT

    return make


def _compile_items(path: Path, inner: _Make, field: str) -> _Make:
    read = _compile_path(path)

    def make(root: Any, item: Any) -> Any:
        elements = read(root, item)
        if elements is ABSENT:
            return ABSENT
        if not isinstance(elements, list):
            raise Unreadable("wrong_type", field, spell_path(path))
        if len(elements) > ELEMENTS_MAX:
            raise Unreadable("too_many_elements", field, spell_path(path))
        made = [found for element in elements if (found := inner(root, element)) is not ABSENT]
        return made or ABSENT

    return make


def _converted(make: _Make, conversions: list[Callable[[Any], Any]], field: str, path: str) -> _Make:
    only = conversions[0]

    def converted_once(root: Any, item: Any) -> Any:
        found = make(root, item)
        if found is ABSENT:
            return ABSENT
        try:
            return only(found)
        except Unreadable as unreadable:
            raise Unreadable(unreadable.cause, field, path) from None

    def converted(root: Any, item: Any) -> Any:
        found = make(root, item)
        for convert in conversions:
            if found is ABSENT:
                return ABSENT
            try:
                found = convert(found)
            except Unreadable as unreadable:
                raise Unreadable(unreadable.cause, field, path) from None
        return found

    return converted_once if len(conversions) == 1 else converted


def _renamed(make: _Make, renames: dict[str, Any], otherwise: Any) -> _Make:
    def renamed(root: Any, item: Any) -> Any:
        found = make(root, item)
        if found is ABSENT:
            return ABSENT
        text = text_of(found)
        return otherwise if text is None else renames.get(text, otherwise)

    return renamed


def _defaulted(make: _Make, default: Any) -> _Make:
    def defaulted(root: Any, item: Any) -> Any:
        found = make(root, item)
        return default if found is ABSENT else found

    return defaulted


def _compile_object(mapping: ObjectMapping, field: str) -> _Make:
    kind, object_id = _compile(mapping.kind, f"{field}/kind"), _compile(mapping.object_id, f"{field}/object_id")
    state = None if mapping.state is None else _compile(mapping.state, f"{field}/state")
    check = _check_of("userId", f"{field}/object_id")

    def make(root: Any, item: Any) -> Any:
        found = object_id(root, item)
        if found is ABSENT:
            # The event speaks of no such thing.
            return ABSENT
        told = state(root, item) if state is not None else ABSENT
        return {
            "kind": kind(root, item),
            "object_id": check(found) if check is not None else found,
            "state": {} if told is ABSENT else told,
        }

    return make


def _outgrows(value: Any, room: int) -> int:
    """The room that is left once a value is spelled, roughly and never too much; negative as soon as there is none."""
    kind = value.__class__
    if kind is str:
        return room - len(value) - 2
    if kind is dict:
        for name, inner in value.items():
            # Nearly all values are texts or numbers: a call for each would cost as much as all the rest.
            kind = inner.__class__
            if kind is str:
                room -= len(name) + len(inner) + 6
            elif kind is dict or kind is list:
                room = _outgrows(inner, room - len(name) - 4)
                if room < 0:
                    return room
            else:
                room -= len(name) + 12
        return room
    if kind is list:
        for inner in value:
            room = _outgrows(inner, room - 1) if room > 0 else -1
            if room < 0:
                return room
        return room
    return room - 8


__all__ = [
    "ABSENT",
    "CompiledMapping",
    "CompiledValue",
    "EventMapping",
    "Made",
    "Mapped",
    "Unmapped",
    "Value",
    "apply",
    "compile_mapping",
    "compile_value",
    "map_element",
    "spell_path",
]
