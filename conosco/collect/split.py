"""Splitting JSON by hand: finds the bytes of members and elements in bodies that the fast decoder will not take.

It checks the whole grammar and never recurses, so one event with lone surrogates or absurd nesting harms no other.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

_WS: Final = rb"[ \t\n\r]*+"
_STRING: Final = rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
_NUMBER: Final = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+"
# Empty containers count as atoms: they need no look inside, and long runs of them cost one match.
_ATOM: Final = rb"(?:%b|%b|true|false|null|\[%b\]|\{%b\})" % (_STRING, _NUMBER, _WS, _WS)
_KEY: Final = rb"%b%b:%b" % (_STRING, _WS, _WS)

_SPACE: Final = re.compile(_WS)
_STRING_AT: Final = re.compile(_STRING)
_COLON: Final = re.compile(_WS + rb":" + _WS)
_ONE_ATOM: Final = re.compile(_ATOM)
# As many atoms as there are, then one of: a last atom and the end (group 1), or the start of a container (group 2).
_IN_ARRAY: Final = re.compile(rb"%b(?:%b%b,%b)*+(?:(%b%b\])|([\[{]))" % (_WS, _ATOM, _WS, _WS, _ATOM, _WS))
_IN_OBJECT: Final = re.compile(rb"%b(?:%b%b%b,%b)*+%b(?:(%b%b\})|([\[{]))" % (_WS, _KEY, _ATOM, _WS, _WS, _KEY, _ATOM, _WS))
# What may follow a value inside a container: a comma (group 1) or its end.
_AFTER_IN_ARRAY: Final = re.compile(_WS + rb"(?:(,)|\])")
_AFTER_IN_OBJECT: Final = re.compile(_WS + rb"(?:(,)|\})")

_ARRAY: Final = ord("[")
_OBJECT: Final = ord("{")
_QUOTE: Final = ord('"')


class Malformed(Exception):
    """The bytes are not JSON."""


class Member(NamedTuple):
    """A member of an object: its name (None if it cannot be read as text) and where it and its value lie."""

    name: str | None
    start: int
    value_start: int
    end: int


def skip_value(body: bytes, start: int) -> int:
    """The end of the JSON value that begins at ``start``. Raises Malformed."""
    first = body[start : start + 1]
    atom = _ONE_ATOM.match(body, start)
    if atom is not None:
        return atom.end()
    if first not in (b"[", b"{"):
        raise Malformed
    open_containers = bytearray(first)
    at = start + 1
    while open_containers:
        found = (_IN_ARRAY if open_containers[-1] == _ARRAY else _IN_OBJECT).match(body, at)
        if found is None:
            raise Malformed
        at = found.end()
        if found[2] is not None:
            open_containers.append(body[at - 1])
            continue
        open_containers.pop()
        while open_containers:
            after = (_AFTER_IN_ARRAY if open_containers[-1] == _ARRAY else _AFTER_IN_OBJECT).match(body, at)
            if after is None:
                raise Malformed
            at = after.end()
            if after[1] is not None:
                break
            open_containers.pop()
    return at


def skip_space(body: bytes, start: int) -> int:
    """The next position that is not white space."""
    return _SPACE.match(body, start).end()  # type: ignore[union-attr]  # matches the empty run too


def check_document(body: bytes) -> tuple[int, int]:
    """Where the one value of a whole document starts and ends. Raises Malformed unless the body is exactly that."""
    start = skip_space(body, 0)
    end = skip_value(body, start)
    if skip_space(body, end) != len(body):
        raise Malformed
    return start, end


def members(body: bytes, start: int = 0) -> Iterator[Member]:
    """The members of the object that begins at ``start``. Raises Malformed where the JSON ends to be such."""
    at = skip_space(body, start + 1)
    if body[at : at + 1] == b"}":
        return
    while True:
        key = _STRING_AT.match(body, at)
        colon = key and _COLON.match(body, key.end())
        if key is None or colon is None:
            raise Malformed
        end = skip_value(body, colon.end())
        yield Member(read_text(key[0]), at, colon.end(), end)
        after = _AFTER_IN_OBJECT.match(body, end)
        if after is None:
            raise Malformed
        if after[1] is None:
            return
        at = skip_space(body, after.end())


def elements(body: bytes, start: int = 0) -> Iterator[bytes]:
    """The bytes of each element of the array that begins at ``start``. Raises Malformed where the JSON ends to be such."""
    at = skip_space(body, start + 1)
    if body[at : at + 1] == b"]":
        return
    while True:
        end = skip_value(body, at)
        yield body[at:end]
        after = _AFTER_IN_ARRAY.match(body, end)
        if after is None:
            raise Malformed
        if after[1] is None:
            return
        at = skip_space(body, after.end())


def cut_members(body: bytes, start: int, names: frozenset[str]) -> bytes:
    """The object that begins at ``start`` without the members of these names; the bytes of all other values stay."""
    kept = [body[member.start : member.end] for member in members(body, start) if member.name not in names]
    return b"{" + b",".join(kept) + b"}"


def read_text(raw: bytes) -> str | None:
    """Read a JSON string; None if it is none, or holds half a surrogate pair."""
    if raw[:1] != b'"':
        return None
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
