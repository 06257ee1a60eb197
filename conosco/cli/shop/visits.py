"""What people do on the shop's pages and in its app: look, fill a cart, sign in, buy or give up."""

from collections.abc import Iterator
from random import Random
from typing import Any, Final

from conosco.cli.shop.goods import ARTICLES, CATEGORIES, Article, money
from conosco.cli.shop.messages import NOBODY, Clock, Fact, Message, Pen, SourceKey, Who, contact_points, spell
from conosco.cli.shop.people import Device, Person, plain
from conosco.cli.shop.places import Country

SITE: Final = "https://shop.example.com"
# Where visits come from: a referrer and a campaign, or neither.
_ORIGINS: Final[tuple[tuple[str, dict[str, str] | None, str], ...]] = (
    ("", None, ""),
    ("", None, ""),
    ("https://www.google.com/", None, ""),
    ("https://www.bing.com/", None, ""),
    ("https://www.google.com/", {"source": "google", "medium": "cpc", "name": "brand", "term": "shop"}, "&gclid=demo"),
    ("https://www.instagram.com/", {"source": "instagram", "medium": "social", "name": "spring_looks"}, ""),
    ("https://l.facebook.com/", {"source": "facebook", "medium": "paid_social", "name": "back_again"}, "&fbclid=demo"),
    ("https://blog.example.org/moka", {"source": "blog", "medium": "referral", "name": "moka_guide"}, ""),
)
FROM_MAIL: Final = ("https://mail.example.net/", {"source": "newsletter", "medium": "email", "name": "monthly"}, "")
_LOCALES: Final = {"it": "it-IT", "pl": "pl-PL", "pt": "pt-PT", "de": "de-DE", "en": "en-GB"}
# Clocks of some pages run into another century; the server knows better.
FUTURE: Final = "2099-12-31T23:59:59.000Z"
BOTS: Final = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/141.0.0.0 Safari/537.36",
)
Origin = tuple[str, dict[str, str] | None, str]


class Visit:
    """A visit on one device: it writes calls as the tag or the app's SDK sends them, all with the device's anonymous id."""

    def __init__(
        self, pen: Pen, clock: Clock, rng: Random, person: str, country: Country, device: Device, origin: Origin
    ) -> None:
        self._pen = pen
        self.clock = clock
        self.rng = rng
        self._person = person
        self._device = device
        self.anonymous_id = f"{rng.getrandbits(128):032x}" if device.private else device.anonymous_id
        self.user_id: str | None = None
        self._source: SourceKey = "app" if device.is_app else "web"
        self._referrer, campaign, self._click = origin
        self._landed = False
        context: dict[str, Any] = {
            "userAgent": device.agent,
            "locale": _LOCALES[country.language],
            "timezone": country.timezone,
            "ip": f"203.0.113.{int(rng.random() * 254) + 1}",
        }
        if device.is_app:
            context["library"] = {"name": "analytics-kotlin", "version": "1.22.0"}
            context["app"] = {"name": "Shop", "version": "5.3.1"}
        else:
            context["library"] = {"name": "analytics.js", "version": "npm:next-1.84.3"}
        self._campaign = campaign
        self._context = context

    def page(self, name: str, path: str, category: str | None = None) -> Message:
        """A page call, or a screen call in the app. The first of a visit carries its campaign."""
        context = self._context
        if self._device.is_app:
            members: dict[str, Any] = {"name": name, "properties": {"name": name}, "context": context}
            return self._write("screen", members)
        url, search = SITE + path, ""
        if not self._landed and self._campaign is not None:
            utm = {"name": "campaign"}
            search = "?" + "&".join(f"utm_{utm.get(key, key)}={value}" for key, value in self._campaign.items()) + self._click
            context = {**context, "campaign": self._campaign}
        where = {"url": url + search, "path": path, "search": search, "title": name, "referrer": self._referrer}
        self._context["page"] = {**where, "url": url, "search": ""}
        self._referrer, self._landed = url, True
        members = {"name": name, "properties": where, "context": {**context, "page": where}}
        if category:
            members["category"] = category
        return self._write("page", members)

    def track(self, event: str, properties: dict[str, Any], fact: Fact | None = None, **members: Any) -> Message:
        """A track call on the page where the visit is."""
        return self._write("track", {"event": event, "properties": properties, "context": self._context, **members}, fact)

    def prefer(self, choice: dict[str, bool]) -> Message:
        """The person answers the banner, or changes an earlier answer."""
        context = {**self._context, "consent": {"categoryPreferences": choice}}
        event = "Segment Consent Preference Updated"
        return self._write("track", {"event": event, "properties": {}, "context": context})

    def sign_in(self, user_id: str, traits: dict[str, Any]) -> Message:
        """An identify call: from here on, calls of the visit carry the user id."""
        self.user_id = user_id
        return self._write("identify", {"traits": traits, "context": self._context}, also=contact_points(traits))

    def _write(self, kind: str, members: dict[str, Any], fact: Fact | None = None, also: Who = ()) -> Message:
        ids = {"anonymousId": self.anonymous_id}
        who: Who = (*also, ("anonymous_id", self.anonymous_id))
        if self.user_id is not None:
            ids["userId"] = self.user_id
            who = (("user_id", self.user_id), *who)
        return self._pen.write(
            self.clock, self._source, kind, who, self._person, ids, members, clock_off=self._device.clock_off, fact=fact
        )


def origin_of(rng: Random) -> Origin:
    """Where a visit comes from."""
    return _ORIGINS[int(rng.random() * len(_ORIGINS))]


def browse(visit: Visit, country: Country) -> Iterator[Message | Article]:
    """A look around: the start page or a category, then articles. Yields calls, and each article that is put into the cart."""
    rng, clock = visit.rng, visit.clock
    category = CATEGORIES[int(rng.random() * len(CATEGORIES))]
    clock.tick(rng, 0, 2)
    yield visit.page("Home", "/") if rng.random() < 0.6 else visit.page(category.title(), f"/{category}", category)
    for _ in range(1 + int(rng.random() * 3)):
        clock.tick(rng, 5, 60)
        # Articles at the head of the catalogue are looked at more.
        article = ARTICLES[int(rng.random() ** 1.7 * len(ARTICLES))]
        yield visit.page(article.name, article.path, article.category)
        clock.tick(rng, 0, 1)
        yield visit.track("Product Viewed", told(article, country))
        if rng.random() < 0.35:
            clock.tick(rng, 3, 40)
            yield article


def told(article: Article, country: Country, quantity: int | None = None) -> dict[str, Any]:
    """An article as an event tells of it."""
    product = {
        "product_id": article.product_id,
        "sku": article.sku,
        "name": article.name,
        "category": article.category,
        "price": money(article.prices[country.code]),
    }
    return product | ({"currency": country.currency} if quantity is None else {"quantity": quantity})


def crawl(pen: Pen, clock: Clock, rng: Random, country: Country) -> Iterator[Message]:
    """A program that reads pages. It is nobody."""
    agent = BOTS[int(rng.random() * len(BOTS))]
    device = Device(anonymous_id=f"{rng.getrandbits(128):032x}", is_app=False, agent=agent)
    visit = Visit(pen, clock, rng, NOBODY, country, device, ("", None, ""))
    for _ in range(3 + int(rng.random() * 6)):
        article = ARTICLES[int(rng.random() * len(ARTICLES))]
        clock.tick(rng, 1, 3)
        yield visit.page(article.name, article.path, article.category)


def from_the_future(message: Message, clock: Clock) -> Message:
    """The same call from a device that thinks it is another century."""
    return message._replace(body=message.body.replace(spell(clock.at).encode(), FUTURE.encode(), 1))


def traits_of(person: Person, rng: Random) -> dict[str, Any]:
    """What a form brings in: true, or typed in a hurry, on another keyboard, or into the wrong fields."""
    first, last, city, street = person.first_name, person.last_name, person.city.name, person.street
    lot = rng.random()
    if lot < 0.3:
        first, last, city, street = plain(first), plain(last), person.city.plain, plain(street)
    elif lot < 0.35:
        first, last = first.upper(), last.upper()
    elif lot < 0.4:
        first, last = first.lower(), f" {last.lower()} "
    if rng.random() < 0.02:
        first, last = last, first
    address = {"street": street, "city": city, "postal_code": person.city.postal_code, "country": person.country.code}
    traits: dict[str, Any] = {
        "first_name": first,
        "last_name": last,
        "email": spelt_email(person, rng),
        "country": person.country.code,
        "language": person.country.language,
        "timezone": person.country.timezone,
        "address": address,
    }
    if person.phone is not None and rng.random() < 0.6:
        traits["phone"] = spelt_phone(person.phone, person.country, rng)
    return traits


def spelt_email(person: Person, rng: Random) -> str:
    """One of the person's addresses, as typed."""
    lot = rng.random()
    if lot < 0.12 and person.second_email is not None:
        return person.second_email
    if lot < 0.2 and person.misspelt_email is not None:
        return person.misspelt_email
    if lot < 0.3:
        return person.email.title()
    return f" {person.email} " if lot < 0.34 else person.email


def spelt_phone(phone: str, country: Country, rng: Random) -> str:
    """A telephone number as typed: with blanks, with 00, without its plus, or as one calls it from inside the country."""
    lot, own = rng.random(), phone.removeprefix(country.calling)
    if lot < 0.2:
        return f"00{country.calling[1:]} {own}"
    if lot < 0.3:
        return f"{country.trunk}{own[:3]} {own[3:]}" if country.trunk else phone[1:]
    return f"{country.calling} {own[:3]} {own[3:]}" if lot < 0.6 else phone
