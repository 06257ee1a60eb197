"""Behind reverse proxies: whose word on the client's address, scheme and host is taken, and whose is not."""

import re
from collections.abc import Iterable, MutableMapping, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

from conosco.runtime.settings import Network
from conosco.web.app import Application, Receive, Send

_HOST: Final = re.compile(rb"[A-Za-z0-9.\-\[\]:]{1,255}\Z")
_HOPS_MAX: Final = 32
Address = IPv4Address | IPv6Address


def behind_proxies(app: Application, trusted: Sequence[Network]) -> Application:
    """Give the application the client as trusted proxies saw it.

    Only a request whose own peer lies in a trusted network is believed. Its X-Forwarded-For is read from the right, and the
    first address that is no trusted proxy is the client's: whatever stands left of it the client may have written itself.
    A header that cannot be read is as good as none.
    """

    async def trusting(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("client") and _is_trusted(_read_address(scope["client"][0]), trusted):
            _believe(scope, trusted)
        await app(scope, receive, send)

    return trusting


def _believe(scope: MutableMapping[str, Any], trusted: Sequence[Network]) -> None:
    told: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        told.setdefault(name, []).append(value)
    client = _client(b",".join(told.get(b"x-forwarded-for", ())), trusted)
    if client is not None:
        scope["client"] = (str(client), 0)
    # The proxy that is next to us has written last.
    scheme = _last(told.get(b"x-forwarded-proto", ())).lower()
    if scheme in (b"http", b"https"):
        scope["scheme"] = scheme.decode()
    host = _last(told.get(b"x-forwarded-host", ()))
    if _HOST.match(host):
        scope["headers"] = [*((name, value) for name, value in scope["headers"] if name != b"host"), (b"host", host)]


def _client(forwarded_for: bytes, trusted: Sequence[Network]) -> Address | None:
    client: Address | None = None
    for hop in reversed(forwarded_for.split(b",")[-_HOPS_MAX:]):
        address = _read_address(hop.strip().decode("ascii", "replace"))
        if address is None:
            break
        client = address
        if not _is_trusted(address, trusted):
            break
    return client


def _read_address(text: str) -> Address | None:
    """An address as proxies spell it: alone, in brackets, or with a port behind it."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_trusted(address: Address | None, trusted: Sequence[Network]) -> bool:
    if address is None:
        return False
    is_v6 = isinstance(address, IPv6Address)
    return any(address in network for network in trusted if isinstance(network, IPv6Network) == is_v6)


def _last(values: Iterable[bytes]) -> bytes:
    return b",".join(values).rpartition(b",")[2].strip()
