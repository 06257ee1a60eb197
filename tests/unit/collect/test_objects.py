"""Objects on the wire: what an event may say of them, what is refused and where, and what known events say."""

import json
from typing import Any

import msgspec
import pytest

from conosco.collect.object_rules import BY_EVENT, RULES, mentions_of, speaks_of_objects
from conosco.collect.objects import OBJECTS_MAX, PROPERTIES_MAX, VALUE_BYTES_MAX, Mention, fault_in_objects
from conosco.collect.understand import Rejected
from conosco.model.definition import KEY
from tests.unit.collect.requests import event_of, read, record_of, take_batch, track

ORDER = {"kind": "order", "object_id": "o1"}


def mentions(name: str, /, agent: str = "", **properties: Any) -> list[Mention]:
    return list(mentions_of(event_of(track(event=name, properties=properties, context={"userAgent": agent}))))


def own(*objects: Any) -> list[Mention]:
    return list(mentions_of(event_of(track(objects=list(objects)))))


def state(mention: Mention) -> dict[str, Any]:
    return {name: json.loads(value) for name, value in mention.state.items()}


def test_an_event_tells_of_its_objects() -> None:
    found = own(
        {**ORDER, "role": "buyer", "state": {"total": 1.50, "note": None}},
        {**ORDER, "object_id": 7},
        {**ORDER, "object_id": "o3", "role": None},
    )
    assert found == [
        Mention("order", "o1", ("buyer",), {"total": b"1.5", "note": b"null"}),
        Mention("order", "7", ("related",), {}),
        Mention("order", "o3", (), {}),
    ]


def test_one_object_named_twice_is_one_mention() -> None:
    found = own({**ORDER, "role": "buyer", "state": {"a": 1, "b": 1}}, {**ORDER, "role": "owner", "state": {"b": 2}})
    assert found == [Mention("order", "o1", ("buyer", "owner"), {"a": b"1", "b": b"2"})]


@pytest.mark.parametrize("value", [None, []])
def test_no_objects(value: Any) -> None:
    event = event_of(track(objects=value))
    assert list(mentions_of(event)) == []
    assert not speaks_of_objects(event_of(track()))


@pytest.mark.parametrize(
    ("objects", "reason", "field"),
    [
        ({}, "wrong_field_type", "objects"),
        ("x", "wrong_field_type", "objects"),
        ([ORDER, 7], "wrong_field_type", "objects/1"),
        ([{"object_id": "o1"}], "missing_field", "objects/0/kind"),
        ([{"kind": "order"}], "missing_field", "objects/0/object_id"),
        ([{**ORDER, "object_id": ""}], "missing_field", "objects/0/object_id"),
        ([{**ORDER, "object_id": 1.5}], "wrong_field_type", "objects/0/object_id"),
        ([{**ORDER, "object_id": "x" * 256}], "too_large", "objects/0/object_id"),
        ([{**ORDER, "kind": "Order"}], "wrong_field_type", "objects/0/kind"),
        ([{**ORDER, "kind": 7}], "wrong_field_type", "objects/0/kind"),
        ([{**ORDER, "role": "the buyer"}], "wrong_field_type", "objects/0/role"),
        ([{**ORDER, "state": []}], "wrong_field_type", "objects/0/state"),
        ([{**ORDER, "state": {f"p{number}": 1 for number in range(PROPERTIES_MAX + 1)}}], "too_large", "objects/0/state"),
        ([{**ORDER, "state": {"note": "x" * VALUE_BYTES_MAX}}], "too_large", "objects/0/state/note"),
        ([{**ORDER, "state": {"x" * 256: 1}}], "too_large", "objects/0/state"),
        ([ORDER] * (OBJECTS_MAX + 1), "too_large", "objects"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(objects: Any, reason: str, field: str) -> None:
    accepted = take_batch(track(objects=objects))
    (found,) = read(record_of(accepted))
    assert isinstance(found, Rejected)
    assert (found.reason, found.params["field"]) == (reason, field)
    # The front tells the sender the same.
    assert (accepted.events[0].status, accepted.events[0].code) == ("rejected", reason)


def test_a_text_that_is_none_is_a_fault() -> None:
    assert fault_in_objects(b'[{"kind":"order","object_id":"\\ud800"}]') == ("unreadable_text", {"field": "objects"})


# Known events ------------------------------------------------------------------------------------------------------------


def test_the_rules_name_kinds_and_roles_as_people_may() -> None:
    for rules in BY_EVENT.values():
        for rule in rules:
            assert KEY.match(rule.kind)
            assert not rule.role or KEY.match(rule.role)
    assert len(BY_EVENT) == sum(len(rule.events) for rule in RULES.rules), "an event has two rules"
    assert {rule.kind for rules in BY_EVENT.values() for rule in rules} == {
        "product", "order", "subscription", "cart", "ticket", "loyalty_account", "device", "store",
    }  # fmt: skip


LINES = [{"product_id": "p1", "name": "Lamp", "quantity": 2, "price": 5}, {"sku": "s2"}, {"name": "no id"}, 7]


def test_a_product_is_viewed() -> None:
    (found,) = mentions("Product Viewed", product_id="p1", name="Lamp", price=19.9, quantity=2, coupon="X")
    assert (found.kind, found.object_id, found.roles, state(found)) == (
        "product",
        "p1",
        ("viewer",),
        {"name": "Lamp", "price": 19.9},
    )


def test_an_order_is_completed() -> None:
    order, *others = mentions(
        "Order Completed", order_id="o1", total=20, cart_id="c1", store_id=5, products=LINES, email="a@b.example"
    )
    assert (order.kind, order.object_id, order.roles) == ("order", "o1", ("buyer",))
    assert state(order) == {"status": "completed", "total": 20, "cart_id": "c1", "store_id": 5, "products": LINES}
    assert [(each.kind, each.object_id, each.roles, state(each)) for each in others] == [
        ("cart", "c1", ("shopper",), {"order_id": "o1"}),
        ("product", "p1", ("buyer",), {"name": "Lamp"}),
        ("product", "s2", ("buyer",), {"sku": "s2"}),
        ("store", "5", ("customer",), {}),
    ]


def test_a_refund_leaves_the_total_of_the_order_alone() -> None:
    (order,) = mentions("Order Refunded", order_id="o1", total=5, currency="EUR")
    assert state(order) == {"status": "refunded", "refunded": 5, "currency": "EUR"}


def test_a_coupon_is_applied_and_removed() -> None:
    order, cart = mentions("Coupon Applied", order_id="o1", cart_id="c1", coupon_id="k1", coupon_name="SPRING", discount=3)
    assert state(order) == state(cart) == {"coupon": "SPRING", "coupon_id": "k1", "discount": 3}
    (order,) = mentions("Coupon Removed", order_id="o1", coupon_id="k1")
    assert state(order) == {"coupon": None, "coupon_id": None, "discount": None}


@pytest.mark.parametrize(
    ("name", "id_name", "kind", "role", "status"),
    [
        ("Checkout Started", "order_id", "order", "buyer", "started"),
        ("Order Cancelled", "order_id", "order", "buyer", "cancelled"),
        ("Order Updated", "order_id", "order", "buyer", None),
        ("Product Removed", "product_id", "product", "shopper", None),
        ("Cart Viewed", "cart_id", "cart", "shopper", None),
        ("Subscription Started", "subscription_id", "subscription", "subscriber", "active"),
        ("Subscription Cancelled", "subscription_id", "subscription", "subscriber", "cancelled"),
        ("Ticket Opened", "ticket_id", "ticket", "requester", "open"),
        ("Ticket Closed", "ticket_id", "ticket", "requester", "closed"),
        ("Loyalty Account Opened", "loyalty_account_id", "loyalty_account", "member", "open"),
        ("Loyalty Points Earned", "loyalty_account_id", "loyalty_account", "member", None),
        ("Device Registered", "device_id", "device", "user", "registered"),
        ("Store Visited", "store_id", "store", "visitor", None),
    ],
)
def test_known_events(name: str, id_name: str, kind: str, role: str, status: str | None) -> None:
    (found,) = mentions(name, **{id_name: "x1"})
    assert (found.kind, found.object_id, found.roles) == (kind, "x1", (role,))
    assert state(found).get("status") == status
    assert mentions(name) == []


def test_programs_view_nothing_but_may_buy() -> None:
    (viewed,) = mentions("Product Viewed", agent="curl/8.0", product_id="p1", price=5)
    assert (viewed.roles, state(viewed)) == ((), {"price": 5})
    (order,) = mentions("Order Completed", agent="curl/8.0", order_id="o1")
    assert order.roles == ("buyer",)


def test_only_track_calls_are_known_events() -> None:
    assert (
        list(mentions_of(event_of({"type": "page", "name": "Order Completed", "userId": "u", "properties": {"order_id": "o1"}})))
        == []
    )


def test_what_is_too_long_stays_in_the_event() -> None:
    lines = [{"product_id": f"p{number}", "name": "x" * 300} for number in range(OBJECTS_MAX + 5)]
    order, *products = mentions("Order Completed", order_id="o1", coupon="x" * VALUE_BYTES_MAX, products=lines)
    assert state(order) == {"status": "completed"}
    assert len(products) == OBJECTS_MAX
    assert mentions("Order Completed", order_id="x" * 256) == []


def test_an_events_own_word_wins() -> None:
    event = event_of(
        track(
            event="Order Completed",
            properties={"order_id": "o1", "total": 1},
            objects=[{**ORDER, "role": "payer", "state": {"total": 2}}],
        )
    )
    (found,) = mentions_of(event)
    assert (found.roles, state(found)) == (("buyer", "payer"), {"status": "completed", "total": 2})


@pytest.mark.parametrize(
    "properties", [b'{"order_id":"\\ud800"}', b'{"order_id":{}}', b'{"order_id":null}', b'{"order_id":true}']
)
def test_an_id_that_is_none_names_nothing(properties: bytes) -> None:
    event = msgspec.structs.replace(event_of(track(event="Order Completed")), properties=properties)
    assert list(mentions_of(event)) == []
