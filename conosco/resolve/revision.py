"""A revision: everything that one event or command changes in the evidence, and the persons settled once at its end.

Evidence lies in raw components: everything connected by any link. While no rule can bind in one (it is plain), the
component is the person; otherwise the partition is computed anew for that component, and for nothing else.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, cast

from conosco.model.identifier import Identifier, IdentityRules, LinkKind
from conosco.model.moment import LATEST
from conosco.ports.tables import (
    COMPONENTS,
    HUB_LINKS,
    IDENTIFIERS,
    LINK_PLACES,
    META,
    ComponentRow,
    HubLinkRow,
    IdentifierRow,
    LinkPlaceRow,
    LinkRow,
    MemberRow,
    MetaRow,
)
from conosco.ports.work import Work
from conosco.resolve.partition import Edge, Member, partition
from conosco.resolve.resolution import IdentifierChange, LinkChange, Regrouping, Resolution
from conosco.resolve.rulebook import Rulebook, rulebook

USER_ID: Final = "user_id"
ANONYMOUS_ID: Final = "anonymous_id"
_COUNT_KEY: Final = ("identifier_count",)
_ALL: Final = 2**31 - 1


class End(NamedTuple):
    """One end of a link: the identifier and its row, which is shared with Work and therefore always current."""

    identifier: Identifier
    row: IdentifierRow


class _Moved(NamedTuple):
    member: MemberRow
    person: int
    first_seen_at: int


class _Told(NamedTuple):
    link: LinkRow
    left: Identifier
    right: Identifier
    gone: bool


class Revision:
    """Gathers changes of evidence over a Work. Call ``finish`` once, last: it settles the persons and writes components."""

    def __init__(self, work: Work, rules: IdentityRules, position: int) -> None:
        self._work = work
        self._rules = rules
        self._book: Rulebook = rulebook(rules)
        self._position = position
        self._touched: dict[int, ComponentRow] = {}
        self._fresh: set[int] = set()
        self._moved: dict[int, _Moved] = {}
        self._told: dict[tuple[int, bool], _Told] = {}
        self._before: dict[int, tuple[int, ...]] = {}
        self._after: dict[int, tuple[int, ...]] = {}

    # Identifiers

    def sight(self, identifier: Identifier, at: int, beside: End | None = None) -> End:
        """An event carried this identifier. A new one is put into the component of ``beside``, to which it will be linked."""
        row = self._work.get(IDENTIFIERS, identifier)
        if row is None:
            end = self._introduce(identifier, at, at, beside)
            is_first = True
        else:
            end = End(identifier, row)
            is_first = row.sighted_at == LATEST
            if at < row.sighted_at:
                row.sighted_at = at
                self._work.put(IDENTIFIERS, identifier, row)
                self._date(end)
        if is_first and identifier.namespace == USER_ID:
            self._retarget(end)
        return end

    def name(self, identifier: Identifier, at: int, beside: End | None = None) -> End:
        """A link names this identifier; no event needs to have carried it."""
        row = self._work.get(IDENTIFIERS, identifier)
        return self._introduce(identifier, at, LATEST, beside) if row is None else End(identifier, row)

    def _introduce(self, identifier: Identifier, first_seen_at: int, sighted_at: int, beside: End | None) -> End:
        count = self._work.get(META, _COUNT_KEY) or MetaRow(value=0)
        count.value += 1
        self._work.put(META, _COUNT_KEY, count)
        number: int = count.value
        member = MemberRow(
            number=number, namespace=identifier.namespace, value=identifier.value, first_seen_at=first_seen_at, person=0
        )
        if beside is None:
            component = number
            self._touched[component] = ComponentRow(members=[member], links=[])
        else:
            component = beside.row.component
            self._touch(component).members.append(member)
        row = IdentifierRow(number=number, component=component, sighted_at=sighted_at)
        self._work.put(IDENTIFIERS, identifier, row)
        self._fresh.add(number)
        self._moved[number] = _Moved(member, 0, LATEST)
        return End(identifier, row)

    def _date(self, end: End) -> None:
        """Find again when an identifier was first seen.

        That is the earliest event that carried it, were it only as the previous id of an alias. What no event carried is
        as old as the links that people made with it, and nobody's once the last of them is retracted.
        """
        component = self._touch(end.row.component)
        number = end.row.number
        seen_at, linked_at = end.row.sighted_at, LATEST
        for link in self._links_of(end, component):
            if link.retracted_position is None and number in (link.left, link.right):
                if link.previous_id:
                    seen_at = min(seen_at, link.first_seen_at)
                elif link.link_id:
                    linked_at = min(linked_at, link.first_seen_at)
        first_seen_at = linked_at if seen_at == LATEST else seen_at
        member = _member(component, number)
        if first_seen_at != member.first_seen_at:
            if LATEST in (first_seen_at, member.first_seen_at):
                component.plain = False
            self._moved.setdefault(number, _Moved(member, member.person, member.first_seen_at))
            member.first_seen_at = first_seen_at

    def _links_of(self, end: End, component: ComponentRow) -> Iterator[LinkRow]:
        yield from component.links
        if end.row.hub:
            for _, row in self._hub_rows(end.row.number):
                yield row.link

    # Links

    def link(
        self, left: End, right: End, kind: LinkKind, at: int, evidence: str, *, link_id: str = "", previous_id: str = ""
    ) -> None:
        """Add evidence for a link. Of the same link the earliest evidence counts, whenever it arrives."""
        if kind == "observed":
            hub = self._hub_among(left, right)
            if hub is not None:
                self._link_to_hub(hub, left, right, at, evidence, previous_id)
                return
        # What came with this very event or command has no link of this kind yet.
        is_fresh = left.row.number in self._fresh or right.row.number in self._fresh
        known = None if is_fresh else self._find(left, right, kind, link_id, previous_id)
        if known is not None:
            if not is_earlier(known, at, evidence):
                return
            known.first_seen_at, known.evidence = at, evidence
            self._touch(left.row.component)
            self._tell(known, left.identifier, right.identifier)
        else:
            fresh = self._new_link(left, right, kind, at, evidence, link_id, previous_id)
            if not is_fresh and not link_id and left.row.component == right.row.component:
                fresh.retracted_position = _retracted_position(fresh, self._component(left.row.component).links)
            component = self._connect(left.row, right.row)
            component.links.append(fresh)
            self._tell(fresh, left.identifier, right.identifier)
            if kind == "manual_different":
                component.plain = False
            if kind == "observed" and not previous_id and right.row.partner == 0:
                right.row.partner, right.row.partnered_at = left.row.number, at
                self._work.put(IDENTIFIERS, right.identifier, right.row)
        if previous_id:
            self._date(left)
        if link_id:
            self._work.put(
                LINK_PLACES, (link_id,), LinkPlaceRow(namespace=left.identifier.namespace, value=left.identifier.value)
            )
            self._date(left)
            self._date(right)

    def _new_link(self, left: End, right: End, kind: LinkKind, at: int, evidence: str, link_id: str, previous_id: str) -> LinkRow:
        return LinkRow(
            left=left.row.number,
            right=right.row.number,
            kind=kind,
            first_seen_at=at,
            position=self._position,
            evidence=evidence,
            link_id=link_id,
            previous_id=previous_id,
        )

    def _find(self, left: End, right: End, kind: LinkKind, link_id: str, previous_id: str) -> LinkRow | None:
        if left.row.component != right.row.component:
            return None
        ends = (left.row.number, right.row.number)
        for link in self._component(left.row.component).links:
            if (
                (link.left, link.right) == ends
                and link.kind == kind
                and link.link_id == link_id
                and link.previous_id == previous_id
            ):
                return link
        return None

    def retract(self, left: End, right: End, kind: LinkKind, link_id: str = "") -> bool:
        """Take back every such link between two identifiers (or the one with this id); False if there is none."""
        ends = {left.row.number, right.row.number}
        found: list[LinkRow] = []
        if left.row.component == right.row.component:
            for link in self._touch(left.row.component).links:
                if {link.left, link.right} == ends and link.kind == kind and link_id in ("", link.link_id):
                    found.append(link)
        hub = self._hub_among(left, right) if kind == "observed" else None
        for key, row in self._hub_rows(hub.row.number) if hub else ():
            if {row.link.left, row.link.right} == ends:
                found.append(row.link)
                self._work.put(HUB_LINKS, key, row)
        identifiers = {left.row.number: left.identifier, right.row.number: right.identifier}
        for link in found:
            if link.retracted_position is None:
                link.retracted_position = self._position
                link.refused_by = ""
                self._tell(link, identifiers[link.left], identifiers[link.right])
        for end in (left, right) if found else ():
            self._touch(end.row.component).plain = False
            self._date(end)
        if hub is not None and found:
            self._recount(hub)
        return bool(found)

    def _retarget(self, user: End) -> None:
        """A value is now known to be a user id: aliases that named it as their previous id mean that user."""
        value = user.identifier.value
        identifier = Identifier(ANONYMOUS_ID, value)
        row = self._work.get(IDENTIFIERS, identifier)
        if row is None:
            return
        anonymous = End(identifier, row)
        component = self._component(row.component)
        meant = [link for link in component.links if link.previous_id == value and link.left == row.number]
        others = {member.number: Identifier(member.namespace, member.value) for member in component.members} if meant else {}
        if meant:
            self._touch(row.component).plain = False
            component.links = [link for link in component.links if link.previous_id != value or link.left != row.number]
        if row.hub:
            for key, apart in self._hub_rows(row.number):
                if apart.link.previous_id == value:
                    meant.append(apart.link)
                    others[apart.link.right] = Identifier(apart.namespace, apart.value)
                    self._work.delete(HUB_LINKS, key)
        for link in meant:
            right = End(others[link.right], self._work.get(IDENTIFIERS, others[link.right]))
            self._tell(link, identifier, right.identifier, gone=True)
            moved = self._new_link(user, right, cast(LinkKind, link.kind), link.first_seen_at, link.evidence, "", value)
            moved.position, moved.retracted_position = link.position, link.retracted_position
            self._connect(user.row, right.row).links.append(moved)
            self._tell(moved, user.identifier, right.identifier)
        if meant:
            self._date(anonymous)
            self._date(user)
        if row.hub:
            self._recount(anonymous)

    # Components

    def _component(self, number: int) -> ComponentRow:
        return self._touched.get(number) or cast(ComponentRow, self._work.get(COMPONENTS, (number,)))

    def _touch(self, number: int) -> ComponentRow:
        component = self._touched.get(number)
        if component is None:
            component = self._touched[number] = self._work.get(COMPONENTS, (number,))
        return component

    def _connect(self, left: IdentifierRow, right: IdentifierRow) -> ComponentRow:
        """Make two identifiers lie in one component: the smaller is written into the larger."""
        kept, gone = left.component, right.component
        one = self._touch(kept)
        if kept == gone:
            return one
        other = self._touch(gone)
        if len(one.members) + len(one.links) < len(other.members) + len(other.links):
            kept, gone, one, other = gone, kept, other, one
        self._move(other.members, kept)
        one.members.extend(other.members)
        one.links.extend(other.links)
        one.plain = one.plain and other.plain
        del self._touched[gone]
        self._work.delete(COMPONENTS, (gone,))
        return one

    def _move(self, members: Iterable[MemberRow], component: int) -> None:
        for member in members:
            key = (member.namespace, member.value)
            row = self._work.get(IDENTIFIERS, key)
            row.component = component
            self._work.put(IDENTIFIERS, key, row)

    # Hubs: their links join nobody, so they lie apart, and a kiosk's next visitor costs two look-ups

    def _hub_among(self, left: End, right: End) -> End | None:
        for hub, other in ((right, left), (left, right)):
            if hub.row.hub and self._book.is_weaker(hub.identifier.namespace, other.identifier.namespace):
                return hub
        return None

    def _hub_rows(self, hub: int) -> list[tuple[tuple[int, int, int], HubLinkRow]]:
        return cast(list[tuple[tuple[int, int, int], HubLinkRow]], self._work.scan(HUB_LINKS, (hub,), (hub + 1,), _ALL))

    def _link_to_hub(self, hub: End, left: End, right: End, at: int, evidence: str, previous_id: str) -> None:
        ends = (left.row.number, right.row.number)
        key = (hub.row.number, *ends)
        row: HubLinkRow | None = self._work.get(HUB_LINKS, key)
        if row is None:
            other = (left if hub is right else right).identifier
            link = self._new_link(left, right, "observed", at, evidence, "", previous_id)
            link.refused_by = "hub"
            row = HubLinkRow(link=link, namespace=other.namespace, value=other.value)
            twin: HubLinkRow | None = self._work.get(HUB_LINKS, (hub.row.number, *reversed(ends)))
            if twin is not None and twin.link.retracted_position is not None:
                link.retracted_position, link.refused_by = twin.link.retracted_position, ""
            elif twin is None:
                hub.row.hub += 1
                self._work.put(IDENTIFIERS, hub.identifier, hub.row)
        elif is_earlier(row.link, at, evidence):
            row.link.first_seen_at, row.link.evidence = at, evidence
        else:
            return
        self._work.put(HUB_LINKS, key, row)
        self._tell(row.link, left.identifier, right.identifier)
        if previous_id:
            self._date(left)

    def _demote(self, component: ComponentRow, hub: MemberRow) -> None:
        """A value has become a hub: its links to stronger identifiers leave the component."""
        members = {member.number: member for member in component.members}
        kept: list[LinkRow] = []
        partners: set[int] = set()
        for link in component.links:
            other = members[link.right if link.left == hub.number else link.left]
            ends_here = hub.number in (link.left, link.right)
            if link.kind != "observed" or not ends_here or not self._book.is_weaker(hub.namespace, other.namespace):
                kept.append(link)
                continue
            row = HubLinkRow(link=link, namespace=other.namespace, value=other.value)
            self._work.put(HUB_LINKS, (hub.number, link.left, link.right), row)
            if link.retracted_position is None:
                partners.add(other.number)
        component.links = kept
        hub.hub = True
        key = (hub.namespace, hub.value)
        row_of_hub: IdentifierRow = self._work.get(IDENTIFIERS, key)
        row_of_hub.hub = len(partners)
        self._work.put(IDENTIFIERS, key, row_of_hub)

    def _recount(self, hub: End) -> None:
        """Links of a hub were taken back: it stays a hub, or its links return to the components."""
        rows = self._hub_rows(hub.row.number)
        hub.row.hub = len({(row.namespace, row.value) for _, row in rows if row.link.retracted_position is None})
        if hub.row.hub <= self._book.hubs[hub.identifier.namespace]:
            hub.row.hub = 0
            _member(self._touch(hub.row.component), hub.row.number).hub = False
            for key, row in rows:
                self._work.delete(HUB_LINKS, key)
                component = self._connect(hub.row, self._work.get(IDENTIFIERS, (row.namespace, row.value)))
                component.links.append(row.link)
                component.plain = False
        self._work.put(IDENTIFIERS, hub.identifier, hub.row)

    def _split(self, number: int, component: ComponentRow) -> None:
        """Part a component that hubs held together into its connected pieces."""
        roots = {member.number: member.number for member in component.members}

        def root(end: int) -> int:
            while roots[end] != end:
                roots[end] = roots[roots[end]]
                end = roots[end]
            return end

        for link in component.links:
            roots[root(link.left)] = root(link.right)
        pieces: dict[int, ComponentRow] = {}
        for member in component.members:
            pieces.setdefault(root(member.number), ComponentRow(members=[], links=[])).members.append(member)
        for link in component.links:
            pieces[root(link.left)].links.append(link)
        for piece in pieces.values():
            numbers = [member.number for member in piece.members]
            # A component bears the number of one of its members, so no two ever share one.
            key = number if number in numbers else min(numbers)
            if key != number:
                self._move(piece.members, key)
            piece.plain = self._is_plain(piece)
            self._work.put(COMPONENTS, (key,), piece)

    # Persons

    def finish(self, end: End) -> Resolution:
        """Settle the persons of everything touched, write the components, and say whose ``end`` is now."""
        for number, component in self._touched.items():
            members = component.members
            if component.plain and self._cannot_bind(component):
                anchor = members[self._book.anchor(members)].number
                if any(member.person != anchor for member in members):
                    self._assign(members, [anchor] * len(members))
                self._work.put(COMPONENTS, (number,), component)
            else:
                self._settle(number, component)
        regrouping = Regrouping(before=self._before, after=self._after) if self._before or self._after else None
        changes = [
            IdentifierChange(member.namespace, member.value, member.number, member.person, member.first_seen_at)
            for member, person, first_seen_at in self._moved.values()
            if member.person != person or member.first_seen_at != first_seen_at
        ]
        return Resolution(
            person=end.row.person,
            regrouping=regrouping,
            identifier_changes=changes,
            link_changes=[self._link_change(told) for told in self._told.values()],
        )

    def _settle(self, number: int, component: ComponentRow) -> None:
        """Compute the partition of a component in which a rule may bind."""
        members = [member for member in component.members if member.first_seen_at != LATEST]
        places = {member.number: place for place, member in enumerate(members)}
        live = [link for link in component.links if link.retracted_position is None]
        result = partition(
            [Member(member.namespace, member.value, member.first_seen_at, member.hub) for member in members],
            [Edge(places[link.left], places[link.right], cast(LinkKind, link.kind), link.first_seen_at) for link in live],
            self._rules,
        )
        persons = dict.fromkeys((member.number for member in component.members), 0)
        for group in result.groups:
            anchor = members[group.anchor].number
            for place in group.members:
                persons[members[place].number] = anchor
        self._assign(component.members, [persons[member.number] for member in component.members])
        for place, link in enumerate(live):
            refused_by = result.refused.get(place, "")
            if refused_by != link.refused_by:
                link.refused_by = refused_by
                left, right = members[places[link.left]], members[places[link.right]]
                self._tell(link, Identifier(left.namespace, left.value), Identifier(right.namespace, right.value))
        hubs = [members[place] for place in sorted(result.hubs) if not members[place].hub]
        for hub in hubs:
            self._demote(component, hub)
        if hubs:
            self._split(number, component)
        else:
            component.plain = self._is_plain(component)
            self._work.put(COMPONENTS, (number,), component)

    def _assign(self, members: list[MemberRow], persons: list[int]) -> None:
        before: dict[int, list[int]] = {}
        after: dict[int, list[int]] = {}
        for member, person in zip(members, persons, strict=True):
            if member.person:
                before.setdefault(member.person, []).append(member.number)
            if person:
                after.setdefault(person, []).append(member.number)
            if member.person != person:
                self._moved.setdefault(member.number, _Moved(member, member.person, member.first_seen_at))
                member.person = person
                key = (member.namespace, member.value)
                row = self._work.get(IDENTIFIERS, key)
                row.person = person
                self._work.put(IDENTIFIERS, key, row)
        self._before.update({person: tuple(sorted(was)) for person, was in before.items() if was != after.get(person)})
        self._after.update({person: tuple(sorted(now)) for person, now in after.items() if now != before.get(person)})

    def _is_plain(self, component: ComponentRow) -> bool:
        """True if the component is one person and no rule can bind in it: then the next link needs no second look."""
        person = component.members[0].person
        return (
            person != 0
            and all(member.person == person and not member.hub for member in component.members)
            and all(
                not link.refused_by and (link.kind != "manual_different" or link.retracted_position is not None)
                for link in component.links
            )
            and self._cannot_bind(component)
        )

    def _cannot_bind(self, component: ComponentRow) -> bool:
        """True if neither a cap nor a hub threshold is passed, even with everything in one person."""
        book = self._book
        counts: dict[int, int] = {}
        for member in component.members:
            for place in book.caps_of.get(member.namespace, ()):
                count = counts[place] = counts.get(place, 0) + 1
                if count > book.caps[place].most:
                    return False
        if not book.hubs or len(component.links) <= book.hub_min:
            return True
        counts.clear()
        for link in component.links:
            counts[link.left] = counts.get(link.left, 0) + 1
            counts[link.right] = counts.get(link.right, 0) + 1
        # No value has more stronger partners than links.
        return not any(
            member.namespace in book.hubs and counts.get(member.number, 0) > book.hubs[member.namespace]
            for member in component.members
        )

    # Telling

    def _tell(self, link: LinkRow, left: Identifier, right: Identifier, *, gone: bool = False) -> None:
        self._told[id(link), gone] = _Told(link, left, right, gone)

    def _link_change(self, told: _Told) -> LinkChange:
        link = told.link
        return LinkChange(
            left_namespace=told.left.namespace,
            left_value=told.left.value,
            right_namespace=told.right.namespace,
            right_value=told.right.value,
            kind=cast(LinkKind, link.kind),
            first_seen_at=link.first_seen_at,
            position=link.position,
            evidence=link.evidence,
            refused_by="" if told.gone else link.refused_by,
            retracted_position=self._position if told.gone else link.retracted_position,
            link_id=link.link_id,
        )


def is_earlier(link: LinkRow, at: int, evidence: str) -> bool:
    """True if this evidence goes before what the link stands on; of simultaneous events the smaller message id does."""
    return at < link.first_seen_at or (at == link.first_seen_at and evidence < link.evidence)


def _retracted_position(fresh: LinkRow, links: Iterable[LinkRow]) -> int | None:
    """What was taken back stays so: another sighting of the same two ends, by an alias say, inherits it."""
    ends = {fresh.left, fresh.right}
    for link in links:
        if link.kind == fresh.kind and not link.link_id and {link.left, link.right} == ends:
            return link.retracted_position
    return None


def _member(component: ComponentRow, number: int) -> MemberRow:
    return next(member for member in component.members if member.number == number)
