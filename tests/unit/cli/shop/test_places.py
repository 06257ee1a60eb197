"""The clocks of the shop's countries, held against the system's time zones; and its catalogue."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from conosco.cli.shop.goods import ARTICLES
from conosco.cli.shop.places import COUNTRIES, EPOCH_DAY, STORES, Country
from conosco.model.moment import SECOND


@pytest.mark.parametrize("country", COUNTRIES, ids=lambda country: country.code)
def test_clocks_are_those_of_the_time_zone(country: Country) -> None:
    zone = ZoneInfo(country.timezone)
    for first in (date(2024, 3, 29), date(2025, 10, 24), date(2026, 3, 27), date(2026, 10, 23), date(2026, 7, 1)):
        for offset in range(5):
            day = first + timedelta(days=offset)
            for minute in range(0, 1_440, 15):
                wall = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=zone)
                assert country.local((day - EPOCH_DAY).days, minute) == int(wall.timestamp()) * SECOND, wall


def test_articles_have_a_price_in_every_country() -> None:
    assert len({article.product_id for article in ARTICLES}) == len({article.path for article in ARTICLES}) == len(ARTICLES) > 40
    for article in ARTICLES:
        assert set(article.prices) == {country.code for country in COUNTRIES}
        assert all(price % 100 in (90, 95, 99) for price in article.prices.values())


def test_every_country_has_stores() -> None:
    assert {store.country.code for store in STORES} == {country.code for country in COUNTRIES}
    assert len({store.kiosk for store in STORES}) == len(STORES)
