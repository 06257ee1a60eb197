"""The people desk: one person at a time, now from State, at another moment or as known then from the warehouse."""

from collections.abc import Sequence
from typing import Any

import msgspec

from conosco.model.answer import (
    AsOf,
    Commanded,
    ConsentRecord,
    ExplainedCondition,
    Explanation,
    IdentityAnswer,
    KnownLink,
    LinkDraft,
    LinkWritten,
    Membership,
    Page,
    Profile,
    ProfileSplit,
    SeenIdentifier,
    TimelineEntry,
    TraitValue,
)
from conosco.model.command import LinkIdentifiers, RetractLink
from conosco.model.event import read_json
from conosco.model.identifier import Identifier
from conosco.model.moment import spell_moment
from conosco.model.problem import Refused, refuse
from conosco.ports.tables import (
    COMPONENTS,
    IDENTIFIERS,
    LINK_PLACES,
    MEMBERSHIPS,
    PROFILES,
    ComponentRow,
    PersonRow,
    ProfileRow,
)
from conosco.ports.work import Work
from conosco.profile.stage import profile_id_of
from conosco.profile.view import PersonView
from conosco.rules.compile import attribute_values, people
from conosco.rules.condition import AttributeTest, Condition, Did, IdentifierTest, Leaf, TraitTest
from conosco.rules.evaluate import NumberOf, attribute_value, count_at, plan
from conosco.rules.explain import sentence, sentence_of, walk
from conosco.rules.values import at_path
from conosco.runtime.bootstrap import INSTALLATION_SECRET, random_id, required_secret
from conosco.runtime.bootstrap_warehouse import render_sql
from conosco.runtime.office.history import History
from conosco.runtime.office.reading import Reading, cursor_of, read_cursor

PersonRef = str | Identifier


class _Found(msgspec.Struct, frozen=True):
    """A person as found: by which profile id, with which identifiers; ``row`` and ``number`` only for the present."""

    profile_id: str
    identifiers: tuple[tuple[str, str, int], ...]
    known_at: int
    true_at: int
    number: int = 0
    row: PersonRow | None = None

    @property
    def keys(self) -> list[tuple[str, str]]:
        return [(namespace, value) for namespace, value, _ in self.identifiers]


class PeopleDesk:
    """Implements ``web.office.People``."""

    def __init__(self, reading: Reading, history: History) -> None:
        self._reading = reading
        self._history = history

    # Finding.

    async def _find(self, ref: PersonRef, as_of: AsOf) -> _Found:
        if as_of.is_now:
            number = self._number(ref)
            row = self._reading.person(number)
            if row is None:
                raise _unknown(ref)
            now = self._reading.clock()
            return _Found(row.profile_id, tuple(row.identifiers), self._reading.state.offset()[0], now, number, row)
        true_at, known_at = await self._history.axes(as_of)
        identifier = ref if isinstance(ref, Identifier) else self._anchor(ref)
        profile_id = await self._history.profile_of(identifier.namespace, identifier.value, known_at)
        if profile_id is None:
            raise _unknown(ref)
        found = await self._history.identifiers_of(profile_id, known_at)
        seen = tuple(entry for entry in found if entry[2] <= true_at)
        if not seen:
            raise _unknown(ref)
        return _Found(profile_id, seen, known_at, true_at)

    async def whose(self, ref: PersonRef, as_of: AsOf) -> tuple[str, Sequence[int], int, int]:
        """(profile id, its cells, which only the present has, true_at, known_at). Refuses as all answers about people do."""
        found = await self._find(ref, as_of)
        return found.profile_id, found.row.cells if found.row is not None else (), found.true_at, found.known_at

    def _anchor(self, profile_id: str) -> Identifier:
        row = self._reading.profile_row(profile_id)
        if row is None:
            raise _unknown(profile_id)
        return Identifier(row.namespace, row.value)

    def _number(self, ref: PersonRef) -> int:
        """The person that a reference means now. A former profile id means whoever holds its identifiers."""
        if isinstance(ref, Identifier):
            number = self._reading.number_of(ref)
            if number is None:
                raise _unknown(ref)
            return number
        row: ProfileRow | None = self._reading.profile_row(ref)
        if row is None:
            raise _unknown(ref)
        holder = self._reading.number_of(Identifier(row.namespace, row.value))
        person = None if holder is None else self._reading.person(holder)
        if holder is not None and person is not None and person.profile_id == ref:
            return holder
        candidates = self._candidates(row) | ({holder} if holder is not None else set())
        if len(candidates) == 1:
            return next(iter(candidates))
        if not candidates:
            raise _unknown(ref)
        ids = sorted(found.profile_id for number in candidates if (found := self._reading.person(number)) is not None)
        raise ProfileSplit(ref, tuple(ids))

    def _candidates(self, row: ProfileRow) -> set[int]:
        """Who holds the identifiers that a former profile had."""
        found: set[int] = set()
        for namespace, value in row.members:
            number = self._reading.number_of(Identifier(namespace, value))
            if number is not None:
                found.add(number)
        return found

    # Answers.

    async def profile(self, ref: PersonRef, as_of: AsOf) -> Profile:
        """Everything known about a person."""
        found = await self._find(ref, as_of)
        traits = await self._traits(found)
        memberships = await self._memberships(found)
        last_seen = await self._last_seen(found)
        first_seen = min(seen for _, _, seen in found.identifiers)
        return Profile(
            profile_id=found.profile_id,
            also_known_as=await self._also_known_as(found),
            identifiers=_identifiers(found),
            traits=traits,
            memberships=memberships,
            consents=[],
            first_seen_at=spell_moment(first_seen),
            last_seen_at=spell_moment(max(first_seen, last_seen or 0)),
            as_of=found.known_at,
        )

    async def _last_seen(self, found: _Found) -> int | None:
        """From the warehouse; while that is not up the profile is shown without it."""
        try:
            return await self._history.last_seen(found.keys, found.known_at)
        except Refused:
            return None

    def _view(self, found: _Found) -> PersonView:
        assert found.row is not None
        return PersonView(Work(self._reading.state), found.number, found.row)

    async def _also_known_as(self, found: _Found) -> list[str]:
        """Profile ids that other identifiers of the person once anchored: they lead here now."""
        secret = required_secret(self._reading.keys, INSTALLATION_SECRET)
        once = [profile_id_of(secret, Identifier(namespace, value)) for namespace, value, _ in found.identifiers]
        known = self._reading.rows(PROFILES, [(profile_id,) for profile_id in once])
        return sorted(profile_id for (profile_id,) in known if profile_id != found.profile_id)

    async def _traits(self, found: _Found) -> list[TraitValue]:
        if found.row is None:
            return await self._traits_then(found)
        view = self._view(found)
        traits: list[TraitValue] = []
        for name in view.trait_names():
            winner = max((seen for seen in view.observations(name) if seen.event_at <= found.true_at), default=None)
            if winner is None or winner.value == b"null":
                continue
            traits.append(
                TraitValue(
                    name=name,
                    value=msgspec.Raw(winner.value),
                    kind="declared",
                    observed_at=spell_moment(winner.event_at),
                    source_id=winner.source_id,
                    message_id=winner.message_id,
                )
            )
        number_of = self._reading.configuration().streams.number
        for key, spec in self._reading.configuration().attributes.items():
            value = attribute_value(spec, view.rows(number_of(spec.stream)), found.true_at)
            if value is not None:
                traits.append(TraitValue(name=key, value=value, kind="computed", observed_at=spell_moment(found.true_at)))
        return traits

    async def _traits_then(self, found: _Found) -> list[TraitValue]:
        traits = [
            TraitValue(
                name=name,
                value=msgspec.Raw(str(value).encode()),
                kind="declared",
                observed_at=spell_moment(observed_at),
                source_id=source_id,
                message_id=message_id,
            )
            for name, value, source_id, message_id, observed_at in await self._history.traits(
                found.keys, found.known_at, found.true_at
            )
            if value != "null"
        ]
        for key, spec in self._reading.configuration().attributes.items():
            inner = render_sql(attribute_values(spec, true_at=found.true_at, known_at=found.known_at))
            answer = await self._history.ask(f"select value from ({inner}) where profile_id = ?", [found.profile_id])
            if answer.rows and answer.rows[0][0] is not None:
                value = msgspec.Raw(str(answer.rows[0][0]).encode())
                traits.append(TraitValue(name=key, value=value, kind="computed", observed_at=spell_moment(found.true_at)))
        return traits

    async def memberships(self, ref: PersonRef, as_of: AsOf) -> list[Membership]:
        """Stays in segments, open ones first."""
        return await self._memberships(await self._find(ref, as_of))

    async def _memberships(self, found: _Found) -> list[Membership]:
        if found.row is None:
            stays = [
                Membership(
                    segment=segment,
                    entered_at=spell_moment(entered_at),
                    exited_at=None if exited_at is None else spell_moment(exited_at),
                    because=msgspec.json.decode(because) if because else {},
                    backfill=backfill,
                )
                for segment, entered_at, exited_at, because, backfill in await self._history.memberships_of(
                    found.profile_id, found.known_at, found.true_at
                )
            ]
        else:
            rows = self._reading.scan(MEMBERSHIPS, (found.profile_id,), (found.profile_id + "\x00",), 10_000)
            stays = [
                Membership(
                    segment=row.segment,
                    entered_at=spell_moment(row.entered_at),
                    exited_at=None if row.exited_at is None else spell_moment(row.exited_at),
                    because=msgspec.json.decode(row.because),
                    backfill=row.backfill,
                )
                for _, row in rows
            ]
        stays.sort(key=lambda stay: stay.entered_at, reverse=True)
        return sorted(stays, key=lambda stay: stay.exited_at is not None)

    async def timeline(self, ref: PersonRef, as_of: AsOf, cursor: str, limit: int) -> Page[TimelineEntry]:
        """What happened, newest first."""
        found = await self._find(ref, as_of)
        skip: int = read_cursor(cursor, int) or 0
        rows = await self._history.timeline(found.keys, found.known_at, found.true_at, skip, limit + 1)
        entries = [_entry(row) for row in rows[:limit]]
        return Page(items=entries, next=cursor_of(skip + limit) if len(rows) > limit else None)

    async def identity(self, ref: PersonRef, as_of: AsOf) -> IdentityAnswer:
        """Identifiers and links, with the rules that refused some."""
        found = await self._find(ref, as_of)
        # Links to hubs lie apart from people's components; the warehouse has them all, a moment later than State.
        links = {_key(link): link for link in map(_told_link, await self._links_told(found))}
        if found.row is not None:
            for component in self._components(found):
                links |= {_key(link): link for link in _links(component, set(found.keys))}
        return IdentityAnswer(
            profile_id=found.profile_id,
            also_known_as=await self._also_known_as(found),
            identifiers=_identifiers(found),
            links=sorted(links.values(), key=lambda link: (link.position, *_key(link))),
            as_of=found.known_at,
        )

    async def _links_told(self, found: _Found) -> list[tuple[Any, ...]]:
        try:
            return await self._history.links(found.keys, found.known_at)
        except Refused:
            if found.row is None:
                raise
            return []

    def _components(self, found: _Found) -> Sequence[ComponentRow]:
        rows = self._reading.rows(IDENTIFIERS, found.keys)
        numbers = sorted({row.component for row in rows.values()})
        return list(self._reading.rows(COMPONENTS, [(number,) for number in numbers]).values())

    async def explain(self, ref: PersonRef, segment: str, as_of: AsOf) -> Explanation:
        """Why a person is or is not in a segment, condition by condition."""
        definition = self._reading.required("segment", segment)
        condition = self._reading.configuration().conditions.get(definition.key)
        if condition is None:
            raise refuse("not_found", status=404, kind="segment", ref=segment)
        found = await self._find(ref, as_of)
        if found.row is not None:
            member, conditions = self._explain_now(found, condition)
        else:
            member, conditions = await self._explain_then(found, condition)
        return Explanation(member=member, conditions=conditions, sentence=sentence(condition), as_of=found.known_at)

    def _explain_now(self, found: _Found, condition: Condition) -> tuple[bool, list[ExplainedCondition]]:
        number_of = self._reading.configuration().streams.number
        view, made = self._view(found), plan(condition, number_of)
        by_leaf = {id(leaf.leaf): leaf for leaf in made.leaves}
        conditions = [
            ExplainedCondition(
                condition=sentence_of(leaf),
                value=_value_now(leaf, view, number_of, found.true_at),
                met=by_leaf[id(leaf)].holds(view, found.true_at),
            )
            for _, leaf in walk(condition)
        ]
        return made.holds(view, found.true_at), conditions

    async def _explain_then(self, found: _Found, condition: Condition) -> tuple[bool, list[ExplainedCondition]]:
        async def holds(part: Condition) -> bool:
            inner = render_sql(people(part, true_at=found.true_at, known_at=found.known_at))
            answer = await self._history.ask(f"select 1 from ({inner}) where profile_id = ?", [found.profile_id])
            return bool(answer.rows)

        conditions = [
            ExplainedCondition(condition=sentence_of(leaf), value=None, met=await holds(leaf)) for _, leaf in walk(condition)
        ]
        return await holds(condition), conditions

    async def consents(self, ref: PersonRef, as_of: AsOf) -> list[ConsentRecord]:
        """Consent records; none are kept yet, and unknown means no."""
        await self._find(ref, as_of)
        return []

    # Evidence from people.

    async def link(self, draft: LinkDraft) -> LinkWritten:
        """Append a manual link."""
        if draft.left == draft.right:
            raise refuse("same_identifier", pointer="/right")
        rules = self._reading.configuration().rules
        for side, identifier in (("left", draft.left), ("right", draft.right)):
            if rules.is_blocked(identifier.value):
                raise refuse("blocked_identifier", pointer=f"/{side}", namespace=identifier.namespace)
        link_id = random_id("lnk")
        position, applied = await self._reading.command(
            LinkIdentifiers(link_id=link_id, kind=draft.kind, left=draft.left, right=draft.right, reason=draft.evidence)
        )
        return LinkWritten(link_id=link_id, position=position, applied=applied)

    async def retract(self, link_id: str) -> Commanded:
        """Append the retraction of a link."""
        if self._reading.row(LINK_PLACES, (link_id,)) is None:
            raise refuse("not_found", status=404, kind="link", ref=link_id)
        position, applied = await self._reading.command(RetractLink(link_id=link_id))
        return Commanded(position=position, applied=applied)


def _unknown(ref: PersonRef) -> Exception:
    text = ref if isinstance(ref, str) else f"{ref.namespace}:{ref.value}"
    return refuse("not_found", status=404, kind="profile", ref=text)


def _identifiers(found: _Found) -> list[SeenIdentifier]:
    return [
        SeenIdentifier(namespace=namespace, value=value, first_seen_at=spell_moment(seen))
        for namespace, value, seen in found.identifiers
    ]


def _links(component: ComponentRow, mine: set[tuple[str, str]]) -> list[KnownLink]:
    texts = {member.number: (member.namespace, member.value) for member in component.members}
    return [
        KnownLink(
            link_id=link.link_id,
            left_namespace=texts[link.left][0],
            left_value=texts[link.left][1],
            right_namespace=texts[link.right][0],
            right_value=texts[link.right][1],
            kind=link.kind,  # type: ignore[arg-type]  # State keeps only link kinds here
            first_seen_at=spell_moment(link.first_seen_at),
            position=link.position,
            evidence=link.evidence,
            refused_by=link.refused_by,
            retracted_position=link.retracted_position,
        )
        for link in component.links
        if link.left in texts and link.right in texts and (texts[link.left] in mine or texts[link.right] in mine)
    ]


def _key(link: KnownLink) -> tuple[str, ...]:
    """What tells links apart."""
    return (link.left_namespace, link.left_value, link.right_namespace, link.right_value, link.kind, link.link_id)


def _told_link(row: tuple[Any, ...]) -> KnownLink:
    (
        link_id,
        left_namespace,
        left_value,
        right_namespace,
        right_value,
        kind,
        first_seen_at,
        position,
        evidence,
        refused,
        retracted,
    ) = row
    return KnownLink(
        link_id=link_id or "",
        left_namespace=left_namespace,
        left_value=left_value,
        right_namespace=right_namespace,
        right_value=right_value,
        kind=kind,
        first_seen_at=spell_moment(first_seen_at),
        position=position,
        evidence=evidence or "",
        refused_by=refused or "",
        retracted_position=retracted,
    )


def _entry(row: tuple[Any, ...]) -> TimelineEntry:
    at, position, _, message_id, source_id, type_, event, properties, traits = row
    return TimelineEntry(
        kind="event",
        at=spell_moment(at),
        position=position,
        title=event or type_,
        message_id=message_id,
        source_id=source_id,
        type=type_,
        event=event,
        properties=read_json((properties or "{}").encode()),
        traits=read_json((traits or "{}").encode()),
    )


def _value_now(leaf: Leaf, view: PersonView, number_of: NumberOf, now: int) -> Any:
    """What the person has where a condition looks."""
    match leaf:
        case Did(stream=stream, within=within):
            return count_at(view.rows(number_of(stream)), now, within)
        case AttributeTest(spec=spec):
            return attribute_value(spec, view.rows(number_of(spec.stream)), now)
        case IdentifierTest(namespace=namespace):
            return [value for known, value, _ in view.identifiers() if known == namespace]
        case TraitTest(path=path):
            known = [seen for seen in view.observations(path[0]) if seen.event_at <= now]
            found = list(at_path(read_json(max(known).value), path[1:])) if known else []
            return found[0] if len(found) == 1 else (found or None)
