"""Requests that nobody would send with good intentions: good bodies with one or more places replaced by something hostile."""

import copy
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, NamedTuple
from urllib.parse import quote

TEXTS: Sequence[str] = (
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "'; DROP TABLE events; --",
    "{{7*7}}${7*7}",
    "../../../../etc/passwd",
    "\u202eabc\u2066\ufeff",
    "e\u0301 \u0130 \U0010ffff",
    "x" * 300,
    "x" * 70_000,
    "-1",
    "NaN",
    "1e999",
    "9999-12-31T23:59:59.999999999Z",
    "0000-00-00",
    "10000-01-01T00:00:00+99:99",
    "P1D",
    "99999999999999d",
    "0h",
    "[a-z]+(",
    "(a+)+$",
    "http://[::1",
    "javascript:alert(1)",
    "%00%ff%2e%2e",
    "user_id:",
    ":",
    "pro_00000000000000000000000000",
    "whsec_",
)
NUMBERS: Sequence[Any] = (0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**40, 10**400, 1e308, -0.0, 5e-324, 0.1)
OTHERS: Sequence[Any] = (None, True, False, [], {}, [[]], [{}], {"": ""}, {"kind": "not"}, [None], {"\0": 1}, {"\ud800": 1})
METHODS: Sequence[str] = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")


class Request(NamedTuple):
    """One HTTP request of a path that is encoded already."""

    method: str
    path: str
    body: bytes | None
    headers: dict[str, str]


def hostile_value(chance: Random) -> Any:
    """A value that is seldom where it is expected."""
    kind = chance.random()
    if kind < 0.45:
        return chance.choice(TEXTS)
    if kind < 0.7:
        return chance.choice(NUMBERS)
    if kind < 0.95:
        return copy.deepcopy(chance.choice(OTHERS))
    value: Any = chance.choice(TEXTS)
    for _ in range(chance.choice((40, 70, 300))):
        value = [value] if chance.random() < 0.5 else {"a": value}
    return value


def spoiled(chance: Random, good: Any) -> Any:
    """A copy with one to three places replaced, taken out, renamed or repeated."""
    body = [copy.deepcopy(good)]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        holder, key = chance.choice(list(_places(body)))
        way = chance.random()
        if way < 0.7 or holder is body:
            holder[key] = hostile_value(chance)
        elif way < 0.8:
            del holder[key]
        elif isinstance(holder, dict):
            holder[chance.choice(TEXTS)] = holder.pop(key) if way < 0.9 else copy.deepcopy(holder[key])
        else:
            holder.extend(copy.deepcopy(holder[key]) for _ in range(chance.choice((1, 50, 1_000))))
    return body[0]


def _places(holder: Any, levels: int = 12) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or index) inside a container, outer ones first."""
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    for key in keys:
        yield holder, key
        if levels and isinstance(holder[key], dict | list) and holder[key]:
            yield from _places(holder[key], levels - 1)


def spelled(chance: Random, value: Any) -> tuple[bytes, dict[str, str]]:
    """A body as bytes with its headers: mostly JSON, sometimes cut short, compressed, or no text at all."""
    raw = json.dumps(value, ensure_ascii=chance.random() < 0.8).encode("utf-8", "surrogatepass")
    headers = {"Content-Type": "application/json"}
    way = chance.random()
    if way < 0.04:
        raw = raw[: chance.randrange(len(raw) + 1)]
    elif way < 0.08:
        raw = raw.replace(b'"', b'"\xff', 1)
    elif way < 0.12:
        raw = gzip.compress(raw)
        headers["Content-Encoding"] = "gzip"
    elif way < 0.14:
        headers["Content-Type"] = chance.choice(
            ("", "text/plain", "multipart/form-data; boundary=x", "application/msgpack", "\xff")
        )
    elif way < 0.15:
        raw = raw.replace(b": ", b': [{"":' * 4_000, 1)
    elif way < 0.17:
        headers["Content-Encoding"] = chance.choice(("gzip", "br", "deflate", "identity"))
    return raw, headers


def spoiled_path(chance: Random, path: str, query: Callable[[], str]) -> str:
    """A path with hostile text in some of its parts, and a query."""
    parts = path.split("/")
    if chance.random() < 0.3:
        index = chance.randrange(1, len(parts))
        parts[index] = quote(chance.choice(TEXTS)[:2_000].encode("utf-8", "surrogatepass"), safe="")
    asked = query()
    return "/".join(parts) + (f"?{asked}" if asked else "")


PARAMETERS: Sequence[str] = (
    "after",
    "wait_ms",
    "limit",
    "cursor",
    "true_at",
    "known_at",
    "segment",
    "kind",
    "state",
    "destination",
    "source",
    "reason",
    "from",
    "to",
    "name",
    "for",
)


def spoiled_query(chance: Random) -> str:
    """Up to three parameters, known and unknown ones, with values that fit and others that do not."""
    pairs = []
    for _ in range(chance.choice((0, 0, 1, 1, 2, 3))):
        value = chance.choice((*TEXTS, *map(str, NUMBERS), "2026-03-01T00:00:00Z", "5", "all", "buyers", "default"))[:500]
        name = chance.choice(PARAMETERS)
        if name == "wait_ms" and value.isdigit():
            value = "50"
        pairs.append(f"{name}={quote(value.encode('utf-8', 'surrogatepass'), safe='')}")
    return "&".join(pairs)
