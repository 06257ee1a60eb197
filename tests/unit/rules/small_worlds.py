"""Small random worlds and conditions over them, full of values that are hard to compare, and the tables that hold them."""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

import duckdb

from conosco.rules.values import canonical_json
from tests.laws.oracle import Case, identity_at

DAY = 86_400_000_000
START = 1_767_225_600_000_000  # 2026-01-01

# JSON texts of values: each stands for a way in which two readers could come to differ.
VALUES = (
    '"IT"', '"it"', '"Italia"', '"PL"', '"caff\\u00e8"', '"CAFFE\\u0300"', '"stra\\u00dfe"', '"STRASSE"', '""', '"a\\u0000b"',
    '"O\'Brien \\"x\\" \\\\ /"', '"tit"', '"o"', '"n5.000000"', '"b1"', '"5"', '"line\\nbreak"', '"IT\\u0301"', '"\\ud83d\\ude00"',
    '"2026-01-05T10:00:00Z"', '"2026-01-05"', '"2026-01-08 12:30:00.123456+02:00"', '"2026-13-05"', '"0001-01-01T00:00:00+14:00"',
    "0", "-0.0", "5", "5.0", "5e0", "5.0000005", "5.0000015", "4.9999995", "-1.5", "12", "50", "1e3", "1e-9", "0E+50", "1e400",
    "99999999999999999999999999999999.999999", "99999999999999999999999999999999.9999996", "-60000000000000000000000000000000",
    "60000000000000000000000000000000", "123456789012345678901234567890123456789012", "true", "false", "null", "{}", "[]",
    '[5,"IT"]', "[[12],[null,[true]]]", '["PL","it",{}]', "[1e400,7]", '[{"y":"IT"},{"y":5},"IT"]', '{"y":"IT","z":[1,2]}',
    '{"y":{"z":12}}', '[{"y":[{"z":"pl"}]},{"z":3}]', '{"0":"IT","*":5}',
)  # fmt: skip
# Half of all values and tests are of these, so that they meet.
COMMON_VALUES = ('"IT"', '"it"', "5", "12", "50", '"2026-01-05"', "true")
COMMON_TESTS: tuple[dict[str, Any], ...] = (
    {"test": "is", "value": "it"}, {"test": "is_not", "value": "IT", "case": True}, {"test": "in", "value": ["IT", 5, True]},
    {"test": "not_in", "value": ["IT", 12]}, {"test": "at_least", "value": 5}, {"test": "less_than", "value": 50},
    {"test": "between", "value": [3, 20]}, {"test": "starts_with", "value": "i"}, {"test": "exists"}, {"test": "before_last", "value": "1d"},
)  # fmt: skip
# Names as they are asked for; most events and people have the first.
NAMES = ("v", "v", "v", "v", "v", "a.b", "~1", "0", "*", 'q"/\\')
PATHS: tuple[list[str], ...] = ([], [], [], [], [], ["y"], ["z"], ["y", "z"], ["0"])
EVENTS = ("Order Completed", "Product Viewed", 'it\'s; -- \\ "x"')
TEXT_OPERANDS = ("it", "IT", "i", "a", "PL", "caffè", "strasse", "tit", "5", 'x"', "e", "o", "n5.000000", "CAFFE\u0300")
NUMBER_OPERANDS = (0, 5, 5.000001, 12, -1.5, 50, 1000, 3, 7, 99999999999999999999999999999999)
MOMENT_OPERANDS = ("2026-01-05T10:00:00Z", "2026-01-05", "2026-01-08T10:30:00.123456Z", "2026-01-20", "0001-01-01")
PATTERNS = ("^i", "t$", "[a-p]+$", "a.b", "^$", "\\d", "(?:it|pl)", "x\\\\|\\.", "^.{2}$")
DURATIONS = ("1d", "3d", "10d", "30d", "12h", "9999d")
NAMESPACES = ("user_id", "anonymous_id", "email")


class World(NamedTuple):
    """Events and versions of identifiers, as the oracle takes them."""

    events: list[dict[str, Any]]
    versions: list[dict[str, Any]]
    segments: dict[str, Any]
    attributes: dict[str, Any]

    def case(self, true_at: int, known_at: int) -> Case:
        profiles, first_seen = identity_at(self.versions, known_at)
        return Case(self.events, profiles, true_at, known_at, first_seen, self.segments, self.attributes)


def random_world(random: Random) -> World:
    identifiers = [
        (random.choice(NAMESPACES), name) for name in ("ann", "Bob", "it's", "caffe\u0300", "5", "x\u0000", "eve", "Ada")
    ]
    versions = []
    for position in range(1, 15):
        namespace, value = random.choice(identifiers) if position > len(identifiers) else identifiers[position - 1]
        versions.append(
            {
                "namespace": namespace,
                "value": value,
                "profile_id": random.choice(("pro_1", "pro_2", "pro_3", "pro_4", "pro_5", "")),
                "first_seen_at": START + random.randrange(-2, 12) * DAY,
                "position": random.randrange(1, 20) if position > len(identifiers) else 1,
                "ordinal": position,
            }
        )
    events = [_random_event(random, identifiers, number) for number in range(random.randrange(20, 40))]
    attributes = {f"attribute_{number}": random_attribute(random) for number in range(3)}
    bare = World(events, versions, {}, attributes)
    segments = {"inner": {"language": 1, "where": random_condition(random, bare, 1)}}
    return World(events, versions, segments, attributes)


def _random_event(random: Random, identifiers: Sequence[tuple[str, str]], number: int) -> dict[str, Any]:
    kind = random.choice(("track", "track", "track", "identify", "identify", "page"))
    names = [name for name in dict.fromkeys(NAMES) if random.random() < (0.9 if name == "v" else 0.2)]
    # Now and then a name is given twice.
    members = [f"{json.dumps(name)}:{_random_value(random)}" for name in (names if random.random() < 0.9 else names * 2)]
    body = "{" + ",".join(members) + "}"
    return {
        "position": random.randrange(1, 20),
        "event_at": START + random.choice((random.randrange(0, 14) * DAY, random.randrange(0, 14 * DAY))),
        "source_id": random.choice(("src_a", "src_b")),
        # Ids that sort differently as texts and as numbers.
        "message_id": f"m{number * 7 % 40}",
        "priority": random.choice((0, 0, 0, 1)),
        "type": kind,
        "event": None if kind == "identify" else random.choice(EVENTS),
        "home": random.choice(identifiers),
        "properties": "{}" if kind == "identify" else body,
        "traits": body if kind == "identify" else "{}",
        "automated": number % 6 == 0,
    }


def _random_value(random: Random) -> str:
    return random.choice(random.choice((COMMON_VALUES, VALUES)))


def random_attribute(random: Random) -> dict[str, Any]:
    spec: dict[str, Any] = {"language": 1, "aggregate": random.choice(("count", "sum", "sum", "last", "last", "days_since"))}
    if random.random() < 0.8:
        spec["event"] = random.choice(EVENTS)
    else:
        spec["type"] = "page"
    if spec["aggregate"] in ("sum", "last") or random.random() < 0.2:
        spec["path"] = _random_path(random)
    if random.random() < 0.4:
        spec["within"] = random.choice(DURATIONS)
    if random.random() < 0.2:
        spec["where"] = [_random_filter(random)]
    return _with_programs(spec)


def _with_programs(spec: dict[str, Any]) -> dict[str, Any]:
    """Every third counts automated events too. No lot is drawn for it, so that it changes nothing else in a world."""
    return {**spec, "automated": True} if zlib.crc32(json.dumps(spec).encode()) % 3 == 0 else spec


def random_condition(random: Random, world: World, depth: int = 3) -> dict[str, Any]:
    if depth and random.random() < 0.6:
        kind = random.choice(("all", "any", "any", "not"))
        if kind == "not":
            return {"kind": "not", "of": random_condition(random, world, depth - 1)}
        # Of many parts all seldom hold and any often does: sizes that keep the answers in balance.
        size = random.choice((0, 1, 2, 2) if kind == "all" else (0, 2, 3, 3))
        return {"kind": kind, "of": [random_condition(random, world, depth - 1) for _ in range(size)]}
    choices: list[Callable[[], dict[str, Any]]] = [
        lambda: {"kind": "trait", "path": _random_path(random), **_meeting_test(random)},
        lambda: {"kind": "did", **_random_did(random)},
        lambda: {"kind": "did", **_random_did(random)},
        lambda: {"kind": "attribute", "key": random.choice(sorted(world.attributes)), **_meeting_test(random)},
        lambda: {
            "kind": "identifier",
            "namespace": random.choice(NAMESPACES),
            **(_meeting_test(random) if random.random() < 0.5 else {}),
        },
    ]
    if world.segments:
        choices.append(lambda: {"kind": "segment", "key": "inner"})
    return random.choice(choices)()


def _random_did(random: Random) -> dict[str, Any]:
    spec: dict[str, Any] = {"event": random.choice(EVENTS)}
    if random.random() < 0.3:
        spec = {"type": random.choice(("page", "identify"))}
    if random.random() < 0.5:
        spec["times"] = random.choice(({"min": 2}, {"max": 1}, {"min": 1, "max": 2}, {"max": 0}, {"min": 0}, {}, {"min": 3}))
    if random.random() < 0.4:
        spec["within"] = random.choice(DURATIONS)
    if random.random() < 0.5 and spec.get("type") != "identify":
        spec["where"] = [_random_filter(random) for _ in range(random.choice((1, 1, 2)))]
    return _with_programs(spec)


def _random_filter(random: Random) -> dict[str, Any]:
    return {"path": _random_path(random), **_meeting_test(random)}


def _random_path(random: Random) -> list[str]:
    return [random.choice(NAMES), *random.choice(PATHS)]


def _meeting_test(random: Random) -> dict[str, Any]:
    return random_test(random) if random.random() < 0.5 else random.choice(COMMON_TESTS)


def random_test(random: Random) -> dict[str, Any]:
    """A test with a value that some of VALUES pass."""
    scalars: tuple[Any, ...] = (*TEXT_OPERANDS, *NUMBER_OPERANDS[:7], True, False)
    name = random.choice(
        ("is", "is_not", "in", "not_in", "contains", "starts_with", "ends_with", "matches", "more_than", "at_least", "less_than",
         "at_most", "between", "exists", "exists", "within", "before_last", "before", "after")
    )  # fmt: skip
    case = {"case": True} if random.random() < 0.25 else {}
    if name in ("is", "is_not"):
        return {"test": name, "value": random.choice(scalars), **case}
    if name in ("in", "not_in"):
        return {"test": name, "value": random.choices(scalars, k=random.randrange(1, 5)), **case}
    if name in ("contains", "starts_with", "ends_with"):
        return {"test": name, "value": random.choice(TEXT_OPERANDS), **case}
    if name == "matches":
        return {"test": name, "value": random.choice(PATTERNS), **case}
    if name in ("within", "before_last"):
        return {"test": name, "value": random.choice(DURATIONS)}
    if name in ("before", "after"):
        return {"test": name, "value": random.choice(MOMENT_OPERANDS)}
    if name == "exists":
        return {"test": name}
    operands: Any = random.choice((NUMBER_OPERANDS, NUMBER_OPERANDS, MOMENT_OPERANDS))
    if name == "between":
        ordered = sorted(random.choices([5, 12, -1.5, 50], k=2)) if operands is NUMBER_OPERANDS else ["2026-01-05", "2026-01-09"]
        return {"test": name, "value": ordered}
    return {"test": name, "value": random.choice(operands)}


class Store:
    """The warehouse's tables of decision 0001, as far as conditions read them."""

    def __init__(self) -> None:
        self._door = duckdb.connect(":memory:", config={"threads": 1})
        self._door.execute("CREATE SCHEMA store")
        for table, columns in _COLUMNS.items():
            self._door.execute(f"CREATE TABLE store.{table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")

    def close(self) -> None:
        self._door.close()

    def load(self, world: World) -> None:
        """Replace all rows by those of a world."""
        self._insert("events", [_event_row(event) for event in world.events])
        self._insert("observations", [row for event in world.events for row in _observation_rows(event)])
        self._insert("identifier_versions", [{**row, "value_keys": _keys(row["value"])} for row in world.versions])

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._door.execute(sql).fetchall()

    def _insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert by one JSON parameter: many times quicker than one parameter a value."""
        columns = _COLUMNS[table]
        kinds = {name: "BIGINT" if kind == "TIMESTAMP" else kind for name, kind in columns.items()}
        picked = ", ".join(f"make_timestamp(r.{name})" if kind == "TIMESTAMP" else f"r.{name}" for name, kind in columns.items())
        body = json.dumps([{name: row[name] for name in columns} for row in rows])
        self._door.execute(f"DELETE FROM store.{table}")
        self._door.execute(
            f"INSERT INTO store.{table} SELECT {picked} FROM (SELECT unnest(from_json(?, '{json.dumps([kinds])}')) AS r)", [body]
        )


_COLUMNS = {
    "events": {
        "position": "BIGINT",
        "message_id": "VARCHAR",
        "source_id": "VARCHAR",
        "type": "VARCHAR",
        "event": "VARCHAR",
        "home_namespace": "VARCHAR",
        "home_value": "VARCHAR",
        "event_at": "TIMESTAMP",
        "property_keys": "VARCHAR",
        "automated": "BOOLEAN",
    },
    "observations": {
        "position": "BIGINT",
        "home_namespace": "VARCHAR",
        "home_value": "VARCHAR",
        "name": "VARCHAR",
        "value_keys": "VARCHAR",
        "priority": "BIGINT",
        "event_at": "TIMESTAMP",
        "source_id": "VARCHAR",
        "message_id": "VARCHAR",
    },
    "identifier_versions": {
        "namespace": "VARCHAR",
        "value": "VARCHAR",
        "value_keys": "VARCHAR",
        "profile_id": "VARCHAR",
        "first_seen_at": "TIMESTAMP",
        "position": "BIGINT",
        "ordinal": "BIGINT",
    },
}


def _keys(value: str) -> str:
    return canonical_json(json.dumps(value).encode())


def _event_row(event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "automated": False,
        **event,
        "home_namespace": event["home"][0],
        "home_value": event["home"][1],
        "property_keys": canonical_json(event["properties"].encode()),
    }


def _observation_rows(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each trait; a name that is given twice counts as given last, as JSON readers have it."""
    last: dict[str, str] = {}
    for name, text in _members(event["traits"]):
        last[name] = text
    row = _event_row(event)
    return [{**row, "name": name, "value_keys": canonical_json(text.encode())} for name, text in last.items()]


def _members(text: str) -> list[tuple[str, str]]:
    """The members of a JSON object with their values as they are spelled."""
    decoder = json.JSONDecoder()
    members: list[tuple[str, str]] = []
    at = 1
    while text[at] != "}":
        name, at = decoder.raw_decode(text, at + (text[at] == ","))
        start = at + 1
        _, at = decoder.raw_decode(text, start)
        members.append((name, text[start:at]))
    return members
