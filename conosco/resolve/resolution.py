"""What resolving brings about: whose an event is, who was regrouped, and which identifiers and links changed."""

from typing import NamedTuple

import msgspec

from conosco.model.identifier import LinkKind


class IdentifierChange(NamedTuple):
    """An identifier that is new, has another person or was seen earlier than known.

    ``person`` is 0 and ``first_seen_at`` LATEST when no evidence stands for it any more: then it is nobody's.
    """

    namespace: str
    value: str
    number: int
    person: int
    first_seen_at: int


class LinkChange(msgspec.Struct, frozen=True, kw_only=True):
    """A link as it is now, with its texts. Links are told apart by left, right, kind and link_id.

    ``position`` is where it first entered the log, ``refused_by`` the rule that keeps it from joining people. A link of an
    alias runs from the previous id to the user id; should the previous id turn out to be a user id, the old link is told
    as retracted and the new one follows.
    """

    left_namespace: str
    left_value: str
    right_namespace: str
    right_value: str
    kind: LinkKind
    first_seen_at: int
    position: int
    evidence: str
    refused_by: str
    retracted_position: int | None
    link_id: str

    def as_row(self) -> dict[str, str | int | None]:
        """The link under the names of its columns."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


class Regrouping(msgspec.Struct, frozen=True, kw_only=True):
    """Every person whose members or anchor changed: person to its member numbers, ascending, before and after.

    A new person is in ``after`` only; one that no evidence stands for any more, in ``before`` only.
    """

    before: dict[int, tuple[int, ...]]
    after: dict[int, tuple[int, ...]]


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """Whose the event is (the number of the person's anchor), and what its evidence changed."""

    person: int
    regrouping: Regrouping | None = None
    identifier_changes: list[IdentifierChange] = []
    link_changes: list[LinkChange] = []
