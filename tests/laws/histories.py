"""Histories: what happens to an installation, act by act, made from a seed, with what is to become of every event.

Nothing of the product is imported here. What an event means (its home identifier, its time, whether it is a duplicate) is
reckoned by the generator itself, so that laws can compare the product with it. All data is synthetic.
"""

import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Literal, NamedTuple

from tests.unit.rules.small_worlds import (
    COMMON_VALUES,
    DURATIONS,
    EVENTS,
    NAMES,
    VALUES,
    World,
    random_attribute,
    random_condition,
)

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 1_767_225_600 * SECOND
AHEAD_MAX = 5 * MINUTE
SOURCES = {"src_a": 0, "src_b": 1}
Name = tuple[str, str]
AGENTS = ("", "", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "", "curl/8.5.0", "", "")


class Sent(NamedTuple):
    """An event as a client sends it, and as it is to be understood. Times are micros; ``home`` is its strongest identifier."""

    body: str
    expected: Literal["applied", "duplicate", "quarantined"]
    reason: str
    source_id: str
    message_id: str
    type: str
    event: str | None
    home: Name
    event_at: int
    properties: str
    traits: str
    automated: bool = False


class Post(NamedTuple):
    """A request of one source arrives at a moment."""

    at: int
    source_id: str
    sent: tuple[Sent, ...]


class Define(NamedTuple):
    """A definition enters the log; it has the shape of its own JSON."""

    at: int
    definition: dict[str, Any]


class Claim(NamedTuple):
    """A person links, or parts, two identifiers, or takes such a link back (``kind`` retract)."""

    at: int
    link_id: str
    kind: Literal["manual_same", "manual_different", "retract"]
    left: Name = ("", "")
    right: Name = ("", "")


class Mend(NamedTuple):
    """A person replays everything that lies in quarantine."""

    at: int


class Wait(NamedTuple):
    """Nothing comes until this moment."""

    at: int


Act = Post | Define | Claim | Mend | Wait


class Person(NamedTuple):
    """Somebody with a user id, an e-mail address and a few devices."""

    user_id: str
    email: str
    devices: tuple[str, ...]


def spell(micros: int) -> str:
    """Spell a moment as clients do."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")


def make_history(seed: int, *, posts: int = 40, people: int = 34, is_calm: bool = False) -> list[Act]:
    """Make a history of some 250 events over about six weeks.

    Calm ones leave out what makes answers depend on arrival by intention: far-future events, which are clamped to their
    arrival, events without a time, replays of quarantine, and definitions that come or change later.
    """
    return _Author(Random(seed), people, is_calm).write(posts)


def definitions(random: Random, segments: int) -> list[dict[str, Any]]:
    """What every installation starts with, and random attributes and segments over them."""
    made: list[dict[str, Any]] = [
        {"kind": "identity", "id": "idr_1"},
        {"kind": "purpose", "key": "operations", "name": "o", "basis": "legitimate_interest", "id": "prp_1"},
        {"kind": "purpose", "key": "marketing", "name": "m", "basis": "consent", "id": "prp_2"},
        *(
            {
                "kind": "source",
                "key": source_id,
                "name": source_id,
                "type": "server" if source_id == "src_a" else "browser",
                "region": "eu",
                "spec": {"priority": priority},
                "id": source_id,
            }
            for source_id, priority in SOURCES.items()
        ),
        *(destination(key, purpose) for key, purpose in (("hook", "operations"), ("ads", "marketing"))),
    ]
    attributes = {f"attribute_{number}": random_attribute(random) for number in range(4)}
    made += [{"kind": "attribute", "key": key, "name": key, "spec": spec, "id": f"atr_{key}"} for key, spec in attributes.items()]
    inner = {"language": 1, "where": random_condition(random, World([], [], {}, attributes), 1)}
    made.append(segment("inner", inner))
    world = World([], [], {"inner": inner}, attributes)
    for number in range(segments):
        made.append(segment(f"segment_{number}", random_segment(random, world), "marketing" if number % 5 == 4 else "operations"))
    return made


def destination(key: str, purpose: str) -> dict[str, Any]:
    """A webhook that wants all segments of a purpose."""
    return {
        "kind": "destination",
        "key": key,
        "name": key,
        "purposes": [purpose],
        "region": "eu",
        "type": "webhook",
        "spec": {"url": "https://hook.example/"},
        "id": f"dst_{key}",
    }


def segment(key: str, spec: dict[str, Any], purpose: str = "operations", state: str = "active") -> dict[str, Any]:
    """A segment's definition."""
    return {"kind": "segment", "key": key, "name": key, "purpose": purpose, "spec": spec, "id": f"seg_{key}", "state": state}


def random_segment(random: Random, world: World) -> dict[str, Any]:
    """A condition of which time, events, traits and identifiers all have a part; rarely one that nobody or everybody meets."""
    common = EVENTS[random.randrange(2)]
    first: dict[str, Any] = random.choice(
        (
            {"kind": "did", "event": common, "times": {"min": random.choice((1, 2))}, "within": random.choice(DURATIONS)},
            {"kind": "not", "of": {"kind": "did", "event": common, "within": random.choice(DURATIONS)}},
            {"kind": "did", "event": common, "times": {"max": 1}, "within": random.choice(DURATIONS)},
            {"kind": "attribute", "key": random.choice(sorted(world.attributes)), "test": "at_least", "value": 1},
            random_condition(random, world),
        )
    )
    other = random_condition(random, world)
    where = random.choice((first, first, {"kind": "all", "of": [first, other]}, {"kind": "any", "of": [first, other]}, other))
    return {"language": 1, "where": where if random.random() < 0.5 else {"kind": "not", "of": where}}


class _Author:
    """Writes one history; keeps what it has already told, so that it can repeat it."""

    def __init__(self, random: Random, people: int, is_calm: bool) -> None:
        self._random = random
        self._is_calm = is_calm
        self._people = [
            Person(
                f"user-{number}",
                f"p{number}@mail.example",
                tuple(f"device-{number}-{place}" for place in range(random.randint(1, 3))),
            )
            for number in range(people)
        ]
        self._told: list[Sent] = []
        self._links: list[str] = []
        self._at = START
        self._counts = dict.fromkeys(SOURCES, 0)

    def write(self, posts: int) -> list[Act]:
        random = self._random
        defined = definitions(random, 14)
        late = 0 if self._is_calm else 5
        later, now = defined[len(defined) - late :], defined[: len(defined) - late]
        acts: list[Act] = [Define(self._at, definition) for definition in now]
        for number in range(posts):
            self._at += random.choice((SECOND, MINUTE, HOUR, 6 * HOUR, DAY, DAY, 3 * DAY)) + random.randrange(MINUTE)
            acts.append(self._post(7))
            if random.random() < 0.15:
                acts.extend(self._claim())
            if self._is_calm:
                continue
            if later and number > posts // 3 and random.random() < 0.4:
                acts.append(Define(self._at, later.pop()))
            if random.random() < 0.12:
                acts.append(Define(self._at, self._changed(random.choice(now))))
            if random.random() < 0.08:
                acts.append(Mend(self._at))
        return [*acts, Wait(self._at + 20 * DAY)]

    def _changed(self, definition: dict[str, Any]) -> dict[str, Any]:
        """Another version: a segment gets another condition or is archived, an attribute another aggregate."""
        random = self._random
        attributes: dict[str, Any] = {f"attribute_{number}": {} for number in range(4)}
        if definition["kind"] == "attribute":
            return {**definition, "spec": random_attribute(random)}
        if definition["kind"] == "segment" and definition["key"] != "inner":
            spec = random_segment(random, World([], [], {"inner": {}}, attributes))
            return segment(definition["key"], spec, definition["purpose"], random.choice(("active", "active", "archived")))
        return definition

    def _claim(self) -> list[Act]:
        random = self._random
        if self._links and random.random() < 0.5:
            return [Claim(self._at, self._links.pop(), "retract")]
        one, other = random.sample(self._people, 2)
        kind: Literal["manual_same", "manual_different"] = random.choice(("manual_same", "manual_different"))
        if kind == "manual_different":
            other = one
        self._links.append(f"lnk_{self._at}")
        return [Claim(self._at, self._links[-1], kind, ("user_id", one.user_id), ("anonymous_id", random.choice(other.devices)))]

    def _post(self, most: int) -> Post:
        source_id = self._random.choice(sorted(SOURCES))
        sent: list[Sent] = []
        for _ in range(self._random.randint(4, most + 4)):
            sent.append(self._event(source_id))
            self._told.append(sent[-1])
        return Post(self._at, source_id, tuple(sent))

    def _event(self, source_id: str) -> Sent:
        random = self._random
        luck = random.random()
        known = [sent for sent in self._told if sent.source_id == source_id and sent.expected == "applied"]
        if known and luck < 0.06:
            return self._again(random.choice(known))
        if luck > 0.96:
            return self._invalid(source_id)
        return self._fresh(source_id)

    def _again(self, first: Sent) -> Sent:
        """The same message once more: to the letter, spelled in another way, or saying something else."""
        luck = self._random.random()
        if luck < 0.4:
            return first._replace(expected="duplicate", reason="same_message")
        if luck < 0.7:
            body = f'{{ "sentAt":"{spell(first.event_at)}", {first.body[1:-1]} }}'
            return first._replace(body=body, expected="duplicate", reason="same_message")
        body = f'{{"integrations":{{"other":true}},{first.body[1:]}'
        return first._replace(body=body, expected="quarantined", reason="conflicting_duplicate")

    def _invalid(self, source_id: str) -> Sent:
        message_id = self._message_id(source_id)
        body, reason = self._random.choice(
            (
                ('{"type":"track","event":"e"', "no_usable_identifier"),
                ('{"type":"zzz","userId":"user-1"', "unknown_type"),
                ('{"type":"track","userId":"user-1"', "missing_field"),
                ('{"type":"track","event":"e","userId":"user-1","timestamp":"soon"', "unreadable_time"),
                ('{"type":"track","event":"e","userId":"guest"', "no_usable_identifier"),
            )
        )
        text = f'{body},"messageId":"{message_id}"}}'
        return Sent(text, "quarantined", reason, source_id, message_id, "", None, ("", ""), 0, "{}", "{}")

    def _fresh(self, source_id: str) -> Sent:
        random = self._random
        person = random.choice(self._people)
        members: dict[str, str] = {}
        kind, traits, properties = "track", "{}", self._values()
        event: str | None = random.choice((*EVENTS, *EVENTS[:2]))
        luck = random.random()
        if luck < 0.45:
            members["anonymousId"] = random.choice(person.devices)
        elif luck < 0.75:
            members["userId"] = person.user_id
        elif luck < 0.9:
            members |= {"userId": person.user_id, "anonymousId": random.choice(person.devices)}
        else:
            shared = random.choice(("kiosk-1", "kiosk-1", "kiosk-2", random.choice(random.choice(self._people).devices)))
            members |= {"userId": person.user_id, "anonymousId": shared}
            if random.random() < 0.3:
                del members["userId"]
        luck = random.random()
        if luck < 0.25:
            kind, event, properties, traits = "identify", None, "{}", self._values()
            if random.random() < 0.4:
                traits = f'{{"email":"{person.email}"' + ("," if traits != "{}" else "") + traits[1:]
        elif luck < 0.3:
            kind, event = "page", None
        elif luck < 0.34:
            kind, event, properties = "alias", None, "{}"
            members = {"userId": person.user_id, "previousId": random.choice((*person.devices, f"old-{person.user_id}"))}
        return self._sent(source_id, kind, event, members, properties, traits, person)

    def _sent(
        self, source_id: str, kind: str, event: str | None, members: dict[str, str], properties: str, traits: str, person: Person
    ) -> Sent:
        message_id = self._message_id(source_id)
        event_at, timestamp = self._time()
        spelled = {"type": kind, "messageId": message_id, **members}
        if event is not None:
            spelled["event"] = event
        if timestamp is not None:
            spelled["timestamp"] = timestamp
        body = json.dumps(spelled)[:-1]
        # Every seventh is a program's, every other seventh says which browser it came from; no lot is drawn for it.
        agent = AGENTS[self._counts[source_id] % len(AGENTS)]
        body += f',"context":{{"userAgent":{json.dumps(agent)}}}' if agent else ""
        body += f',"properties":{properties}' if properties != "{}" else ""
        body += f',"traits":{traits}' if traits != "{}" else ""
        home = ("anonymous_id", members.get("anonymousId", ""))
        if '"email"' in traits:
            home = ("email", person.email)
        if "userId" in members:
            home = ("user_id", members["userId"])
        is_program = agent.startswith("curl")
        return Sent(
            body + "}", "applied", "applied", source_id, message_id, kind, event, home, event_at, properties, traits, is_program
        )

    def _message_id(self, source_id: str) -> str:
        self._counts[source_id] += 1
        # Ids that sort differently as texts and as numbers; two sources may give the same.
        return f"m{self._counts[source_id] * 7 % 5_000}"

    def _values(self) -> str:
        random = self._random
        names = [name for name in dict.fromkeys(NAMES) if random.random() < (0.85 if name == "v" else 0.15)]
        members = [f"{json.dumps(name)}:{random.choice(random.choice((COMMON_VALUES, COMMON_VALUES, VALUES)))}" for name in names]
        return "{" + ",".join(members) + "}"

    def _time(self) -> tuple[int, str | None]:
        """When it happened as it is to be understood, and as it is told."""
        random = self._random
        luck = random.random()
        if luck < 0.04 and not self._is_calm:
            return self._at, None
        if luck < 0.08 and not self._is_calm:
            return self._at, spell(self._at + AHEAD_MAX + 1 + random.randrange(400 * DAY))
        if luck < 0.20:
            event_at = self._at + random.choice((1, SECOND, AHEAD_MAX, random.randrange(AHEAD_MAX)))
        elif luck < 0.35:
            event_at = self._at - random.randrange(10 * HOUR)
        elif luck < 0.45:
            event_at = self._at - random.randrange(60 * DAY)
        elif luck < 0.46:
            event_at = -random.randrange(9_000 * DAY)
        else:
            event_at = self._at - random.randrange(10 * MINUTE)
        if random.random() < 0.2 and event_at > 0:
            # Whole hours: many events happen at the same moment, so ties must be decided by something stable.
            event_at -= event_at % HOUR
        return event_at, spell(event_at)
