"""Brute force: who satisfies a condition, and what computed traits are, straight from the wire form and plain events.

It shares no code with the product and imports nothing of it, so that both can only agree by being right. It is slow on
purpose: every question walks all events of a person. An event is a dict with position, event_at, source_id, message_id,
priority, type, event, home (namespace, value), and properties and traits as JSON text; ``automated`` if a program made
it. Times are micros.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

Identifier = tuple[str, str]

_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"([Tt ]([0-9]{2}):([0-9]{2})(:([0-9]{2})([.,]([0-9]{1,12}))?)?\s*([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)?)?",
)
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DAY = 86_400_000_000


class Numeral(NamedTuple):
    """A JSON number as it was spelled."""

    spelling: str


class Case(NamedTuple):
    """What is known when a question is asked. ``first_seen`` may be left empty: then everyone has always been there."""

    events: Sequence[Mapping[str, Any]]
    profiles: Mapping[Identifier, str]
    true_at: int
    known_at: int
    first_seen: Mapping[Identifier, int] = {}
    segments: Mapping[str, Any] = {}
    attributes: Mapping[str, Any] = {}

    def everyone(self) -> set[str]:
        return {profile for home, profile in self.profiles.items() if profile and self.is_seen(home)}

    def is_seen(self, identifier: Identifier) -> bool:
        return identifier not in self.first_seen or self.first_seen[identifier] <= self.true_at

    def events_of(self, person: str) -> list[Mapping[str, Any]]:
        return [
            event
            for event in self.events
            if event["position"] <= self.known_at
            and event["event_at"] <= self.true_at
            and self.profiles.get(tuple(event["home"])) == person
        ]


def identity_at(versions: Iterable[Mapping[str, Any]], known_at: int) -> tuple[dict[Identifier, str], dict[Identifier, int]]:
    """The profile and the first time of each identifier by its newest version at a position; an empty profile is nobody's."""
    profiles: dict[Identifier, str] = {}
    first_seen: dict[Identifier, int] = {}
    for version in sorted(versions, key=lambda row: (row["position"], row["ordinal"])):
        if version["position"] <= known_at:
            identifier = (version["namespace"], version["value"])
            profiles[identifier] = version["profile_id"]
            first_seen[identifier] = version["first_seen_at"]
    return {identifier: profile for identifier, profile in profiles.items() if profile}, first_seen


def people(case: Case, where: Any) -> set[str]:
    """Everyone who satisfies the condition in its wire form."""
    condition = read(json.dumps(where))
    return {person for person in case.everyone() if _holds(case, person, condition)}


def attribute_values(case: Case, spec: Any) -> dict[str, Any]:
    """The computed trait of everyone who has it: int, Fraction, text or bool, a list of those if an event gave several."""
    plain = read(json.dumps(spec))
    values = {}
    for person in case.everyone():
        found = _attribute(case, person, plain)
        if found:
            shown = [exact_number(value) if isinstance(value, Numeral) else _shown(value) for value in found]
            values[person] = shown[0] if len(shown) == 1 else shown
    return values


def read(text: str) -> Any:
    """Read JSON with its numbers as they are spelled."""
    return json.loads(text, parse_int=Numeral, parse_float=Numeral)


def _holds(case: Case, person: str, condition: Any) -> bool:
    kind = condition["kind"]
    if kind == "all":
        return all(_holds(case, person, part) for part in condition["of"])
    if kind == "any":
        return any(_holds(case, person, part) for part in condition["of"])
    if kind == "not":
        return not _holds(case, person, condition["of"])
    if kind == "segment":
        return _holds(case, person, read(json.dumps(case.segments[condition["key"]]))["where"])
    if kind == "did":
        events = _stream(case, person, condition)
        times = condition.get("times", {})
        least = int(times["min"].spelling) if "min" in times else (0 if "max" in times else 1)
        most = int(times["max"].spelling) if "max" in times else len(events)
        return least <= len(events) <= most
    if kind == "trait":
        value = _trait(case, person, condition["path"][0])
        return any(_passes(leaf, condition, case.true_at) for leaf in _values(value, condition["path"][1:]))
    if kind == "attribute":
        spec = read(json.dumps(case.attributes[condition["key"]]))
        return any(_passes(leaf, condition, case.true_at) for leaf in _attribute(case, person, spec))
    assert kind == "identifier", kind
    return any(
        identifier[0] == condition["namespace"]
        and case.is_seen(identifier)
        and ("test" not in condition or _passes(identifier[1], condition, case.true_at))
        for identifier, profile in case.profiles.items()
        if profile == person
    )


def _stream(case: Case, person: str, spec: Any) -> list[Mapping[str, Any]]:
    """The events of a person that a ``did`` or an attribute is about, window included."""
    start = case.true_at - _micros(spec["within"]) if "within" in spec else None
    return [
        event
        for event in case.events_of(person)
        if event["type"] == spec.get("type", "track")
        and (not event.get("automated", False) or spec.get("automated", False))
        and ("event" not in spec or event["event"] == spec["event"])
        and (start is None or event["event_at"] > start)
        and all(
            any(_passes(leaf, entry, event["event_at"]) for leaf in _values(read(event["properties"]), entry["path"]))
            for entry in spec.get("where", [])
        )
    ]


def _trait(case: Case, person: str, name: str) -> Any:
    winner: tuple[Any, ...] = ()
    value = None
    for event in case.events_of(person):
        traits = read(event["traits"]) if event["type"] == "identify" else {}
        if name in traits:
            rank = (event["priority"], event["event_at"], event["source_id"], event["message_id"])
            if rank > winner:
                winner, value = rank, traits[name]
    return value


def _attribute(case: Case, person: str, spec: Any) -> list[Any]:
    """The value as a list of leaves, empty if the person has none."""
    events = sorted(_stream(case, person, spec), key=lambda event: (event["event_at"], event["source_id"], event["message_id"]))
    if spec["aggregate"] == "count":
        return [Numeral(str(len(events)))]
    if spec["aggregate"] == "days_since":
        return [Numeral(str((case.true_at - events[-1]["event_at"]) // _DAY))] if events else []
    carried = [list(_values(read(event["properties"]), spec["path"])) for event in events]
    if spec["aggregate"] == "sum":
        numbers = [exact_number(leaf) for leaves in carried for leaf in leaves if isinstance(leaf, Numeral)]
        total = sum((number for number in numbers if number is not None), Fraction(0))
        return [Numeral(_decimal(total))] if _fits(total) else []
    assert spec["aggregate"] == "last"
    scalars = [[leaf for leaf in leaves if _is_known(leaf) and not isinstance(leaf, dict)] for leaves in carried]
    return next((leaves for leaves in reversed(scalars) if leaves), [])


def _values(value: Any, path: Sequence[str]) -> Iterator[Any]:
    if isinstance(value, list):
        for element in value:
            yield from _values(element, path)
    elif not path:
        yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from _values(value[path[0]], path[1:])


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, Numeral) and exact_number(value) is None)


def _passes(value: Any, spec: Any, now: int) -> bool:
    if not _is_known(value):
        return False
    test, operand, case = spec["test"], spec.get("value"), spec.get("case", False)
    if test == "exists":
        return True
    if test == "is":
        return _same(value, operand, case)
    if test == "is_not":
        return not _same(value, operand, case)
    if test == "in":
        return any(_same(value, entry, case) for entry in operand)
    if test == "not_in":
        return not any(_same(value, entry, case) for entry in operand)
    if test in ("contains", "starts_with", "ends_with", "matches"):
        return isinstance(value, str) and _text_passes(value, test, operand, case)
    if test in ("within", "before_last"):
        moment = _moment(value)
        if moment is None:
            return False
        age = now - moment
        return 0 <= age < _micros(operand) if test == "within" else age >= _micros(operand)
    return _order_passes(value, test, operand)


def _text_passes(value: str, test: str, operand: str, case: bool) -> bool:
    if test == "matches":
        # RE2's $ is the very end of the text.
        pattern = re.sub(r"(?<!\\)\$$", r"\\Z", operand)
        return re.search(pattern, text_key(value, True), re.ASCII | (re.NOFLAG if case else re.IGNORECASE)) is not None
    left, right = text_key(value, case), text_key(operand, case)
    if test == "contains":
        return right in left
    return left.startswith(right) if test == "starts_with" else left.endswith(right)


def _order_passes(value: Any, test: str, operand: Any) -> bool:
    bounds = operand if test == "between" else [operand]
    read_bound: Any = _moment if isinstance(bounds[0], str) else exact_number
    left = read_bound(value)
    rights = [read_bound(bound) for bound in bounds]
    if left is None:
        return False
    if test == "between":
        return bool(rights[0] <= left <= rights[1])
    if test in ("more_than", "after"):
        return bool(left > rights[0])
    if test in ("less_than", "before"):
        return bool(left < rights[0])
    return bool(left >= rights[0] if test == "at_least" else left <= rights[0])


def _same(left: Any, right: Any, case: bool) -> bool:
    if isinstance(left, Numeral) and isinstance(right, Numeral):
        return exact_number(left) == exact_number(right)
    if isinstance(left, str) and isinstance(right, str):
        return text_key(left, case) == text_key(right, case)
    return isinstance(left, bool) and isinstance(right, bool) and left == right


def text_key(text: str, case: bool) -> str:
    composed = unicodedata.normalize("NFC", text)
    return composed if case else unicodedata.normalize("NFC", composed.casefold())


def _shown(value: Any) -> Any:
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def exact_number(value: Any) -> Fraction | None:
    """Six decimals, the even neighbour where it lies in the middle; None if it has more than 32 digits before them."""
    if not isinstance(value, Numeral):
        return None
    number = Decimal(value.spelling)
    if number == 0 or number.adjusted() < -20:
        return Fraction(0)
    if number.adjusted() > 40:
        return None
    rounded = Fraction(round(Fraction(number) * 10**6), 10**6)
    return rounded if _fits(rounded) else None


def _fits(number: Fraction) -> bool:
    return abs(number) < 10**32


def _decimal(number: Fraction) -> str:
    scaled = number * 10**6
    assert scaled.denominator == 1
    return f"{scaled.numerator}e-6"


def _micros(duration: str) -> int:
    return int(duration[:-1]) * _SECONDS[duration[-1]] * 1_000_000


def _moment(value: Any) -> int | None:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(found[index] or 0) for index in (1, 2, 3, 5, 6, 8))
    extra = timedelta(seconds=1 if second == 60 else 0)
    try:
        whole = datetime(year, month, day, hour, minute, 59 if second == 60 else second, tzinfo=UTC)
    except ValueError:
        return None
    micros = (whole - datetime(1970, 1, 1, tzinfo=UTC) + extra) // timedelta(microseconds=1) + int(
        (found[10] or "0").ljust(6, "0")[:6]
    )
    zone = found[11] or "Z"
    if zone not in ("Z", "z"):
        digits = zone[1:].replace(":", "")
        offset = (int(digits[:2]) * 60 + int(digits[2:] or 0)) * 60_000_000
        micros += offset if zone[0] == "-" else -offset
    return micros if -62_135_596_800_000_000 <= micros <= 253_402_300_799_000_000 else None
