"""Answers: what is told to people and programs that ask. They are already in their outside form: moments are RFC 3339 text.

Each answer that shows derived state carries ``as_of``, the log position up to which it is true.
"""

from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec

from conosco.model.definition import Definition
from conosco.model.delivery import DeliveryState
from conosco.model.identifier import Identifier, LinkKind
from conosco.model.outcome import Reason
from conosco.model.problem import Problem, Refused

When = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
Item = TypeVar("Item")


class AsOf(msgspec.Struct, frozen=True, kw_only=True):
    """The moment asked about (valid time, microseconds) and the log position whose knowledge is used; None is now."""

    true_at: int | None = None
    known_at: int | None = None

    @property
    def is_now(self) -> bool:
        """True if the present is asked about, which State answers; else only the warehouse can."""
        return self.true_at is None and self.known_at is None


class Page(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """Some items of a list. ``next`` is the cursor with which to ask for more, None at the end."""

    items: list[Item]
    next: str | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where events stand. Counts are of events; caught up means accepted = applied + duplicates + quarantined + erased.

    ``alarms`` counts findings of damage to the log that `conosco verify` explains, ``records_lost`` what they cost; they
    are told only where there is damage.
    """

    accepted: int
    applied: int
    duplicates: int
    quarantined: int
    erased: int
    warehoused: int
    lag_seconds: float
    position: int
    alarms: int = 0
    records_lost: int = 0


class SourceCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What a source has brought and the worker has applied. The times are of when an event entered the log."""

    first_event_at: str | None
    last_event_at: str | None
    accepted: int
    applied: int
    duplicates: int
    quarantined: int
    erased: int


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether requests can be served; ``checks`` names each part and says if it works, ``wrong`` what to do about those that do not."""

    ready: bool
    checks: dict[str, bool]
    wrong: dict[str, str] = {}


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One value of a metric; ``labels`` in the order of the metric's own."""

    metric: str
    labels: tuple[str, ...]
    value: float


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A definition as it was appended to the log; ``applied`` is False if it had not taken effect after 2 s.

    ``write_key`` (a new source) and ``secret`` (a new webhook destination) are told once, here.
    """

    definition: Definition
    position: int
    applied: bool
    write_key: str = ""
    secret: str = ""


class Commanded(msgspec.Struct, frozen=True, kw_only=True):
    """A command that entered the log at ``position``; ``count`` says how many things it concerns."""

    position: int
    applied: bool
    count: int = 1


class SeenIdentifier(msgspec.Struct, frozen=True, kw_only=True):
    """An identifier of a person and when it was first seen."""

    namespace: str
    value: str
    first_seen_at: When


class TraitValue(msgspec.Struct, frozen=True, kw_only=True):
    """A trait with its provenance: which source said so, in which message, and when. Computed traits name no source."""

    name: str
    value: Any
    kind: Literal["declared", "computed"]
    observed_at: When
    source_id: str = ""
    message_id: str = ""


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """A stay in a segment, open while ``exited_at`` is None; ``because`` names message ids and conditions, no values."""

    segment: str
    entered_at: When
    exited_at: When | None = None
    because: dict[str, Any] = {}
    backfill: bool = False


class ConsentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one identifier's person agreed to or refused, for one purpose."""

    consent_id: str
    namespace: str
    value: str
    purpose: str
    status: Literal["granted", "denied", "withdrawn", "expired"]
    given_at: When
    position: int
    channel: str = ""
    basis: str = ""
    expires_at: When | None = None
    source_id: str = ""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known about one person. ``also_known_as`` lists the former profile ids that lead here."""

    profile_id: str
    also_known_as: list[str]
    identifiers: list[SeenIdentifier]
    traits: list[TraitValue]
    memberships: list[Membership]
    consents: list[ConsentRecord]
    first_seen_at: When
    last_seen_at: When
    as_of: int


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a person. ``kind`` says what; for an event ``type``, ``event`` and ``properties`` are its own."""

    kind: Literal["event", "segment.entered", "segment.exited", "delivery", "link"]
    at: When
    position: int
    title: str
    message_id: str = ""
    source_id: str = ""
    type: str = ""
    event: str | None = None
    properties: dict[str, Any] = {}
    traits: dict[str, Any] = {}
    detail: dict[str, Any] = {}


class KnownLink(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence about two identifiers. ``refused_by`` names the rule that keeps a link from joining; empty if it joins."""

    link_id: str
    left_namespace: str
    left_value: str
    right_namespace: str
    right_value: str
    kind: LinkKind
    first_seen_at: When
    position: int
    evidence: str = ""
    refused_by: str = ""
    retracted_position: int | None = None


class IdentityAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Why these identifiers are one person: all links that touch them, also refused and retracted ones."""

    profile_id: str
    also_known_as: list[str]
    identifiers: list[SeenIdentifier]
    links: list[KnownLink]
    as_of: int


class ExplainedCondition(msgspec.Struct, frozen=True, kw_only=True):
    """One condition in words, what the person has there, and whether it is met."""

    condition: str
    value: Any
    met: bool


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a person is or is not in a segment; ``sentence`` is the whole condition in words."""

    member: bool
    conditions: list[ExplainedCondition]
    sentence: str
    as_of: int


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of activity of one person on one device, as in the table ``visits``.

    ``first_touch`` and ``last_touch`` are the first and the last event in it that came by a campaign or a paid click.
    """

    visit_id: str
    profile_id: str
    device_namespace: str
    device_value: str
    started_at: When
    ended_at: When
    duration_seconds: int
    events: int
    pages: int
    source_id: str
    entry_page: str | None = None
    exit_page: str | None = None
    entry_referrer: str | None = None
    utm_source: str | None = None
    utm_medium: str | None = None
    utm_campaign: str | None = None
    utm_term: str | None = None
    utm_content: str | None = None
    click_id: str | None = None
    first_touch: dict[str, Any] | None = None
    last_touch: dict[str, Any] | None = None
    browser: str | None = None
    browser_version: str | None = None
    os: str | None = None
    os_version: str | None = None
    device: str | None = None
    country: str | None = None


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """What a person has to do with an object, since when and until when events said so."""

    role: str
    first_at: When
    last_at: When


class PersonObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object that a person deals with. ``changed_at`` is when the newest part of its state was told."""

    kind: str
    object_id: str
    state: dict[str, Any]
    roles: list[Role]
    changed_at: When | None = None


class ObjectProperty(msgspec.Struct, frozen=True, kw_only=True):
    """A property of an object with its provenance."""

    name: str
    value: Any
    observed_at: When
    source_id: str
    message_id: str


class ObjectPerson(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who deals with an object."""

    profile_id: str
    role: str
    first_at: When
    last_at: When


class ObjectChange(msgspec.Struct, frozen=True, kw_only=True):
    """A property of an object got another value; null is none."""

    name: str
    value: Any
    previous: Any
    at: When
    source_id: str
    message_id: str
    position: int


class KnownObject(msgspec.Struct, frozen=True, kw_only=True):
    """A thing people deal with. ``people`` are the 100 most recent, ``history`` the 100 newest changes.

    ``more_people`` tells that there are others; ``history`` is null while the warehouse, which has it, is not up.
    """

    kind: str
    object_id: str
    state: dict[str, Any]
    properties: list[ObjectProperty]
    first_seen_at: When
    last_seen_at: When
    changed_at: When | None
    people: list[ObjectPerson]
    more_people: bool
    history: list[ObjectChange] | None
    as_of: int


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A person who is in a segment now."""

    profile_id: str
    entered_at: When
    because: dict[str, Any] = {}


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """A person entered or left a segment at ``at``; ``live`` is False for what history or a backfill brought about."""

    type: Literal["segment.entered", "segment.exited"]
    segment: str
    profile_id: str
    at: When
    position: int
    because: dict[str, Any] = {}
    live: bool = True


class SegmentSize(msgspec.Struct, frozen=True, kw_only=True):
    """How many people are in a segment now, and its condition in words."""

    members: int
    sentence: str


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """How many people satisfy a condition; ``exact`` is False for an estimate, ``sample`` shows some of them."""

    count: int
    exact: bool
    sample: list[str]
    as_of: int


class KeptEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event in quarantine: its bytes are kept at (position, slot) and can be replayed."""

    position: int
    slot: int
    message_id: str
    source_id: str
    reason: Reason
    params: dict[str, str | int]
    stage: str
    attempts: int
    quarantined_at: When


class EventPreview(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a mapping would make, in the shape of the tracking API, or why there would be none."""

    event: dict[str, Any] | None
    message_id: str
    event_at: When | None = None
    identifiers: list[str] = []
    problem: Problem | None = None


class BodyPreview(msgspec.Struct, frozen=True, kw_only=True):
    """A body of a webhook and what it would become; ``around`` is the rest of the body that an element came in."""

    position: int | None
    received_at: When
    body: Any
    around: Any
    events: list[EventPreview]


class ReplayChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which quarantined events to replay: those that meet every choice that is made; no choice means all."""

    addresses: tuple[tuple[int, int], ...] = ()
    message_ids: tuple[str, ...] = ()
    reason: str = ""
    # A source by id or key.
    source: str = ""


class DeliveryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery and what became of it; ``code`` is a closed word for the last attempt or the gate's reason."""

    delivery_id: str
    destination: str
    type: str
    segment: str
    profile_id: str
    state: DeliveryState
    attempts: int
    code: str
    created_at: When
    updated_at: When | None = None
    due_at: When | None = None


class DeliveryError(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt failed of: ``code`` for programs, ``sentence`` for people."""

    code: str
    at: When
    sentence: str = ""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long the latest deliveries took, from the start of the attempt to the answer."""

    deliveries: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


class DestinationHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How a destination fares. Its breaker is closed while it answers, open while it is left alone, until ``open_until``.

    ``deliveries`` counts by state; those that have left State stay counted. ``attempts`` counts by code. ``breaker`` is
    unknown while no sender runs.
    """

    destination: str
    breaker: Literal["closed", "open", "half_open", "unknown"]
    open_until: When | None
    failures_in_a_row: int
    queued: int
    in_flight: int
    deliveries: dict[str, int]
    attempts: dict[str, int]
    oldest_pending_at: When | None
    latency: Latency
    last_delivered_at: When | None
    last_error: DeliveryError | None
    as_of: int


class TestResult(msgspec.Struct, frozen=True, kw_only=True):
    """A test delivery, and what came of it so far; ``sentence`` says it in words once an attempt was made."""

    delivery_id: str
    position: int
    state: DeliveryState
    code: str
    attempts: int
    sentence: str = ""


class ReplayRange(msgspec.Struct, frozen=True, kw_only=True):
    """Deliveries made in [since, until), microseconds, in these states; of another destination if ``of`` names one."""

    since: int
    until: int
    states: tuple[str, ...]
    of: str = ""
    dry_run: bool = False


class ReplayedDeliveries(msgspec.Struct, frozen=True, kw_only=True):
    """How many deliveries are, or after a dry run would be, sent again, in all and by the state they were in."""

    count: int
    states: dict[str, int]
    dry_run: bool
    position: int
    applied: bool = True


class LinkDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A person's word that two identifiers are the same person, or are not."""

    kind: Literal["manual_same", "manual_different"]
    left: Identifier
    right: Identifier
    evidence: str = ""


class LinkWritten(msgspec.Struct, frozen=True, kw_only=True):
    """A manual link as it entered the log; retract it by its id."""

    link_id: str
    position: int
    applied: bool


JobStatus = Literal["waiting", "running", "done", "failed", "cancelled"]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Long work: how far it is (0 to 1) and how it ended. ``problem`` is an error code, empty if none."""

    job_id: str
    type: str
    status: JobStatus
    progress: float
    created_at: When
    ended_at: When | None = None
    problem: str = ""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A signed-in browser: ``secret`` is the cookie's value, ``csrf_token`` goes back in a header with every write.

    ``lifetime_s`` is what is left of it.
    """

    secret: str
    csrf_token: str
    lifetime_s: int


class ProfileSplit(Refused):
    """A former profile id that now stands for several people (status 409); ``candidates`` are their profile ids."""

    def __init__(self, profile_id: str, candidates: tuple[str, ...]) -> None:
        problem = Problem(code="profile_was_split", params={"profile_id": profile_id, "count": len(candidates)})
        super().__init__([problem], 409)
        self.candidates = candidates
