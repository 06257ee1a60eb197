"""A proxy's word is taken from trusted networks only, and never beyond the first hop that is not trusted."""

import asyncio
from ipaddress import ip_network
from typing import Any

import pytest

from conosco.web.forwarded import behind_proxies

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("127.0.0.1/32"))


def seen(peer: str | None, *headers: tuple[str, str]) -> dict[str, Any]:
    """The scope that the application sees."""
    kept: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kept.update(scope)

    scope = {
        "type": "http",
        "scheme": "http",
        "client": None if peer is None else (peer, 1234),
        "headers": [(b"host", b"inside:8000"), *((name.encode(), value.encode("latin-1")) for name, value in headers)],
    }
    asyncio.run(behind_proxies(app, TRUSTED)(scope, None, None))  # type: ignore[arg-type]  # neither is called
    return kept


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9, 10.2.3.4", "203.0.113.9"),
        ("127.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("10.9.9.9, 10.2.3.4", "10.9.9.9"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("203.0.113.9:5555", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, nonsense", "10.0.0.1"),
        ("", "10.0.0.1"),
        ("203.0.113.9, \xe9", "10.0.0.1"),
    ],
)
def test_the_client_is_the_first_address_from_the_right_that_is_no_proxy(forwarded: str, client: str) -> None:
    assert seen("10.0.0.1", ("x-forwarded-for", forwarded))["client"][0] == client


def test_several_headers_are_one_list() -> None:
    scope = seen("10.0.0.1", ("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "203.0.113.9"))
    assert scope["client"][0] == "203.0.113.9"


@pytest.mark.parametrize("peer", ["203.0.113.66", "::1", "192.168.0.1", "not an address"])
def test_nobody_else_is_believed(peer: str) -> None:
    scope = seen(peer, ("x-forwarded-for", "10.0.0.7"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "evil.example"))
    assert (scope["client"][0], scope["scheme"], scope["headers"][0]) == (peer, "http", (b"host", b"inside:8000"))


def test_a_connection_without_a_peer_is_not_believed() -> None:
    assert seen(None, ("x-forwarded-for", "203.0.113.9"))["client"] is None


def test_scheme_and_host_are_taken_over() -> None:
    scope = seen("10.0.0.1", ("x-forwarded-proto", "http, https"), ("x-forwarded-host", "evil.example, cdp.example.com"))
    assert scope["scheme"] == "https"
    assert [value for name, value in scope["headers"] if name == b"host"] == [b"cdp.example.com"]


@pytest.mark.parametrize("host", ["a b", "x/y", "evil.example\r\nx: y", "", "a" * 300])
def test_a_host_that_is_none_is_left_out(host: str) -> None:
    scope = seen("10.0.0.1", ("x-forwarded-host", host), ("x-forwarded-proto", "gopher"))
    assert (scope["scheme"], scope["headers"][0]) == ("http", (b"host", b"inside:8000"))
