"""Conditions as sentences: what a person reads to see whether a segment means what was meant."""

import re
from collections.abc import Iterator
from typing import Final

from conosco.model.moment import DAY, HOUR, MINUTE, SECOND, spell_moment
from conosco.model.number import plain
from conosco.rules.condition import (
    All,
    Any_,
    AttributeTest,
    Condition,
    Did,
    Filter,
    IdentifierTest,
    Leaf,
    Not,
    Scalar,
    SegmentTest,
    Stream,
    Test,
    TestName,
    TraitTest,
)

_VERBS: Final[dict[TestName, str]] = {
    "is": "is",
    "is_not": "is not",
    "in": "is one of",
    "not_in": "is none of",
    "contains": "contains",
    "starts_with": "starts with",
    "ends_with": "ends with",
    "matches": "matches",
    "more_than": "is more than",
    "at_least": "is at least",
    "less_than": "is less than",
    "at_most": "is at most",
    "between": "is between",
    "exists": "is known",
    "within": "is in the last",
    "before_last": "is before the last",
    "before": "is before",
    "after": "is after",
}
# Moments are early and late rather than small and large.
_MOMENT_VERBS: Final[dict[TestName, str]] = {
    "more_than": "is after",
    "at_least": "is at or after",
    "less_than": "is before",
    "at_most": "is at or before",
}
_UNITS: Final = ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"), (SECOND, "second"))
_PLAIN_TEXT: Final = re.compile(r"[\w@.+/%€$-]+( [\w@.+/%€$-]+)*\Z")
_MAX_LISTED: Final = 5


def sentence(condition: Condition) -> str:
    """The whole condition in English. Groups inside groups are in parentheses; a segment is named, not spelled out."""
    match condition:
        case Not(of=inner):
            return f"not ({sentence(inner)})"
        case All(of=()):
            return "everyone"
        case Any_(of=()):
            return "nobody"
        case All(of=parts):
            return " and ".join(map(_part, parts))
        case Any_(of=parts):
            return " or ".join(map(_part, parts))
        case SegmentTest(key=key):
            return f"is in the segment {key}"
        case _:
            return sentence_of(condition)


def sentence_of(leaf: Leaf) -> str:
    """One leaf in English."""
    match leaf:
        case TraitTest(path=path, test=test):
            return f"{_path(path)} {_test(test)}"
        case AttributeTest(key=key, test=test):
            return f"{key} {_test(test)}"
        case IdentifierTest(namespace=namespace, test=test):
            article = "an" if namespace[0] in "aeio" else "a"
            return f"has {article} {namespace}" + (f" that {_test(test)}" if test is not None else "")
        case Did():
            window = "" if leaf.within is None else f" in the last {_duration(leaf.within)}"
            programs = ", automated events included" if leaf.stream.automated else ""
            return _did(leaf.stream, leaf.least, leaf.most) + window + _where(leaf.stream.where) + programs


def walk(condition: Condition, pointer: str = "where") -> Iterator[tuple[str, Leaf]]:
    """Yield every leaf with its place in the definition (``where/of/0``), those of a segment that is referred to under its own."""
    match condition:
        case Not(of=inner):
            yield from walk(inner, f"{pointer}/of")
        case All(of=parts) | Any_(of=parts):
            for index, part in enumerate(parts):
                yield from walk(part, f"{pointer}/of/{index}")
        case SegmentTest(of=inner):
            yield from walk(inner, f"{pointer}/where")
        case _:
            yield pointer, condition


def _part(condition: Condition) -> str:
    """A part of a group: in parentheses if it is itself a group of several."""
    if isinstance(condition, All | Any_) and len(condition.of) > 1:
        return f"({sentence(condition)})"
    return sentence(condition)


def _did(stream: Stream, least: int, most: int | None) -> str:
    match stream.type:
        case "track":
            deed = f"did {stream.event}"
        case "page" | "screen":
            deed = f"viewed the {stream.type} {stream.event}" if stream.event is not None else f"viewed a {stream.type}"
        case "group":
            deed = "joined a group"
        case "identify" | "alias":
            deed = "was identified"
    match (least, most):
        case (1, None):
            return deed
        case (0, None):
            return f"{deed} any number of times"
        case (0, 0):
            return f"never {deed}"
        case (_, None):
            return f"{deed} at least {_times(least)}"
        case (0, int()):
            return f"{deed} at most {_times(most)}"
        case _ if least == most:
            return f"{deed} exactly {_times(least)}"
        case _:
            return f"{deed} between {least} and {most} times"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _where(filters: tuple[Filter, ...]) -> str:
    if not filters:
        return ""
    text = " and ".join(f"{_path(entry.path)} {_test(entry.test)}" for entry in filters)
    return f" where {text}" if len(filters) == 1 else f" where ({text})"


def _path(path: tuple[str, ...]) -> str:
    return ".".join(path)


def _test(test: Test) -> str:
    operands = test.operands
    verb = _VERBS[test.name]
    if operands and operands[0].kind == "moment":
        verb = _MOMENT_VERBS.get(test.name, verb)
    case = " (with case)" if test.case else ""
    match test.name:
        case "exists":
            return verb
        case "between":
            return f"{verb} {_operand(operands[0])} and {_operand(operands[1])}"
        case "in" | "not_in":
            listed = ", ".join(map(_operand, operands[:_MAX_LISTED]))
            more = len(operands) - _MAX_LISTED
            return f"{verb} {listed}" + (f" and {more} more" if more > 0 else "") + case
        case _:
            return f"{verb} {_operand(operands[0])}{case}"


def _operand(operand: Scalar) -> str:
    match operand.kind:
        case "number":
            return str(plain(operand.number))
        case "boolean":
            return "true" if operand.boolean else "false"
        case "moment":
            return spell_moment(operand.number)
        case "duration":
            return _duration(operand.number)
        case "text":
            return operand.exact if _PLAIN_TEXT.match(operand.exact) else f'"{operand.exact}"'


def _duration(micros: int) -> str:
    """A duration in the largest unit that gives a whole number."""
    for size, unit in _UNITS:
        if micros % size == 0:
            count = micros // size
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return f"{micros} microseconds"
