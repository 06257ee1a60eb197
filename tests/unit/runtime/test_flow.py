"""The flow: its steps in their order, and an event that changes others' identity beside what it says itself."""

from collections.abc import Iterator
from typing import Any

import pytest

from conosco.ports.tables import MEMBERSHIPS
from conosco.runtime.flow import FLOW
from tests.laws.harness import Installation
from tests.laws.histories import DAY, HOUR, MINUTE, SECOND, Claim, segment, spell


@pytest.fixture
def shop() -> Iterator[Installation]:
    installation = Installation()
    installation.define({"kind": "purpose", "key": "operations", "name": "o", "basis": "legitimate_interest", "id": "prp_1"})
    installation.define({"kind": "source", "key": "shop", "name": "s", "type": "server", "region": "eu", "id": "src_a"})
    for key, where in (
        ("twice", {"kind": "did", "event": "Order", "times": {"min": 2}}),
        ("idle", {"kind": "not", "of": {"kind": "did", "event": "Order"}}),
        ("recent", {"kind": "did", "event": "Order", "within": "1d"}),
    ):
        installation.define(segment(key, {"language": 1, "where": where}))
    installation.settle()
    yield installation
    installation.stays()


def send(installation: Installation, message_id: str, event: str = "Order", ago: int = 0, **names: Any) -> None:
    at = spell(installation.now - ago)
    installation.send({"type": "track", "event": event, "messageId": message_id, "timestamp": at, **names})
    installation.settle()


def test_the_steps_are_named_in_order() -> None:
    steps = ["recognise", "notice", "resolve", "fold", "objects", "evaluate", "activate"]
    assert [name for name, _ in FLOW] == steps


def test_an_event_that_makes_a_device_a_kiosk_still_counts_for_its_own_person(shop: Installation) -> None:
    # Eight people on one device: all linked to it, and the first of them joined with it.
    for number in range(8):
        shop.now += SECOND
        send(shop, f"k{number}", event="View", userId=f"u{number}", anonymousId="kiosk")
    send(shop, "m1", userId="u8")
    assert shop.profiles()["anonymous_id", "kiosk"] == shop.profiles()["user_id", "u0"]
    # The ninth makes it a kiosk, which parts it from the first; and it is this person's second order.
    send(shop, "m2", userId="u8", anonymousId="kiosk")
    assert shop.profiles()["anonymous_id", "kiosk"] != shop.profiles()["user_id", "u0"]
    assert shop.members("twice") == {shop.profiles()["user_id", "u8"]}


def test_who_is_parted_by_an_event_keeps_only_what_is_true(shop: Installation) -> None:
    for number in range(8):
        shop.now += SECOND
        send(shop, f"k{number}", event="View", userId=f"u{number}", anonymousId="kiosk")
    send(shop, "m1", anonymousId="kiosk")
    send(shop, "m2", userId="u0")
    assert shop.members("twice") == {shop.profiles()["user_id", "u0"]}
    send(shop, "k8", event="View", userId="u8", anonymousId="kiosk")
    assert shop.members("twice") == set()
    assert shop.members("recent") == {shop.profiles()["user_id", "u0"], shop.profiles()["anonymous_id", "kiosk"]}


def test_a_timer_survives_a_new_identifier(shop: Installation) -> None:
    began = shop.now
    send(shop, "m1", anonymousId="device")
    shop.now += HOUR
    send(shop, "m2", event="View", anonymousId="device", userId="u")
    assert len(set(shop.profiles().values())) == 1
    shop.now += 2 * DAY
    shop.settle()
    assert shop.members("recent") == set()
    assert {row.exited_at for row in shop.past() if row.segment == "recent" and not row.exit_because.count(b"merge")} >= {
        began + DAY
    }


def test_an_identifier_of_somebody_else_that_was_seen_earlier_moves_that_birth(shop: Installation) -> None:
    began = shop.now
    send(shop, "m1", event="View", userId="u1", anonymousId="device")
    shop.perform(Claim(shop.now, "lnk_1", "manual_different", ("user_id", "u2"), ("anonymous_id", "device")))
    shop.settle()
    # The second user cannot have the device, but was there with it two hours before.
    send(shop, "m2", event="View", ago=2 * HOUR, userId="u2", anonymousId="device")
    assert shop.profiles()["anonymous_id", "device"] == shop.profiles()["user_id", "u1"]
    owner = shop.profiles()["user_id", "u1"]
    (stay,) = [stay for stay in shop.stays() if (stay.profile_id, stay.segment) == (owner, "idle")]
    assert stay.entered_at == began - 2 * HOUR


def test_an_identifier_known_from_a_link_alone_is_dated_by_its_first_event(shop: Installation) -> None:
    began = shop.now
    shop.now += MINUTE
    send(shop, "m1", event="View", userId="u1")
    shop.perform(Claim(began + HOUR, "lnk_1", "manual_same", ("user_id", "u1"), ("anonymous_id", "device")))
    shop.settle()
    (stay,) = [stay for stay in shop.stays() if stay.segment == "idle"]
    assert stay.entered_at == began + MINUTE
    shop.now += HOUR
    send(shop, "m2", event="View", anonymousId="device")
    assert shop.first_seen()["anonymous_id", "device"] == shop.now
    # Taken back, the link leaves two people, each known since its own first event.
    shop.perform(Claim(shop.now + MINUTE, "lnk_1", "retract"))
    shop.settle()
    assert {stay.entered_at for stay in shop.stays() if stay.segment == "idle"} == {began + MINUTE, began + 2 * HOUR}
    assert all(row.exited_at is None or row.exited_at >= row.entered_at for _, row in shop.rows(MEMBERSHIPS))
