"""The stream of events that all benchmarks share: Segment-shaped, about 1 KB each, people by Zipf, some late, some twice."""

from bisect import bisect
from collections.abc import Iterator
from itertools import accumulate
from random import Random
from typing import Any

import msgspec

from conosco.model.moment import DAY, spell_moment

NAMES = tuple(f"Event {number:02d}" for number in range(20))
COUNTRIES = ("IT", "PL", "PT", "GB", "DE")
_ENCODE = msgspec.json.Encoder().encode


def _texts(count: int, length: int, between: str = " ") -> list[str]:
    """Texts of words, as compressible as what people write; a letter repeated would make gzip look far too good."""
    rng = Random(length)
    words = ["".join(rng.choices("etaoinsrhldcumfpgwybvkxjqz", range(26, 0, -1), k=rng.randint(2, 9))) for _ in range(500)]
    shares = [1 / (rank + 5) for rank in range(len(words))]
    return [between.join(rng.choices(words, shares, k=length // 3)).ljust(length)[:length] for _ in range(count)]


_URLS = [f"https://shop.example.com/{path}" for path in _texts(50, 180, "-")]
_TITLES, _AGENTS = _texts(50, 60), _texts(20, 130)
_NOTES, _DESCRIPTIONS = _texts(1_000, 220), _texts(1_000, 250)


def names_by_popularity(rng: Random) -> Iterator[str]:
    """Endless event names, the commonest first in share: 1/(rank + 1)."""
    weights = list(accumulate(1 / (rank + 1) for rank in range(len(NAMES))))
    while True:
        yield NAMES[bisect(weights, rng.random() * weights[-1])]


def people_by_popularity(rng: Random, people: int) -> Iterator[int]:
    """Endless people, the share of rank r being 1/(r + 50), shuffled so that rank says nothing of age."""
    weights = list(accumulate(1 / (rank + 50) for rank in range(people)))
    ranks = list(range(people))
    rng.shuffle(ranks)
    while True:
        yield ranks[min(bisect(weights, rng.random() * weights[-1]), people - 1)]


def first_events(people: int, at: int) -> Iterator[bytes]:
    """What makes the base: every person identified once, 40 in 100 with a user id too."""
    for number in range(people):
        event = _base(number, f"base-{number}", at)
        event |= {"type": "identify", "traits": {"country": COUNTRIES[number % 5], "plan": "free", "age": 20 + number % 60}}
        yield _ENCODE(event)


def events(seed: int, people: int, count: int, start: int, span: int) -> Iterator[bytes]:
    """The measured stream: track 70, page 20, identify 10 %; 1 % sent twice, 2 % up to a day late, over ``span`` micros."""
    rng = Random(seed)
    names, who = names_by_popularity(rng), people_by_popularity(rng, people)
    previous = b""
    for index in range(count):
        if previous and rng.random() < 0.01:
            yield previous
            continue
        at = start + span * index // count - (rng.randrange(DAY) if rng.random() < 0.02 else 0)
        number = next(who)
        event = _base(number, f"{seed}-{index:09d}", at)
        kind = rng.random()
        if kind < 0.7:
            properties = {
                "revenue": rng.randrange(100, 20_000) / 100,
                "sku": f"S{rng.randrange(5000)}",
                "note": _NOTES[index % len(_NOTES)],
            }
            event |= {"type": "track", "event": next(names), "properties": properties}
        elif kind < 0.9:
            event |= {
                "type": "page",
                "name": "Product",
                "properties": {"path": "/p/1", "note": _DESCRIPTIONS[index % len(_DESCRIPTIONS)]},
            }
        else:
            event |= {"type": "identify", "traits": {"country": COUNTRIES[number % 5], "plan": rng.choice(("free", "gold"))}}
        previous = _ENCODE(event)
        yield previous


def event_of(number: int, message_id: str, at: int, name: str) -> bytes:
    """One event of one person, as large as those of the stream."""
    properties = {"revenue": 49.5, "sku": f"S{number % 5000}", "note": _NOTES[number % len(_NOTES)]}
    return _ENCODE(_base(number, message_id, at) | {"type": "track", "event": name, "properties": properties})


def _base(number: int, message_id: str, at: int) -> dict[str, Any]:
    page = (number + at // 1_000) % len(_URLS)
    event: dict[str, Any] = {
        "messageId": f"msg-{message_id}-0123456789abcdef",
        "anonymousId": f"a-{number:08d}-6c1f-4a7e",
        "timestamp": spell_moment(at),
        "context": {
            "library": {"name": "analytics.js", "version": "2.0"},
            "page": {"url": _URLS[page], "title": _TITLES[page]},
            "userAgent": _AGENTS[number % len(_AGENTS)],
            "locale": "it-IT",
        },
    }
    if number % 5 < 2:
        event["userId"] = f"user-{number:08d}"
    return event


def segments(count: int, seed: int = 7) -> list[dict[str, Any]]:
    """Conditions of the published mix: 30 % read the commonest event, half have a window, some traits and absences."""
    rng = Random(seed)
    made: list[dict[str, Any]] = []
    for number in range(count):
        event = NAMES[0] if rng.random() < 0.3 else rng.choice(NAMES[1:])
        did: dict[str, Any] = {"kind": "did", "event": event, "times": {"min": rng.choice((1, 2, 3, 5, 10))}}
        if rng.random() < 0.5:
            did["within"] = rng.choice(("1d", "7d", "30d", "90d"))
        shape = number % 5
        if shape == 1:
            made.append({"kind": "all", "of": [{"kind": "trait", "path": ["country"], "test": "is", "value": "IT"}, did]})
        elif shape == 2:
            absent = {"kind": "did", "event": rng.choice(NAMES[1:]), "within": "7d"}
            made.append({"kind": "all", "of": [did, {"kind": "not", "of": absent}]})
        elif shape == 3:
            made.append({**did, "where": [{"path": ["revenue"], "test": "at_least", "value": 100}]})
        else:
            made.append(did)
    return made
