"""Things that people do with pages and objects: histories with them, and brute force over plain events.

Nothing of the product is imported here. What is asked is answered by walking all events, each time anew.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from tests.laws.histories import MINUTE, Act, Post, Sent

Name = tuple[str, str]
PAUSE = 30 * MINUTE
# User agents, and what they say of themselves: browser, system, device, and whether a program has it.
AGENTS: Mapping[str, tuple[str | None, str | None, str | None, bool]] = {
    "": (None, None, None, False),
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0": ("Firefox", "Linux", "desktop", False),
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.2 "
    "Mobile/15E148 Safari/604.1": ("Mobile Safari", "iOS", "mobile", False),
    "curl/8.5.0": (None, None, None, True),
}
PAGES: tuple[tuple[str | None, str | None, Mapping[str, str]], ...] = (
    ("https://shop.example/", None, {}),
    ("https://shop.example/lamp?utm_source=news&utm_medium=email#top", "https://mail.example/", {"source": "news", "medium": "email"}),
    ("https://shop.example/sale?gclid=x1&utm_campaign=spring", "https://search.example/", {"campaign": "spring", "click_id": "gclid"}),
    (None, "https://other.example/", {}),
)  # fmt: skip
COUNTRIES = (None, "IT", "PL")


class Thing(NamedTuple):
    """What an event says besides: its page, user agent and country, and objects (kind, id, role or None, state)."""

    page: int | None
    agent: str
    country: str | None
    objects: tuple[tuple[str, str, str | None, tuple[tuple[str, Any], ...]], ...]


def with_things(acts: Sequence[Act], seed: int) -> list[Act]:
    """The same history, in which events tell of pages and objects too; a message that is sent again tells the same."""
    return [
        act._replace(sent=tuple(_enriched(sent, seed) for sent in act.sent)) if isinstance(act, Post) else act for act in acts
    ]


def thing_of(sent: Sent, seed: int) -> Thing:
    """What an event tells of."""
    random = Random(f"{seed} {sent.source_id} {sent.message_id}")
    objects = []
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        state = tuple(
            (name, random.choice((1, 2.5, "new", None, ["a"]))) for name in ("status", "total", "note") if random.random() < 0.6
        )
        objects.append(
            (random.choice(("order", "ticket")), f"o{random.randrange(8)}", random.choice(("buyer", "owner", None)), state)
        )
    return Thing(random.choice((0, 0, 1, 2, 3, None)), random.choice(tuple(AGENTS)), random.choice(COUNTRIES), tuple(objects))


def _enriched(sent: Sent, seed: int) -> Sent:
    if sent.expected == "quarantined" and sent.reason != "conflicting_duplicate":
        return sent
    thing = thing_of(sent, seed)
    context: dict[str, Any] = {}
    if thing.page is not None:
        url, referrer, _ = PAGES[thing.page]
        context["page"] = {name: value for name, value in (("url", url), ("referrer", referrer)) if value}
    if thing.agent:
        context["userAgent"] = thing.agent
    if thing.country:
        context["location"] = {"country": thing.country}
    objects = [{"kind": kind, "object_id": name, "role": role, "state": dict(state)} for kind, name, role, state in thing.objects]
    body = f'{sent.body[:-1]},"context":{json.dumps(context)},"objects":{json.dumps(objects)}}}'
    return sent._replace(body=body, automated=AGENTS[thing.agent][3])


class Happened(NamedTuple):
    """An applied event as brute force takes it."""

    position: int
    event_at: int
    source_id: str
    message_id: str
    type: str
    home: Name
    device: Name
    automated: bool
    thing: Thing

    @property
    def order(self) -> tuple[int, str, str]:
        return (self.event_at, self.source_id, self.message_id)


def happened(addresses: Iterable[tuple[int, int, Sent]], seed: int) -> list[Happened]:
    """The applied events of a history."""
    found = []
    for position, _, sent in addresses:
        if sent.expected == "applied":
            anonymous_id = json.loads(sent.body).get("anonymousId")
            device = ("anonymous_id", anonymous_id) if anonymous_id else sent.home
            found.append(
                Happened(
                    position,
                    sent.event_at,
                    sent.source_id,
                    sent.message_id,
                    sent.type,
                    sent.home,
                    device,
                    sent.automated,
                    thing_of(sent, seed),
                )
            )
    return found


def known(events: Iterable[Happened], true_at: int, known_at: int) -> list[Happened]:
    """Those that had happened and were known, in order."""
    kept = [event for event in events if event.event_at <= true_at and event.position <= known_at]
    return sorted(kept, key=lambda event: event.order)


def visits(events: Iterable[Happened], profiles: Mapping[Name, str]) -> set[tuple[Any, ...]]:
    """Every visit: a person's stretch on a device without a longer pause."""
    stretches: dict[tuple[str | None, Name], list[list[Happened]]] = {}
    for event in events:
        is_touch = event.type in ("page", "screen") or (event.type == "track" and event.thing.page is not None)
        if not is_touch or event.automated:
            continue
        mine = stretches.setdefault((profiles.get(event.home), event.device), [])
        if not mine or event.event_at - mine[-1][-1].event_at > PAUSE:
            mine.append([])
        mine[-1].append(event)
    return {_visit(profile, device, stretch) for (profile, device), mine in stretches.items() for stretch in mine}


def _visit(profile: str | None, device: Name, stretch: list[Happened]) -> tuple[Any, ...]:
    pages = [PAGES[event.thing.page] for event in stretch if event.thing.page is not None and PAGES[event.thing.page][0]]
    addresses = [str(url).split("#")[0].split("?")[0] for url, _, _ in pages]
    marked = [event for event in stretch if event.thing.page is not None and PAGES[event.thing.page][2]]
    marks: Mapping[str, str] = PAGES[marked[0].thing.page or 0][2] if marked else {}
    agents = [AGENTS[event.thing.agent] for event in stretch if event.thing.agent]
    return (
        profile,
        device,
        stretch[0].event_at,
        stretch[-1].event_at,
        (stretch[-1].event_at - stretch[0].event_at) // 1_000_000,
        len(stretch),
        sum(event.type == "page" for event in stretch),
        addresses[0] if addresses else None,
        addresses[-1] if addresses else None,
        pages[0][1] if pages else None,
        *(marks.get(name) for name in ("source", "medium", "campaign", "term", "content", "click_id")),
        marked[0].event_at if marked else None,
        marked[-1].event_at if marked else None,
        *(agents[0][:3] if agents else (None, None, None)),
        next((event.thing.country for event in stretch if event.thing.country), None),
        stretch[0].source_id,
        stretch[0].message_id,
    )


def objects(events: Iterable[Happened]) -> dict[tuple[str, str], tuple[dict[str, Any], int, int, int | None]]:
    """(state, first seen, last seen, newest part) of every object; ``events`` come in order."""
    found: dict[tuple[str, str], tuple[dict[str, Any], int, int, int | None]] = {}
    for event in events:
        for kind, name, _, told in event.thing.objects:
            state, first_at, _, changed_at = found.get((kind, name), ({}, event.event_at, 0, None))
            found[kind, name] = ({**state, **dict(told)}, first_at, event.event_at, event.event_at if told else changed_at)
    for key, (state, first_at, last_at, changed_at) in found.items():
        kept = {name: value for name, value in sorted(state.items()) if value is not None}
        found[key] = (kept, first_at, last_at, changed_at)
    return found


def dealings(events: Iterable[Happened], profiles: Mapping[Name, str]) -> dict[tuple[str, str, str, str], tuple[int, int]]:
    """(kind, id, profile, role) -> first and last time."""
    found: dict[tuple[str, str, str, str], tuple[int, int]] = {}
    for event in events:
        for kind, name, role, _ in event.thing.objects:
            profile = profiles.get(event.home)
            if role is not None and profile is not None:
                key = (kind, name, profile, role)
                found[key] = (found.get(key, (event.event_at, 0))[0], event.event_at)
    return found


def changes(events: Iterable[Happened]) -> set[tuple[Any, ...]]:
    """(kind, id, property, value, value before, when, message) of every change."""
    values: dict[tuple[str, str, str], Any] = {}
    found = set()
    for event in events:
        told: dict[tuple[str, str, str], Any] = {}
        for kind, name, _, state in event.thing.objects:
            told.update({(kind, name, part): value for part, value in state})
        for key, value in told.items():
            before = values.get(key)
            if json.dumps(value) != json.dumps(before):
                found.add((*key, json.dumps(value), json.dumps(before), event.event_at, event.message_id))
            values[key] = value
    return found
