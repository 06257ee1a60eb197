"""The shop's past: the same bytes everywhere, in order, dirty in known ways, and in the shape of SDKs."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from decimal import Decimal
from itertools import islice
from random import Random
from typing import Any

import pytest

from conosco.cli.shop.messages import Message, Pen
from conosco.cli.shop.past import Past, Plan, batches, present
from conosco.model.moment import DAY, HOUR, MINUTE, SECOND, parse_moment

END = 1_790_000_000 * SECOND // HOUR * HOUR
PLAN = Plan(end=END, seed=3, people=200, days=200)
# Changes with every change of the generator: then look at what changed, and write the new one down.
DIGEST = "54ca2ab1ac05a3c24a87b78e2fe4a699fcd795fd552a4154248ef6577bd9348d"
FINGERPRINT = """
import hashlib
from conosco.cli.shop.past import Past, Plan, batches
plan = Plan(end=%d, seed=3, people=200, days=200)
print(hashlib.sha256(b"".join(body for _, body, _ in batches(Past(plan).messages()))).hexdigest())
"""


@pytest.fixture(scope="module")
def past() -> Past:
    """A small past; its messages are in ``messages``."""
    return Past(PLAN)


@pytest.fixture(scope="module")
def messages(past: Past) -> list[Message]:
    """All its messages."""
    return list(past.messages())


def call(message: Message) -> dict[str, Any]:
    """What is sent."""
    made: dict[str, Any] = json.loads(message.body, parse_float=Decimal)
    return made


def test_the_bytes_are_pinned_and_the_same_in_another_process() -> None:
    answers = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", FINGERPRINT % END]
        answers.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip())
    assert answers == {DIGEST}


def test_another_seed_is_another_shop() -> None:
    digests = {
        hashlib.sha256(
            b"".join(message.body for message in Past(Plan(end=END, seed=seed, people=50, days=20)).messages())
        ).hexdigest()
        for seed in (1, 2)
    }
    assert len(digests) == 2


def test_messages_are_in_order_and_none_is_from_after_the_end(messages: list[Message]) -> None:
    times = [message.sent_at for message in messages]
    assert times == sorted(times)
    assert PLAN.start <= times[0] < PLAN.start + DAY
    assert END - DAY < times[-1] < END


def test_all_sources_and_kinds_of_events_are_there(messages: list[Message]) -> None:
    assert {message.source for message in messages} == {"web", "app", "server", "pos", "mail", "desk"}
    told = {message.event for message in messages if message.outcome == "applied"}
    for event in (
        *(
            "page",
            "screen",
            "identify",
            "Product Viewed",
            "Product Added",
            "Checkout Started",
            "Order Completed",
            "Order Refunded",
        ),
        *("Email Sent", "Email Delivered", "Email Opened", "Email Link Clicked", "Email Bounced", "Unsubscribed"),
        *("Ticket Opened", "Ticket Updated", "Ticket Resolved", "Ticket Reopened", "Survey Answered", "Store Visited"),
        *("Loyalty Account Opened", "Loyalty Points Earned", "Loyalty Tier Changed", "Segment Consent Preference Updated"),
        *("Subscription Started", "Subscription Renewed"),
    ):
        assert event in told, event


def test_calls_have_the_shape_of_sdks(messages: list[Message]) -> None:
    campaigns = referrers = 0
    for message in messages:
        if message.outcome == "quarantined":
            continue
        made = call(message)
        assert made["messageId"] == message.message_id
        assert parse_moment(made["timestamp"]) is not None
        assert made["context"]["library"]["name"]
        if message.source in {"web", "app"}:
            assert made["context"]["userAgent"]
            assert made["anonymousId"]
        if made["type"] == "page":
            page = made["context"]["page"]
            assert page["url"].startswith("https://shop.example.com/")
            campaigns += "campaign" in made["context"]
            referrers += bool(page["referrer"]) and "shop.example.com" not in page["referrer"]
    assert campaigns > 100
    assert referrers > campaigns


def test_copies_come_after_what_they_copy_and_are_the_same(messages: list[Message]) -> None:
    first: dict[str, Message] = {}
    seen: Counter[str] = Counter()
    for message in messages:
        seen[message.outcome] += 1
        match message.outcome:
            case "applied":
                assert message.message_id not in first
                first[message.message_id] = message
            case "duplicate":
                assert first[message.message_id].body == message.body
                assert first[message.message_id].source == message.source
            case _ if message.reason == "conflicting_duplicate":
                assert call(first[message.message_id]) != call(message)
            case _:
                assert message.message_id not in first
    assert seen["duplicate"] > 20
    assert seen["quarantined"] > 5


def test_late_telephones_wrong_clocks_and_the_future(messages: list[Message]) -> None:
    late = wrong = 0
    for message in messages:
        if message.outcome != "applied" or (made := call(message))["timestamp"].startswith("2099"):
            continue
        at, sent = parse_moment(made["timestamp"]), made.get("sentAt")
        assert at is not None
        if sent is None:
            late += message.sent_at - at > HOUR
            assert at <= message.sent_at
        else:
            wrong += 1
            said = parse_moment(sent)
            assert said is not None
            # What the receiver makes of it: the time by its own clock, since the device tells what its clock shows.
            assert at + (END - said) <= message.sent_at + SECOND
    assert late > 20
    assert wrong > 20


def test_orders_are_told_as_they_are_booked(messages: list[Message]) -> None:
    orders = [message for message in messages if message.event == "Order Completed" and message.outcome == "applied"]
    assert len(orders) > 100
    for message in orders:
        properties, fact = call(message)["properties"], message.fact
        assert fact is not None
        lines = sum((line["price"] * line["quantity"] for line in properties["products"]), Decimal(0))
        assert properties["revenue"] == lines == Decimal(fact.amount) / 100
        assert properties["total"] == properties["revenue"] + properties["shipping"]
        assert (properties["order_id"], properties["currency"]) == (fact.key, fact.currency)
    assert len({message.fact.key for message in orders if message.fact}) == len(orders)


def test_what_follows_comes_after(messages: list[Message]) -> None:
    ordered: dict[str, int] = {}
    for message in sorted((each for each in messages if each.outcome == "applied"), key=lambda each: each.sent_at):
        made = call(message)
        if message.event == "Order Completed":
            ordered[made["properties"]["order_id"]] = message.sent_at
        elif message.event in {"Order Refunded", "Survey Answered", "Ticket Opened"}:
            assert message.sent_at > ordered[made["properties"]["order_id"]]


def test_letters_go_to_those_who_want_them(messages: list[Message]) -> None:
    wants: dict[str, bool] = {}
    sent = 0
    for message in sorted((each for each in messages if each.outcome == "applied"), key=lambda each: each.sent_at):
        made = call(message)
        if message.event == "Segment Consent Preference Updated" and message.source == "mail":
            wants[message.person] = made["context"]["consent"]["categoryPreferences"]["marketing"]
            assert wants[message.person] is False
        elif message.event == "Email Sent" and made["properties"]["email_subject"] == "newsletter":
            sent += 1
    assert sent > 50


def test_the_week_and_the_year_have_their_rhythm() -> None:
    plan = Plan(end=1_798_000_000 * SECOND // HOUR * HOUR, people=600, days=365)
    pages = [message for message in Past(plan).messages() if message.event in {"page", "screen"}]
    months = Counter((message.sent_at // DAY * DAY - plan.start) // (30 * DAY) for message in pages)
    hours = Counter(message.sent_at // HOUR % 24 for message in pages)
    # December is the last month of this plan, August the eighth.
    assert months[11] > 1.6 * months[7]
    assert hours[19] > 5 * hours[2]


def test_programs_are_nobody(messages: list[Message]) -> None:
    for message in messages:
        if message.person == "" and message.outcome == "applied":
            agent = call(message)["context"]["userAgent"]
            assert any(word in agent for word in ("bot", "Bot", "Headless", "Proofpoint")), agent


def test_batches_lose_nothing_and_keep_the_order_of_a_source(messages: list[Message]) -> None:
    by_source: dict[str, list[str]] = defaultdict(list)
    for source, body, count in batches(messages, 40):
        ids = [each["messageId"] for each in json.loads(body)["batch"]]
        assert len(ids) == count <= 40
        by_source[source] += ids
    for own, ids in by_source.items():
        assert ids == [message.message_id for message in messages if message.source == own]
    [(_, body, _)] = batches(messages[:1], sent_at=END)
    assert parse_moment(json.loads(body)["sentAt"]) == END


def test_the_present_goes_on_with_new_ids(past: Past, messages: list[Message]) -> None:
    clock = iter(range(END, END + 10**13, 7 * SECOND))
    now = [END]

    def tick() -> int:
        now[0] = next(clock)
        return now[0]

    rng = Random(4)
    past.shop.go_live(Pen("live-", tick), rng, "L")
    live = list(islice(present(past.shop, rng, tick), 6_000))
    told = [message.message_id for message in live if message.outcome == "applied"]
    assert len(set(told)) == len(told)
    assert not set(told) & {message.message_id for message in messages}
    old = {message.fact.key for message in messages if message.fact}
    assert not old & {message.fact.key for message in live if message.fact}
    kinds = {message.event for message in live}
    assert {
        "page",
        "identify",
        "Order Completed",
        "Email Opened",
        "Order Refunded",
        "Survey Answered",
        "Ticket Resolved",
    } <= kinds
    # What is told now happened now, if no telephone kept it.
    fresh = [message for message in live if message.source == "server" and message.outcome == "applied"]
    for message in fresh:
        at = parse_moment(call(message)["timestamp"])
        assert at is not None
        assert message.sent_at >= END
        assert message.sent_at - at < DAY + MINUTE
