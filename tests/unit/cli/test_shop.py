"""The demo's calls carry the sample's orders exactly, are the same for the same seed, and look like an SDK's."""

import json
import os
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from itertools import islice
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conosco.cli.sample import Answers, read_answers, read_sample
from conosco.cli.shop import Call, Shop, batches, history, open_shop, simulate
from conosco.cli.shoppers import COUNTRIES, SHOP_TABLET, invent
from conosco.model.moment import DAY, SECOND, parse_moment

NOW = 1_790_000_000 * SECOND + 123
FINGERPRINT = """
import hashlib
from conosco.cli.sample import read_sample
from conosco.cli.shop import batches, history, open_shop
print(hashlib.sha256(b"".join(batches(history(open_shop(read_sample()[:3_000]), 1_790_000_000_000_000)))).hexdigest())
"""


@pytest.fixture(scope="module")
def shop() -> Shop:
    """The whole shop."""
    return open_shop(read_sample())


@pytest.fixture(scope="module")
def past(shop: Shop) -> list[Call]:
    """All its history, repeats included."""
    return history(shop, NOW)


@pytest.fixture(scope="module")
def calls(past: list[Call]) -> dict[str, Call]:
    """Its history by message id."""
    return {call["messageId"]: call for call in past}


@pytest.fixture(scope="module")
def answers() -> Answers:
    """What is known of the sample."""
    return read_answers()


def orders(calls: dict[str, Call], event: str) -> list[Call]:
    """The calls of one event."""
    return [call for call in calls.values() if call.get("event") == event]


def moment(call: Call) -> int:
    """The time of a call."""
    at = parse_moment(call["timestamp"])
    assert at is not None
    return at


def test_orders_carry_the_sample_exactly(calls: dict[str, Call], answers: Answers) -> None:
    completed, cancelled = orders(calls, "Order Completed"), orders(calls, "Order Cancelled")
    assert len(completed) + len(cancelled) == answers.invoices
    assert len(cancelled) == answers.cancelled_invoices
    assert sum((call["properties"]["revenue"] for call in cancelled), Decimal(0)) == answers.cancelled_sum
    assert sum((call["properties"]["revenue"] for call in completed + cancelled), Decimal(0)) == answers.net_sum
    assert len({call["userId"] for call in completed + cancelled if "userId" in call}) == answers.customers
    assert sum("anonymousId" in call for call in completed + cancelled) == answers.guest_invoices
    lines = [line for call in completed + cancelled for line in call["properties"]["products"]]
    assert len(lines) == answers.rows
    assert sum(line["quantity"] for line in lines) == answers.units
    assert all(call["properties"]["revenue"] < 0 for call in cancelled)


def test_revenue_is_the_sum_of_the_lines_and_exact_on_the_wire(calls: dict[str, Call], answers: Answers) -> None:
    body = next(batches(orders(calls, "Order Completed"), size=10_000))
    sent = json.loads(body, parse_float=Decimal)["batch"]
    for call in sent:
        properties = call["properties"]
        assert properties["revenue"] == sum(line["quantity"] * line["price"] for line in properties["products"])
    assert sum(call["properties"]["revenue"] for call in sent) == answers.net_sum - answers.cancelled_sum


def test_no_call_is_larger_than_events_may_be(calls: dict[str, Call]) -> None:
    def keys(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return (len(value) if isinstance(value, dict) else 0) + sum(keys(part) for part in inner)

    assert max(keys(call) for call in calls.values()) <= 2_000
    assert max(len(body) for body in batches(list(calls.values()))) < 1_000_000


def test_the_past_ends_now_and_keeps_the_hours(past: list[Call], shop: Shop) -> None:
    times = [moment(call) for call in past]
    assert times == sorted(times)
    assert NOW - DAY < times[-1] <= NOW
    first = shop.invoices[0]
    [order] = [call for call in past if call["messageId"] == f"demo-{first.number}-order"]
    assert (moment(order) - first.at) % DAY == 0


def test_a_few_calls_are_sent_twice_and_are_the_same(past: list[Call], calls: dict[str, Call]) -> None:
    copies = Counter(call["messageId"] for call in past)
    assert 0.005 < sum(number == 2 for number in copies.values()) / len(copies) < 0.02
    assert max(copies.values()) == 2
    assert all(call == calls[call["messageId"]] for call in past)


def test_browsing_comes_before_the_purchase_and_names_nobody(calls: dict[str, Call]) -> None:
    browsing = [call for call in calls.values() if call["type"] == "page" or call.get("event", "").startswith("Product")]
    assert {call.get("event", call["type"]) for call in browsing} == {"page", "Product Viewed", "Product Added"}
    assert all("userId" not in call and "traits" not in call for call in browsing)
    for call in browsing:
        invoice = call["messageId"].split("-")[1]
        assert moment(call) < moment(calls[f"demo-{invoice}-order"])
    assert not any(message.startswith("demo-C") and "-visit" in message for message in calls)


def test_every_customer_is_identified_on_a_device_that_browsed(calls: dict[str, Call], answers: Answers) -> None:
    known = [call for call in calls.values() if call["type"] == "identify"]
    assert len({call["userId"] for call in known}) == answers.customers
    browsed = {call["anonymousId"] for call in calls.values() if call["type"] == "page"}
    bought = {call["userId"] for call in orders(calls, "Order Completed") if "userId" in call}
    assert {call["userId"] for call in known if call["anonymousId"] in browsed} >= bought
    assert {call["traits"].get("country") for call in known} - {None} <= set(COUNTRIES.values())
    assert sum(call["anonymousId"] == SHOP_TABLET for call in known) > 8


def test_people_are_invented(calls: dict[str, Call]) -> None:
    addresses = [call["traits"]["email"] for call in calls.values() if "email" in call.get("traits", {})]
    assert all(address.endswith(("@example.com", "@example.net", "@example.org")) for address in addresses)
    assert all(address.isascii() and address == address.lower() for address in addresses)


def test_someone_who_moves_is_told_anew(calls: dict[str, Call], shop: Shop) -> None:
    countries: dict[str, set[str]] = {}
    for invoice in shop.invoices:
        if invoice.customer and invoice.country in COUNTRIES:
            countries.setdefault(invoice.customer, set()).add(COUNTRIES[invoice.country])
    moved = {customer: codes for customer, codes in countries.items() if len(codes) > 1}
    assert moved
    for customer, codes in moved.items():
        told = [call["traits"] for call in calls.values() if call["type"] == "identify" and call["userId"] == customer]
        assert {traits["country"] for traits in told if "country" in traits} == codes
        assert len({(traits["first_name"], traits.get("email")) for traits in told}) == 1


def test_every_country_of_the_sample_is_known(shop: Shop) -> None:
    assert {invoice.country for invoice in shop.invoices} - set(COUNTRIES) == {"Unspecified", "European Community"}


def test_another_seed_changes_people_and_no_order(shop: Shop, calls: dict[str, Call]) -> None:
    other = {call["messageId"]: call for call in history(open_shop(read_sample(), seed=2), NOW)}
    revenues = {message: call["properties"]["revenue"] for message, call in calls.items() if message.endswith("-order")}
    assert {message: other[message]["properties"]["revenue"] for message in revenues} == revenues
    assert other != calls


def test_another_process_and_hash_seed_give_the_same_bytes() -> None:
    answers = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", FINGERPRINT], env=environment, capture_output=True, text=True, check=True)
        answers.add(run.stdout)
    assert len(answers) == 1


@given(size=st.integers(1, 40), many=st.integers(0, 90))
def test_batches_lose_nothing(size: int, many: int) -> None:
    calls: list[dict[str, Any]] = [{"messageId": str(number), "x": Decimal("0.10")} for number in range(many)]
    bodies = [json.loads(body, parse_float=Decimal)["batch"] for body in batches(calls, size)]
    assert [call for body in bodies for call in body] == calls
    assert all(len(body) <= size for body in bodies)


def test_live_shoppers(shop: Shop) -> None:
    clock = iter(range(NOW, NOW + 10**12, SECOND))
    calls = list(islice(simulate(shop, Random(7), lambda: next(clock)), 3_000))
    assert len({call["messageId"] for call in calls}) == len(calls)
    times = [moment(call) for call in calls]
    assert times == sorted(times)
    assert {call.get("event", call["type"]) for call in calls} == {
        "page",
        "identify",
        "Product Viewed",
        "Product Added",
        "Order Completed",
        "Order Cancelled",
    }
    buyers = {call["userId"] for call in calls if call.get("event") == "Order Completed"}
    assert buyers & set(shop.shoppers)
    assert buyers - set(shop.shoppers)
    # Some browse and never buy; everyone who is new was identified before the first order.
    assert len({call["anonymousId"] for call in calls if call["type"] == "page"}) > len(buyers)
    named: set[str] = set()
    for call in calls:
        if call["type"] == "identify":
            named.add(call["userId"])
        elif "userId" in call:
            assert call["userId"] in named or call["userId"] in shop.shoppers
    for call in calls:
        if call.get("event", "").startswith("Order"):
            total = sum(line["quantity"] * line["price"] for line in call["properties"]["products"])
            assert call["properties"]["revenue"] == total


def test_live_shoppers_repeat_with_the_seed(shop: Shop) -> None:
    first, second = (list(islice(simulate(shop, Random(3), lambda: NOW), 500)) for _ in range(2))
    assert first == second
    assert first != list(islice(simulate(shop, Random(4), lambda: NOW), 500))


def test_an_empty_shop_has_visitors_and_no_past() -> None:
    empty = open_shop([])
    assert history(empty, NOW) == []
    assert {call["type"] for call in islice(simulate(empty, Random(1), lambda: NOW), 20)} == {"page"}


@given(
    user_id=st.text(min_size=1, max_size=8), country=st.sampled_from([*COUNTRIES, "Unspecified", "IT"]), seed=st.integers(0, 5)
)
def test_the_same_shopper_is_invented_again(user_id: str, country: str, seed: int) -> None:
    shopper = invent(user_id, country, seed)
    assert shopper == invent(user_id, country, seed)
    assert shopper.devices
    assert invent("1", "Italy", 1).country == invent("1", "IT", 1).country == "IT"
