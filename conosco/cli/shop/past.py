"""The shop's past and its present: streams of messages in the order of their sending, with the dirt that real ones have."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import count
from operator import itemgetter
from random import Random
from typing import Final

import msgspec

from conosco.cli.shop.messages import NOBODY, Clock, LiveClock, Message, Pen, SourceKey
from conosco.cli.shop.people import invent
from conosco.cli.shop.places import COUNTRIES
from conosco.cli.shop.shop import Act, Shop
from conosco.cli.shop.truth import Truth
from conosco.cli.shop.visits import crawl
from conosco.model.moment import DAY, HOUR, SECOND, spell_moment

# Of a thousand messages so many are sent twice, have another's id, or are broken.
RESENT: Final = 0.008
ALTERED: Final = 0.0005
BROKEN: Final = 0.002
# Visits a person and day; programs visit a tenth as often.
VISITS: Final = 0.02
BOTS: Final = 0.002
_MONTHS: Final = (0.8, 0.8, 0.95, 1.0, 1.05, 0.95, 0.8, 0.6, 0.95, 1.05, 1.5, 1.8)
_WEEKDAYS: Final = (1.0, 0.95, 0.95, 1.0, 1.05, 1.2, 1.1)
# In the order of sending; a copy comes after what it copies.
_IN_ORDER: Final = itemgetter(0, 2, 7)
# How many of a hundred visits begin in each hour of the day.
_HOURS: Final = tuple(
    hour
    for hour, share in enumerate((1, 1, 0, 0, 0, 0, 1, 2, 4, 5, 6, 6, 7, 6, 5, 5, 5, 6, 7, 8, 9, 8, 5, 3))
    for _ in range(share)
)
# The present has no patience: what would follow a day later follows in seconds.
HASTE: Final = 10_000
VISITS_OPEN_MAX: Final = 25
FOREVER: Final = 1 << 62


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How large a past: so many people and days up to ``end``, a moment (microseconds UTC). Equal plans give equal bytes."""

    end: int
    seed: int = 1
    people: int = 600
    days: int = 365

    @property
    def start(self) -> int:
        """The midnight with which the past begins."""
        return self.end // DAY * DAY - (self.days - 1) * DAY


class Past:
    """A shop that has been open for as long as the plan says. Take its messages once; then ``truth`` knows all of them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.truth = Truth()
        pen = Pen("shop-", lambda: plan.end)
        self.shop = Shop(pen, invent(plan.people, plan.seed), Random(f"{plan.seed}/past"), "A")
        self._rng = Random(f"{plan.seed}/dirt")

    def messages(self) -> Iterator[Message]:
        """All messages sent before the end, in order. What was still on its way then is never told."""
        shop, plan = self.shop, self.plan
        shop.open(plan.start, plan.days)
        waiting: list[Message] = []
        self._fill(plan.start // DAY)
        for day in range(plan.start // DAY, plan.end // DAY + 1):
            # Tomorrow begins today in the east.
            self._fill(day + 1)
            until = min((day + 1) * DAY, plan.end)
            for at, act in shop.due(until):
                for message in act(Clock(at, shop.lateness())):
                    waiting += soiled(shop.pen, message, self._rng)
            waiting.sort(key=_IN_ORDER)
            ready = [message for message in waiting if message.sent_at < until]
            waiting = waiting[len(ready) :]
            for message in ready:
                self.truth.note(message)
                yield message

    def _fill(self, day: int) -> None:
        """Put the visits of a day into it, each at an hour of the visitor's own clock."""
        shop, rng = self.shop, self.shop.rng
        date = datetime.fromtimestamp(day * DAY // SECOND, UTC)
        busy = _MONTHS[date.month - 1] * _WEEKDAYS[date.weekday()] * len(shop.people)
        for _ in range(int(busy * VISITS + rng.random())):
            person = shop.anyone()
            minute = _HOURS[int(rng.random() * len(_HOURS))] * 60 + int(rng.random() * 60)
            at = person.country.local(day, minute) + int(rng.random() * 60) * SECOND
            shop.later(max(at, self.plan.start), shop.trip(person))
        for _ in range(int(busy * BOTS + rng.random())):
            shop.later(day * DAY + int(rng.random() * 24 * 3_600) * SECOND, _bot(shop))


def soiled(pen: Pen, message: Message, rng: Random) -> list[Message]:
    """The message, and now and then one beside it that should not be."""
    lot = rng.random()
    if lot >= RESENT + ALTERED + BROKEN or message.person == NOBODY:
        return [message]
    if lot < RESENT:
        # A connection that broke is tried again at once; a telephone that was put away, hours later.
        wait = (1 + int(rng.random() * 30)) * SECOND if rng.random() < 0.7 else (1 + int(rng.random() * 40)) * HOUR
        return [message, pen.again(message, wait)]
    return [message, pen.altered(message) if lot < RESENT + ALTERED else pen.broken(message, rng.random())]


def present(shop: Shop, rng: Random, now: Callable[[], int]) -> Iterator[Message]:
    """The shop as it goes on: an endless stream of messages, each at ``now()``; the caller sets the pace.

    What follows from it days later happens after as many seconds.
    """
    open_acts: list[Iterator[Message]] = []
    to_come: list[tuple[int, int, Act]] = []
    for number in count():
        at = now()
        for seq, (due, act) in enumerate(shop.due(FOREVER)):
            heapq.heappush(to_come, (at + max(0, due - at) // HASTE, number << 16 | seq, act))
        while to_come and to_come[0][0] <= at:
            open_acts.append(heapq.heappop(to_come)[2](LiveClock(now)))
        if not open_acts or (len(open_acts) < VISITS_OPEN_MAX and rng.random() < 0.25):
            act = _bot(shop) if rng.random() < 0.03 else shop.trip(shop.anyone())
            open_acts.append(act(LiveClock(now, shop.lateness() // 4)))
        current = open_acts[int(rng.random() * len(open_acts))]
        message = next(current, None)
        if message is None:
            open_acts.remove(current)
        else:
            yield from soiled(shop.pen, message, rng)


def batches(messages: Iterable[Message], size: int = 250, sent_at: int | None = None) -> Iterator[tuple[SourceKey, bytes, int]]:
    """Bodies for the batch call, each with its source and how many messages it holds; of one source they keep their order.

    ``sent_at`` is told as the time of sending; without it the times in the messages are taken as they are.
    """
    tail = b"]}" if sent_at is None else b'],"sentAt":"%s"}' % spell_moment(sent_at).encode()
    held: dict[SourceKey, list[bytes]] = {}
    for message in messages:
        own = held.setdefault(message.source, [])
        own.append(message.body)
        if len(own) >= size:
            yield message.source, b'{"batch":[' + b",".join(own) + tail, len(own)
            own.clear()
    for source, own in held.items():
        if own:
            yield source, b'{"batch":[' + b",".join(own) + tail, len(own)


def _bot(shop: Shop) -> Act:
    country = COUNTRIES[int(shop.rng.random() * len(COUNTRIES))]
    return lambda clock: crawl(shop.pen, clock, shop.rng, country)
