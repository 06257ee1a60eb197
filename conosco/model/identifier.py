"""Identifiers and the links between them: the evidence from which persons are computed."""

from typing import Literal, NamedTuple

import msgspec

LinkKind = Literal["observed", "asserted", "scored", "manual_same", "manual_different"]


class Identifier(NamedTuple):
    """A value that points to a person, in a namespace such as user_id, anonymous_id, email or phone."""

    namespace: str
    value: str


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence that two identifiers belong to one person (or, for manual_different, that they do not).

    ``first_seen_at`` is the earliest event time of any observation of it: a function of the set, not of arrival.
    """

    left: Identifier
    right: Identifier
    kind: LinkKind
    first_seen_at: int
    position: int
    evidence: str = ""
    weight: float | None = None
    retracted_position: int | None = None


class NamespaceRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How identifiers of one namespace behave.

    ``unique``: a person has at most one value. ``limit``: at most that many. ``hub``: a value that was observed
    together with more than that many distinct stronger identifiers stops linking.
    """

    namespace: str
    unique: bool = False
    limit: int | None = None
    hub: int | None = None


class IdentityRules(msgspec.Struct, frozen=True, kw_only=True):
    """The identity rules, strongest namespace first, and the values that identify nobody."""

    namespaces: tuple[NamespaceRule, ...] = (
        NamespaceRule(namespace="user_id", unique=True),
        NamespaceRule(namespace="email", limit=4),
        NamespaceRule(namespace="phone", limit=4),
        NamespaceRule(namespace="anonymous_id", hub=8),
    )
    blocked: tuple[str, ...] = ("", "null", "-1", "anonymous", "guest", "undefined")

    def is_blocked(self, value: str) -> bool:
        """True for values that identify nobody: those listed (case ignored) and runs of zeros or dashes."""
        text = value.strip().lower()
        return text in self.blocked or not text.strip("0-")
