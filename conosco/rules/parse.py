"""From what people wrote to the condition tree: checked, normalised, and complete in itself, references inlined.

Every problem is found in one pass and says where it is; a kind that is not built yet is refused, never ignored.
"""

from typing import Any, Final, get_args

from conosco.model.definition import KEY
from conosco.model.problem import Refused
from conosco.rules.catalogue import Catalogue
from conosco.rules.condition import (
    LANGUAGE,
    Aggregate,
    All,
    Any_,
    AttributeSpec,
    AttributeTest,
    Condition,
    Did,
    Filter,
    IdentifierTest,
    Not,
    SegmentTest,
    Stream,
    TraitTest,
)
from conosco.rules.wire import (
    Findings,
    echo,
    nearest,
    read_count,
    read_duration,
    read_members,
    read_name,
    read_path,
    read_test,
    step,
)

CODES: Final = (
    "bounds_reversed",
    "broken_reference",
    "empty_list",
    "empty_text",
    "field_not_used",
    "missing_field",
    "mixed_bounds",
    "not_built_yet",
    "number_does_not_fit",
    "out_of_range",
    "pattern_refused",
    "pattern_unreadable",
    "reference_cycle",
    "too_deep",
    "too_long",
    "too_many_conditions",
    "too_many_filters",
    "too_many_parts",
    "too_many_values",
    "unknown_aggregate",
    "unknown_attribute",
    "unknown_field",
    "unknown_kind",
    "unknown_language",
    "unknown_namespace",
    "unknown_segment",
    "unknown_test",
    "unknown_type",
    "unreadable_duration",
    "unreadable_moment",
    "unreadable_text",
    "wrong_type",
)

MAX_LEAVES: Final = 500
MAX_DEPTH: Final = 32
MAX_FILTERS: Final = 50
MAX_TIMES: Final = 1_000_000

KINDS: Final = ("trait", "did", "attribute", "identifier", "segment", "not", "all", "any")
LATER_KINDS: Final = ("sequence", "group", "object", "member_since", "journey", "static", "consent")
TYPES: Final = ("track", "page", "screen", "identify", "group")
AGGREGATES: Final[tuple[Aggregate, ...]] = get_args(Aggregate)
LATER_AGGREGATES: Final = ("avg", "min", "max", "first", "most_frequent", "unique_list", "unique_count")


def parse_where(spec: Any, catalogue: Catalogue, *, key: str | None = None) -> Condition:
    """Parse ``{"language": 1, "where": CONDITION}``. ``key`` is the segment's own, so that a ring through it is seen.

    Raises Refused with every problem found; pointers start at ``spec``.
    """
    found = Findings()
    condition = _Reading(found, catalogue, () if key is None else (key,)).where(spec, "", 1)
    if found.problems or condition is None:
        raise Refused(found.problems)
    return condition


def parse_attribute(spec: Any) -> AttributeSpec:
    """Parse ``{"language": 1, "aggregate", "event", "type"?, "path"?, "within"?, "where"?, "automated"?}``.

    ``count`` and ``days_since`` do not look at a value, so a path is dropped there. Raises Refused with every problem found.
    """
    found = Findings()
    attribute = _read_attribute(found, spec)
    if found.problems or attribute is None:
        raise Refused(found.problems)
    return attribute


class _Enough(Exception):
    """A limit was passed: what follows is not read."""


class _Reading:
    """One pass over a condition and what it refers to. ``ring`` are the keys of the segments that are being read."""

    def __init__(self, found: Findings, catalogue: Catalogue, ring: tuple[str, ...]) -> None:
        self._found = found
        self._catalogue = catalogue
        self._ring = ring
        self._leaves = 0

    def where(self, spec: Any, pointer: str, depth: int) -> Condition | None:
        """Read a whole definition, the segment's own or one that is referred to."""
        members = read_members(self._found, spec, pointer, ("language", "where"))
        if members is None:
            return None
        _check_language(self._found, members, pointer)
        if "where" not in members:
            return None
        if depth > 1:
            return self._condition(members["where"], step(pointer, "where"), depth)
        try:
            return self._condition(members["where"], step(pointer, "where"), depth)
        except _Enough:
            return None

    def _condition(self, spec: Any, pointer: str, depth: int) -> Condition | None:
        if depth > MAX_DEPTH:
            self._found.add("too_deep", pointer, limit=MAX_DEPTH)
            raise _Enough
        if not isinstance(spec, dict):
            self._found.add("wrong_type", pointer, expected="object")
            return None
        kind = spec.get("kind")
        match kind:
            case "all" | "any":
                return self._group(spec, pointer, depth)
            case "not":
                members = self._members(spec, pointer, ("of",))
                of = self._condition(members["of"], step(pointer, "of"), depth + 1) if "of" in members else None
                return None if of is None else Not(of=of)
        self._count_leaf(pointer)
        match kind:
            case "trait":
                return self._trait(spec, pointer)
            case "did":
                return self._did(spec, pointer)
            case "attribute":
                return self._attribute(spec, pointer)
            case "identifier":
                return self._identifier(spec, pointer)
            case "segment":
                return self._segment(spec, pointer, depth)
            case None:
                self._found.add("missing_field", pointer, field="kind")
            case _ if kind in LATER_KINDS:
                self._found.add("not_built_yet", step(pointer, "kind"), kind=str(kind))
            case _:
                self._found.add("unknown_kind", step(pointer, "kind"), kind=echo(kind), nearest=nearest(echo(kind), KINDS))
        return None

    def _members(self, spec: Any, pointer: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
        return read_members(self._found, spec, pointer, ("kind", *required), optional) or {}

    def _count_leaf(self, pointer: str) -> None:
        self._leaves += 1
        if self._leaves > MAX_LEAVES:
            self._found.add("too_many_conditions", pointer, limit=MAX_LEAVES)
            raise _Enough

    def _group(self, spec: dict[str, Any], pointer: str, depth: int) -> Condition | None:
        members = self._members(spec, pointer, ("of",))
        if "of" not in members:
            return None
        parts, at = members["of"], step(pointer, "of")
        if not isinstance(parts, list | tuple):
            self._found.add("wrong_type", at, expected="list")
            return None
        if not parts:
            # Counted like a leaf, so that empty groups cannot make a tree of any size.
            self._count_leaf(pointer)
        read = [self._condition(part, step(at, index), depth + 1) for index, part in enumerate(parts)]
        of = tuple(part for part in read if part is not None)
        if spec["kind"] == "all":
            return All(of=of)
        return Any_(of=of)

    def _trait(self, spec: dict[str, Any], pointer: str) -> TraitTest | None:
        members = self._members(spec, pointer, ("path", "test"), ("value", "case"))
        path = read_path(self._found, members["path"], step(pointer, "path")) if "path" in members else None
        test = read_test(self._found, members, pointer)
        return None if path is None or test is None else TraitTest(path=path, test=test)

    def _did(self, spec: dict[str, Any], pointer: str) -> Did | None:
        for name in ("between", "before_last"):
            if name in spec:
                self._found.add("not_built_yet", step(pointer, name), kind=name)
        optional = ("event", "type", "times", "within", "where", "automated", "between", "before_last")
        members = self._members(spec, pointer, (), optional)
        stream = _read_stream(self._found, members, pointer)
        least, most = self._times(members, pointer)
        within = read_duration(self._found, members["within"], step(pointer, "within")) if "within" in members else None
        return None if stream is None else Did(stream=stream, least=least, most=most, within=within)

    def _times(self, members: dict[str, Any], pointer: str) -> tuple[int, int | None]:
        """At least once where nothing is said; an upper bound alone does not ask for a first time."""
        if "times" not in members:
            return 1, None
        at = step(pointer, "times")
        times = read_members(self._found, members["times"], at, (), ("min", "max")) or {}
        least = read_count(self._found, times["min"], step(at, "min"), MAX_TIMES) if "min" in times else None
        most = read_count(self._found, times["max"], step(at, "max"), MAX_TIMES) if "max" in times else None
        if least is not None and most is not None and least > most:
            self._found.add("bounds_reversed", at)
        if least is None:
            least = 0 if "max" in times else 1
        return least, most

    def _attribute(self, spec: dict[str, Any], pointer: str) -> AttributeTest | None:
        members = self._members(spec, pointer, ("key", "test"), ("value", "case"))
        test = read_test(self._found, members, pointer)
        if "key" not in members:
            return None
        key, known = members["key"], self._catalogue.attributes
        if not isinstance(key, str) or key not in known:
            at = step(pointer, "key")
            self._found.add("unknown_attribute", at, key=echo(key), nearest=nearest(echo(key), known))
            return None
        inner = Findings()
        attribute = _read_attribute(inner, known[key])
        if attribute is None or inner.problems:
            self._found.add("broken_reference", step(pointer, "key"), kind="attribute", key=key)
            return None
        return None if test is None else AttributeTest(key=key, spec=attribute, test=test)

    def _identifier(self, spec: dict[str, Any], pointer: str) -> IdentifierTest | None:
        members = self._members(spec, pointer, ("namespace",), ("test", "value", "case"))
        test = read_test(self._found, members, pointer)
        for name in ("value", "case"):
            if name in members and "test" not in members:
                self._found.add("missing_field", pointer, field="test")
                break
        if "namespace" not in members:
            return None
        namespace = members["namespace"]
        if not isinstance(namespace, str) or not KEY.match(namespace):
            self._found.add("unknown_namespace", step(pointer, "namespace"), namespace=echo(namespace))
            return None
        return IdentifierTest(namespace=namespace, test=test)

    def _segment(self, spec: dict[str, Any], pointer: str, depth: int) -> SegmentTest | None:
        members = self._members(spec, pointer, ("key",))
        if "key" not in members:
            return None
        key, known, at = members["key"], self._catalogue.segments, step(pointer, "key")
        if isinstance(key, str) and key in self._ring:
            ring = (*self._ring[self._ring.index(key) :], key)
            self._found.add("reference_cycle", at, ring=" > ".join(ring))
            return None
        if not isinstance(key, str) or key not in known:
            self._found.add("unknown_segment", at, key=echo(key), nearest=nearest(echo(key), known))
            return None
        return self._inlined(key, at, depth)

    def _inlined(self, key: str, pointer: str, depth: int) -> SegmentTest | None:
        """Read a segment that is referred to. Its own problems are its own: here they make one broken reference."""
        outer, ring = self._found, self._ring
        self._found, self._ring, self._leaves = Findings(), (*ring, key), self._leaves - 1
        try:
            of = self.where(self._catalogue.segments[key], "", depth + 1)
        finally:
            inner = self._found
            self._found, self._ring = outer, ring
            shared = [problem for problem in inner.problems if problem.code in _SHARED_CODES]
            for problem in shared[:1]:
                outer.add(problem.code, pointer, **problem.params)
            if inner.problems and not shared:
                outer.add("broken_reference", pointer, kind="segment", key=key)
        return None if of is None else SegmentTest(key=key, of=of)


# Problems of a reference that the reader caused by referring: they are named as they are.
_SHARED_CODES: Final = ("reference_cycle", "too_deep", "too_many_conditions")


def _check_language(found: Findings, members: dict[str, Any], pointer: str) -> None:
    language = members.get("language", LANGUAGE)
    if isinstance(language, bool) or language != LANGUAGE:
        found.add("unknown_language", step(pointer, "language"), language=echo(language), known=LANGUAGE)


def _read_stream(found: Findings, members: dict[str, Any], pointer: str, value: tuple[str, ...] | None = None) -> Stream | None:
    """The events that ``type``, ``event`` and ``where`` name. Only track calls must be named."""
    kind = members.get("type", "track")
    if kind not in TYPES:
        found.add("unknown_type", step(pointer, "type"), type=echo(kind), nearest=nearest(echo(kind), TYPES))
        return None
    event = None
    if "event" in members:
        if kind in ("identify", "group"):
            found.add("field_not_used", step(pointer, "event"), field="event", test=kind)
        event = read_name(found, members["event"], step(pointer, "event"))
    elif kind == "track":
        found.add("missing_field", pointer, field="event")
    where: tuple[Filter, ...] = ()
    if "where" in members:
        if kind in ("identify", "group"):
            # Such calls carry traits, no properties: a filter on properties could never hold.
            found.add("field_not_used", step(pointer, "where"), field="where", test=kind)
        where = _read_filters(found, members["where"], step(pointer, "where"))
    automated = members.get("automated", False)
    if not isinstance(automated, bool):
        found.add("wrong_type", step(pointer, "automated"), expected="boolean")
    if event is None and kind == "track":
        return None
    return Stream(type=kind, event=event, where=where, value=value, automated=automated is True)


def _read_filters(found: Findings, spec: Any, pointer: str) -> tuple[Filter, ...]:
    if not isinstance(spec, list | tuple):
        found.add("wrong_type", pointer, expected="list")
        return ()
    if len(spec) > MAX_FILTERS:
        found.add("too_many_filters", pointer, limit=MAX_FILTERS)
        return ()
    filters = []
    for index, entry in enumerate(spec):
        at = step(pointer, index)
        members = read_members(found, entry, at, ("path", "test"), ("value", "case"))
        if members is None:
            continue
        path = read_path(found, members["path"], step(at, "path")) if "path" in members else None
        test = read_test(found, members, at)
        if path is not None and test is not None:
            filters.append(Filter(path=path, test=test))
    return tuple(filters)


def _read_attribute(found: Findings, spec: Any) -> AttributeSpec | None:
    members = read_members(found, spec, "", ("language", "aggregate"), ("event", "type", "path", "within", "where", "automated"))
    if members is None:
        return None
    _check_language(found, members, "")
    aggregate = members.get("aggregate", "count")
    if aggregate in LATER_AGGREGATES:
        found.add("not_built_yet", "/aggregate", kind=aggregate)
        return None
    if aggregate not in AGGREGATES:
        found.add("unknown_aggregate", "/aggregate", aggregate=echo(aggregate), nearest=nearest(echo(aggregate), AGGREGATES))
        return None
    path = read_path(found, members["path"], "/path") if "path" in members else None
    if aggregate in ("count", "days_since"):
        path = None
    elif "path" not in members:
        found.add("missing_field", "", field="path")
    if path is not None and members.get("type") in ("identify", "group"):
        found.add("field_not_used", "/path", field="path", test=str(members["type"]))
    stream = _read_stream(found, members, "", path)
    within = read_duration(found, members["within"], "/within") if "within" in members else None
    return None if stream is None else AttributeSpec(aggregate=aggregate, stream=stream, within=within)
