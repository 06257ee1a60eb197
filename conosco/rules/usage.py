"""What a condition reads: the ground for sharing live state, for backfills, and for telling which data is really used."""

import msgspec

from conosco.rules.condition import (
    All,
    Any_,
    AttributeTest,
    Condition,
    Did,
    IdentifierTest,
    Not,
    SegmentTest,
    Stream,
    TraitTest,
)


class Reads(msgspec.Struct, frozen=True, kw_only=True):
    """Streams of events, top-level names of traits, namespaces of identifiers, and keys of what was referred to."""

    streams: frozenset[Stream] = frozenset()
    traits: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    segments: frozenset[str] = frozenset()
    attributes: frozenset[str] = frozenset()


def reads(condition: Condition) -> Reads:
    """Everything that a condition reads, what it refers to included."""
    match condition:
        case TraitTest(path=path):
            return Reads(traits=frozenset((path[0],)))
        case Did(stream=stream):
            return Reads(streams=frozenset((stream,)))
        case AttributeTest(key=key, spec=spec):
            return Reads(streams=frozenset((spec.stream,)), attributes=frozenset((key,)))
        case IdentifierTest(namespace=namespace):
            return Reads(namespaces=frozenset((namespace,)))
        case Not(of=inner):
            return reads(inner)
        case SegmentTest(key=key, of=inner):
            return _union((reads(inner), Reads(segments=frozenset((key,)))))
        case All(of=parts) | Any_(of=parts):
            return _union(tuple(map(reads, parts)))


def _union(parts: tuple[Reads, ...]) -> Reads:
    return Reads(
        streams=frozenset().union(*(part.streams for part in parts)),
        traits=frozenset().union(*(part.traits for part in parts)),
        namespaces=frozenset().union(*(part.namespaces for part in parts)),
        segments=frozenset().union(*(part.segments for part in parts)),
        attributes=frozenset().union(*(part.attributes for part in parts)),
    )
