"""The truth about the shop's messages: what must become of each, whose each is, and the sums of the books. It is never sent."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from conosco.cli.shop.goods import money
from conosco.cli.shop.messages import NOBODY, Message, Who
from conosco.cli.shop.people import Person
from conosco.model.outcome import OutcomeKind

# The one namespace of which a person has at most one value, by the default identity rules.
UNIQUE: Final = "user_id"


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """What must be found once all messages are applied.

    ``revenue`` and ``refunds`` are by country, each in its currency. ``carts_abandoned``: carts without an order.
    ``people``: who sent anything, ``programs`` not counted. ``people_clear``: those who share no identifier with anybody and
    have at most one user id; the default rules must find exactly ``profiles_clear`` profiles for them, which is
    ``merges_clear`` fewer than their identifiers.
    """

    messages: int
    outcomes: dict[OutcomeKind, int]
    reasons: dict[str, int]
    sources: dict[str, int]
    events: dict[str, int]
    orders: dict[str, int]
    revenue: dict[str, Decimal]
    refunds: dict[str, Decimal]
    carts: int
    carts_abandoned: int
    people: int
    programs: int
    identifiers: int
    identifiers_shared: int
    people_clear: int
    profiles_clear: int
    merges_clear: int


class Truth:
    """Takes note of messages as they are sent."""

    def __init__(self) -> None:
        self.owners: dict[tuple[str, str], set[str]] = {}
        self.links: set[tuple[tuple[str, str], tuple[str, str]]] = set()
        self._outcomes: Counter[OutcomeKind] = Counter()
        self._reasons: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._orders: Counter[str] = Counter()
        self._revenue: Counter[str] = Counter()
        self._refunds: Counter[str] = Counter()
        self._carts: set[str] = set()
        self._bought: set[str] = set()
        self._seen: set[tuple[str, Who]] = set()

    def note(self, message: Message) -> None:
        """Count a message that is sent."""
        self._sources[message.source] += 1
        self._outcomes[message.outcome] += 1
        if message.outcome != "applied":
            self._reasons[message.reason] += 1
            return
        self._events[message.event] += 1
        said = (message.person, message.who)
        if said not in self._seen:
            self._seen.add(said)
            self._note_identifiers(*said)
        fact = message.fact
        if fact is None:
            return
        match fact.kind:
            case "cart":
                self._carts.add(fact.key)
            case "refund":
                self._refunds[fact.country] += fact.amount
            case "order":
                self._orders[fact.country] += 1
                self._revenue[fact.country] += fact.amount
                self._bought.add(fact.cart_id)

    def _note_identifiers(self, person: str, who: Who) -> None:
        for identifier in who:
            owners = self.owners.setdefault(identifier, set())
            if person != NOBODY:
                owners.add(person)
        self.links.update((who[0], other) for other in who[1:])

    def shared(self) -> set[tuple[str, str]]:
        """Identifiers that several people used."""
        return {identifier for identifier, owners in self.owners.items() if len(owners) > 1}

    def clear(self) -> set[str]:
        """People about whom the evidence leaves no doubt: they share nothing, and have at most one user id."""
        accounts: Counter[str] = Counter()
        doubtful: set[str] = set()
        for (namespace, _), owners in self.owners.items():
            if len(owners) > 1:
                doubtful |= owners
            elif namespace == UNIQUE:
                accounts.update(owners)
        everyone = {person for owners in self.owners.values() for person in owners}
        return everyone - doubtful - {person for person, count in accounts.items() if count > 1}

    def groups_clear(self) -> dict[tuple[str, str], tuple[str, str]]:
        """For each identifier of the clear people, the one that stands for its profile: links alone decide, none is refused."""
        clear = self.clear()
        parent = {one: one for one, owners in self.owners.items() if owners and owners <= clear}

        def root(one: tuple[str, str]) -> tuple[str, str]:
            while parent[one] != one:
                parent[one] = one = parent[parent[one]]
            return one

        for left, right in self.links:
            if left in parent:
                parent[root(left)] = root(right)
        return {one: root(one) for one in parent}

    def books(self) -> Books:
        """The sums so far."""
        groups = self.groups_clear()
        profiles = len(set(groups.values()))
        people = {person for owners in self.owners.values() for person in owners}
        return Books(
            messages=self._outcomes.total(),
            outcomes=dict(sorted(self._outcomes.items())),
            reasons=dict(sorted(self._reasons.items())),
            sources=dict(sorted(self._sources.items())),
            events=dict(sorted(self._events.items())),
            orders=dict(sorted(self._orders.items())),
            revenue={country: money(amount) for country, amount in sorted(self._revenue.items())},
            refunds={country: money(amount) for country, amount in sorted(self._refunds.items())},
            carts=len(self._carts),
            carts_abandoned=len(self._carts - self._bought),
            people=len(people),
            programs=sum(not owners for owners in self.owners.values()),
            identifiers=len(self.owners),
            identifiers_shared=len(self.shared()),
            people_clear=len(self.clear()),
            profiles_clear=profiles,
            merges_clear=len(groups) - profiles,
        )


def write_truth(
    path: Path, messages: Iterable[Message], truth: Truth, people: Iterable[Person], rows: Mapping[str, Sequence[str]]
) -> None:
    """Write the truth as lines of JSON: one on each message, on each row of a file, on each person; and last the books.

    ``messages`` are those of which ``truth`` took note; ``rows`` the keys of the people behind the rows of each file.
    """
    encode = msgspec.json.Encoder(decimal_format="number").encode
    with path.open("wb") as file:
        for message in messages:
            line: dict[str, Any] = {"source": message.source, "message_id": message.message_id, "person": message.person or None}
            line |= {"outcome": message.outcome, "reason": message.reason, "identifiers": message.who}
            file.write(encode(line) + b"\n")
        for name, whose in rows.items():
            for number, person in enumerate(whose, 1):
                file.write(encode({"file": name, "row": number, "person": person}) + b"\n")
        for one in people:
            file.write(encode({"truth": one}) + b"\n")
        file.write(encode({"books": truth.books()}) + b"\n")
