"""Messages: calls as the shop's systems send them, each with what is true of it and never sent along."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from random import Random
from typing import Any, Final, Literal, NamedTuple

import msgspec

from conosco.cli.shop.people import Person
from conosco.model.moment import MINUTE, SECOND, spell_moment
from conosco.model.outcome import OutcomeKind, Reason

SourceKey = Literal["web", "app", "server", "pos", "mail", "desk"]
Who = tuple[tuple[str, str], ...]
# What stands behind a message without a person: a program.
NOBODY: Final = ""

_ENCODE: Final = msgspec.json.Encoder(decimal_format="number").encode


class Fact(NamedTuple):
    """What a message means for the books. Amounts are hundredths of ``currency``."""

    kind: Literal["order", "refund", "cart"]
    key: str
    country: str = ""
    currency: str = ""
    amount: int = 0
    cart_id: str = ""


class Message(NamedTuple):
    """A call: when and by which source it is sent, its bytes, and the truth: who did it, and what must become of it.

    ``who`` are the identifiers that it carries, in the order of the default rules. ``person`` is a person's key, or
    NOBODY. ``body`` is the event alone, as it stands in a batch.
    """

    sent_at: int
    source: SourceKey
    message_id: str
    body: bytes
    event: str
    person: str
    who: Who
    outcome: OutcomeKind = "applied"
    reason: Reason = "applied"
    fact: Fact | None = None


class Clock:
    """The time of an act in the past: it goes on by what the act takes. ``late``: how long a device keeps what it has to tell."""

    __slots__ = ("at", "late")

    def __init__(self, at: int, late: int = 0) -> None:
        self.at = at
        self.late = late

    def tick(self, rng: Random, low_s: int, high_s: int) -> int:
        """Let between ``low_s`` and ``high_s`` seconds pass, and tell the time."""
        self.at += int((low_s + rng.random() * (high_s - low_s)) * 1_000) * 1_000
        return self.at


class LiveClock(Clock):
    """The time of an act that happens now: whoever takes its messages sets the pace."""

    __slots__ = ("_now",)

    def __init__(self, now: Callable[[], int], late: int = 0) -> None:
        super().__init__(now(), late)
        self._now = now

    def tick(self, rng: Random, low_s: int, high_s: int) -> int:
        """Tell the time, which passes by itself."""
        self.at = self._now() - self.late
        return self.at


class Pen:
    """Writes messages and numbers them. ``prefix`` keeps the message ids of two pens apart; ``now`` is when sentAt would be set."""

    def __init__(self, prefix: str, now: Callable[[], int]) -> None:
        self._prefix = prefix
        self._now = now
        self._count = 0

    def message_id(self) -> str:
        """A fresh one."""
        self._count += 1
        return f"{self._prefix}{self._count:08x}"

    def write(
        self,
        clock: Clock,
        source: SourceKey,
        kind: str,
        who: Who,
        person: str,
        ids: Mapping[str, str],
        members: Mapping[str, Any],
        *,
        clock_off: int = 0,
        fact: Fact | None = None,
    ) -> Message:
        """A call of ``kind`` at the clock's time. A device whose clock is wrong says so by its sentAt, as SDKs do."""
        message_id = self.message_id()
        call = {"type": kind, "messageId": message_id, "timestamp": spell(clock.at + clock_off), **ids, **members}
        if clock_off:
            call["sentAt"] = spell_moment(self._now() + clock_off)
        event = members.get("event") or kind
        body = _ENCODE(call)
        return Message(clock.at + clock.late, source, message_id, body, event, person, who, "applied", "applied", fact)

    def server(
        self,
        clock: Clock,
        source: SourceKey,
        event: str,
        person: Person,
        properties: Mapping[str, Any],
        *,
        by: Mapping[str, str] | None = None,
        user_id: str = "",
        anonymous_id: str | None = None,
        fact: Fact | None = None,
    ) -> Message:
        """A track call of one of the shop's own systems, which knows the person ``by`` contact points, or else by user id."""
        members: dict[str, Any] = {"event": event, "properties": properties}
        ids: dict[str, str] = {}
        who: Who
        if by is None:
            ids["userId"] = user_id or person.user_ids[0]
            who = (("user_id", ids["userId"]),)
        else:
            members["context"] = {"traits": by, "library": _LIBRARIES[source]}
            who = contact_points(by)
        if anonymous_id is not None:
            ids["anonymousId"] = anonymous_id
            who += (("anonymous_id", anonymous_id),)
        members.setdefault("context", {"library": _LIBRARIES[source]})
        return self.write(clock, source, "track", who, person.key, ids, members, fact=fact)

    def again(self, message: Message, wait: int) -> Message:
        """The same message, sent once more because its answer was lost."""
        return message._replace(sent_at=message.sent_at + wait, outcome="duplicate", reason="same_message", fact=None)

    def altered(self, message: Message) -> Message:
        """The same message id with something else in it, as a client writes that numbers its messages badly."""
        body = message.body[:-1] + b',"channel":"retry"}'
        changed = message._replace(sent_at=message.sent_at + SECOND, body=body)
        return changed._replace(outcome="quarantined", reason="conflicting_duplicate", fact=None)

    def broken(self, message: Message, lot: float) -> Message:
        """A message beside this one which breaks a rule, so that it must be set aside with its reason."""
        reason, members = BROKEN[int(lot * len(BROKEN))]
        message_id = self.message_id()
        call = {"type": "track", "event": "Price Asked", "messageId": message_id, "anonymousId": f"odd-{message_id}", **members}
        body = _ENCODE({name: value for name, value in call.items() if value is not msgspec.UNSET})
        return Message(message.sent_at, message.source, message_id, body, "", NOBODY, (), "quarantined", reason)


BROKEN: Final[tuple[tuple[Reason, dict[str, Any]], ...]] = (
    ("wrong_field_type", {"properties": "price=12"}),
    ("wrong_field_type", {"anonymousId": {"id": 7}}),
    ("unknown_type", {"type": "purchase"}),
    ("missing_field", {"event": msgspec.UNSET}),
    ("no_usable_identifier", {"anonymousId": "00000000-0000-0000-0000-000000000000"}),
    ("no_usable_identifier", {"anonymousId": "undefined"}),
    ("unreadable_time", {"timestamp": "yesterday evening"}),
)
_LIBRARIES: Final = {
    "server": {"name": "analytics-python", "version": "2.4.0"},
    "pos": {"name": "till", "version": "7.2"},
    "mail": {"name": "mailer", "version": "3.0"},
    "desk": {"name": "help-desk", "version": "1.8"},
}


@lru_cache(4_096)
def _minute(number: int) -> str:
    return spell_moment(number * MINUTE)[:17]


def spell(at: int) -> str:
    """As ``spell_moment``, to the millisecond, in half the time for moments of few different minutes."""
    minute, rest = divmod(at, MINUTE)
    return f"{_minute(minute)}{rest // SECOND:02d}.{rest % SECOND // 1_000:03d}Z"


def contact_points(traits: Mapping[str, Any]) -> Who:
    """The identifiers in traits: addresses in small letters, telephone numbers as digits with a plus if they are international."""
    found: Who = ()
    if traits.get("email"):
        found = (("email", traits["email"].strip().lower()),)
    if traits.get("phone"):
        spelt = str(traits["phone"])
        digits = "".join(letter for letter in spelt if letter.isdigit())
        if spelt.startswith("00"):
            spelt, digits = "+", digits[2:]
        found += (("phone", ("+" if spelt.startswith("+") else "") + digits),)
    return found
