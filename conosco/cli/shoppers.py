"""Invented shoppers for the demo: a name, an e-mail address at an example domain and some devices for each customer number."""

from random import Random
from typing import Final

import msgspec

# As the sample spells countries. Unspecified and European Community name none.
COUNTRIES: Final[dict[str, str]] = {
    "Australia": "AU",
    "Austria": "AT",
    "Belgium": "BE",
    "Canada": "CA",
    "Channel Islands": "JE",
    "Cyprus": "CY",
    "Denmark": "DK",
    "EIRE": "IE",
    "Finland": "FI",
    "France": "FR",
    "Germany": "DE",
    "Greece": "GR",
    "Israel": "IL",
    "Italy": "IT",
    "Japan": "JP",
    "Malta": "MT",
    "Netherlands": "NL",
    "Norway": "NO",
    "Poland": "PL",
    "Portugal": "PT",
    "Singapore": "SG",
    "Spain": "ES",
    "Switzerland": "CH",
    "USA": "US",
    "United Kingdom": "GB",
}
_LANGUAGES: Final = {"IT": "it", "PL": "pl", "PT": "pt"}
_FIRST: Final = {
    "en": "Alice Amir Bella Callum Daisy Edwin Freya George Harriet Imogen Jack Kiran Lucy Martin Nora Oscar Poppy Rohan Sally Tom",
    "it": "Alessia Bruno Chiara Davide Elena Fabio Giulia Ivano Laura Marco Noemi Paolo Rita Sandro Teresa Ugo",
    "pl": "Agnieszka Bartek Celina Dawid Ewa Filip Grażyna Hubert Iga Janusz Kasia Łukasz Małgorzata Olek Zofia",
    "pt": "Ana Bruno Catarina Duarte Eva Fábio Graça Hugo Inês João Leonor Miguel Rita Tiago Vasco",
}
_LAST: Final = {
    "en": "Archer Barlow Carver Dalton Ellery Fenwick Garside Hollis Ingram Jessop Kirkby Lowther Marlow Norbury Oakes Penrose",
    "it": "Amadori Bellini Caruso Donati Esposito Ferraro Gallo Lombardi Marchetti Neri Orsini Pellegrini Ricci Serra",
    "pl": "Adamczyk Borkowska Czajka Dudek Gajda Jabłońska Kalinowski Lewandowska Mazur Nowicka Olszewski Pawlak Zając",
    "pt": "Almeida Barros Cardoso Duarte Esteves Faria Gouveia Lopes Moreira Neves Pinheiro Queirós Ramos Teixeira",
}
_DOMAINS: Final = ("example.com", "example.net", "example.org")
_PLAIN: Final = str.maketrans("ąćęłńóśźżáâãàçéêíõôúñ", "acelnoszzaaaaceeiooun")
# A tablet at the counter, which many people use: a link to it must never make two of them one.
SHOP_TABLET: Final = "tablet-shop-counter"


class Shopper(msgspec.Struct, frozen=True, kw_only=True):
    """Someone who shops. ``country`` is an ISO code or empty; the first of ``devices`` is used most; no ``email`` is None."""

    user_id: str
    first_name: str
    last_name: str
    email: str | None
    country: str
    language: str
    devices: tuple[str, ...]


def invent(user_id: str, country: str, seed: int) -> Shopper:
    """Invent the shopper with this user id in this country (as the sample spells it, or an ISO code).

    The same arguments give the same shopper, whatever was invented before.

    """
    code = country if country in COUNTRIES.values() else COUNTRIES.get(country, "")
    language = _LANGUAGES.get(code, "en")
    rng = Random(f"{seed}/shopper/{user_id}")
    first = rng.choice(_FIRST[language].split())
    last = rng.choice(_LAST[language].split())
    address = f"{first}.{last}.{user_id}@{rng.choice(_DOMAINS)}".lower().translate(_PLAIN)
    devices = [f"dev-{rng.getrandbits(64):016x}" for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))]
    if rng.random() < 0.08:
        devices.append(SHOP_TABLET)
    return Shopper(
        user_id=user_id,
        first_name=first,
        last_name=last,
        email=address if rng.random() < 0.95 else None,
        country=code,
        language=language,
        devices=tuple(devices),
    )
