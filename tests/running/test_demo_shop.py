"""The demo's shop on a running installation: every message ends as its truth says, the books agree, and people are told apart.

What is expected comes from the generator, which knows who did what; what is found is asked over HTTP.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from itertools import combinations
from typing import Any, NamedTuple

import pytest

from conosco.cli.shop.definitions import SOURCES
from conosco.cli.shop.messages import NOBODY, Message
from conosco.cli.shop.past import Past, Plan, batches
from conosco.cli.shop.places import STORES
from conosco.cli.shop.truth import Books, Truth
from conosco.model.moment import HOUR
from tests.running.installation import Installation, basic

PLAN = Plan(end=1_763_000_000_000_000 // HOUR * HOUR, seed=5, people=300, days=150)
# By the default rules a device with more names than this links nobody.
HUB = 8
THINGS = ("order", "cart", "ticket", "subscription", "loyalty_account")
Identifier = tuple[str, str]
Pair = tuple[Identifier, Identifier]


class Loaded(NamedTuple):
    """A shop whose whole past has been sent and applied."""

    installation: Installation
    messages: list[Message]
    truth: Truth
    books: Books
    status: dict[str, Any]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    """Send the past as the demo does, each message with its source's key."""
    with Installation(tmp_path_factory.mktemp("shop")) as installation:
        keys = {
            key: installation.post("/api/sources", {"key": key, "name": name, "type": kind, "region": "eu"})["write_key"]
            for key, (name, kind) in SOURCES.items()
        }
        past = Past(PLAN)
        messages = list(past.messages())
        for source, body, count in batches(messages):
            answer = installation.track(body, headers=basic(keys[source]))
            assert answer.status == 200
            assert len(answer.json()["events"]) == count
        yield Loaded(installation, messages, past.truth, past.truth.books(), installation.settled())


def pairs(groups: Iterator[list[Identifier]] | list[list[Identifier]]) -> set[Pair]:
    """All pairs within groups."""
    return {pair for group in groups for pair in combinations(sorted(group), 2)}


def found_groups(loaded: Loaded) -> list[list[Identifier]]:
    """The identifiers of each profile, as the warehouse tells them."""
    by_profile: dict[str, list[Identifier]] = defaultdict(list)
    for profile_id, namespace, value in loaded.installation.sql("select profile_id, namespace, value from identifiers"):
        by_profile[profile_id].append((namespace, value))
    return list(by_profile.values())


def test_every_message_ends_as_its_truth_says(loaded: Loaded) -> None:
    outcomes = loaded.books.outcomes
    assert loaded.status["accepted"] == loaded.books.messages == len(loaded.messages)
    assert loaded.status["applied"] == outcomes["applied"]
    assert loaded.status["duplicates"] == outcomes["duplicate"]
    assert loaded.status["quarantined"] == outcomes["quarantined"]
    reasons = loaded.installation.sql("select reason, count(*) from outcomes where outcome <> 'applied' group by 1")
    assert dict(reasons) == loaded.books.reasons
    assert len(loaded.books.reasons) == 7
    expected = Counter((message.message_id, message.outcome) for message in loaded.messages)
    rows = loaded.installation.sql("select message_id, outcome from outcomes")
    assert Counter((message, outcome) for message, outcome in rows) == expected


def test_the_books_agree(loaded: Loaded) -> None:
    books = loaded.books
    events = loaded.installation.sql("select case type when 'track' then event else type end, count(*) from events group by 1")
    assert dict(events) == books.events
    revenue = "sum(cast(json_extract_string(properties, '$.revenue') as decimal(38, 6)))"
    currency = "json_extract_string(properties, '$.currency')"
    completed = "from events where event = 'Order Completed'"
    # Three countries pay in euros; the books of the shop tell them apart, an order does not.
    by_currency = {
        code: Decimal(str(amount))
        for code, amount in loaded.installation.sql(f"select {currency}, {revenue} {completed} group by 1")
    }
    assert by_currency["PLN"] == books.revenue["PL"]
    assert by_currency["GBP"] == books.revenue["GB"]
    assert by_currency["EUR"] == sum(books.revenue[country] for country in ("IT", "PT", "DE"))
    assert loaded.installation.sql(f"select count(*) {completed}") == [[sum(books.orders.values())]]
    total = "sum(cast(json_extract_string(properties, '$.total') as decimal(38, 6)))"
    [[refunded]] = loaded.installation.sql(f"select {total} from events where event = 'Order Refunded' and {currency} = 'PLN'")
    assert Decimal(str(refunded)) == books.refunds["PL"]
    carts = "select distinct json_extract_string(properties, '$.cart_id') as cart_id from events where event = "
    bought = f"{carts} 'Order Completed'"
    [[abandoned, filled]] = loaded.installation.sql(
        f"select count(*) filter (cart_id not in (select cart_id from ({bought}) where cart_id is not null)), count(*) "
        f"from ({carts} 'Product Added')"
    )
    assert (abandoned, filled) == (books.carts_abandoned, books.carts)


def test_the_sources_agree(loaded: Loaded) -> None:
    applied = Counter(message.source for message in loaded.messages if message.outcome == "applied")
    by_id = {each["id"]: each["key"] for each in loaded.installation.get("/api/sources?limit=100")["items"]}
    rows = loaded.installation.sql("select source_id, count(*) from events group by 1")
    assert {by_id[source]: count for source, count in rows} == applied


def test_programs_are_recognised_and_nobody_else(loaded: Loaded) -> None:
    expected = {
        message.message_id
        for message in loaded.messages
        if message.outcome == "applied" and (message.person == NOBODY or b'"machine_open":true' in message.body)
    }
    found = {message_id for (message_id,) in loaded.installation.sql("select message_id from events where automated")}
    assert found == expected
    assert len(found) > 50


def test_the_things_people_deal_with_are_known(loaded: Loaded) -> None:
    ids: dict[str, set[str]] = defaultdict(set)
    refunded, misdated = set(), set()
    for message in loaded.messages:
        if message.outcome != "applied":
            continue
        call = json.loads(message.body)
        properties = call.get("properties", {})
        # A survey names an order, but is no event of it.
        for kind in THINGS if message.event != "Survey Answered" else ():
            if f"{kind}_id" in properties:
                ids[kind].add(properties[f"{kind}_id"])
        if message.event == "Order Refunded":
            refunded.add(properties["order_id"])
        # This past ended long before it was sent; what a wrong clock says is put right by the time of receipt.
        if "sentAt" in call and message.event == "Checkout Started":
            misdated.add(properties["order_id"])
    found = dict(loaded.installation.sql("select kind, count(*) from objects group by 1"))
    assert {kind: found[kind] for kind in ids} == {kind: len(values) for kind, values in ids.items()}
    status = "json_extract_string(state, '$.status') = 'refunded'"
    rows = loaded.installation.sql(f"select object_id from objects where kind = 'order' and {status}")
    assert {object_id for (object_id,) in rows} - misdated == refunded - misdated


def test_people_without_shared_identifiers_are_found_exactly(loaded: Loaded) -> None:
    expected: dict[Identifier, list[Identifier]] = defaultdict(list)
    for identifier, root in loaded.truth.groups_clear().items():
        expected[root].append(identifier)
    clear = {identifier for group in expected.values() for identifier in group}
    found = [sorted(group) for group in found_groups(loaded) if clear & set(group)]
    assert sorted(found) == sorted(sorted(group) for group in expected.values())
    assert len(found) == loaded.books.profiles_clear
    assert len(clear) - len(found) == loaded.books.merges_clear


def test_precision_and_recall_of_identity(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    owners = loaded.truth.owners
    found = pairs(found_groups(loaded))
    by_person: dict[str, list[Identifier]] = defaultdict(list)
    for identifier, whose in owners.items():
        for person in whose:
            by_person[person].append(identifier)
    true = pairs(list(by_person.values()))
    wrong = found - true
    # What no rule can join: somebody's identifiers of which no event ever named two.
    named = {tuple(sorted(link)) for link in loaded.truth.links}
    shared = loaded.truth.shared()
    joinable = {pair for pair in true if pair in found or pair in named}
    precision, recall = 1 - len(wrong) / len(found), len(found & true) / len(true)
    with capsys.disabled():
        print(
            f"\nidentity of {len(owners)} identifiers of {loaded.books.people} people, {len(shared)} shared: "
            f"pairs {len(found)} found, {len(true)} true, {len(wrong)} wrong; precision {precision:.4f}, recall {recall:.4f}, "
            f"recall of pairs ever named together {len(found & joinable) / len(joinable):.4f}"
        )
    # Deterministic rules err only where people share an address, a telephone or a device that is no hub.
    partners: dict[Identifier, set[Identifier]] = defaultdict(set)
    for home, other in loaded.truth.links:
        partners[other].add(home)
    hubs = {one for one in shared if one[0] == "anonymous_id" and len(partners[one]) > HUB}
    assert {value for _, value in hubs} <= {store.kiosk for store in STORES}
    sharing: dict[str, set[str]] = defaultdict(set)
    for identifier in shared - hubs:
        for person in owners[identifier]:
            sharing[person] |= owners[identifier]
    for left, right in wrong:
        assert any(owners[right] & reach(sharing, person) for person in owners[left]), (left, right)
    assert precision > 0.95
    assert {pair for pair in named if not any(one in shared for one in pair)} - found <= accounts(loaded)


def reach(sharing: dict[str, set[str]], person: str) -> set[str]:
    """Everyone to whom shared identifiers lead."""
    found, border = {person}, {person}
    while border:
        border = {other for one in border for other in sharing[one]} - found
        found |= border
    return found


def accounts(loaded: Loaded) -> set[Pair]:
    """Pairs that are refused because their person has two user ids, which the default rules keep apart."""
    two = {
        person
        for person, count in Counter(
            person for (namespace, _), whose in loaded.truth.owners.items() if namespace == "user_id" for person in whose
        ).items()
        if count > 1
    }
    links = (tuple(sorted(link)) for link in loaded.truth.links)
    return {(left, right) for left, right in links if loaded.truth.owners[left] & two or loaded.truth.owners[right] & two}
