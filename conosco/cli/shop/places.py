"""Where the shop is: its five countries with their clocks, money, cities and telephone numbers that nobody has."""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Final

import msgspec

from conosco.model.moment import DAY, HOUR, MINUTE, SECOND

EPOCH_DAY: Final = date(1970, 1, 1)


class City(msgspec.Struct, frozen=True):
    """A city, as it is written, as it is written by those without its letters, and its postal code."""

    name: str
    plain: str
    postal_code: str


class Country(msgspec.Struct, frozen=True, kw_only=True):
    """A country: ``winter_hours`` its clock's distance from UTC, ``money`` what a euro is worth in hundredths of its currency.

    ``phones`` are the beginnings of telephone numbers, each for as many numbers as the digits that follow can spell.
    Where a regulator has set numbers aside for fiction, they are those; elsewhere no number can begin so.
    """

    code: str
    language: str
    timezone: str
    winter_hours: int
    currency: str
    money: int
    share: float
    phones: tuple[tuple[str, int], ...]
    trunk: str
    calling: str
    streets: tuple[str, ...]
    cities: tuple[City, ...]

    def local(self, day: int, minute: int) -> int:
        """The moment at which clocks here show this minute of this day. A minute that a clock skips is the one an hour on."""
        wall = day * DAY + minute * MINUTE
        at = wall - self.winter_hours * HOUR
        begins, ends = _summer(int((EPOCH_DAY + timedelta(days=day)).year))
        # Of the hour that comes twice in autumn, the first is meant.
        return at - HOUR if begins + HOUR <= at < ends + HOUR else at

    def offset(self, at: int) -> int:
        """What to add to a moment to get the time that clocks here show."""
        begins, ends = _summer(datetime.fromtimestamp(at // SECOND, UTC).year)
        return self.winter_hours * HOUR + (HOUR if begins <= at < ends else 0)

    def phone(self, ordinal: int) -> str | None:
        """The telephone number of the nth person of the country; None when those set aside have run out."""
        for start, digits in self.phones:
            if ordinal < 10**digits:
                return f"{self.calling}{start}{ordinal:0{digits}d}"
            ordinal -= 10**digits
        return None


@cache
def _summer(year: int) -> tuple[int, int]:
    """When clocks of the Union (and of the United Kingdom) go forward and back: the last Sundays of March and October, 01:00 UTC."""
    return _last_sunday(year, 3), _last_sunday(year, 10)


def _last_sunday(year: int, month: int) -> int:
    last = date(year, month, 31)
    last -= timedelta(days=(last.weekday() + 1) % 7)
    return (last - EPOCH_DAY).days * DAY + HOUR


def _cities(text: str) -> tuple[City, ...]:
    return tuple(City(*each.split("|")) for each in text.split("; "))


# Ofcom's numbers for drama; mobile ones first.
_BRITISH: Final = (
    *(("7700900", 3), ("2079460", 3), ("1134960", 3), ("1144960", 3), ("1154960", 3), ("1164960", 3), ("1174960", 3)),
    *(("1184960", 3), ("1214960", 3), ("1314960", 3), ("1414960", 3), ("1514960", 3), ("1614960", 3), ("1632960", 3)),
)
# The Bundesnetzagentur's numbers for film and television.
_GERMAN: Final = (("3023125", 3), ("6990009", 3), ("4066969", 3), ("2214710", 3), ("8999998", 3))

COUNTRIES: Final = (
    Country(
        code="IT",
        language="it",
        timezone="Europe/Rome",
        winter_hours=1,
        currency="EUR",
        money=100,
        share=0.3,
        phones=(("000", 7),),
        trunk="",
        calling="+39",
        streets=("Via Roma", "Via Garibaldi", "Corso Italia", "Viale dei Mille", "Piazza San Marco"),
        cities=_cities("Milano|Milano|20121; Forlì|Forli|47121; Cefalù|Cefalu|90015; Torino|Torino|10121; Nardò|Nardo|73048"),
    ),
    Country(
        code="PL",
        language="pl",
        timezone="Europe/Warsaw",
        winter_hours=1,
        currency="PLN",
        money=430,
        share=0.25,
        phones=(("000", 6),),
        trunk="",
        calling="+48",
        streets=("ul. Długa", "ul. Piłsudskiego", "al. Niepodległości", "ul. Świętojańska", "ul. Polna"),
        cities=_cities(
            "Łódź|Lodz|90-001; Kraków|Krakow|30-001; Gdańsk|Gdansk|80-001; Wrocław|Wroclaw|50-001; Warszawa|Warszawa|00-001"
        ),
    ),
    Country(
        code="PT",
        language="pt",
        timezone="Europe/Lisbon",
        winter_hours=0,
        currency="EUR",
        money=100,
        share=0.2,
        phones=(("000", 6),),
        trunk="",
        calling="+351",
        streets=("Rua Direita", "Avenida da Liberdade", "Rua de São João", "Travessa do Açúcar", "Rua Augusta"),
        cities=_cities(
            "São João da Madeira|Sao Joao da Madeira|3700-001; Lisboa|Lisboa|1000-001; Évora|Evora|7000-001; Guimarães|Guimaraes|4800-001"
        ),
    ),
    Country(
        code="DE",
        language="de",
        timezone="Europe/Berlin",
        winter_hours=1,
        currency="EUR",
        money=100,
        share=0.15,
        phones=_GERMAN,
        trunk="0",
        calling="+49",
        streets=("Hauptstraße", "Bahnhofstraße", "Gartenweg", "Schulstraße", "Am Mühlbach"),
        cities=_cities(
            "Köln|Koeln|50667; München|Muenchen|80331; Berlin|Berlin|10115; Düsseldorf|Duesseldorf|40210; Jena|Jena|07743"
        ),
    ),
    Country(
        code="GB",
        language="en",
        timezone="Europe/London",
        winter_hours=0,
        currency="GBP",
        money=85,
        share=0.1,
        phones=_BRITISH,
        trunk="0",
        calling="+44",
        streets=("High Street", "Station Road", "Church Lane", "Mill Road", "The Crescent"),
        cities=_cities(
            "London|London|EC1A 1AA; Leeds|Leeds|LS1 1AA; Bristol|Bristol|BS1 1AA; Cardiff|Cardiff|CF10 1AA; York|York|YO1 1AA"
        ),
    ),
)
STORES_EACH: Final = 2


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """A store of the chain, with the kiosk on which its customers sign in."""

    store_id: str
    country: Country
    city: City

    @property
    def kiosk(self) -> str:
        """The anonymous id of its kiosk."""
        return f"kiosk-{self.store_id}"


STORES: Final = tuple(
    Store(store_id=f"{country.code.lower()}-{number + 1}", country=country, city=country.cities[number])
    for country in COUNTRIES
    for number in range(STORES_EACH)
)
