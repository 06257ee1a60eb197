"""Touches: the events of which visits are made, each with the page, the campaign and the device that it tells of.

A touch is a page or screen call, or a track call with a page or a screen in its context; what a program made is none.
"""

from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from conosco.collect.agent import NAME_CHARACTERS_MAX, NO_AGENT, agent_of
from conosco.collect.split import read_text
from conosco.model.event import Event

ADDRESS_CHARACTERS_MAX: Final = 1_024
CAMPAIGN: Final = ("source", "medium", "campaign", "term", "content")
# The marks that advertising systems add to an address; only which one it was is kept, never its value.
CLICK_IDS: Final = (
    "gclid",
    "gbraid",
    "wbraid",
    "dclid",
    "fbclid",
    "msclkid",
    "ttclid",
    "twclid",
    "li_fat_id",
    "ScCid",
    "epik",
    "rdt_cid",
    "yclid",
)
# Of a longer query only so many parameters are read.
PARAMETERS_MAX: Final = 200
_NO_BYTES: Final = msgspec.Raw(b"")
_EMPTY: Final = b"{}"


class _Page(msgspec.Struct, gc=False):
    url: msgspec.Raw = _NO_BYTES
    path: msgspec.Raw = _NO_BYTES
    referrer: msgspec.Raw = _NO_BYTES
    name: msgspec.Raw = _NO_BYTES


class _Context(msgspec.Struct, rename="camel", gc=False):
    page: msgspec.Raw = _NO_BYTES
    screen: msgspec.Raw = _NO_BYTES
    campaign: msgspec.Raw = _NO_BYTES
    user_agent: msgspec.Raw = _NO_BYTES
    user_agent_data: msgspec.Raw = _NO_BYTES
    os: msgspec.Raw = _NO_BYTES
    location: msgspec.Raw = _NO_BYTES


class _Campaign(msgspec.Struct, gc=False):
    source: msgspec.Raw = _NO_BYTES
    medium: msgspec.Raw = _NO_BYTES
    name: msgspec.Raw = _NO_BYTES
    term: msgspec.Raw = _NO_BYTES
    content: msgspec.Raw = _NO_BYTES


class _Named(msgspec.Struct, gc=False):
    name: msgspec.Raw = _NO_BYTES
    version: msgspec.Raw = _NO_BYTES
    country: msgspec.Raw = _NO_BYTES


_PAGE: Final = msgspec.json.Decoder(_Page)
_CONTEXT: Final = msgspec.json.Decoder(_Context)
_CAMPAIGN: Final = msgspec.json.Decoder(_Campaign)
_NAMED: Final = msgspec.json.Decoder(_Named)


def touch_of(event: Event) -> dict[str, Any] | None:
    """The touch as a row of the warehouse, None if the event is none. What it does not tell is left out, texts are cut."""
    if event.automated or event.type not in ("page", "screen", "track"):
        return None
    if event.type == "track" and event.context == _EMPTY:
        return None
    context = _decoded(_CONTEXT, event.context) or _Context()
    if event.type == "track" and not _is_full(context.page) and not _is_full(context.screen):
        return None
    beside = _object(_PAGE, context.page) or _Page()
    own = beside if event.type == "track" else (_decoded(_PAGE, event.properties) or beside)
    url = _text(own.url) or _text(beside.url)
    device = next((each for each in event.identifiers if each.namespace == "anonymous_id"), event.home)
    page = _plain_address(url) or _text(own.path) or _text(beside.path)
    if event.type == "screen":
        page = event.event or _text(own.name)
    elif page is None and event.type == "page":
        page = event.event
    told = {
        "page": page,
        "referrer": _text(own.referrer) or _text(beside.referrer),
        **_campaign(context, url),
        **_device(context),
        "country": _country(context),
    }
    return {
        "position": event.position,
        "slot": event.slot,
        "device_namespace": device.namespace,
        "device_value": device.value,
        "home_namespace": event.home.namespace,
        "home_value": event.home.value,
        "event_at": event.event_at,
        "source_id": event.source_id,
        "message_id": event.message_id,
        "is_page": event.type != "track",
        **{name: value for name, value in told.items() if value is not None},
    }


def _campaign(context: _Context, url: str | None) -> dict[str, str | None]:
    """What the context says of the campaign; what it does not say, the address may."""
    told = _object(_CAMPAIGN, context.campaign) or _Campaign()
    query = _query(url)
    values = (told.source, told.medium, told.name, told.term, told.content)
    found = {
        f"utm_{name}": _short(_text(value)) or _short(query.get(f"utm_{name}"))
        for name, value in zip(CAMPAIGN, values, strict=True)
    }
    return {**found, "click_id": next((mark for mark in CLICK_IDS if mark in query), None)}


def _query(url: str | None) -> dict[str, str]:
    if url is None or "?" not in url:
        return {}
    query = url.partition("#")[0].partition("?")[2]
    try:
        pairs = parse_qsl(query, max_num_fields=PARAMETERS_MAX)
    except ValueError:
        pairs = parse_qsl("&".join(query.split("&")[: PARAMETERS_MAX - 1]).replace(";", ""))
    # The first of its name counts.
    return dict(reversed(pairs))


def _device(context: _Context) -> dict[str, str | None]:
    agent = NO_AGENT
    if context.user_agent or context.user_agent_data:
        hints = bytes(context.user_agent_data)
        agent = agent_of(_text(context.user_agent) or "", hints if hints[:1] == b"{" else b"")
    os, os_version = agent.os, agent.os_version
    if os is None and (told := _object(_NAMED, context.os)) is not None:
        os, os_version = _short(_text(told.name)), _short(_text(told.version))
    return {
        "browser": agent.browser,
        "browser_version": agent.browser_version,
        "os": os,
        "os_version": os_version,
        "device": agent.device,
    }


def _country(context: _Context) -> str | None:
    location = _object(_NAMED, context.location)
    return None if location is None else _short(_text(location.country))


def _plain_address(url: str | None) -> str | None:
    """An address without query and fragment: what is in them tells of the click or of the person, not of the page."""
    return (url.partition("?")[0].partition("#")[0] or None) if url else None


def _is_full(raw: msgspec.Raw) -> bool:
    value = bytes(raw)
    return value[:1] == b"{" and value != _EMPTY


def _object(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw) -> Any:
    value = bytes(raw)
    return _decoded(decoder, value) if value[:1] == b"{" else None


def _decoded(decoder: msgspec.json.Decoder[Any], raw: bytes) -> Any:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _text(raw: msgspec.Raw) -> str | None:
    """A text that is not empty, cut to the longest that is kept."""
    value = bytes(raw)
    text = read_text(value) if value else None
    return text[:ADDRESS_CHARACTERS_MAX] if text else None


def _short(text: str | None) -> str | None:
    return text[:NAME_CHARACTERS_MAX] if text else None
