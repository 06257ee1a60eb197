"""The calls that every SDK makes, as one table in the words of the wire, and what must be found of each when it has arrived."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

# Long ago, so that an event that was given no time, or another one than its own, cannot be taken for right.
AT = datetime(2025, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
ODD = {
    "whole": 2**53 - 1,
    "small": 1.5e-7,
    "tenth": 0.1,
    "none": None,
    "nul": "a\0b",
    "Case": 1,
    "case": 2,
    "d.o.t": 1,
    "ключ🙂": "ż",
    "nested": {"list": [1, "two", {"three": 3.25}], "empty": {}},
}
CONTEXT = {
    "ip": "192.0.2.1",
    "locale": "pt-PT",
    "page": {"url": "https://shop.example/?q=ż", "title": "Shop"},
    "campaign": {"name": "spring", "source": "letter"},
    "app": {"version": 1.10, "build": "7"},
}
# The event that is given no time.
NOW = "Happened now"
# How many people the calls of one round are about.
PEOPLE_A_ROUND = 3


def rounds(who: str, count: int, *, number_ids: bool = True) -> list[dict[str, Any]]:
    """``count`` times every kind of call. ``who`` keeps people and message ids of different clients apart.

    ``number_ids`` is whether the client takes an id that is a number.

    All that has a timestamp has one of its own; the last call of a round has none, so the SDK gives it the present.
    """
    calls: list[dict[str, Any]] = []
    for number in range(count):
        for call in _round(f"{who}-{number}"):
            at = AT + timedelta(seconds=len(calls), milliseconds=number)
            call["messageId"] = f"{who}-{len(calls)}"
            if not number_ids and isinstance(call.get("userId"), int):
                call["userId"] = str(call["userId"])
            if call.get("event") != NOW:
                call["timestamp"] = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            calls.append(call)
    return calls


def _round(one: str) -> Iterator[dict[str, Any]]:
    user, guest, nobody = f"{one}-user", f"{one}-guest", f"{one}-nobody"
    traits = {"email": f"{one}@example.com", "plan": "gold", **ODD}
    yield {"type": "track", "anonymousId": guest, "event": "Product Viewed", "properties": ODD, "context": CONTEXT}
    yield {
        "type": "page",
        "anonymousId": guest,
        "name": "Home",
        "category": "shop",
        "properties": {"url": "https://shop.example/"},
    }
    yield {"type": "alias", "previousId": guest, "userId": user}
    yield {"type": "identify", "userId": user, "traits": traits, "context": CONTEXT}
    yield {"type": "identify", "anonymousId": guest, "traits": {}}
    yield {"type": "track", "userId": user, "event": "Order Completed", "properties": ODD, "integrations": {"All": False}}
    yield {"type": "screen", "userId": user, "anonymousId": guest, "name": "Start", "category": "app", "properties": {"n": 0.1}}
    yield {"type": "group", "userId": user, "groupId": "acme", "traits": {"size": 5, "email": "office@acme.example"}}
    # An empty id is no id: or all these people would be one.
    yield {"type": "track", "userId": "", "anonymousId": nobody, "event": "Nobody yet", "properties": {}}
    yield {
        "type": "track",
        "userId": int.from_bytes(blake2b(one.encode(), digest_size=6).digest()),
        "event": NOW,
        "properties": {},
    }


def columns(call: dict[str, Any]) -> dict[str, Any]:
    """What the events table must say of a call, apart from its time and from objects, to which SDKs add."""
    told = {name: call.get(name) or None for name in ("userId", "anonymousId", "groupId")}
    return {
        "message_id": call["messageId"],
        "type": call["type"],
        "event": call.get("event", call.get("name")),
        "user_id": str(told["userId"]) if told["userId"] else None,
        "anonymous_id": told["anonymousId"],
        "group_id": told["groupId"],
        "home_namespace": "user_id" if told["userId"] else "anonymous_id",
    }


def visit(who: str, count: int, *, screens: bool, nulls: bool) -> list[dict[str, Any]]:
    """What one person does on a page, for SDKs of browsers, which know themselves who it is: first ``count`` rounds of somebody
    unknown, then as many of the same person signed in.

    ``screens`` is whether the SDK has that call, ``nulls`` whether it sends values that are null.
    """
    calls: list[dict[str, Any]] = []
    for call in _visit(who, count):
        if call["type"] == "screen" and not screens:
            continue
        for name in ("properties", "traits"):
            if name in call and not nulls:
                call[name] = {key: value for key, value in call[name].items() if value is not None}
        if call.get("event") != NOW:
            at = AT + timedelta(seconds=len(calls), milliseconds=len(calls))
            call["timestamp"] = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        calls.append(call)
    return calls


def _visit(who: str, count: int) -> Iterator[dict[str, Any]]:
    user = f"{who}-user"
    for number in range(count):
        yield {"type": "page", "name": "Home", "category": "shop", "properties": {"shelf": number}}
        yield {"type": "track", "event": "Product Viewed", "properties": ODD, "context": {"campaign": CONTEXT["campaign"]}}
    yield {"type": "alias", "userId": user}
    for number in range(count):
        traits = {"email": f"{who}@example.com", "visits": number, **ODD}
        yield {"type": "identify", "userId": user, "traits": traits}
        yield {"type": "screen", "name": "Start", "category": "app", "properties": {"n": 0.1}}
        yield {"type": "track", "event": "Order Completed", "properties": ODD, "integrations": {"All": True}}
        yield {"type": "group", "groupId": "acme", "traits": {"size": number, "email": "office@acme.example"}}
        yield {"type": "track", "event": NOW, "properties": {}}
