"""The shop itself: what its people do, one act after another, and what follows from it days later."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Final

from conosco.cli.shop.aftercare import Aftercare, subscription
from conosco.cli.shop.goods import ARTICLES, Article, money
from conosco.cli.shop.messages import Clock, Fact, Message, Pen
from conosco.cli.shop.people import TABLET_AGENT, Device, Person
from conosco.cli.shop.places import STORES, Store
from conosco.cli.shop.visits import Origin, Visit, browse, from_the_future, origin_of, spelt_email, told, traits_of
from conosco.model.moment import DAY, HOUR, MINUTE

# An act: asked with the time at which it happens, it yields the messages that tell of it.
Act = Callable[[Clock], Iterator[Message]]

LATE_MAX: Final = 3 * DAY
# Hundredths of a euro below which an order pays for its way.
FREE_SHIPPING: Final = 50_00
SHIPPING: Final = 4_90


class Shop:
    """People and what the shop remembers of them; acts to come wait in a heap. ``order_prefix`` keeps its orders' numbers apart.

    The same pen, people and random numbers give the same messages.
    """

    def __init__(self, pen: Pen, people: Sequence[Person], rng: Random, order_prefix: str) -> None:
        self.pen = pen
        self.people = people
        self.rng = rng
        self.aftercare = Aftercare(self)
        self.places: dict[str, int] = {person.key: place for place, person in enumerate(people)}
        # Whether somebody wants letters; absent: was never asked.
        self.wants: dict[str, bool] = {}
        # Who signed in last, by anonymous id.
        self._signed_in: dict[str, str] = {}
        self._stores: dict[str, list[Store]] = {}
        for store in STORES:
            self._stores.setdefault(store.country.code, []).append(store)
        self._order_prefix = order_prefix
        self._orders = self._carts = self._seq = 0
        self._later: list[tuple[int, int, Act]] = []

    # What is to come.

    def later(self, at: int, act: Act) -> None:
        """Let something happen at ``at``."""
        self._seq += 1
        heapq.heappush(self._later, (at, self._seq, act))

    def due(self, before: int) -> Iterator[tuple[int, Act]]:
        """Take what is to happen before a moment, in order; what these acts put off until before it is taken, too."""
        while self._later and self._later[0][0] < before:
            at, _, act = heapq.heappop(self._later)
            yield at, act

    def open(self, start: int, days: int) -> None:
        """Put what goes on by itself into the future: subscriptions and monthly letters."""
        for person in self.people:
            if person.subscriber:
                at = start + int(self.rng.random() * days) * DAY + 9 * HOUR
                self.later(at, subscription(self, person))
            if person.user_ids:
                self.later(start + int(self.rng.random() * 28 * 24) * HOUR, self.aftercare.letters(person))

    def go_live(self, pen: Pen, rng: Random, order_prefix: str) -> None:
        """From here on write with another pen, so that nothing that is told is mistaken for the past; what was to come is given up."""
        self.pen, self.rng, self._order_prefix = pen, rng, order_prefix
        self._later.clear()

    def anyone(self) -> Person:
        """Somebody; those at the head of the list come more often."""
        return self.people[int(self.rng.random() ** 1.5 * len(self.people))]

    # Acts.

    def trip(self, person: Person) -> Act:
        """A visit of the pages, the app, a store or one of its kiosks."""
        lot = self.rng.random()
        if lot < 0.08 and person.standing != "visitor":
            return lambda clock: self._till(person, clock)
        if lot < 0.12 and person.user_ids:
            store = self._store(person)
            kiosk = Device(anonymous_id=store.kiosk, is_app=False, agent=TABLET_AGENT)
            return lambda clock: self.visit(person, kiosk, ("", None, ""), clock, store)
        device = person.devices[0] if lot < 0.7 else person.devices[int(self.rng.random() * len(person.devices))]
        return lambda clock: self.visit(person, device, origin_of(self.rng), clock)

    def lateness(self) -> int:
        """How long what a device has to tell stays there: mostly no time, but some were out of reach of a network."""
        return int(self.rng.random() * LATE_MAX / MINUTE) * MINUTE if self.rng.random() < 0.03 else 0

    def visit(
        self, person: Person, device: Device, origin: Origin, clock: Clock, store: Store | None = None
    ) -> Iterator[Message]:
        """A visit on a device: looking, perhaps a cart, perhaps a name, perhaps an order."""
        rng = self.rng
        visit = Visit(self.pen, clock, rng, person.key, person.country, device, origin)
        account = self._account(person)
        if account and self._signed_in.get(visit.anonymous_id) == account and store is None:
            visit.user_id = account
        cart: list[Article] = []
        cart_id = f"{self._order_prefix}cart-{self._carts:06d}"
        self._carts += 1
        for seen in browse(visit, person.country):
            if isinstance(seen, Article):
                fact = Fact("cart", cart_id, person.country.code)
                yield visit.track("Product Added", told(seen, person.country) | {"cart_id": cart_id, "quantity": 1}, fact)
                cart.append(seen)
            else:
                yield from_the_future(seen, clock) if rng.random() < 0.0005 else seen
        if person.key not in self.wants or rng.random() < 0.01:
            yield self._asked(person, visit)
        if store is not None:
            clock.tick(rng, 1, 5)
            place = {"store_id": store.store_id, "city": store.city.name, "country": store.country.code}
            yield visit.track("Store Visited", place)
        if account and visit.user_id is None and (store is not None or rng.random() < (0.8 if cart else 0.15)):
            clock.tick(rng, 5, 30)
            self._signed_in[visit.anonymous_id] = account
            yield visit.sign_in(account, traits_of(person, rng))
        if cart and person.standing != "visitor" and rng.random() < 0.6:
            yield from self._check_out(person, visit, cart, cart_id)

    def _asked(self, person: Person, visit: Visit) -> Message:
        """The banner is answered: letters and measuring, one, or neither. Answers change."""
        self.wants[person.key] = not self.wants[person.key] if person.key in self.wants else self.rng.random() < 0.6
        visit.clock.tick(self.rng, 1, 8)
        return visit.prefer({"marketing": self.wants[person.key], "analytics": self.rng.random() < 0.7})

    def _check_out(self, person: Person, visit: Visit, cart: list[Article], cart_id: str) -> Iterator[Message]:
        rng, clock = self.rng, visit.clock
        order_id, order = self._order(person, cart)
        order |= {"cart_id": cart_id, "affiliation": "shop"}
        clock.tick(rng, 10, 90)
        yield visit.track("Checkout Started", order)
        if rng.random() < 0.25:
            return
        clock.tick(rng, 30, 300)
        # The shop's server tells of the order at once, however late the device is.
        server = Clock(clock.at)
        if visit.user_id is not None:
            known: dict[str, Any] = {"user_id": visit.user_id}
            known |= {"anonymous_id": visit.anonymous_id} if rng.random() < 0.3 else {}
        else:
            known = {"by": self._contact(person), "anonymous_id": visit.anonymous_id}
        fact = self._booked(person, order_id, order, cart_id)
        yield self.pen.server(server, "server", "Order Completed", person, order, fact=fact, **known)
        known.pop("anonymous_id", None)
        yield from self.aftercare.after_order(person, server, order_id, order, known)

    def _till(self, person: Person, clock: Clock) -> Iterator[Message]:
        """A receipt at a till: by a loyalty card, by an address for the receipt, or of nobody known."""
        rng, store = self.rng, self._store(person)
        order_id, order = self._order(person, [_article(rng) for _ in range(1 + int(rng.random() * 4))])
        order |= {"store_id": store.store_id, "affiliation": "till"}
        fact = self._booked(person, order_id, order, "")
        clock.tick(rng, 0, 60)
        if person.loyal:
            known: dict[str, Any] = {"user_id": person.user_ids[0]}
        elif rng.random() < 0.4:
            known = {"by": self._contact(person)}
        else:
            # Every event needs a name: that of the receipt identifies nobody twice.
            known = {"by": {}, "anonymous_id": f"receipt-{order_id}"}
        yield self.pen.server(clock, "pos", "Order Completed", person, order, fact=fact, **known)
        if "anonymous_id" not in known:
            yield from self.aftercare.after_order(person, clock, order_id, order, known)

    def _account(self, person: Person) -> str:
        """The user id that a customer signs in with; some have two."""
        if not person.user_ids:
            return ""
        return person.user_ids[-1] if len(person.user_ids) > 1 and self.rng.random() < 0.3 else person.user_ids[0]

    def _contact(self, person: Person) -> dict[str, str]:
        """What is given without signing in: an address, a throw-away one, or that of somebody near; sometimes a number."""
        rng = self.rng
        if person.throwaway is not None and rng.random() < 0.4:
            return {"email": person.throwaway}
        if rng.random() < 0.02:
            return {"email": self.people[(self.places[person.key] + 1) % len(self.people)].email}
        given = {"email": spelt_email(person, rng)}
        return given | ({"phone": person.phone} if person.phone is not None and rng.random() < 0.4 else {})

    def _store(self, person: Person) -> Store:
        stores = self._stores[person.country.code]
        return stores[int(self.rng.random() * len(stores))]

    def _order(self, person: Person, cart: Sequence[Article]) -> tuple[str, dict[str, Any]]:
        """A number for an order, and what an event tells of it."""
        self._orders += 1
        country = person.country
        quantities = [1 + int(self.rng.random() ** 3 * 4) for _ in cart]
        lines = [told(article, country, quantity) for article, quantity in zip(cart, quantities, strict=True)]
        revenue = sum(article.prices[country.code] * quantity for article, quantity in zip(cart, quantities, strict=True))
        shipping = 0 if revenue * 100 >= FREE_SHIPPING * country.money else SHIPPING * country.money // 100
        order_id = f"{self._order_prefix}{self._orders:06d}"
        order: dict[str, Any] = {
            "order_id": order_id,
            "revenue": money(revenue),
            "shipping": money(shipping),
            "total": money(revenue + shipping),
            "currency": country.currency,
            "products": lines,
        }
        return order_id, order

    def _booked(self, person: Person, order_id: str, order: dict[str, Any], cart_id: str) -> Fact:
        amount = int(order["revenue"].scaleb(2))
        return Fact("order", order_id, person.country.code, person.country.currency, amount, cart_id)


def _article(rng: Random) -> Article:
    return ARTICLES[int(rng.random() * len(ARTICLES))]
