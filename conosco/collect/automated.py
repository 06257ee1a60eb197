"""Automated traffic: was an event made by a program (crawler, preview, scanner, headless browser, tool) and not by a person?

Decided from the event alone, never by asking anybody: by what the sender itself says, by the user agent and its hints, and by
what e-mail providers say of opens that no person made. The list is ``automated.json``, with its source and licence.
A wrong no costs a polluted count and a wrong yes hides a customer, so that what is unsure counts as a person.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
import re2

from conosco.collect.wire import EMPTY, NO_BYTES

# User agents longer than this are cut before they are looked at; browsers' have some 200 characters.
AGENT_CHARACTERS_MAX: Final = 1_024
# How many user agents are remembered with their verdict, in the worker and in the warehouse.
AGENTS_KEPT: Final = 8_192
_LIST: Final = Path(__file__).with_name("automated.json")


class _MachineOpens(msgspec.Struct, frozen=True, kw_only=True):
    events: frozenset[str]
    properties: tuple[str, ...]


class _List(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The list: ``words`` and ``patterns`` (RE2) mark a user agent in any case of letters, unless only ``people`` made it match."""

    about: str
    source: str
    licence: str
    as_of: str
    words: Mapping[str, tuple[str, ...]]
    patterns: tuple[str, ...]
    people: tuple[str, ...]
    machine_opens: _MachineOpens


class _Context(msgspec.Struct, rename="camel", gc=False):
    user_agent: msgspec.Raw = NO_BYTES
    user_agent_data: msgspec.Raw = NO_BYTES
    automated: msgspec.Raw = NO_BYTES


class _Brand(msgspec.Struct, gc=False):
    brand: Any = ""


class _Hints(msgspec.Struct, gc=False):
    brands: list[_Brand] = []


def _options() -> Any:
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    return options


LIST: Final = msgspec.json.decode(_LIST.read_bytes(), type=_List)
_OPENS: Final = LIST.machine_opens.events
_CONTEXT: Final = msgspec.json.Decoder(_Context)
_HINTS: Final = msgspec.json.Decoder(_Hints)
_BY_NAME: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PROGRAM: Final = re2.compile(
    "|".join([*(re2.escape(word) for words in LIST.words.values() for word in words), *LIST.patterns]), _options()
)
_PEOPLE: Final = re2.compile("|".join(map(re2.escape, LIST.people)), _options())
_YES: Final = (b"true", b'"true"')


def is_automated(event: str | None, context: bytes, properties: bytes) -> bool:
    """Whether an event of this name, context and properties (JSON objects) was made by a program.

    ``context.automated`` true or false is the sender's own word and decides. Never raises: what cannot be read says nothing.
    """
    try:
        # Only with such a key, or a backslash that may spell one, is there anything to read.
        if context is not EMPTY and (
            context.find(b'"userAgent') >= 0 or context.find(b'"automated"') >= 0 or context.find(b"\\") >= 0
        ):
            read = _CONTEXT.decode(context)
            if read.automated is not NO_BYTES and bytes(read.automated) in (b"true", b"false"):
                return bytes(read.automated) == b"true"
            if read.user_agent is not NO_BYTES and _is_program(bytes(read.user_agent)):
                return True
            if read.user_agent_data is not NO_BYTES and _hints_at_program(bytes(read.user_agent_data)):
                return True
        return event in _OPENS and properties is not EMPTY and _is_machine_open(properties)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


@lru_cache(maxsize=AGENTS_KEPT)
def _is_program(raw: bytes) -> bool:
    """The verdict on a user agent, given as its JSON value."""
    if raw[:1] != b'"':
        return False
    agent = msgspec.json.decode(raw, type=str)[:AGENT_CHARACTERS_MAX].strip()
    return _PROGRAM.search(_PEOPLE.sub("", agent)) is not None


@lru_cache(maxsize=AGENTS_KEPT)
def _hints_at_program(raw: bytes) -> bool:
    brands = _HINTS.decode(raw).brands
    return any(isinstance(made.brand, str) and _PROGRAM.search(made.brand[:AGENT_CHARACTERS_MAX]) is not None for made in brands)


def _is_machine_open(properties: bytes) -> bool:
    members = _BY_NAME.decode(properties)
    return any(bytes(members[name]) in _YES for name in LIST.machine_opens.properties if name in members)
