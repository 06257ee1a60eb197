"""The condition language as a tree of frozen types: what a parsed, normalised condition is. Parsing is in parse.py.

Durations are microseconds, numbers millionths, texts carry their keys: nothing is left to interpret while evaluating.
"""

from typing import Any, Final, Literal

import msgspec

from conosco.model.event import EventType

TestName = Literal[
    "is",
    "is_not",
    "in",
    "not_in",
    "contains",
    "starts_with",
    "ends_with",
    "matches",
    "more_than",
    "at_least",
    "less_than",
    "at_most",
    "between",
    "exists",
    "within",
    "before_last",
    "before",
    "after",
]
Aggregate = Literal["count", "sum", "last", "days_since"]
LANGUAGE: Final = 1


class Scalar(msgspec.Struct, frozen=True, array_like=True):
    """An operand: exactly one of number (millionths), text (folded key, NFC key), boolean, moment or duration (both micros)."""

    kind: Literal["number", "text", "boolean", "moment", "duration"]
    number: int = 0
    folded: str = ""
    exact: str = ""

    @property
    def boolean(self) -> bool:
        """The truth value of a boolean operand."""
        return bool(self.number)


class Test(msgspec.Struct, frozen=True, kw_only=True):
    """A test on a value: ``is 'IT'``, ``between 1 and 5``. A list operand has several entries, ``exists`` none."""

    name: TestName
    operands: tuple[Scalar, ...] = ()
    case: bool = False


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """A test on a property of an event. A path through a list means any element."""

    path: tuple[str, ...]
    test: Test


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """The events a condition reads: type, name and filters; ``value`` is the property that an aggregate takes from them.

    Events that a program made belong to it only with ``automated``. Equal streams are shared by all conditions that read them.
    """

    type: EventType
    event: str | None
    where: tuple[Filter, ...] = ()
    value: tuple[str, ...] | None = None
    automated: bool = False


class TraitTest(msgspec.Struct, frozen=True, kw_only=True, tag="trait"):
    """The person's trait at this path passes the test."""

    path: tuple[str, ...]
    test: Test


class Did(msgspec.Struct, frozen=True, kw_only=True, tag="did"):
    """The person did this at least ``least`` and at most ``most`` times, within the window (now - within, now] if any."""

    stream: Stream
    least: int = 1
    most: int | None = None
    within: int | None = None


class AttributeTest(msgspec.Struct, frozen=True, kw_only=True, tag="attribute"):
    """A computed trait passes the test; its definition is inlined, so that a condition is complete in itself."""

    key: str
    spec: "AttributeSpec"
    test: Test


class AttributeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A computed trait: an aggregate over a stream, within a window if any.

    ``count`` and ``sum`` of nothing are 0; ``last`` and ``days_since`` of nothing are absent.
    """

    aggregate: Aggregate
    stream: Stream
    within: int | None = None


class IdentifierTest(msgspec.Struct, frozen=True, kw_only=True, tag="identifier"):
    """The person has an identifier of this namespace (that passes the test, if there is one)."""

    namespace: str
    test: Test | None = None


class SegmentTest(msgspec.Struct, frozen=True, kw_only=True, tag="segment"):
    """The person satisfies another segment's condition, which is inlined."""

    key: str
    of: "Condition"


class Not(msgspec.Struct, frozen=True, kw_only=True, tag="not"):
    """The inner condition does not hold. Total: absence makes the inner one false and this one true."""

    of: "Condition"


class All(msgspec.Struct, frozen=True, kw_only=True, tag="all"):
    """Every part holds; of no parts it is true."""

    of: tuple["Condition", ...]


class Any_(msgspec.Struct, frozen=True, kw_only=True, tag="any"):
    """At least one part holds; of no parts it is false."""

    of: tuple["Condition", ...]


Condition = TraitTest | Did | AttributeTest | IdentifierTest | SegmentTest | Not | All | Any_
Leaf = TraitTest | Did | AttributeTest | IdentifierTest


def canonical(part: Any) -> bytes:
    """Bytes that are equal exactly when two trees, streams or tests are equal."""
    return msgspec.json.encode(part, order="deterministic")
