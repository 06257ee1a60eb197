"""The Office: everything that the management API and the start page need from the runtime, as small typed desks.

Every method may raise ``Refused``, whose status and problems become the answer; the codes each one uses are named.
A page's ``limit`` is between 1 and 10,000, and ``cursor`` is a text that an earlier page gave as ``next``, or empty
for the first page; ``bad_cursor`` (422) is refused. References (``ref``) are an id or a key.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Literal, Protocol

from conosco.model.answer import (
    AsOf,
    BodyPreview,
    Commanded,
    ConsentRecord,
    DeliveryAnswer,
    DestinationHealth,
    Explanation,
    IdentityAnswer,
    Job,
    KeptEvent,
    KnownObject,
    LinkDraft,
    LinkWritten,
    Member,
    Membership,
    Movement,
    Page,
    PersonObject,
    Preview,
    Profile,
    Readiness,
    ReplayChoice,
    ReplayedDeliveries,
    ReplayRange,
    Sample,
    SegmentSize,
    Session,
    SourceCounts,
    Status,
    TestResult,
    TimelineEntry,
    Visit,
    Written,
)
from conosco.model.definition import Definition, DefinitionKind, Export
from conosco.model.identifier import Identifier
from conosco.model.importing import FilePreview, ImportAnswer, ImportAsked, PreviewAsked, Uploaded
from conosco.model.scheduled import RunAnswer, ScheduleAnswer
from conosco.ports.warehouse import Answer

# A profile id (current or former), or any identifier of the person.
PersonRef = str | Identifier


class Access(Protocol):
    """Who may come in. Only hashes of tokens, codes and session secrets are kept."""

    def check_token(self, token: str) -> bool:
        """True if this is the admin token; compared in constant time."""

    async def redeem(self, code: str) -> bool:
        """Use up a one-time sign-in code: True once, for an unexpired code, else False."""

    async def open_session(self) -> Session:
        """Make a session, kept durably, with fresh random secrets."""

    async def session(self, secret: str) -> Session | None:
        """The unexpired session with this secret, compared by its hash, or None."""

    async def close_session(self, secret: str) -> None:
        """End a session; an unknown one is no error."""


class Progress(Protocol):
    """How far everything is."""

    async def status(self) -> Status:
        """The counts as of now. Cheap: it is asked every second by every open page."""

    async def readiness(self, what: Literal["all", "tracking"] = "all") -> Readiness:
        """Whether everything, or what tracking needs, can serve. Never raises: what fails is named in the answer."""

    async def samples(self) -> list[Sample]:
        """What there is to measure, of all roles: values of the metrics in ``runtime.metrics``."""

    async def source_counts(self, source_id: str) -> SourceCounts:
        """What a source has brought so far; zeros for one that has brought nothing. Cheap: one row."""

    async def wait(self, position: int, wait_ms: int, where: Literal["state", "warehouse"]) -> bool:
        """Wait until State (or the warehouse) includes this position, at most ``wait_ms``; False if it does not by then."""

    async def position_at(self, moment: int) -> int:
        """The newest log position whose ``logged_at`` is at most this moment (microseconds); 0 if there is none."""

    async def jobs(self, cursor: str, limit: int) -> Page[Job]:
        """Long work, newest first."""


class Definitions(Protocol):
    """What people configure, one desk for all kinds; the kind of a write is the definition's own type."""

    async def list(self, kind: DefinitionKind, cursor: str, limit: int) -> Page[Definition]:
        """Current definitions by key, archived ones included."""

    async def get(self, kind: DefinitionKind, ref: str) -> Definition:
        """The current definition. Refuses ``not_found`` (404; kind, ref)."""

    async def create(self, definition: Definition) -> Written:
        """Append a new definition; waits until it is applied, at most 2 s. ``id`` and ``version`` come from the office.

        Refuses ``key_taken`` (409; kind, key) and what is wrong in it (422): conditions, unknown purposes, settings.
        """

    async def replace(self, ref: str, definition: Definition) -> Written:
        """Append a new version. Refuses ``not_found`` (404), ``key_is_fixed`` (422, pointer /key; key) and as ``create``."""


class Segments(Protocol):
    """Segments as sets of people."""

    async def sizes(self, keys: Sequence[str]) -> dict[str, SegmentSize]:
        """Size and sentence of these segments, by key; keys that do not exist are left out."""

    async def members(self, ref: str, cursor: str, limit: int) -> Page[Member]:
        """People in the segment now. Refuses ``not_found`` (404)."""

    async def history(self, ref: str, cursor: str, limit: int) -> Page[Movement]:
        """Who entered and left the segment, newest first. Refuses ``not_found`` (404)."""

    async def movements(self, cursor: str, limit: int) -> Page[Movement]:
        """Who entered and left any segment, newest first."""

    async def preview(self, spec: dict[str, Any], as_of: AsOf) -> Preview:
        """How many people satisfy this condition. Refuses what is wrong in it (422, pointers below /spec)."""


class People(Protocol):
    """One person at a time. All refuse ``not_found`` (404; kind ``profile``, ref) and raise ``ProfileSplit`` (409)."""

    async def profile(self, ref: PersonRef, as_of: AsOf) -> Profile:
        """Everything known; a former profile id gives the profile that it became."""

    async def timeline(self, ref: PersonRef, as_of: AsOf, cursor: str, limit: int) -> Page[TimelineEntry]:
        """What happened, newest first."""

    async def identity(self, ref: PersonRef, as_of: AsOf) -> IdentityAnswer:
        """Identifiers and links, with the reasons."""

    async def memberships(self, ref: PersonRef, as_of: AsOf) -> list[Membership]:
        """Stays in segments, open ones first, then by ``entered_at`` descending."""

    async def explain(self, ref: PersonRef, segment: str, as_of: AsOf) -> Explanation:
        """Why the person is or is not in a segment. Refuses ``not_found`` (404; kind ``segment``)."""

    async def consents(self, ref: PersonRef, as_of: AsOf) -> list[ConsentRecord]:
        """Consent records of all the person's identifiers."""

    async def link(self, draft: LinkDraft) -> LinkWritten:
        """Append a manual link; waits as ``Definitions.create``. Refuses ``same_identifier`` and ``blocked_identifier`` (422)."""

    async def retract(self, link_id: str) -> Commanded:
        """Append the retraction of a link of any kind. Refuses ``not_found`` (404; kind ``link``)."""


class Things(Protocol):
    """Visits and objects. What asks about a person refuses as ``People`` does."""

    async def visits(self, ref: PersonRef, as_of: AsOf, cursor: str, limit: int) -> Page[Visit]:
        """A person's visits, newest first."""

    async def objects_of(self, ref: PersonRef, kind: str, as_of: AsOf, cursor: str, limit: int) -> Page[PersonObject]:
        """The objects that a person deals with, by kind and id; an empty ``kind`` means all."""

    async def object(self, kind: str, object_id: str, as_of: AsOf) -> KnownObject:
        """One object. Refuses ``not_found`` (404; kind, ref)."""


class Care(Protocol):
    """What went wrong and can be mended: quarantined events and failed deliveries."""

    async def quarantine(self, reason: str, cursor: str, limit: int, source: str = "") -> Page[KeptEvent]:
        """Quarantined events in log order; empty ``reason`` and ``source`` (id or key) mean all. Refuses ``not_found`` (404)."""

    async def replay(self, choice: ReplayChoice) -> Commanded:
        """Append the command to apply these events again; ``count`` is how many are in quarantine and chosen.

        Bodies of webhooks of which nothing was applied are mapped by the present mappings. Refuses ``not_found`` (404; source).
        """

    async def deliveries(
        self, state: str, destination: str, since: int | None, until: int | None, cursor: str, limit: int
    ) -> Page[DeliveryAnswer]:
        """Deliveries, newest first; an empty ``state`` or ``destination`` (key) means all, as does no moment (microseconds)."""

    async def retry(self, delivery_id: str) -> Commanded:
        """Append the command to try again. Refuses ``not_found`` (404; kind ``delivery``), ``not_retryable`` (409; state)."""


class Outgoing(Protocol):
    """How destinations fare. All but ``healths`` refuse ``not_found`` (404; kind ``destination``)."""

    async def health(self, ref: str) -> DestinationHealth:
        """How one fares; its last error without words."""

    async def healths(self) -> list[DestinationHealth]:
        """How all fare, by key."""

    async def test(self, ref: str, wait_ms: int) -> TestResult:
        """Send a test and wait for its result. Refuses ``destination_archived`` (409; key)."""

    async def replay(self, ref: str, asked: ReplayRange) -> ReplayedDeliveries:
        """Count, and unless it is a dry run append the commands to send again.

        Refuses ``destination_archived`` (409; key), ``bounds_reversed``, ``replay_reaches_back`` (422, pointer /from;
        kept_from) and ``replay_too_large`` (422; limit).
        """


class Questions(Protocol):
    """Free questions to the warehouse."""

    async def sql(self, sql: str, params: Sequence[Any]) -> Answer:
        """Answer one read-only SELECT over the documented tables. Raises ``QueryFailed``."""


class Hooks(Protocol):
    """Webhook sources: trying their mappings, and the secrets of their signatures."""

    async def preview(self, ref: str, mappings: Sequence[Any] | None, last: int, body: Any) -> list[BodyPreview]:
        """What mappings (None: the source's own) make of a body, or of the ``last`` bodies received (body None), newest first.

        Stores nothing. Refuses ``not_found`` (404), ``not_a_webhook_source``, and what is wrong in the mappings (422).
        """

    async def keep_secret(self, name: str, value: str) -> None:
        """Keep a secret durably under a name. Refuses ``bad_key`` and ``out_of_range`` (422)."""


class Imports(Protocol):
    """Files in: uploads, previews, imports and their undoing. All but ``upload`` refuse ``not_found`` (404)."""

    async def upload(self, name: str, chunks: AsyncIterator[bytes]) -> Uploaded:
        """Keep a file as it comes. Refuses ``upload_too_large`` (413), ``disk_almost_full`` (507), ``file_empty`` (422)."""

    async def preview(self, asked: PreviewAsked, wait_ms: int) -> FilePreview:
        """Look through a file, waiting at most so long for the end. Refuses what is wrong with file, format or mapping (422)."""

    async def preview_again(self, preview_id: str) -> FilePreview:
        """How far a preview is."""

    async def start(self, asked: ImportAsked) -> ImportAnswer:
        """Ask for an import. Refuses what is wrong in it (422), ``path_not_allowed`` (403), ``imported_otherwise`` (409; ref)."""

    async def list(self, cursor: str, limit: int) -> Page[ImportAnswer]:
        """Imports, newest first."""

    async def get(self, import_id: str) -> ImportAnswer:
        """One import and how far it is."""

    async def cancel(self, import_id: str) -> ImportAnswer:
        """Stop it where it is. Refuses ``import_has_ended`` (409; state)."""

    async def undo(self, import_id: str) -> ImportAnswer:
        """Take it back. Refuses ``import_not_ended``, ``import_has_ended`` (409; state)."""

    async def rejected(self, import_id: str) -> Iterator[bytes]:
        """Its rejected rows as lines of CSV."""


class Schedules(Protocol):
    """Scheduled imports and exports beyond their definitions. All but ``file`` refuse ``not_found`` (404)."""

    async def standing(self, kind: Literal["import", "export"], ref: str) -> ScheduleAnswer:
        """When it runs next, and its last run."""

    async def run(self, kind: Literal["import", "export"], ref: str) -> ScheduleAnswer:
        """Ask for a run now; asking twice before it begins is asking once. Refuses ``schedule_archived`` (409; key)."""

    async def runs(self, kind: Literal["import", "export"], ref: str, cursor: str, limit: int) -> Page[RunAnswer]:
        """Its last hundred runs, newest first."""

    async def last_file(self, ref: str) -> tuple[str, Iterator[bytes]]:
        """Name and bytes of the last file of an export, fetched from its place. Refuses what the place tells (502)."""

    async def file(self, export: Export) -> tuple[str, Iterator[bytes]]:
        """Name and bytes of a file of people, made now. Refuses what is wrong in it (422), ``busy`` (503)."""


class Office(Protocol):
    """All desks. The runtime makes one per process that serves the API."""

    @property
    def access(self) -> Access:
        """Tokens and sessions."""

    @property
    def progress(self) -> Progress:
        """Counts, readiness, waiting, jobs."""

    @property
    def definitions(self) -> Definitions:
        """Definitions of all kinds."""

    @property
    def segments(self) -> Segments:
        """Sizes, members, movements, previews."""

    @property
    def people(self) -> People:
        """Profiles and links."""

    @property
    def things(self) -> Things:
        """Visits and objects."""

    @property
    def care(self) -> Care:
        """Quarantine and deliveries."""

    @property
    def hooks(self) -> Hooks:
        """Webhook sources."""

    @property
    def imports(self) -> Imports:
        """Files in, and out again."""

    @property
    def schedules(self) -> Schedules:
        """Scheduled imports and exports."""

    @property
    def outgoing(self) -> Outgoing:
        """Destinations' health, tests and replays."""

    @property
    def questions(self) -> Questions:
        """SQL."""
