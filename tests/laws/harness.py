"""An installation without processes: a log, a State and a worker, driven by histories, and questions about what came of them."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from conosco.activate.outbox import read_intent
from conosco.engines.memory.log import MemoryLog
from conosco.engines.memory.state import MemoryState
from conosco.govern.gate import Gate
from conosco.model.command import LinkIdentifiers, ReplayQuarantined, RetractLink
from conosco.model.delivery import Intent
from conosco.model.identifier import Identifier
from conosco.model.outcome import Outcome
from conosco.model.record import Draft, Envelope
from conosco.ports.log import Log
from conosco.ports.state import Key, State, Table, scan_all
from conosco.ports.tables import (
    FEED,
    IDENTIFIERS,
    MEMBERS,
    MEMBERSHIPS,
    META,
    OUTBOX,
    PERSONS,
    QUARANTINE,
    MembershipRow,
    OutboxRow,
    decode_row,
)
from conosco.ports.work import Work
from conosco.profile.view import PersonView
from conosco.runtime import backfill
from conosco.runtime.duplicates import Duplicates
from conosco.runtime.worker import Worker
from tests.laws import oracle
from tests.laws.histories import SOURCES, START, Act, Claim, Define, Mend, Post, Sent, Wait

SECRET = b"s" * 32
GATE_SECRET = b"g" * 32
# More steps than any history needs: a worker that never comes to rest fails instead of hanging.
STEPS_MAX = 200_000


class Stay(NamedTuple):
    """An open membership."""

    profile_id: str
    segment: str
    entered_at: int


class Installation:
    """A log and a State on which a worker works. Killing it means making another worker over the same two."""

    def __init__(self, log: Log | None = None, state: State | None = None, events_per_batch: int = 1_000) -> None:
        self.now = START
        self.log: Log = log or MemoryLog(lambda: self.now)
        self.state: State = state or MemoryState()
        self.events_per_batch = events_per_batch
        self.notes: list[tuple[str, dict[str, Any]]] = []
        # Where every event of a history came to lie.
        self.addresses: list[tuple[int, int, Sent]] = []
        self.definitions: dict[tuple[str, str], dict[str, Any]] = {}
        self.restart()

    def restart(self) -> None:
        """Begin with a new worker, as after a kill."""
        self.worker = Worker(self.log, self.state, SECRET, Gate(GATE_SECRET), lambda: self.now, self._note, self.events_per_batch)

    def _note(self, event: str, fields: dict[str, Any]) -> None:
        self.notes.append((event, fields))

    def settle(self) -> None:
        """Work until there is nothing left to do."""
        for _ in range(STEPS_MAX):
            if not (self.worker.step() or self.worker.tick()):
                return
        raise AssertionError("the worker does not come to rest")

    def perform(self, act: Act) -> None:
        """Let time pass until the act, and append what it brings; ``settle`` applies it."""
        if act.at > self.now:
            self.now = act.at
            self.settle()
        match act:
            case Post():
                self.post(act)
            case Define(definition=definition):
                self.define(definition)
            case Claim():
                self.command(_claim(act))
            case Mend():
                addresses = tuple((position, slot) for (position, slot), _ in self.rows(QUARANTINE))
                self.command(ReplayQuarantined(addresses=addresses))
            case Wait():
                pass

    def perform_all(self, acts: Iterable[Act]) -> None:
        """Perform acts one after the other, each applied before the next."""
        for act in acts:
            self.perform(act)
            self.settle()

    def assert_outcomes(self) -> None:
        """Every event of the history came to what its author meant, so that no comparison is one of nothing with nothing."""
        told = self.outcomes()
        for position, slot, sent in self.addresses:
            assert told[position, slot][-1] == sent.expected, (position, slot, sent.body)

    def define(self, definition: dict[str, Any]) -> int:
        """Append a definition; returns its position."""
        self.definitions[definition["kind"], definition.get("key", "identity")] = definition
        return self.log.append([Draft(kind="definition", slices=(json.dumps(definition).encode(),))])[0].position

    def command(self, command: msgspec.Struct) -> int:
        """Append a command; returns its position."""
        return self.log.append([Draft(kind="control", slices=(msgspec.json.encode(command),))])[0].position

    def post(self, post: Post) -> int:
        """Append a request as collect would store it; returns its position."""
        bodies = tuple(sent.body.encode() for sent in post.sent)
        position = self.send(*bodies, source_id=post.source_id)
        self.addresses.extend((position, slot, sent) for slot, sent in enumerate(post.sent))
        return position

    def send(self, *bodies: bytes | dict[str, Any], source_id: str = "src_a") -> int:
        """Append a request with these bodies; returns its position."""
        envelope = msgspec.json.encode(Envelope(received_at=self.now))
        raw = tuple(body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies)
        return self.log.append([Draft(kind="request", source_id=source_id, slices=(envelope, *raw))])[0].position

    # What came of it ---------------------------------------------------------------------------------------------------

    def rows(self, table: Table) -> Iterator[tuple[Key, Any]]:
        """All rows of a table, decoded."""
        return ((key, decode_row(table, raw)) for key, raw in scan_all(self.state, table))

    def profiles(self) -> dict[tuple[str, str], str]:
        """The profile id of every identifier that is somebody's."""
        persons = {key[0]: row for key, row in self.rows(PERSONS)}
        return {(key[0], key[1]): persons[row.person].profile_id for key, row in self.rows(IDENTIFIERS) if row.person}

    def first_seen(self) -> dict[tuple[str, str], int]:
        """When every identifier that is somebody's was first seen."""
        return {(name, value): at for _, person in self.rows(PERSONS) for name, value, at in person.identifiers}

    def stays(self) -> set[Stay]:
        """All open memberships; the indexes over them must agree."""
        numbers: dict[str, int] = decode_row(META, self.state.get_many(META, [("segment_numbers",)])[("segment_numbers",)]).value
        keys = {number: key for key, number in numbers.items()}
        found = {Stay(row.profile_id, row.segment, row.entered_at) for _, row in self.rows(MEMBERSHIPS) if row.exited_at is None}
        held = {
            Stay(person.profile_id, keys[number], entered_at)
            for _, person in self.rows(PERSONS)
            for number, (entered_at, _, _) in person.memberships.items()
        }
        assert found == held, "open rows and the people's own lists differ"
        indexed = {(key[1], key[0]) for key, _ in self.rows(MEMBERS)}
        assert indexed == {(key[0], number) for key, person in self.rows(PERSONS) for number in person.memberships}
        return found

    def past(self) -> list[MembershipRow]:
        """All memberships that have ended."""
        return [row for _, row in self.rows(MEMBERSHIPS) if row.exited_at is not None]

    def members(self, segment: str) -> set[str]:
        """The profile ids in a segment."""
        return {stay.profile_id for stay in self.stays() if stay.segment == segment}

    def traits(self) -> dict[str, dict[str, Any]]:
        """The winning observation of every trait of every profile."""
        work = Work(self.state)
        found: dict[str, dict[str, Any]] = {}
        for (number,), person in self.rows(PERSONS):
            view = PersonView(work, number, person)
            found[person.profile_id] = {name: max(view.observations(name)) for name in view.trait_names()}
        return found

    def outbox(self) -> dict[str, tuple[OutboxRow, Intent]]:
        """All deliveries by id."""
        return {key[0]: (row, read_intent(row)) for key, row in self.rows(OUTBOX)}

    def counters(self) -> dict[str, int]:
        """The worker's counters."""
        raw = self.state.get_many(META, [("counters",)]).get(("counters",))
        return {} if raw is None else dict(decode_row(META, raw).value)

    def outcomes(self) -> dict[tuple[int, int], list[str]]:
        """Every Outcome that was told for each event, in order, from the change feed."""
        told: dict[tuple[int, int], list[str]] = {}
        for _, row in self.rows(FEED):
            body = msgspec.msgpack.decode(row.body)
            for position, slot in body.get("applied", ()):
                told.setdefault((position, slot), []).append("applied")
            for raw in body.get("outcomes", ()):
                outcome = msgspec.convert(raw, Outcome)
                told.setdefault((outcome.position, outcome.slot), []).append(outcome.outcome)
        return told

    # Oracles' inputs ---------------------------------------------------------------------------------------------------

    def events(self) -> list[dict[str, Any]]:
        """The applied events as the oracle takes them, from what the history itself says of them."""
        return [
            {
                **sent._asdict(),
                "position": position,
                "priority": SOURCES[sent.source_id],
            }
            for position, _, sent in self.addresses
            if sent.expected == "applied"
        ]

    def case(self, true_at: int, known_at: int) -> oracle.Case:
        """What the oracle is asked, with identity as it is now."""
        return oracle.Case(
            self.events(), self.profiles(), true_at, known_at, self.first_seen(), self.specs("segment"), self.specs("attribute")
        )

    def specs(self, kind: str) -> dict[str, Any]:
        """The specs of the active definitions of a kind."""
        return {
            key: made["spec"]
            for (name, key), made in sorted(self.definitions.items())
            if name == kind and made.get("state", "active") == "active"
        }


@contextmanager
def cramped() -> Iterator[None]:
    """Chunks, pages and runs so small that even a small world has many of them."""
    init = Duplicates.__init__
    sizes, defaults = (backfill.RECORDS_PER_CHUNK, backfill.PEOPLE_PER_CHUNK), init.__defaults__
    backfill.RECORDS_PER_CHUNK, backfill.PEOPLE_PER_CHUNK = 3, 7  # type: ignore[misc]  # constants, but for this
    init.__defaults__ = (24,)
    try:
        yield
    finally:
        backfill.RECORDS_PER_CHUNK, backfill.PEOPLE_PER_CHUNK = sizes  # type: ignore[misc]
        init.__defaults__ = defaults


def _claim(claim: Claim) -> msgspec.Struct:
    if claim.kind == "retract":
        return RetractLink(link_id=claim.link_id)
    return LinkIdentifiers(link_id=claim.link_id, kind=claim.kind, left=Identifier(*claim.left), right=Identifier(*claim.right))
