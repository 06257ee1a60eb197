"""User agents: browser, system and kind of device, read from the text (and the hints of newer browsers) without asking anybody.

Read where visits are kept, in the warehouse's process, and never while an event is applied.
"""

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
from ua_parser import Domain, parser

AGENT_CHARACTERS_MAX: Final = 1_024
AGENTS_KEPT: Final = 8_192
NAME_CHARACTERS_MAX: Final = 100


class Agent(NamedTuple):
    """What a user agent says of itself; None for what it does not. ``device`` is one of DEVICES."""

    browser: str | None = None
    browser_version: str | None = None
    os: str | None = None
    os_version: str | None = None
    device: str | None = None


DEVICES: Final = ("desktop", "mobile", "tablet", "tv", "console")
NO_AGENT: Final = Agent()
_OTHER: Final = "Other"
_DEVICES: Final = (
    ("tv", re.compile(r"smart-?tv|appletv|apple tv|googletv|hbbtv|bravia|roku|crkey|aft[a-z]+ |\btv\b", re.IGNORECASE)),
    ("console", re.compile(r"playstation|nintendo|xbox", re.IGNORECASE)),
    ("tablet", re.compile(r"ipad|tablet|kindle|silk/|playbook|^mozilla.*android(?!.*mobile)", re.IGNORECASE)),
    ("mobile", re.compile(r"mobi|iphone|ipod|android|windows phone|blackberry|opera mini", re.IGNORECASE)),
    ("desktop", re.compile(r"windows|macintosh|x11|linux|cros ", re.IGNORECASE)),
)
# As hints name systems, and as user agents do.
_PLATFORMS: Final = {"macOS": "Mac OS X", "Chrome OS": "Chrome OS", "Chromium OS": "Chrome OS"}
# Brands by which every such browser goes besides its own; the made-up one differs from version to version.
_SHARED_BRAND: Final = "Chromium"
_MADE_UP_BRAND: Final = re.compile(r"not.*brand", re.IGNORECASE)
# The newest Windows says 10 in its user agent; its hints tell it by this version on.
_WINDOWS_11_FROM: Final = 13


class _Brand(msgspec.Struct, gc=False):
    brand: Any = None
    version: Any = None


class _Hints(msgspec.Struct, rename="camel", gc=False):
    brands: list[_Brand] = []
    mobile: Any = None
    platform: Any = None
    platform_version: Any = None


_HINTS: Final = msgspec.json.Decoder(_Hints)


@lru_cache(maxsize=AGENTS_KEPT)
def agent_of(user_agent: str, hints: bytes = b"") -> Agent:
    """Read a user agent and, as JSON, the browser's ``userAgentData``; what the hints say wins. Never raises."""
    text = user_agent[:AGENT_CHARACTERS_MAX]
    found = _read(text) if text else NO_AGENT
    if not hints:
        return found
    try:
        return _hinted(found, _HINTS.decode(hints))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return found


def _read(text: str) -> Agent:
    parsed = parser(text, Domain.USER_AGENT | Domain.OS)
    browser, system = parsed.user_agent, parsed.os
    is_browser = browser is not None and browser.family != _OTHER
    is_system = system is not None and system.family != _OTHER
    return Agent(
        _short(browser.family) if browser is not None and is_browser else None,
        _version(browser.major, browser.minor) if browser is not None and is_browser else None,
        _short(system.family) if system is not None and is_system else None,
        _version(system.major, system.minor) if system is not None and is_system else None,
        next((device for device, pattern in _DEVICES if pattern.search(text)), None),
    )


def _hinted(found: Agent, hints: _Hints) -> Agent:
    named = [made for made in hints.brands if isinstance(made.brand, str) and not _MADE_UP_BRAND.search(made.brand)]
    own = next((made for made in named if made.brand != _SHARED_BRAND), None)
    # A user agent names many browsers more precisely than their brands do, so brands only fill a gap.
    if found.browser is None and own is not None:
        version = own.version if isinstance(own.version, str) else None
        found = found._replace(browser=_short(own.brand), browser_version=_version(version, None))
    if isinstance(hints.platform, str) and hints.platform and hints.platform != "Unknown":
        version = hints.platform_version if isinstance(hints.platform_version, str) and hints.platform_version else None
        major, _, rest = (version or "").partition(".")
        if hints.platform == "Windows" and major.isdecimal() and len(major) < NAME_CHARACTERS_MAX:
            version = "11" if int(major) >= _WINDOWS_11_FROM else "10"
        elif version is not None:
            version = _version(major, rest.partition(".")[0] or None)
        name = _short(_PLATFORMS.get(hints.platform, hints.platform))
        found = found._replace(os=name, os_version=version or (found.os_version if found.os == name else None))
    if hints.mobile is True and found.device in (None, "desktop"):
        found = found._replace(device="mobile")
    elif hints.mobile is False and found.device is None:
        found = found._replace(device="desktop")
    return found


def _version(major: str | None, minor: str | None) -> str | None:
    if not major:
        return None
    return _short(f"{major}.{minor}" if minor else major)


def _short(text: str) -> str:
    return text[:NAME_CHARACTERS_MAX]
