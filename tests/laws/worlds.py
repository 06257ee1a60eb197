"""Worlds: small populations whose events are hard to attribute, made from a seed, with the truth about who is who.

Nothing of the product is imported here, so that any law and any oracle can use the same worlds. All data is synthetic.
"""

import random
from collections.abc import Sequence
from typing import Literal, NamedTuple

Name = tuple[str, str]
Pair = tuple[Name, Name, str]
SECOND = 1_000_000
DAY = 86_400 * SECOND
START = 1_767_225_600 * SECOND


class Happening(NamedTuple):
    """An event, as far as identity goes: its identifiers (strongest first) and what an alias says besides."""

    message_id: str
    type: Literal["track", "identify", "alias"]
    event_at: int
    identifiers: tuple[Name, ...]
    previous_id: str | None = None
    may_assert: bool = True


class Claim(NamedTuple):
    """A person says that two identifiers are, or are not, one person."""

    link_id: str
    kind: Literal["manual_same", "manual_different"]
    left: Name
    right: Name
    at: int


class Retraction(NamedTuple):
    """A link is taken back, by its id or by its ends and kind."""

    which: str | Pair


Step = Happening | Claim | Retraction


class World(NamedTuple):
    """What happened, in no order, and the person (or None where several share it) behind each identifier."""

    happenings: tuple[Happening, ...]
    claims: tuple[Claim, ...]
    retractions: tuple[Retraction, ...]
    truth: dict[Name, int | None]


class _Person(NamedTuple):
    number: int
    user_ids: tuple[str, ...]
    emails: tuple[str, ...]
    phones: tuple[str, ...]
    devices: tuple[str, ...]


def make_world(seed: int, people: int | None = None) -> World:
    """Make a world of 30 to 60 people with shared devices, kiosks, shared mailboxes, aliases and people's corrections."""
    draw = random.Random(seed)
    population = [_make_person(draw, number, seed) for number in range(people or draw.randint(30, 60))]
    truth: dict[Name, int | None] = {}
    for person in population:
        for name in _names(person):
            truth[name] = person.number
    happenings = _visits(draw, population, truth) + _shared(draw, population, truth) + _aliases(draw, population, truth)
    while len(happenings) < 200:
        happenings += _visits(draw, population, truth)
    happenings = [each._replace(message_id=f"m{place:05d}") for place, each in enumerate(happenings)]
    claims = _claims(draw, population)
    retractions = [Retraction(claim.link_id) for claim in claims if draw.random() < 0.4]
    aliased = {frozenset((("anonymous_id", each.previous_id), each.identifiers[0])) for each in happenings if each.previous_id}
    stars = [each for each in happenings if len(each.identifiers) > 1 and frozenset(each.identifiers[:2]) not in aliased]
    for each in draw.sample(stars, 5):
        retractions.append(Retraction((each.identifiers[0], each.identifiers[1], "observed")))
    # A kiosk that loses visitors may turn out to be an ordinary device.
    for each in [each for each in stars if each.identifiers[-1] == ("anonymous_id", "kiosk-1")][: draw.randint(0, 3)]:
        retractions.append(Retraction((each.identifiers[0], each.identifiers[-1], "observed")))
    known = {name for each in happenings for name in each.identifiers}
    renamed = [each for each in happenings if each.may_assert and ("user_id", each.previous_id) in known]
    for each in renamed[:1]:
        retractions.append(Retraction((("user_id", str(each.previous_id)), each.identifiers[0], "asserted")))
    return World(tuple(happenings), tuple(claims), tuple(retractions), truth)


def make_tangle(seed: int) -> World:
    """Make a world of a dozen identifiers that all meet, some in namespaces which no rule knows; nobody knows the truth."""
    draw = random.Random(seed)
    strengths = ("user_id", "email", "anonymous_id", "cookie", "zone")
    names = [("user_id", value) for value in "abcd"] + [("email", value) for value in "xyz"]
    names += [("anonymous_id", value) for value in "aklm"] + [("cookie", "p"), ("cookie", "q"), ("zone", "r")]
    happenings: list[Happening] = []
    for place in range(draw.randint(3, 40)):
        met = draw.sample(names, draw.choice((1, 2, 2, 2, 3)))
        met.sort(key=lambda name: strengths.index(name[0]))
        alias = draw.random() < 0.2 and met[0][0] == "user_id"
        previous_id = draw.choice("abcdkl") if alias else None
        at = START + draw.randrange(6) * SECOND
        happenings.append(
            Happening(f"m{place:05d}", "alias" if alias else "track", at, tuple(met), previous_id, draw.random() < 0.5)
        )
    claims: list[Claim] = []
    for place in range(draw.randint(0, 5)):
        left, right = draw.sample(names, 2)
        kind: Literal["manual_same", "manual_different"] = draw.choice(("manual_same", "manual_different"))
        claims.append(Claim(f"lnk-{place}", kind, left, right, START + draw.randrange(6) * SECOND))
    retractions = [Retraction(claim.link_id) for claim in claims if draw.random() < 0.5]
    aliased = {frozenset((name, each.identifiers[0])) for each in happenings for name in names if name[1] == each.previous_id}
    pairs = [each for each in happenings if len(each.identifiers) > 1 and frozenset(each.identifiers[:2]) not in aliased]
    for each in draw.sample(pairs, min(3, len(pairs))):
        retractions.append(Retraction((each.identifiers[0], each.identifiers[1], "observed")))
    return World(tuple(happenings), tuple(claims), tuple(retractions), dict.fromkeys(names))


def arrival(world: World, seed: int) -> list[Step]:
    """An order in which a world may arrive: late events, redelivered ones, and retractions after what they take back."""
    draw = random.Random(seed)
    steps: list[Step] = [*world.happenings, *world.claims, *draw.sample(world.happenings, len(world.happenings) // 10)]
    draw.shuffle(steps)
    for retraction in world.retractions:
        steps.insert(draw.randint(_known_from(steps, retraction), len(steps)), retraction)
    return steps


def true_pairs(groups: Sequence[frozenset[Name]], truth: dict[Name, int | None]) -> tuple[int, int, int]:
    """Pairs of identifiers that are (rightly joined, joined, one person in truth); shared identifiers do not count."""
    owned: dict[int, int] = {}
    right = joined = 0
    for group in groups:
        counts: dict[int, int] = {}
        for name in group:
            owner = truth.get(name)
            if owner is not None:
                counts[owner] = counts.get(owner, 0) + 1
                owned[owner] = owned.get(owner, 0) + 1
        size = sum(counts.values())
        joined += size * (size - 1) // 2
        right += sum(count * (count - 1) // 2 for count in counts.values())
    return right, joined, sum(count * (count - 1) // 2 for count in owned.values())


def _known_from(steps: list[Step], retraction: Retraction) -> int:
    """From which place on what is retracted is known: nobody takes back what they have not yet seen."""
    if isinstance(retraction.which, str):
        return 1 + next(place for place, step in enumerate(steps) if isinstance(step, Claim) and step.link_id == retraction.which)
    left, right, kind = retraction.which
    events = [(place, step) for place, step in enumerate(steps) if isinstance(step, Happening)]
    if kind == "observed":
        return 1 + next(place for place, step in events if step.identifiers[:1] == (left,) and right in step.identifiers)
    alias = next(place for place, step in events if step.may_assert and step.previous_id == left[1] and right in step.identifiers)
    return 1 + max(alias, next(place for place, step in events if left in step.identifiers))


def _make_person(draw: random.Random, number: int, seed: int) -> _Person:
    def some(prefix: str, least: int, most: int) -> tuple[str, ...]:
        return tuple(f"{prefix}-{seed}-{number}-{place}" for place in range(draw.randint(least, most)))

    user_ids = some("u", 1, 1) if draw.random() < 0.8 else ()
    if user_ids and draw.random() < 0.2:
        user_ids += (f"old-{seed}-{number}",)
    emails = tuple(f"{local}@mail.example" for local in some("e", 0, 2))
    return _Person(
        number, user_ids, emails, tuple(f"+39{seed}{number:03d}{place}" for place in range(draw.randint(0, 1))), some("d", 1, 4)
    )


def _names(person: _Person) -> list[Name]:
    return [
        *(("user_id", value) for value in person.user_ids),
        *(("email", value) for value in person.emails),
        *(("phone", value) for value in person.phones),
        *(("anonymous_id", value) for value in person.devices),
    ]


def _moment(draw: random.Random) -> int:
    # Whole hours over a week: many events are simultaneous, so ties must be decided by something stable.
    return START + draw.randrange(7 * 24) * 3_600 * SECOND


def _event(
    draw: random.Random, kind: Literal["track", "identify", "alias"], *identifiers: Name | None, previous_id: str | None = None
) -> Happening:
    order = ("user_id", "email", "phone", "anonymous_id")
    kept = sorted((name for name in identifiers if name is not None), key=lambda name: order.index(name[0]))
    return Happening("", kind, _moment(draw), tuple(kept), previous_id, draw.random() < 0.6)


def _visits(draw: random.Random, population: list[_Person], truth: dict[Name, int | None]) -> list[Happening]:
    made: list[Happening] = []
    for person in population:
        devices = [("anonymous_id", device) for device in person.devices]
        if draw.random() < 0.15:
            # A partner's device, used for a while: from now on it belongs to both.
            shared = ("anonymous_id", draw.choice(draw.choice(population).devices))
            devices.append(shared)
            if truth[shared] != person.number:
                truth[shared] = None
        user = ("user_id", person.user_ids[0]) if person.user_ids else None
        for device in devices:
            for _ in range(draw.randint(1, 3)):
                made.append(_event(draw, "track", device, user if draw.random() < 0.6 else None))
        for email in person.emails:
            made.append(_event(draw, "identify", user if draw.random() < 0.7 else draw.choice(devices), ("email", email)))
        for phone in person.phones:
            made.append(_event(draw, "identify", user, ("phone", phone), draw.choice(devices)))
    return made


def _shared(draw: random.Random, population: list[_Person], truth: dict[Name, int | None]) -> list[Happening]:
    made: list[Happening] = []
    for kiosk in range(draw.randint(1, 2)):
        device = ("anonymous_id", f"kiosk-{kiosk}")
        truth[device] = None
        # The second kiosk has about as many visitors as a device may have before it counts as one.
        visitors = draw.sample(population, draw.randint(12, 25) if kiosk == 0 else draw.randint(8, 11))
        for visitor in visitors:
            made.append(_event(draw, "track", device, draw.choice(_names(visitor)[:2])))
    mailbox = ("email", "info@shop.example")
    truth[mailbox] = None
    for person in draw.sample(population, draw.randint(3, 6)):
        made.append(
            _event(draw, "identify", mailbox, draw.choice(_names(person)[:2] if person.user_ids else _names(person)[-1:]))
        )
    collector = draw.choice([person for person in population if person.user_ids])
    for place in range(6):
        address = ("email", f"throwaway-{place}@mail.example")
        truth[address] = collector.number
        made.append(_event(draw, "identify", ("user_id", collector.user_ids[0]), address))
    return made


def _aliases(draw: random.Random, population: list[_Person], truth: dict[Name, int | None]) -> list[Happening]:
    made: list[Happening] = []
    for person in population:
        if not person.user_ids:
            continue
        user = ("user_id", person.user_ids[0])
        for old in person.user_ids[1:]:
            # The old user id may be used by an event or be known from aliases alone: then it passes as an anonymous id.
            if draw.random() < 0.7:
                made.append(_event(draw, "track", ("user_id", old), ("anonymous_id", draw.choice(person.devices))))
            else:
                truth[("anonymous_id", old)] = truth.pop(("user_id", old))
            made.append(_event(draw, "alias", user, previous_id=old))
            if draw.random() < 0.3:
                made.append(_event(draw, "alias", user, previous_id=old)._replace(may_assert=False))
        if draw.random() < 0.3:
            made.append(_event(draw, "alias", user, previous_id=draw.choice(person.devices)))
        if draw.random() < 0.1:
            stranger = draw.choice([other for other in population if other.user_ids])
            made.append(_event(draw, "alias", user, previous_id=stranger.user_ids[0])._replace(may_assert=False))
        if draw.random() < 0.1:
            made.append(_event(draw, "alias", user, previous_id=draw.choice(("", "00-0", "null", "kiosk-0", "kiosk-1"))))
    pair = draw.sample([person for person in population if person.user_ids], 2)
    # Each names the other as what it was called before: both directions.
    made.append(_event(draw, "alias", ("user_id", pair[0].user_ids[0]), previous_id=pair[1].user_ids[0]))
    made.append(_event(draw, "alias", ("user_id", pair[1].user_ids[0]), previous_id=pair[0].user_ids[0]))
    return made


def _claims(draw: random.Random, population: list[_Person]) -> list[Claim]:
    made: list[Claim] = []
    for place in range(draw.randint(4, 10)):
        one, other = draw.sample(population, 2)
        kind: Literal["manual_same", "manual_different"] = "manual_same" if draw.random() < 0.5 else "manual_different"
        left, right = draw.choice(_names(one)), draw.choice(_names(other if kind == "manual_same" else one))
        if left != right:
            made.append(Claim(f"lnk-{place}", kind, left, right, _moment(draw)))
            if draw.random() < 0.3:
                contrary: Literal["manual_same", "manual_different"] = (
                    "manual_different" if kind == "manual_same" else "manual_same"
                )
                made.append(Claim(f"lnk-{place}-contrary", contrary, right, left, _moment(draw)))
    nobody = ("email", "never-seen@mail.example")
    made.append(Claim("lnk-nobody", "manual_same", nobody, draw.choice(_names(draw.choice(population))), _moment(draw)))
    return made
