"""Who shops: invented people with their households, devices and several ways to be written. Nobody of them exists."""

from random import Random
from typing import Final, Literal

import msgspec

from conosco.cli.shop.places import COUNTRIES, City, Country
from conosco.model.moment import DAY, HOUR, MINUTE, SECOND

Standing = Literal["customer", "guest", "visitor"]

_FIRST: Final = {
    "it": "Alessia Bruno Chiara Davide Elena Fabio Giulia Ivano Laura Marco Nicolò Noemi Paolo Rita Sandro Teresa Ugo",
    "pl": "Agnieszka Bartek Celina Dawid Ewa Filip Grażyna Hubert Iga Janusz Łucja Łukasz Małgorzata Paweł Zofia",
    "pt": "Ana António Catarina Duarte Eva Fábio Graça Hugo Inês João Leonor Miguel Rita Tiago Vasco",
    "de": "Anke Björn Clara Dirk Elke Fritz Grete Hannes Ilse Jörg Käthe Lukas Marlene Nils Uwe",
    "en": "Alice Amir Bella Callum Daisy Edwin Freya George Harriet Imogen Jack Kiran Lucy Oscar Zoë",
}
_LAST: Final = {
    "it": "Amadori Bellini Caruso D'Amico Donà Esposito Ferraro Gallo Lombardi Marchetti Neri Orsini Ricci Serra",
    "pl": "Adamczyk Borkowska Czajka Dąbrowski Gajda Jabłońska Kalinowski Łuczak Mazur Nowicka Śliwa Wójcik Zając",
    "pt": "Almeida Barros Conceição Duarte Esteves Faria Gonçalves Lopes Magalhães Neves Pinheiro Queirós Simões",
    "de": "Bäcker Fischer Groß Hoffmann Jäger Köhler Lehmann Möller Schäfer Schütz Vogel Weiß Zimmer",
    "en": "Archer Barlow Carver Dalton Ellery Fenwick Garside Hollis Jessop Kirkby Marlow Norbury Oakes Penrose",
}
_DOMAINS: Final = ("example.com", "example.net", "example.org")
_PLAIN: Final = str.maketrans(
    dict(zip("ąćęłńóśźżáâãàçéêíõôúñòùìÁŁŚÉöäüë", "acelnoszzaaaaceeioounouiALSEoaue", strict=True)) | {"ß": "ss"}
)
_AGENTS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
)
TABLET_AGENT: Final = (
    "Mozilla/5.0 (Linux; Android 14; SM-X210) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
)
# How far a clock that is wrong may be: minutes, a zone mistaken for another, or years after its battery died.
_WRONG_CLOCKS: Final = (-40 * MINUTE, 17 * MINUTE, 2 * HOUR, -3 * DAY, -900 * DAY)


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What a person uses. ``private``: it forgets its anonymous id after each visit. ``clock_off``: its clock less the true one."""

    anonymous_id: str
    is_app: bool
    agent: str
    private: bool = False
    clock_off: int = 0


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Someone who shops, as they truly are, and ``dirt``, the ways in which others write it down.

    ``user_ids``: none unless a customer, two if somebody registered again. ``email`` is None only for people who never gave
    one. ``other_emails`` are a second address, a throw-away and a misspelling, where there are any.
    """

    key: str
    standing: Standing
    user_ids: tuple[str, ...]
    first_name: str
    last_name: str
    country: Country
    city: City
    street: str
    born: str
    email: str
    second_email: str | None
    misspelt_email: str | None
    throwaway: str | None
    phone: str | None
    devices: tuple[Device, ...]
    loyal: bool
    subscriber: bool
    opens: float
    scanned: bool


def invent(count: int, seed: int) -> list[Person]:
    """Invent so many people. The first n of a larger number are the same people."""
    people: list[Person] = []
    ordinals = dict.fromkeys((country.code for country in COUNTRIES), 0)
    tablet: Device | None = None
    seats = 0
    family: Country | None = None
    for number in range(count):
        rng = Random(f"{seed}/person/{number}")
        joined = seats > 0
        if not joined:
            # A new household: most are one person, some share a tablet and with it an anonymous id.
            seats = rng.choice((1, 1, 1, 1, 1, 1, 2, 2, 3, 4))
            family = _country(rng.random())
            tablet = (
                Device(anonymous_id=f"tab-{rng.getrandbits(64):016x}", is_app=False, agent=TABLET_AGENT) if seats > 1 else None
            )
        assert family is not None
        person = _person(number, rng, family, ordinals[family.code], tablet)
        if joined and people[-1].phone is not None and rng.random() < 0.3:
            # Those who live together may give the one number of their home.
            person = msgspec.structs.replace(person, phone=people[-1].phone)
        people.append(person)
        ordinals[family.code] += 1
        seats -= 1
    return people


def plain(text: str) -> str:
    """The text as those write it who have not its letters."""
    return text.translate(_PLAIN)


def _country(lot: float) -> Country:
    for country in COUNTRIES:
        lot -= country.share
        if lot < 0:
            return country
    return COUNTRIES[-1]


def _person(number: int, rng: Random, country: Country, ordinal: int, tablet: Device | None) -> Person:
    lot = rng.random()
    standing: Standing = "customer" if lot < 0.55 else "guest" if lot < 0.75 else "visitor"
    first, last = rng.choice(_FIRST[country.language].split()), rng.choice(_LAST[country.language].split())
    stem = plain(f"{first}.{last}").lower().replace("'", "")
    email = f"{stem}{number}@{rng.choice(_DOMAINS)}"
    user_ids: tuple[str, ...] = (f"C-{100_000 + number}",) if standing == "customer" else ()
    if user_ids and rng.random() < 0.01:
        user_ids += (f"C-{900_000 + number}",)
    devices = [_device(rng) for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))]
    if tablet is not None:
        devices.append(tablet)
    return Person(
        key=f"person-{number:06d}",
        standing=standing,
        user_ids=user_ids,
        first_name=first,
        last_name=last,
        country=country,
        city=rng.choice(country.cities),
        street=f"{rng.choice(country.streets)} {rng.randint(1, 120)}",
        born=f"{rng.randint(1945, 2007)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
        email=email,
        second_email=f"{stem[0]}{number}@work.example" if rng.random() < 0.15 else None,
        misspelt_email=_misspelt(email, rng) if rng.random() < 0.06 else None,
        throwaway=f"tmp{rng.getrandbits(40):010x}@throwaway.example" if rng.random() < 0.05 else None,
        phone=country.phone(ordinal) if rng.random() < 0.7 else None,
        devices=tuple(devices),
        loyal=bool(user_ids) and rng.random() < 0.4,
        subscriber=bool(user_ids) and rng.random() < 0.08,
        opens=rng.choice((0.0, 0.1, 0.3, 0.5, 0.8)),
        scanned=rng.random() < 0.08,
    )


def _device(rng: Random) -> Device:
    is_app = rng.random() < 0.25
    return Device(
        anonymous_id=f"{rng.getrandbits(128):032x}",
        is_app=is_app,
        agent=_AGENTS[rng.choice((1, 2))] if is_app else rng.choice(_AGENTS),
        private=not is_app and rng.random() < 0.08,
        clock_off=rng.choice(_WRONG_CLOCKS) + rng.randint(0, 59) * SECOND if rng.random() < 0.03 else 0,
    )


def _misspelt(email: str, rng: Random) -> str:
    """The address with two neighbouring letters of its name exchanged; the digits stay, so that it is nobody else's."""
    places = [at for at in range(email.index("@") - 1) if email[at] != email[at + 1] and (email[at] + email[at + 1]).isalpha()]
    at = rng.choice(places)
    return email[:at] + email[at + 1] + email[at] + email[at + 2 :]
