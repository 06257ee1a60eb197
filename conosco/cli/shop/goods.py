"""What the shop sells: articles in categories, priced in the currency of each country."""

from decimal import Decimal
from typing import Final

import msgspec

from conosco.cli.shop.places import COUNTRIES, Country

# Each category with its articles and, after the colon, what they cost in whole euros.
_GOODS: Final = {
    "kitchen": "Moka pot:24 Stoneware bowl:14 Chef's knife:49 Oak board:32 Linen apron:28 Copper pan:89 Salad spinner:19 Pasta machine:65",
    "coffee": "House blend 1 kg:18 Espresso beans 500 g:12 Decaf 500 g:13 Filter papers:4 Hand grinder:59 Milk frother:35 Cup set:27",
    "living": "Wool throw:69 Table lamp:54 Scented candle:16 Cushion cover:22 Wall clock:38 Picture frame:12 Vase:29 Storage basket:24",
    "bath": "Bath towel:21 Hand towel:11 Olive soap:5 Bath mat:26 Cotton robe:59 Shower brush:9",
    "garden": "Plant pot:17 Watering can:23 Pruning shears:34 Seed box:8 Bird feeder:19 Folding chair:45 Lantern:27",
    "children": "Wooden train:39 Puzzle:15 Night light:24 Plush bear:19 Crayons:7 Growth chart:13",
}


class Article(msgspec.Struct, frozen=True, kw_only=True):
    """An article. ``prices`` are in hundredths of each country's currency, ``rank`` is its place in the catalogue."""

    product_id: str
    sku: str
    name: str
    category: str
    path: str
    rank: int
    prices: dict[str, int]


def money(hundredths: int) -> Decimal:
    """An amount as it is told: exactly, with two decimals."""
    return Decimal(hundredths).scaleb(-2)


def _price(euros: int, country: Country) -> int:
    """A price that ends in 90, 95 or 99 as prices do."""
    return max(1, euros * country.money // 100) * 100 - (1, 5, 10)[euros % 3]


def _articles() -> tuple[Article, ...]:
    made: list[Article] = []
    for category, text in _GOODS.items():
        words: list[str] = []
        for word in text.split():
            name, colon, euros = word.partition(":")
            words.append(name)
            if colon:
                number, title = 1_001 + len(made), " ".join(words)
                made.append(
                    Article(
                        product_id=str(number),
                        sku=f"{category[:2].upper()}-{number}",
                        name=title,
                        category=category,
                        path=f"/{category}/{title.lower().replace(' ', '-').replace(chr(39), '')}",
                        rank=len(made),
                        prices={country.code: _price(int(euros), country) for country in COUNTRIES},
                    )
                )
                words = []
    return tuple(made)


CATEGORIES: Final = tuple(_GOODS)
ARTICLES: Final = _articles()
