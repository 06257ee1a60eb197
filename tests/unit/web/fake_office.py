"""A whole Office in memory, with a little world of synthetic people, for tests of the API and of the start page."""

import hashlib
import secrets
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from conosco.model.answer import (
    AsOf,
    Commanded,
    ConsentRecord,
    DeliveryAnswer,
    ExplainedCondition,
    Explanation,
    IdentityAnswer,
    Job,
    KeptEvent,
    KnownLink,
    KnownObject,
    LinkDraft,
    LinkWritten,
    Member,
    Membership,
    Movement,
    ObjectPerson,
    ObjectProperty,
    Page,
    PersonObject,
    Preview,
    Profile,
    ProfileSplit,
    Readiness,
    ReplayChoice,
    Role,
    Sample,
    SeenIdentifier,
    SegmentSize,
    Session,
    SourceCounts,
    Status,
    TimelineEntry,
    TraitValue,
    Visit,
    Written,
)
from conosco.model.definition import Definition, DefinitionKind, Destination, Purpose, Source, kind_of
from conosco.model.identifier import Identifier
from conosco.model.problem import Problem, Refused, refuse
from conosco.ports.warehouse import Answer, QueryFailed
from conosco.web.office import PersonRef
from tests.unit.web.fake_traffic import T0, T1, FakeHooks, FakeImports, FakeOutgoing, FakeSchedules, page_of

ADMIN_TOKEN = "admin-token-of-the-test"
ANNA = "pro_" + "01ANNA".ljust(26, "0")
FORMER = "pro_" + "01F0RMER".ljust(26, "0")
SPLIT = "pro_" + "01SP".ljust(26, "0")
OTHER = "pro_" + "01THER".ljust(26, "0")
HOSTILE = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"


class FakeAccess:
    """One token, codes that work once, sessions by secret."""

    def __init__(self) -> None:
        self.codes = {"good-code"}
        self.sessions: dict[str, Session] = {}
        self.token_checks = 0

    def check_token(self, token: str) -> bool:
        self.token_checks += 1
        expected = hashlib.sha256(ADMIN_TOKEN.encode()).digest()
        return secrets.compare_digest(hashlib.sha256(token.encode()).digest(), expected)

    async def redeem(self, code: str) -> bool:
        if code in self.codes:
            self.codes.remove(code)
            return True
        return False

    async def open_session(self) -> Session:
        session = Session(secret=secrets.token_hex(16), csrf_token=secrets.token_hex(16), lifetime_s=3_600)
        self.sessions[session.secret] = session
        return session

    async def session(self, secret: str) -> Session | None:
        return self.sessions.get(secret)

    async def close_session(self, secret: str) -> None:
        self.sessions.pop(secret, None)


class FakeProgress:
    """Counts that a test may set, and a record of what was waited for."""

    def __init__(self) -> None:
        self.ready = True
        self.reached = 1_000
        self.waits: list[tuple[int, int, str]] = []
        self.crash: Exception | None = None
        self.counts = Status(
            accepted=12_480,
            applied=12_300,
            duplicates=150,
            quarantined=30,
            erased=0,
            warehoused=12_300,
            lag_seconds=0.02,
            position=1_000,
        )

    async def status(self) -> Status:
        if self.crash is not None:
            raise self.crash
        return self.counts

    async def samples(self) -> list[Sample]:
        return [Sample("conosco_lag_seconds", (), self.counts.lag_seconds), Sample("not_in_the_catalogue", (), 1)]

    async def source_counts(self, source_id: str) -> SourceCounts:
        return SourceCounts(first_event_at=T1, last_event_at=T1, accepted=3, applied=2, duplicates=0, quarantined=1, erased=0)

    async def readiness(self, what: Literal["all", "tracking"] = "all") -> Readiness:
        return Readiness(ready=self.ready, checks={"log": True, "state": self.ready})

    async def wait(self, position: int, wait_ms: int, where: Literal["state", "warehouse"]) -> bool:
        self.waits.append((position, wait_ms, where))
        return position <= self.reached

    async def position_at(self, moment: int) -> int:
        return moment // 1_000_000_000_000

    async def jobs(self, cursor: str, limit: int) -> Page[Job]:
        return page_of([], cursor, limit)


class FakeDefinitions:
    """Definitions by kind and key."""

    def __init__(self, progress: FakeProgress) -> None:
        self.progress = progress
        self.rows: dict[tuple[str, str], Definition] = {}
        self.applied = True
        for key, basis in (("marketing", "consent"), ("operations", "legitimate_interest")):
            self._write(Purpose(key=key, name=key.title(), basis=basis))  # type: ignore[arg-type]  # the two literals

    def _write(self, definition: Definition, definition_id: str = "") -> Definition:
        position = self.progress.reached = self.progress.reached + 1
        prefix = {"purpose": "prp", "source": "src", "destination": "dst", "segment": "seg", "attribute": "atr"}
        new_id = definition_id or f"{prefix[kind_of(definition)]}_{position:026d}"
        written: Definition = msgspec.structs.replace(definition, id=new_id, version=position)
        self.rows[kind_of(definition), definition.key] = written
        return written

    async def list(self, kind: DefinitionKind, cursor: str, limit: int) -> Page[Definition]:
        return page_of([self.rows[row] for row in sorted(self.rows) if row[0] == kind], cursor, limit)

    async def get(self, kind: DefinitionKind, ref: str) -> Definition:
        for (row_kind, key), definition in self.rows.items():
            if row_kind == kind and ref in (key, definition.id):
                return definition
        raise refuse("not_found", status=404, kind=kind, ref=ref)

    async def create(self, definition: Definition) -> Written:
        kind = kind_of(definition)
        if (kind, definition.key) in self.rows:
            raise refuse("key_taken", status=409, kind=kind, key=definition.key, pointer="/key")
        _check_spec(definition)
        if isinstance(definition, Source):
            definition = msgspec.structs.replace(definition, write_key_hash="hash-of-the-key")
        written = self._write(definition)
        return Written(
            definition=written,
            position=written.version,
            applied=self.applied,
            write_key="wk_once" if isinstance(definition, Source) else "",
            secret="whsec_once" if isinstance(definition, Destination) else "",
        )

    async def replace(self, ref: str, definition: Definition) -> Written:
        old = await self.get(kind_of(definition), ref)
        if old.key != definition.key:
            raise refuse("key_is_fixed", pointer="/key", key=old.key)
        _check_spec(definition)
        written = self._write(definition, old.id)
        return Written(definition=written, position=written.version, applied=self.applied)


def _check_spec(definition: Definition) -> None:
    """Refuse a condition with an unknown kind, with two problems at once."""
    spec = getattr(definition, "spec", None)
    if isinstance(spec, dict) and spec.get("where", {}).get("kind") == "wrong":
        raise Refused(
            [
                Problem(code="unknown_kind", params={"value": "wrong", "nearest": "group"}, pointer="/spec/where/kind"),
                Problem(code="missing_field", params={"field": "of"}, pointer="/spec/where/of"),
            ]
        )


class FakeSegments:
    """Sizes, members and movements, as given."""

    def __init__(self, definitions: FakeDefinitions) -> None:
        self.definitions = definitions
        self.member_list = [
            Member(profile_id=ANNA, entered_at=T1, because={"message_ids": ["m1"]}),
            Member(profile_id=OTHER, entered_at=T0),
        ]
        self.movement_list = [
            Movement(type="segment.entered", segment="loyal", profile_id=ANNA, at=T1, position=900),
            Movement(type="segment.exited", segment="loyal", profile_id=OTHER, at=T0, position=800),
        ]
        self.previews: list[AsOf] = []

    async def sizes(self, keys: Sequence[str]) -> dict[str, SegmentSize]:
        sentence = "did Order Completed at least 2 times in the last 30 days"
        return {key: SegmentSize(members=2, sentence=sentence) for key in keys}

    async def members(self, ref: str, cursor: str, limit: int) -> Page[Member]:
        await self.definitions.get("segment", ref)
        return page_of(self.member_list, cursor, limit)

    async def history(self, ref: str, cursor: str, limit: int) -> Page[Movement]:
        await self.definitions.get("segment", ref)
        return page_of(self.movement_list, cursor, limit)

    async def movements(self, cursor: str, limit: int) -> Page[Movement]:
        return page_of(self.movement_list, cursor, limit)

    async def preview(self, spec: dict[str, Any], as_of: AsOf) -> Preview:
        self.previews.append(as_of)
        return Preview(count=2, exact=True, sample=[ANNA, OTHER], as_of=1_000)


class FakePeople:
    """Anna, who was found by several references; a former id of hers; and one id that was split."""

    def __init__(self) -> None:
        self.asked: list[tuple[PersonRef, AsOf]] = []
        self.links: list[LinkDraft] = []
        self.retracted: list[str] = []
        self.first_name = "Anna"

    def _find(self, ref: PersonRef, as_of: AsOf) -> None:
        self.asked.append((ref, as_of))
        if ref == SPLIT:
            raise ProfileSplit(SPLIT, (ANNA, OTHER))
        known: tuple[PersonRef, ...] = (
            ANNA,
            FORMER,
            Identifier("user_id", "a/b c%?#"),
            Identifier("email", "anna@example.com"),
        )
        if ref not in known:
            shown = ref if isinstance(ref, str) else f"{ref.namespace}:{ref.value}"
            raise refuse("not_found", status=404, kind="profile", ref=shown)

    def _identifiers(self) -> list[SeenIdentifier]:
        return [
            SeenIdentifier(namespace="user_id", value="a/b c%?#", first_seen_at=T0),
            SeenIdentifier(namespace="email", value="anna@example.com", first_seen_at=T0),
            SeenIdentifier(namespace="anonymous_id", value="browser-1", first_seen_at=T0),
        ]

    async def profile(self, ref: PersonRef, as_of: AsOf) -> Profile:
        self._find(ref, as_of)
        return Profile(
            profile_id=ANNA,
            also_known_as=[FORMER],
            identifiers=self._identifiers(),
            traits=[
                TraitValue(
                    name="first_name",
                    value=self.first_name,
                    kind="declared",
                    observed_at=T0,
                    source_id="src_web",
                    message_id="m1",
                ),
                TraitValue(name="country", value="IT", kind="declared", observed_at=T0, source_id="src_web", message_id="m1"),
                TraitValue(name="revenue_30d", value=Decimal("129.900001"), kind="computed", observed_at=T1),
            ],
            memberships=await self.memberships(ref, as_of),
            consents=[],
            first_seen_at=T0,
            last_seen_at=T1,
            as_of=1_000,
        )

    async def timeline(self, ref: PersonRef, as_of: AsOf, cursor: str, limit: int) -> Page[TimelineEntry]:
        self._find(ref, as_of)
        event = TimelineEntry(
            kind="event",
            at=T1,
            position=900,
            title="Order Completed",
            message_id="m2",
            type="track",
            event="Order Completed",
            properties={"revenue": Decimal("19.90"), "order_id": "o-1"},
        )
        entered = TimelineEntry(kind="segment.entered", at=T1, position=900, title="loyal")
        return page_of([entered, event], cursor, limit)

    async def identity(self, ref: PersonRef, as_of: AsOf) -> IdentityAnswer:
        self._find(ref, as_of)
        link = KnownLink(
            link_id="lnk_1",
            left_namespace="user_id",
            left_value="a/b c%?#",
            right_namespace="anonymous_id",
            right_value="browser-1",
            kind="observed",
            first_seen_at=T0,
            position=12,
            evidence="m1",
        )
        return IdentityAnswer(profile_id=ANNA, also_known_as=[FORMER], identifiers=self._identifiers(), links=[link], as_of=1_000)

    async def memberships(self, ref: PersonRef, as_of: AsOf) -> list[Membership]:
        self._find(ref, as_of)
        return [
            Membership(segment="loyal", entered_at=T1, because={"message_ids": ["m2"]}),
            Membership(segment="newcomers", entered_at=T0, exited_at=T1),
        ]

    async def explain(self, ref: PersonRef, segment: str, as_of: AsOf) -> Explanation:
        self._find(ref, as_of)
        if segment not in ("loyal", "newcomers"):
            raise refuse("not_found", status=404, kind="segment", ref=segment)
        met = segment == "loyal"
        return Explanation(
            member=met,
            conditions=[
                ExplainedCondition(condition="country is IT", value="IT", met=True),
                ExplainedCondition(condition="did Order Completed at least 2 times in the last 30 days", value=2, met=met),
            ],
            sentence="country is IT and did Order Completed at least 2 times in the last 30 days",
            as_of=1_000,
        )

    async def consents(self, ref: PersonRef, as_of: AsOf) -> list[ConsentRecord]:
        self._find(ref, as_of)
        return []

    async def link(self, draft: LinkDraft) -> LinkWritten:
        if draft.left == draft.right:
            raise refuse("same_identifier", pointer="/right")
        self.links.append(draft)
        return LinkWritten(link_id=f"lnk_{len(self.links)}", position=1_001, applied=True)

    async def retract(self, link_id: str) -> Commanded:
        if link_id != "lnk_1":
            raise refuse("not_found", status=404, kind="link", ref=link_id)
        self.retracted.append(link_id)
        return Commanded(position=1_002, applied=True)


class FakeThings:
    """One visit of Anna, and one order that she made."""

    def __init__(self, people: FakePeople) -> None:
        self.people = people
        self.asked: list[tuple[str, str]] = []

    async def visits(self, ref: PersonRef, as_of: AsOf, cursor: str, limit: int) -> Page[Visit]:
        self.people._find(ref, as_of)
        visit = Visit(
            visit_id="vis_1",
            profile_id=ANNA,
            device_namespace="anonymous_id",
            device_value="browser-1",
            started_at=T0,
            ended_at=T1,
            duration_seconds=60,
            events=2,
            pages=1,
            source_id="src_web",
            first_touch={"source": "news"},
        )
        return page_of([visit], cursor, limit)

    async def objects_of(self, ref: PersonRef, kind: str, as_of: AsOf, cursor: str, limit: int) -> Page[PersonObject]:
        self.people._find(ref, as_of)
        roles = [Role(role="buyer", first_at=T0, last_at=T1)]
        order = PersonObject(kind="order", object_id="o-1", state={"total": Decimal("19.90")}, roles=roles, changed_at=T1)
        return page_of([order] if kind in ("", "order") else [], cursor, limit)

    async def object(self, kind: str, object_id: str, as_of: AsOf) -> KnownObject:
        self.asked.append((kind, object_id))
        if (kind, object_id) not in (("order", "o-1"), ("product", "a/b c%?#")):
            raise refuse("not_found", status=404, kind=kind, ref=object_id)
        return KnownObject(
            kind=kind,
            object_id=object_id,
            state={"total": Decimal("19.90")},
            properties=[
                ObjectProperty(name="total", value=Decimal("19.90"), observed_at=T1, source_id="src_web", message_id="m2")
            ],
            first_seen_at=T0,
            last_seen_at=T1,
            changed_at=T1,
            people=[ObjectPerson(profile_id=ANNA, role="buyer", first_at=T0, last_at=T1)],
            more_people=False,
            history=None,
            as_of=1_000,
        )


class FakeCare:
    """One quarantined event and three deliveries."""

    def __init__(self) -> None:
        self.kept = [
            KeptEvent(
                position=5,
                slot=1,
                message_id="m9",
                source_id="src_web",
                reason="missing_field",
                params={"field": "event"},
                stage="collect",
                attempts=1,
                quarantined_at=T0,
            )
        ]
        self.delivery_list = [
            _delivery("dlv_1", "delivered", "", 1),
            _delivery("dlv_2", "dead", "http_500", 12),
            _delivery("dlv_3", "denied", "no_consent", 0),
        ]
        self.replays: list[ReplayChoice] = []
        self.retried: list[str] = []

    async def quarantine(self, reason: str, cursor: str, limit: int, source: str = "") -> Page[KeptEvent]:
        return page_of([event for event in self.kept if reason in ("", event.reason)], cursor, limit)

    async def replay(self, choice: ReplayChoice) -> Commanded:
        self.replays.append(choice)
        return Commanded(position=1_003, applied=True, count=len(self.kept))

    async def deliveries(
        self, state: str, destination: str, since: int | None, until: int | None, cursor: str, limit: int
    ) -> Page[DeliveryAnswer]:
        self.asked_range = since, until
        rows = [row for row in self.delivery_list if state in ("", row.state) and destination in ("", row.destination)]
        return page_of(rows, cursor, limit)

    async def retry(self, delivery_id: str) -> Commanded:
        for row in self.delivery_list:
            if row.delivery_id == delivery_id:
                if row.state not in ("dead", "unknown"):
                    raise refuse("not_retryable", status=409, state=row.state)
                self.retried.append(delivery_id)
                return Commanded(position=1_004, applied=False)
        raise refuse("not_found", status=404, kind="delivery", ref=delivery_id)


def _delivery(delivery_id: str, state: Literal["delivered", "dead", "denied"], code: str, attempts: int) -> DeliveryAnswer:
    return DeliveryAnswer(
        delivery_id=delivery_id,
        destination="crm",
        type="segment.entered",
        segment="loyal",
        profile_id=ANNA,
        state=state,
        attempts=attempts,
        code=code,
        created_at=T1,
        updated_at=T1,
    )


class FakeQuestions:
    """Answers with the question's parameters."""

    def __init__(self) -> None:
        self.failure: QueryFailed | None = None

    async def sql(self, sql: str, params: Sequence[Any]) -> Answer:
        if self.failure is not None:
            raise self.failure
        return Answer(columns=("sql", "exact", "params"), rows=[(sql, Decimal("0.1"), list(params))], as_of=1_000)


class FakeOffice:
    """All desks."""

    def __init__(self) -> None:
        self.access = FakeAccess()
        self.progress = FakeProgress()
        self.definitions = FakeDefinitions(self.progress)
        self.segments = FakeSegments(self.definitions)
        self.people = FakePeople()
        self.things = FakeThings(self.people)
        self.care = FakeCare()
        self.hooks = FakeHooks()
        self.outgoing = FakeOutgoing()
        self.questions = FakeQuestions()
        self.imports = FakeImports()
        self.schedules = FakeSchedules()
