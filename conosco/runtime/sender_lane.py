"""A lane: the deliveries of one destination, queued and in flight, so that no destination waits for another."""

from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from conosco.connectors.outbound import Context
from conosco.model.delivery import AttemptResult, BatchLimits, Intent, Parcel, Reply
from conosco.ports.state import Key
from conosco.runtime.sender_breaker import Breaker

BATCH: Final = "bat"
# What is sent at most once is leased under a name that nobody else can have, so that it is never taken over.
ONCE: Final = "once"


class Connector(Protocol):
    """What the sender needs of a destination's connector; a module is one if it has these names."""

    @property
    def is_idempotent(self) -> bool:
        """Whether what is delivered again under the same id counts once. If not, what may have arrived is never repeated."""

    @property
    def writes_files(self) -> bool:
        """Whether it needs a folder that the administrator has opened."""

    def read_settings(self, spec: dict[str, Any]) -> Any:
        """Check a destination's spec and give its settings; raises Refused."""

    def spell_secret(self, key: bytes) -> str:
        """Spell fresh random bytes as the secret that a destination of this type is given; empty if it needs none."""

    def batch_limits(self, settings: Any) -> BatchLimits | None:
        """How deliveries are put together; None if each goes out alone."""

    async def deliver(self, parcel: Parcel, settings: Any, secret: bytes, context: Context) -> Reply:
        """Make one attempt, and say what came of it. The same parcel is sent as the same bytes under the same id."""


class Due(NamedTuple):
    """A delivery to be attempted, the number that the attempt will have, and about how many bytes it is."""

    intent: Intent
    attempt: int
    bytes: int = 0


class Batch(NamedTuple):
    """Deliveries that were sent together once and are from then on: not before ``due_at``; leased until ``until``."""

    delivery_ids: tuple[str, ...]
    attempt: int
    due_at: int
    until: int


class Route(NamedTuple):
    """How to reach a destination, or, where there is no way, the result and code of every attempt."""

    connector: Connector | None
    settings: Any
    secret: bytes
    version: int = 0
    result: AttemptResult = "delivered"
    code: str = ""
    limits: BatchLimits | None = None


class Load(NamedTuple):
    """What is to go out in one attempt: deliveries, and the batch under which they are leased."""

    dues: Sequence[Due]
    batch: str = ""
    # When our own lease of a batch that was tried before ends; 0 for a fresh one.
    until: int = 0

    @property
    def id(self) -> str:
        """The id under which it goes out."""
        return self.batch if self.batch.startswith(BATCH) else self.dues[0].intent.delivery_id


class Lane:
    """One destination's deliveries: ``edge`` and ``sweep`` are how far two walks over what is due have come."""

    def __init__(self, key: str, breaker: Breaker) -> None:
        self.key: Final = key
        self.breaker: Final = breaker
        self.queue: deque[Due] = deque()
        # When the queue was last empty: for whom a batch has been waiting.
        self.waiting_since = 0
        self.in_flight = 0
        self.edge: Key = (key,)
        self.sweep: Key = (key,)
        self.next_sweep = 0.0
        # When something of this destination was last seen in the index.
        self.seen_s = 0.0
        self.version = 0
        self.batches: dict[str, Batch] = {}
        # Members of batches: never queued on their own.
        self.bound: set[str] = set()

    @property
    def is_idle(self) -> bool:
        """True if it holds nothing, so that it can be forgotten."""
        return not (self.queue or self.in_flight or self.batches)

    def bind(self, name: str, batch: Batch) -> None:
        """Keep deliveries together from now on."""
        self.batches[name] = batch
        self.bound.update(batch.delivery_ids)

    def unbind(self, name: str) -> None:
        """A batch has come to its end."""
        batch = self.batches.pop(name, None)
        if batch is not None:
            self.bound.difference_update(batch.delivery_ids)

    def fresh(self, limits: BatchLimits, now: int) -> list[Due]:
        """Take the deliveries of a new batch from the queue; none while it is worth waiting for more."""
        taken: list[Due] = []
        size = 0
        for due in self.queue:
            if len(taken) == limits.events or (taken and size + due.bytes > limits.bytes):
                break
            taken.append(due)
            size += due.bytes
        is_full = len(taken) == limits.events or len(taken) < len(self.queue)
        # A test is what a person waits for.
        is_urgent = any(due.intent.type == "test" for due in taken)
        if not taken or not (is_full or is_urgent or now - self.waiting_since >= limits.wait_us):
            return []
        for _ in taken:
            self.queue.popleft()
        self.waiting_since = now
        return taken
