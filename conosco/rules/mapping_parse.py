"""Reading what people wrote in the mapping language: checked, with every problem found in one pass and where it is."""

import re
from collections.abc import Sequence
from typing import Any, Final, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from conosco.model.event import EventType
from conosco.model.problem import Refused
from conosco.rules.condition import Test
from conosco.rules.mapping_convert import ABSENT, CONVERSIONS, UNITS, Conversion, compile_pattern_of_moment
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
    When,
    paths_of,
)
from conosco.rules.values import MAX_PART_CHARACTERS, MAX_PATH_PARTS
from conosco.rules.wire import Findings, echo, nearest, read_members, read_name, read_path, read_test, read_text, step

CODES: Final = (
    "choose_one",
    "each_in_each",
    "template_unreadable",
    "too_many_mappings",
    "too_many_parts_of_mapping",
    "unknown_conversion",
    "unknown_zone",
    "unreadable_pattern",
)

MAPPINGS_MAX: Final = 50
# Values in one mapping, those within values included, and how deeply they may lie in one another.
VALUES_MAX: Final = 500
DEPTH_MAX: Final = 12
TEMPLATE_CHARACTERS_MAX: Final = 1_000
PLACEHOLDERS_MAX: Final = 32
RENAMES_MAX: Final = 1_000
FIRST_MAX: Final = 16
CONVERSIONS_MAX: Final = 4
WHEN_MAX: Final = 20
OBJECTS_MAX: Final = 50
CONST_BYTES_MAX: Final = 10_000
PLACE_MAX: Final = 100_000
PATTERN_CHARACTERS_MAX: Final = 100

_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")
_TYPES: Final[tuple[str, ...]] = get_args(EventType)
_FORMS: Final = ("path", "const", "template", "first", "object", "each", "rest")
_AFTER: Final = ("default", "map", "as", "format", "zone", "decimal")
_SCALARS: Final = ("event", "user_id", "anonymous_id", "group_id", "previous_id", "message_id", "timestamp")
_MEMBERS: Final = ("properties", "traits", "context")
_FIELDS: Final = ("type", *_SCALARS, *_MEMBERS)
# Tests that depend on when they are asked: a mapping must say the same whenever it is applied.
_TIMED: Final = ("within", "before_last")
_PLACEHOLDER: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def parse_event_mapping(spec: Any, pointer: str = "") -> EventMapping:
    """Read one event mapping; raises Refused with every problem found, pointers starting at ``pointer``."""
    found = Findings()
    mapping = _Reading(found).event_mapping(spec, pointer)
    if found.problems or mapping is None:
        raise Refused(found.problems)
    return mapping


def parse_event_mappings(specs: Any, pointer: str = "") -> tuple[EventMapping, ...]:
    """Read the mappings of a source, in order; raises Refused with every problem of all of them."""
    found = Findings()
    if not isinstance(specs, list | tuple):
        found.add("wrong_type", pointer, expected="list")
        raise Refused(found.problems)
    if len(specs) > MAPPINGS_MAX:
        found.add("too_many_mappings", pointer, limit=MAPPINGS_MAX)
        raise Refused(found.problems)
    mappings = [_Reading(found).event_mapping(spec, step(pointer, at)) for at, spec in enumerate(specs)]
    if found.problems:
        raise Refused(found.problems)
    return tuple(mapping for mapping in mappings if mapping is not None)


def parse_value(spec: Any, pointer: str = "") -> Value:
    """Read a single value, such as the object that a message's body is made from; raises Refused."""
    found = Findings()
    reading = _Reading(found)
    is_object = isinstance(spec, dict) and set(spec) == {"object"}
    # Only here may an object take what is used nowhere else: further in, nobody could tell what that is.
    value = reading.whole_object(spec["object"], step(pointer, "object")) if is_object else reading.value(spec, pointer, 0)
    if found.problems or value is None:
        raise Refused(found.problems)
    return value


class _Reading:
    """One mapping while it is read."""

    def __init__(self, found: Findings) -> None:
        self._found = found
        self._left = VALUES_MAX
        self._is_over = False
        # Whether the values being read stand inside an ``each``: there, lists of the whole would be walked once an element.
        self._in_each = False
        self._rests: list[str] = []

    def event_mapping(self, spec: Any, pointer: str) -> EventMapping | None:
        members = read_members(self._found, spec, pointer, ("type",), (*_FIELDS[1:], "objects", "each", "when"))
        if members is None:
            return None
        each = self._each_path(members["each"], step(pointer, "each")) if "each" in members else None
        self._in_each = "each" in members
        fields: list[tuple[str, Value]] = []
        for name in ("type", *_SCALARS):
            if name in members:
                value = self.value(members[name], step(pointer, name), 0)
                if value is not None:
                    fields.append((name, value))
        self._check_type(members.get("type"), step(pointer, "type"))
        for name in _MEMBERS:
            if name in members:
                value = self._object(members[name], step(pointer, name), 0)
                if value is not None:
                    fields.append((name, value))
        objects = self._objects(members["objects"], step(pointer, "objects")) if "objects" in members else ()
        when = self._when(members["when"], step(pointer, "when")) if "when" in members else ()
        return EventMapping(fields=self._with_rest(fields, objects), objects=objects, each=each, when=when)

    def _check_type(self, spec: Any, pointer: str) -> None:
        """A type that is always the same must be one."""
        const = spec.get("const") if isinstance(spec, dict) else spec
        if isinstance(const, str) and const not in _TYPES:
            self._found.add("unknown_type", pointer, type=echo(const), nearest=nearest(const, _TYPES))

    def _with_rest(self, fields: list[tuple[str, Value]], objects: Sequence[ObjectMapping]) -> tuple[tuple[str, Value], ...]:
        """Tell every ``rest`` which fields are used elsewhere."""
        if not any(isinstance(value.source, Object) and value.source.rest is not None for _, value in fields):
            return tuple(fields)
        paths = [path for _, value in fields for path in paths_of(value)]
        for made in objects:
            for value in (made.kind, made.object_id, made.state):
                paths += [] if value is None else paths_of(value)
        used = frozenset(_first_name(path, self._in_each) for path in paths)
        told: list[tuple[str, Value]] = []
        for name, value in fields:
            source = value.source
            if isinstance(source, Object) and source.rest is not None:
                source = msgspec.structs.replace(source, rest=used)
            told.append((name, msgspec.structs.replace(value, source=source)))
        return tuple(told)

    # Values.

    def whole_object(self, spec: Any, pointer: str) -> Value | None:
        """An object that is the whole result, and so may have a ``rest``."""
        made = self._object(spec, pointer, 0)
        return None if made is None else self._with_rest([("", made)], ())[0][1]

    def value(self, spec: Any, pointer: str, depth: int) -> Value | None:
        """A value; a bare text, number or boolean stands for itself."""
        self._left -= 1
        if self._left < 0 or depth > DEPTH_MAX:
            if not self._is_over:
                self._is_over = True
                self._found.add("too_many_parts_of_mapping", pointer, limit=VALUES_MAX, depth=DEPTH_MAX)
            return None
        if not isinstance(spec, dict):
            if spec is None or isinstance(spec, list | tuple):
                self._found.add("wrong_type", pointer, expected="mapping_value")
                return None
            return Value(source=Const(value=spec)) if self._is_small(spec, pointer) else None
        forms = [form for form in _FORMS if form in spec]
        if len(forms) != 1 or forms == ["rest"]:
            self._unformed(spec, pointer, forms)
            return None
        form = forms[0]
        extra = ("of",) if form == "each" else ()
        members = read_members(self._found, spec, pointer, (form, *extra), _AFTER)
        source = None if members is None else self._source(form, spec, pointer, depth)
        conversions = self._conversions(spec, pointer)
        renames, otherwise = self._renames(spec, pointer)
        default = spec.get("default", ABSENT)
        if default is not ABSENT and not self._is_small(default, step(pointer, "default")):
            return None
        if source is None:
            return None
        return Value(source=source, conversions=conversions, renames=renames, otherwise=otherwise, default=default)

    def _unformed(self, spec: dict[str, Any], pointer: str, forms: list[str]) -> None:
        known = (*_FORMS[:-1], *_AFTER)
        unknown = [str(name) for name in spec if name not in (*known, "of")]
        for name in unknown[:10]:
            self._found.add("unknown_field", step(pointer, name), field=echo(name), nearest=nearest(name, known))
        if not unknown or forms:
            self._found.add("choose_one", pointer, known=", ".join(_FORMS[:-1]))

    def _source(
        self, form: str, spec: dict[str, Any], pointer: str, depth: int
    ) -> From | Const | Template | First | Object | Items | None:
        at = step(pointer, form)
        match form:
            case "path":
                path = self._path(spec["path"], at)
                return None if path is None else From(path=path)
            case "const":
                return Const(value=spec["const"]) if self._is_small(spec["const"], at) else None
            case "template":
                return self._template(spec["template"], at)
            case "first":
                return self._first(spec["first"], at, depth)
            case "object":
                made = self._object(spec["object"], at, depth, may_rest=False)
                return made.source if made is not None else None
            case _:
                return self._items(spec, pointer, depth)

    def _is_small(self, value: Any, pointer: str) -> bool:
        try:
            size = len(_ENCODER.encode(value))
        except (TypeError, ValueError, RecursionError):
            self._found.add("unreadable_text", pointer)
            return False
        if size > CONST_BYTES_MAX:
            self._found.add("too_long", pointer, limit=CONST_BYTES_MAX)
        return size <= CONST_BYTES_MAX

    def _path(self, spec: Any, pointer: str) -> Path | None:
        if not isinstance(spec, list | tuple):
            self._found.add("wrong_type", pointer, expected="list")
            return None
        if not spec:
            self._found.add("empty_list", pointer)
            return None
        if len(spec) > MAX_PATH_PARTS:
            self._found.add("too_many_parts", pointer, limit=MAX_PATH_PARTS)
            return None
        parts: list[str | int] = []
        for at, part in enumerate(spec):
            if isinstance(part, int) and not isinstance(part, bool):
                if not 0 <= part <= PLACE_MAX or at == 0:
                    self._found.add("out_of_range", step(pointer, at), least=0, most=PLACE_MAX)
                    return None
                parts.append(part)
                continue
            text = read_text(self._found, part, step(pointer, at), MAX_PART_CHARACTERS)
            if text is None:
                return None
            parts.append(text)
        if self._in_each and EVERY in parts and parts[0] != ITEM:
            self._found.add("each_in_each", pointer)
            return None
        return tuple(parts)

    def _each_path(self, spec: Any, pointer: str) -> tuple[str, ...] | None:
        path = read_path(self._found, spec, pointer)
        if path is not None and EVERY in path:
            self._found.add("each_in_each", pointer)
            return None
        return path

    def _template(self, spec: Any, pointer: str) -> Template | Const | None:
        text = read_name(self._found, spec, pointer, TEMPLATE_CHARACTERS_MAX)
        if text is None:
            return None
        parts: list[str | Path] = []
        last = 0
        for hit in _PLACEHOLDER.finditer(text):
            parts.append(text[last : hit.start()])
            last = hit.end()
            if hit[0] in ("{{", "}}"):
                parts.append(hit[0][0])
                continue
            path = _dotted(hit[1] or "")
            if path is None:
                self._found.add("template_unreadable", pointer, part=echo(hit[0]))
                return None
            checked = self._path(list(path), pointer)
            if checked is None:
                return None
            parts.append(checked)
        parts.append(text[last:])
        if sum(isinstance(part, tuple) for part in parts) > PLACEHOLDERS_MAX:
            self._found.add("too_many_values", pointer, limit=PLACEHOLDERS_MAX)
            return None
        if not any(isinstance(part, tuple) for part in parts):
            return Const(value="".join(part for part in parts if isinstance(part, str)))
        return Template(parts=tuple(part for part in parts if part != ""))

    def _first(self, spec: Any, pointer: str, depth: int) -> First | None:
        if not isinstance(spec, list | tuple):
            self._found.add("wrong_type", pointer, expected="list")
            return None
        if not 1 <= len(spec) <= FIRST_MAX:
            self._found.add("out_of_range", pointer, least=1, most=FIRST_MAX)
            return None
        of = [self.value(inner, step(pointer, at), depth + 1) for at, inner in enumerate(spec)]
        return First(of=tuple(value for value in of if value is not None))

    def _object(self, spec: Any, pointer: str, depth: int, may_rest: bool = True) -> Value | None:
        if not isinstance(spec, dict):
            self._found.add("wrong_type", pointer, expected="object")
            return None
        rest: frozenset[str] | None = None
        members: list[tuple[str, Value]] = []
        for name, inner in spec.items():
            if may_rest and name == "rest" and inner is True:
                rest = frozenset()
                continue
            at = step(pointer, str(name))
            text = read_name(self._found, name, at, MAX_PART_CHARACTERS)
            value = self.value(inner, at, depth + 1)
            if text is not None and value is not None:
                members.append((text, value))
        return Value(source=Object(members=tuple(members), rest=rest))

    def _items(self, spec: dict[str, Any], pointer: str, depth: int) -> Items | None:
        path = self._path(spec["each"], step(pointer, "each"))
        if "of" not in spec:
            return None
        if path is not None and self._in_each and path[0] != ITEM:
            self._found.add("each_in_each", step(pointer, "each"))
            return None
        before, self._in_each = self._in_each, True
        of = self.value(spec["of"], step(pointer, "of"), depth + 1)
        self._in_each = before
        return None if path is None or of is None else Items(path=path, of=of)

    # What follows a value.

    def _conversions(self, spec: dict[str, Any], pointer: str) -> tuple[Conversion, ...]:
        given = spec.get("as", [])
        kinds = given if isinstance(given, list | tuple) else [given]
        at = step(pointer, "as")
        if len(kinds) > CONVERSIONS_MAX:
            self._found.add("too_many_values", at, limit=CONVERSIONS_MAX)
            return ()
        made: list[Conversion] = []
        for kind in kinds:
            if kind not in CONVERSIONS:
                known = ", ".join(CONVERSIONS)
                self._found.add("unknown_conversion", at, value=echo(kind), known=known, nearest=nearest(echo(kind), CONVERSIONS))
                return ()
            made.append(self._conversion(kind, spec, pointer))
        for name, owner in (("format", ("moment",)), ("zone", ("moment",)), ("decimal", ("number", "integer"))):
            if name in spec and not any(kind in owner for kind in kinds):
                self._found.add("field_not_used", step(pointer, name), field=name, test=echo(", ".join(map(str, kinds)) or "—"))
        return tuple(made)

    def _conversion(self, kind: Any, spec: dict[str, Any], pointer: str) -> Conversion:
        pattern, zone, decimal = spec.get("format", ""), spec.get("zone", ""), spec.get("decimal", ".")
        if kind == "moment":
            at = step(pointer, "format")
            text = None if pattern == "" else read_text(self._found, pattern, at, PATTERN_CHARACTERS_MAX)
            if text is not None and text not in UNITS and compile_pattern_of_moment(text) is None:
                self._found.add("unreadable_pattern", at, value=echo(text), nearest=nearest(text, UNITS))
            if zone != "" and not _is_zone(zone):
                self._found.add("unknown_zone", step(pointer, "zone"), value=echo(zone))
            if self._found.problems:
                return Conversion(kind=kind)
            return Conversion(kind=kind, pattern=pattern, zone=zone)
        if kind in ("number", "integer") and decimal not in (".", ","):
            self._found.add("choose_one", step(pointer, "decimal"), known=". ,")
            return Conversion(kind=kind)
        return Conversion(kind=kind, decimal=decimal) if kind in ("number", "integer") else Conversion(kind=kind)

    def _renames(self, spec: dict[str, Any], pointer: str) -> tuple[tuple[tuple[str, Any], ...], Any]:
        if "map" not in spec:
            return (), ABSENT
        given, at = spec["map"], step(pointer, "map")
        if not isinstance(given, dict):
            self._found.add("wrong_type", at, expected="object")
            return (), ABSENT
        if not 1 <= len(given) <= RENAMES_MAX:
            self._found.add("out_of_range", at, least=1, most=RENAMES_MAX)
            return (), ABSENT
        for name, value in given.items():
            if isinstance(value, dict | list | tuple) or not self._is_small(value, step(at, str(name))):
                self._found.add("wrong_type", step(at, str(name)), expected="text_number_or_boolean")
        renames = tuple((name, ABSENT if value is None else value) for name, value in given.items())
        return renames, ABSENT if given.get(EVERY) is None else given[EVERY]

    # The rest of an event mapping.

    def _objects(self, spec: Any, pointer: str) -> tuple[ObjectMapping, ...]:
        if not isinstance(spec, list | tuple):
            self._found.add("wrong_type", pointer, expected="list")
            return ()
        if len(spec) > OBJECTS_MAX:
            self._found.add("too_many_values", pointer, limit=OBJECTS_MAX)
            return ()
        made: list[ObjectMapping] = []
        for index, entry in enumerate(spec):
            at = step(pointer, index)
            members = read_members(self._found, entry, at, ("kind", "object_id"), ("state",))
            if members is None or not {"kind", "object_id"} <= members.keys():
                continue
            kind = self.value(members["kind"], step(at, "kind"), 1)
            object_id = self.value(members["object_id"], step(at, "object_id"), 1)
            state = self._object(members["state"], step(at, "state"), 1, may_rest=False) if "state" in members else None
            if kind is not None and object_id is not None:
                made.append(ObjectMapping(kind=kind, object_id=object_id, state=state))
        return tuple(made)

    def _when(self, spec: Any, pointer: str) -> tuple[When, ...]:
        if not isinstance(spec, list | tuple):
            self._found.add("wrong_type", pointer, expected="list")
            return ()
        if len(spec) > WHEN_MAX:
            self._found.add("too_many_filters", pointer, limit=WHEN_MAX)
            return ()
        made: list[When] = []
        for index, entry in enumerate(spec):
            at = step(pointer, index)
            members = read_members(self._found, entry, at, ("path", "test"), ("value", "case"))
            if members is None:
                continue
            path = read_path(self._found, members["path"], step(at, "path")) if "path" in members else None
            test: Test | None = read_test(self._found, members, at)
            if test is not None and test.name in _TIMED:
                self._found.add("field_not_used", step(at, "test"), field=test.name, test="mapping")
            elif path is not None and test is not None:
                made.append(When(path=path, test=test))
        return tuple(made)


def _dotted(text: str) -> Path | None:
    """The path that a placeholder names; None if it names none."""
    parts = [part.strip() for part in text.split(".")]
    if not all(parts) or EVERY in parts:
        return None
    return tuple(int(part) if at and part.isdecimal() and part.isascii() else part for at, part in enumerate(parts))


def _first_name(path: Path, in_each: bool) -> str:
    """The field of a row, body or element that a path begins with."""
    if in_each and path[0] == ITEM:
        return str(path[1]) if len(path) > 1 else ""
    return "" if in_each else str(path[0])


def _is_zone(name: Any) -> bool:
    if not isinstance(name, str) or len(name) > 64:
        return False
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
