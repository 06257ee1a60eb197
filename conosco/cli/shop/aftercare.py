"""What follows from buying: letters, refunds, questions to the help desk, surveys, loyalty points, subscriptions."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from random import Random
from typing import Any, Final, Protocol

from conosco.cli.shop.messages import NOBODY, Clock, Fact, Message, Pen
from conosco.cli.shop.people import Device, Person
from conosco.cli.shop.visits import FROM_MAIL, SITE, Origin
from conosco.model.moment import DAY, HOUR, MINUTE, SECOND, spell_moment

SCANNER: Final = "Mozilla/5.0 (compatible; Proofpoint URL Defense)"
_SUBJECTS: Final = {
    "it": ("Dov'è il mio ordine?", "Il pacco è arrivato rotto", "Vorrei cambiare la taglia"),
    "pl": ("Gdzie jest moje zamówienie?", "Paczka przyszła uszkodzona", "Chcę wymienić rozmiar"),
    "pt": ("Onde está a minha encomenda?", "A encomenda chegou partida", "Quero trocar o tamanho"),
    "de": ("Wo ist meine Bestellung?", "Das Paket kam beschädigt an", "Ich möchte die Größe tauschen"),
    "en": ("Where is my order?", "The parcel arrived broken", "I would like another size"),
}
_COMMENTS: Final = {
    "it": ("Tutto perfetto", "Consegna lenta"),
    "pl": ("Wszystko świetnie", "Wolna dostawa"),
    "pt": ("Tudo ótimo", "Entrega lenta"),
    "de": ("Alles bestens", "Lieferung dauerte"),
    "en": ("All good", "Slow delivery"),
}
_CATEGORIES: Final = ("delivery", "damage", "exchange")
_AGENTS: Final = ("desk-1", "desk-2", "desk-3")
_MAILER: Final = {"name": "mailer", "version": "3.0"}
TIERS: Final = (("gold", 1_000), ("silver", 300), ("bronze", 0))
MONTH: Final = 28 * DAY
Known = dict[str, Any]


class House(Protocol):
    """What is needed of the shop."""

    pen: Pen
    rng: Random
    wants: dict[str, bool]

    def later(self, at: int, act: Callable[[Clock], Iterator[Message]]) -> None:
        """Let something happen at ``at``."""

    def visit(self, person: Person, device: Device, origin: Origin, clock: Clock) -> Iterator[Message]:
        """A visit of the pages."""


class Aftercare:
    """The part of the shop that people meet after an order. ``known`` says how a system knows the person: see Pen.server."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._points: dict[str, int] = {}
        self._tickets = 0

    def after_order(self, person: Person, clock: Clock, order_id: str, order: dict[str, Any], known: Known) -> Iterator[Message]:
        """What an order brings at once, and what it may bring later."""
        house, rng, at = self._house, self._house.rng, clock.at
        if person.loyal:
            yield from self._earn(person, clock, order_id, order["revenue"])
        address = {"email": person.email}
        if rng.random() < 0.7:
            house.later(at + MINUTE, lambda clock: self._letter(person, clock, address, "order_confirmed", 0.6))
        if rng.random() < 0.06:
            house.later(
                at + (3 + int(rng.random() * 17)) * DAY, lambda clock: self._refund(person, clock, order_id, order, known)
            )
        if rng.random() < 0.1:
            house.later(at + int(1 + rng.random() * 120) * HOUR, lambda clock: self._ticket(person, clock, order_id, address))
        if rng.random() < 0.08:
            house.later(at + 7 * DAY, lambda clock: self._survey(person, clock, order_id, address))

    def letters(self, person: Person) -> Callable[[Clock], Iterator[Message]]:
        """A letter every four weeks to those who want it."""

        def act(clock: Clock) -> Iterator[Message]:
            self._house.later(clock.at + MONTH, act)
            if self._house.wants.get(person.key):
                yield from self._letter(person, clock, {"email": person.email}, "newsletter", person.opens)

        return act

    def _letter(self, person: Person, clock: Clock, address: dict[str, str], template: str, opens: float) -> Iterator[Message]:
        """A letter: sent, delivered or bounced, looked through by a scanner, opened, followed to the pages, or the last one."""
        rng, house = self._house.rng, self._house
        about = {"email_id": f"{template}-{self._house.pen.message_id()}", "email_subject": template, "campaign_name": "monthly"}

        def tell(event: str, more: dict[str, Any] | None = None) -> Message:
            return self._house.pen.server(clock, "mail", event, person, about | (more or {}), by=address)

        yield tell("Email Sent")
        clock.tick(rng, 2, 20)
        if rng.random() < 0.01:
            yield tell("Email Bounced", {"bounce_type": "soft"})
            return
        yield tell("Email Delivered")
        link = {"link_id": "1", "link_url": f"{SITE}/?utm_source=newsletter"}
        if person.scanned:
            clock.tick(rng, 1, 2)
            yield self._scan(clock, address, about | link)
        if rng.random() >= opens:
            return
        clock.tick(rng, 60, 40_000)
        yield tell("Email Opened", {"machine_open": True} if rng.random() < 0.2 else None)
        if rng.random() < 0.3:
            clock.tick(rng, 3, 60)
            yield tell("Email Link Clicked", link)
            house.later(clock.at + SECOND, lambda clock: house.visit(person, person.devices[0], FROM_MAIL, clock))
        elif rng.random() < 0.02:
            clock.tick(rng, 5, 60)
            house.wants[person.key] = False
            yield tell("Unsubscribed")
            yield self._withdraw(person, clock, address)

    def _scan(self, clock: Clock, address: dict[str, str], about: dict[str, Any]) -> Message:
        """A program follows every link of a letter before anybody has read it."""
        context = {"traits": address, "userAgent": SCANNER, "library": _MAILER}
        members = {"event": "Email Link Clicked", "properties": about, "context": context}
        return self._house.pen.write(clock, "mail", "track", (("email", address["email"]),), NOBODY, {}, members)

    def _withdraw(self, person: Person, clock: Clock, address: dict[str, str]) -> Message:
        context = {"traits": address, "consent": {"categoryPreferences": {"marketing": False}}, "library": _MAILER}
        members = {"event": "Segment Consent Preference Updated", "properties": {}, "context": context}
        return self._house.pen.write(clock, "mail", "track", (("email", address["email"]),), person.key, {}, members)

    def _refund(self, person: Person, clock: Clock, order_id: str, order: dict[str, Any], known: Known) -> Iterator[Message]:
        line = order["products"][0]
        total: Decimal = line["price"] * line["quantity"]
        properties = {"order_id": order_id, "total": total, "currency": order["currency"], "products": [line]}
        fact = Fact("refund", order_id, person.country.code, person.country.currency, int(total.scaleb(2)))
        yield self._house.pen.server(clock, "server", "Order Refunded", person, properties, fact=fact, **known)

    def _ticket(self, person: Person, clock: Clock, order_id: str, address: dict[str, str]) -> Iterator[Message]:
        """A question: opened, answered and mostly solved; some are opened again."""
        rng = self._house.rng
        self._tickets += 1
        kind = int(rng.random() * 3)
        ticket = {"ticket_id": f"T-{order_id}-{self._tickets}", "category": _CATEGORIES[kind]}

        def tell(event: str, more: dict[str, Any]) -> Message:
            return self._house.pen.server(clock, "desk", event, person, ticket | more, by=address)

        subject = _SUBJECTS[person.country.language][kind]
        opened = {"subject": subject, "channel": "email", "priority": "high" if kind == 1 else "normal", "order_id": order_id}
        yield tell("Ticket Opened", opened)
        clock.tick(rng, 600, 90_000)
        agent = _AGENTS[int(rng.random() * len(_AGENTS))]
        yield tell("Ticket Updated", {"status": "answered", "assignee": agent})
        if rng.random() < 0.1:
            clock.tick(rng, 3_600, 200_000)
            yield tell("Ticket Reopened", {"subject": subject})
        if rng.random() < 0.75:
            clock.tick(rng, 3_600, 200_000)
            yield tell("Ticket Resolved", {"assignee": agent, "resolution": "solved", "satisfaction": 1 + int(rng.random() * 5)})

    def _survey(self, person: Person, clock: Clock, order_id: str, address: dict[str, str]) -> Iterator[Message]:
        score = int((1 - self._house.rng.random() ** 2) * 11)
        answer = {"survey_id": "after_delivery", "question": "recommend", "score": score, "order_id": order_id}
        answer["comment"] = _COMMENTS[person.country.language][score < 7]
        yield self._house.pen.server(clock, "mail", "Survey Answered", person, answer, by=address)

    def _earn(self, person: Person, clock: Clock, order_id: str, revenue: Decimal) -> Iterator[Message]:
        """Points: one for each unit of money; they open the account and lift it into another tier."""
        account = {"loyalty_account_id": f"L-{person.user_ids[0]}", "programme": "Casa"}
        before = self._points.get(person.key)
        if before is None:
            yield self._loyalty(person, clock, "Loyalty Account Opened", account | {"tier": "bronze", "balance": 0})
        balance = (before or 0) + int(revenue)
        self._points[person.key] = balance
        earned = account | {"points": int(revenue), "balance": balance, "order_id": order_id}
        yield self._loyalty(person, clock, "Loyalty Points Earned", earned)
        if _tier(balance) != _tier(before or 0):
            yield self._loyalty(person, clock, "Loyalty Tier Changed", account | {"tier": _tier(balance), "balance": balance})

    def _loyalty(self, person: Person, clock: Clock, event: str, properties: dict[str, Any]) -> Message:
        clock.tick(self._house.rng, 0, 2)
        return self._house.pen.server(clock, "server", event, person, properties)


def subscription(house: House, person: Person) -> Callable[[Clock], Iterator[Message]]:
    """Coffee every thirty days, until it is paused for a while or cancelled."""
    about = {"subscription_id": f"S-{person.user_ids[0]}", "plan": "coffee_monthly", "interval": "month"}

    def tell(clock: Clock, event: str, more: dict[str, Any]) -> Message:
        return house.pen.server(clock, "server", event, person, about | more)

    def renew(clock: Clock) -> Iterator[Message]:
        lot = house.rng.random()
        if lot < 0.06:
            yield tell(clock, "Subscription Cancelled", {"reason": "too_much" if lot < 0.03 else "moved"})
        elif lot < 0.1:
            yield tell(clock, "Subscription Paused", {})
            house.later(clock.at + 2 * MONTH, lambda clock: resume(clock, "Subscription Resumed"))
        else:
            yield from resume(clock, "Subscription Renewed")

    def resume(clock: Clock, event: str) -> Iterator[Message]:
        yield tell(clock, event, {"renews_at": spell_moment(clock.at + 30 * DAY)})
        house.later(clock.at + 30 * DAY, renew)

    def start(clock: Clock) -> Iterator[Message]:
        yield tell(clock, "Subscription Started", {"currency": person.country.currency, "quantity": 1})
        house.later(clock.at + 30 * DAY, renew)

    return start


def _tier(balance: int) -> str:
    return next(tier for tier, least in TIERS if balance >= least)
