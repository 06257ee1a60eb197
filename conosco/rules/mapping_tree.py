"""What a mapping is, once read: frozen structs, and what can be said of one without applying it. Pure."""

from typing import Any, Final

import msgspec

from conosco.rules.condition import Test
from conosco.rules.mapping_convert import ABSENT, Conversion

Path = tuple[str | int, ...]
EVERY: Final = "*"
ITEM: Final = "item"
# So many parts of a row that is as large as rows may be still fit into memory together.
_FEW_PATHS: Final = 32


class From(msgspec.Struct, frozen=True, kw_only=True, tag="path"):
    """The value at a path. A number in it is a place in a list, ``*`` stands for each element. Null is no value."""

    path: Path


class Const(msgspec.Struct, frozen=True, kw_only=True, tag="const"):
    """Always this value."""

    value: Any


class Template(msgspec.Struct, frozen=True, kw_only=True, tag="template"):
    """A text with values in it: texts and paths by turns. Absent ones are empty; there is none if all of them are absent."""

    parts: tuple[str | Path, ...]


class First(msgspec.Struct, frozen=True, kw_only=True, tag="first"):
    """The first of several values that there is."""

    of: tuple["Value", ...]


class Object(msgspec.Struct, frozen=True, kw_only=True, tag="object"):
    """An object; members without a value are left out. ``rest`` are the names that ``rest`` must not take, None: no rest."""

    members: tuple[tuple[str, "Value"], ...]
    rest: frozenset[str] | None = None


class Items(msgspec.Struct, frozen=True, kw_only=True, tag="each"):
    """A list with one value for each element of the list at a path; inside, the path ``["item", ...]`` leads into the element."""

    path: Path
    of: "Value"


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """A value: where it comes from, and then, in this order, how it is converted, renamed and replaced where absent."""

    source: From | Const | Template | First | Object | Items
    conversions: tuple[Conversion, ...] = ()
    renames: tuple[tuple[str, Any], ...] = ()
    # What a value becomes that ``renames`` does not list, if there are any; ABSENT: there is none then.
    otherwise: Any = ABSENT
    default: Any = ABSENT


class When(msgspec.Struct, frozen=True, kw_only=True):
    """A test that a value must pass for the mapping to apply to it. A path through a list means any element."""

    path: tuple[str, ...]
    test: Test


class ObjectMapping(msgspec.Struct, frozen=True, kw_only=True):
    """A thing that an event speaks of: which it is and what is said about it."""

    kind: Value
    object_id: Value
    state: Value | None = None


class EventMapping(msgspec.Struct, frozen=True, kw_only=True):
    """How a value becomes an event, or a list in it one event an element (``each``)."""

    fields: tuple[tuple[str, Value], ...]
    objects: tuple[ObjectMapping, ...] = ()
    each: tuple[str, ...] | None = None
    when: tuple[When, ...] = ()


def paths_of(value: Value) -> list[Path]:
    """All paths that a value reads, those inside an ``each`` of its own left out where they lead into its element."""
    match value.source:
        case From(path=path):
            return [path]
        case Const():
            return []
        case Template(parts=parts):
            return [part for part in parts if isinstance(part, tuple)]
        case First(of=of):
            return [path for inner in of for path in paths_of(inner)]
        case Object(members=members):
            return [path for _, inner in members for path in paths_of(inner)]
        case Items(path=path, of=inner):
            return [path, *(other for other in paths_of(inner) if other[:1] != (ITEM,))]


def is_proportionate(mapping: EventMapping) -> bool:
    """Whether a mapping takes few parts of its value, and none of them once an element."""
    paths = [path for _, value in mapping.fields for path in paths_of(value)]
    return len(paths) <= _FEW_PATHS and not any(_repeats(value) for _, value in mapping.fields)


def _repeats(value: Value) -> bool:
    match value.source:
        case Items():
            return True
        case First(of=of):
            return any(map(_repeats, of))
        case Object(members=members):
            return any(_repeats(inner) for _, inner in members)
        case From() | Const() | Template():
            return any(EVERY in path for path in paths_of(value))
