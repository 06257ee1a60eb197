"""The one way out: an HTTP client that connects only to addresses it has checked itself, and never follows, proxies or stores.

A URL is parsed once, its host resolved once, every address checked against a table that denies by default, and the
connection made to a checked address, so that nobody can turn a destination against the network Conosco runs in.
"""

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, NamedTuple, cast
from urllib.parse import quote, urlsplit

import certifi
import httptools
import msgspec

Failure = Literal["refused_address", "unresolvable", "connect_failed", "timeout", "tls_failed", "too_large"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

# IPv4 that is not the public internet: IANA's special-purpose registry, multicast and the reserved top.
DENIED_V4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# IPv6 is allowed only inside the global unicast block, and there not where an IPv4 address may hide or nobody lives.
GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
DENIED_V6: Final = tuple(
    ipaddress.IPv6Network(network)
    # 2001::/23 holds Teredo, benchmarking and the overlay identifiers; 2002::/16 is 6to4.
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3ffe::/16", "3fff::/20")
)

_ADDRESSES_TRIED_MAX: Final = 3
_DNS_THREADS: Final = 8
_HOST: Final = re.compile(r"[A-Za-z0-9_-]([A-Za-z0-9._-]{0,252})\Z", re.ASCII)
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f\\]")
# What a path and a query may hold as they are; everything else is percent-encoded.
_PLAIN: Final = "/%:@!$&'()*+,;=~?-._"
_BRACKETED: Final = re.compile(r"\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?\Z", re.ASCII)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9-]+\Z", re.ASCII)
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*\Z", re.ASCII)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds for resolving and connecting, for the whole exchange, and for which a connection is kept; bytes of an answer."""

    connect_s: float = 5.0
    total_s: float = 10.0
    idle_s: float = 15.0
    lifetime_s: float = 120.0
    answer_bytes_max: int = 65_536
    kept_connections_max: int = 256


class Answer(msgspec.Struct, frozen=True):
    """What came of a request: a status, a failure, or both when the answer began but could not be read to its end.

    ``retry_after`` is that header as it was sent; empty if it was not.
    """

    status: int = 0
    failure: Failure | None = None
    retry_after: str = ""


class Target(NamedTuple):
    """A URL, parsed once; ``authority`` goes into the Host header and ``host`` to the resolver and TLS."""

    secure: bool
    host: str
    port: int
    authority: str
    path: str


class _Failed(Exception):
    """No connection could be made."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure: Final = failure


@lru_cache(maxsize=1_024)
def parse_url(url: str) -> Target:
    """Parse an absolute http or https URL. Raises ValueError for anything that two parsers could read differently."""
    if len(url) > 2_048 or _UNSAFE.search(url):
        raise ValueError("a URL has at most 2,048 characters and no blanks, control characters or backslashes")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("a URL starts with https:// or http://")
    if "@" in parts.netloc:
        raise ValueError("a URL carries no user name or password")
    secure = parts.scheme == "https"
    standard = 443 if secure else 80
    port = standard if parts.port is None else parts.port
    host = parts.hostname or ""
    if port == 0:
        raise ValueError("a port is between 1 and 65535")
    if "[" in parts.netloc or "]" in parts.netloc:
        if not _BRACKETED.match(parts.netloc):
            raise ValueError("brackets hold an IPv6 address without a zone")
        host = str(ipaddress.IPv6Address(host))
        spelled = f"[{host}]"
    else:
        # The encoding brings full-width and circled characters to the plain ones that a resolver would see.
        spelled = host = host if host.isascii() else host.encode("idna").decode("ascii")
        if not _HOST.match(host):
            raise ValueError("a URL names a host")
    authority = spelled if port == standard else f"{spelled}:{port}"
    path = quote(parts.path or "/", safe=_PLAIN) + ("?" + quote(parts.query, safe=_PLAIN) if parts.query else "")
    return Target(secure, host, port, authority, path)


def checked_address(address: str, allowed: Sequence[Network] = ()) -> str | None:
    """The address to connect to, IPv4 unwrapped from IPv6, or None if it is refused.

    ``allowed`` are private networks that an administrator has opened; without them only public addresses pass.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.scope_id is not None:
            return None
        parsed = parsed.ipv4_mapped or parsed
    if isinstance(parsed, ipaddress.IPv4Address):
        public = not any(parsed in network for network in DENIED_V4)
    else:
        public = parsed in GLOBAL_V6 and not any(parsed in network for network in DENIED_V6)
    return str(parsed) if public or any(parsed in network for network in allowed) else None


class Outbound:
    """Sends requests and tells what came of them. One per event loop; connections are kept and used again."""

    def __init__(
        self,
        *,
        allow_private_networks: Sequence[Network] = (),
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
    ) -> None:
        """``allow_private_networks`` are open to requests that ask for private addresses, and to no others.

        ``resolver`` gives all addresses of (host, port) or raises OSError; the system's by default. ``tls`` trusts the
        system's authorities and Mozilla's by default.
        """
        self._networks: Final = tuple(allow_private_networks)
        self._limits: Final = limits or Limits()
        self._tls = tls
        self._dns: Final = ThreadPoolExecutor(_DNS_THREADS, thread_name_prefix="dns")
        self._resolver: Final[Resolver] = resolver or self._ask_system
        self._resolving: Final[dict[tuple[str, int], asyncio.Task[Sequence[str]]]] = {}
        self._kept: Final[dict[tuple[bool, str, int, bool], list[_Connection]]] = {}
        self._kept_count = 0
        self._sweep: asyncio.TimerHandle | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, allow_private: bool = False) -> Answer:
        """Send a POST and read, without keeping, its answer. Never raises for what the network or the other side does.

        The request must carry a key by which the receiver recognises a repetition: when a kept connection turns out to
        have been closed before any byte came back, it is sent again on a new one.
        """
        try:
            target = parse_url(url)
        except ValueError:
            return Answer(failure="refused_address")
        request = _request(target, headers, body)
        key = (target.secure, target.host, target.port, allow_private)
        connection = self._take(key)
        try:
            async with asyncio.timeout(self._limits.total_s):
                answer = None if connection is None else await connection.exchange(request)
                if answer is None:
                    connection = await self._connect(target, allow_private)
                    answer = await connection.exchange(request)
        except TimeoutError:
            return Answer(connection.status if connection else 0, "timeout")
        except _Failed as failed:
            return Answer(failure=failed.failure)
        finally:
            if connection is not None:
                self._keep(key, connection)
        return answer or Answer(failure="connect_failed")

    async def close(self) -> None:
        """Close kept connections. Requests under way are not waited for."""
        if self._sweep is not None:
            self._sweep.cancel()
        for connections in self._kept.values():
            for connection in connections:
                connection.abort()
        self._kept.clear()
        self._kept_count = 0
        for task in self._resolving.values():
            task.cancel()
        self._dns.shutdown(wait=False, cancel_futures=True)

    async def _connect(self, target: Target, allow_private: bool) -> "_Connection":
        """Connect to the first of the host's addresses that answers; refuse if any one of them is not allowed."""
        try:
            async with asyncio.timeout(self._limits.connect_s):
                return await self._connect_checked(target, await self._addresses(target, allow_private))
        except TimeoutError:
            raise _Failed("timeout") from None

    async def _connect_checked(self, target: Target, addresses: Sequence[str]) -> "_Connection":
        loop = asyncio.get_running_loop()
        if target.secure and self._tls is None:
            # Reading all the authorities takes a tenth of a second, which other deliveries need not wait for.
            self._tls = await loop.run_in_executor(self._dns, _trusting_tls)
        failure: Failure = "connect_failed"
        for address in addresses:
            try:
                async with asyncio.timeout(self._limits.connect_s / len(addresses)):
                    _, connection = await loop.create_connection(
                        lambda: _Connection(loop, self._limits.answer_bytes_max),
                        address,
                        target.port,
                        ssl=self._tls if target.secure else None,
                        server_hostname=target.host if target.secure else None,
                    )
                    return connection
            except ssl.SSLError:
                failure = "tls_failed"
            except TimeoutError:
                failure = "timeout"
            except OSError:
                failure = "connect_failed"
        raise _Failed(failure)

    async def _addresses(self, target: Target, allow_private: bool) -> Sequence[str]:
        try:
            ipaddress.ip_address(target.host)
            found: Sequence[str] = (target.host,)
        except ValueError:
            found = await self._resolve(target.host, target.port)
        if not found:
            raise _Failed("unresolvable")
        allowed = self._networks if allow_private else ()
        checked = [checked_address(address, allowed) for address in found]
        passed = list(dict.fromkeys(address for address in checked if address is not None))
        if None in checked:
            raise _Failed("refused_address")
        return passed[:_ADDRESSES_TRIED_MAX]

    async def _resolve(self, host: str, port: int) -> Sequence[str]:
        """Resolve once for all who wait for the same host, so that one dead name server cannot hold every thread."""
        task = self._resolving.get((host, port))
        if task is None:
            task = self._resolving[host, port] = asyncio.ensure_future(self._resolver(host, port))
            task.add_done_callback(lambda done: self._resolved((host, port), done))
        try:
            return await asyncio.shield(task)
        except (OSError, UnicodeError):
            raise _Failed("unresolvable") from None

    def _resolved(self, key: tuple[str, int], task: asyncio.Task[Sequence[str]]) -> None:
        del self._resolving[key]
        # Everyone who waited may have given up; an error nobody reads would be reported as lost.
        if not task.cancelled():
            task.exception()

    async def _ask_system(self, host: str, port: int) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._dns, _getaddrinfo, host, port)
        return [str(entry[4][0]) for entry in found]

    def _take(self, key: tuple[bool, str, int, bool]) -> "_Connection | None":
        kept = self._kept.get(key)
        while kept:
            connection = kept.pop()
            self._kept_count -= 1
            if connection.usable(self._limits):
                return connection
            connection.abort()
        return None

    def _keep(self, key: tuple[bool, str, int, bool], connection: "_Connection") -> None:
        if not connection.usable(self._limits) or self._kept_count >= self._limits.kept_connections_max:
            connection.abort()
            return
        self._kept.setdefault(key, []).append(connection)
        self._kept_count += 1
        if self._sweep is None:
            self._sweep = connection.loop.call_later(self._limits.idle_s, self._drop_idle)

    def _drop_idle(self) -> None:
        self._sweep = None
        for key, connections in list(self._kept.items()):
            usable = [connection for connection in connections if connection.usable(self._limits)]
            for connection in connections:
                if connection not in usable:
                    connection.abort()
            self._kept_count -= len(connections) - len(usable)
            self._kept[key] = usable
            if not usable:
                del self._kept[key]
            elif self._sweep is None:
                self._sweep = usable[0].loop.call_later(self._limits.idle_s, self._drop_idle)


ToParquet = Callable[[bytes], Awaitable[bytes]]


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a connector is given to deliver with; ``now`` is in microseconds UTC.

    ``files`` is the folder below which the administrator allows files to be written, if any. ``to_parquet`` turns JSON
    Lines of texts and numbers into a Parquet file; it raises OSError if it cannot.
    """

    outbound: Outbound
    now: int
    files: Path | None = None
    to_parquet: ToParquet | None = None


class _Connection(asyncio.Protocol):
    """One connection, used for one exchange at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, answer_bytes_max: int) -> None:
        self.loop: Final = loop
        self.status = 0
        self._answer_bytes_max: Final = answer_bytes_max
        self._opened_at: Final = loop.time()
        self._used_at = self._opened_at
        self._transport: asyncio.Transport | None = None
        self._parser: Final = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Answer | None] | None = None
        self._read_bytes = 0
        self._retry_after = ""
        self._clean = True

    def usable(self, limits: Limits) -> bool:
        """True if another request may be sent here."""
        now = self.loop.time()
        return (
            self._clean
            and self._transport is not None
            and not self._transport.is_closing()
            and now - self._used_at < limits.idle_s
            and now - self._opened_at < limits.lifetime_s
        )

    async def exchange(self, request: bytes) -> Answer | None:
        """Send a request and wait for the end of its answer; None if the other side left before the first byte of it."""
        if self._transport is None or self._transport.is_closing():
            return None
        self.status = 0
        self._read_bytes = 0
        self._retry_after = ""
        # Not clean until the answer has been read to its end: whoever gives up in between leaves it so.
        self._clean = False
        self._waiting = self.loop.create_future()
        self._transport.write(request)
        return await self._waiting

    def abort(self) -> None:
        """Close at once."""
        self._clean = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection is up."""
        # Not every event loop derives its transports from asyncio's, so there is nothing to check against.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came."""
        self._read_bytes += len(data)
        if self._waiting is None:
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._finish(Answer(self.status, "connect_failed"), clean=False)
        if self._read_bytes > self._answer_bytes_max:
            self._finish(Answer(self.status, "too_large", self._retry_after), clean=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone. An answer without a length ends here, and so does one that was cut short."""
        if self.status:
            self._finish(Answer(self.status, None, self._retry_after), clean=False)
        else:
            self._finish(None if self._read_bytes == 0 else Answer(failure="connect_failed"), clean=False)

    def on_message_begin(self) -> None:
        """httptools: an answer starts; one that nobody asked for spoils the connection."""
        if self._waiting is None:
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a header; one is of interest."""
        if name.lower() == b"retry-after":
            self._retry_after = value[:64].decode("ascii", "replace").strip()

    def on_headers_complete(self) -> None:
        """httptools: the status is known. 1xx only announces the real answer."""
        status = self._parser.get_status_code()
        self.status = status if status >= 200 else 0

    def on_message_complete(self) -> None:
        """httptools: the answer has been read to its end."""
        if self.status and self._read_bytes <= self._answer_bytes_max:
            self._finish(Answer(self.status, None, self._retry_after), clean=self._parser.should_keep_alive())

    def _finish(self, answer: Answer | None, *, clean: bool) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        self._clean = clean
        self._used_at = self.loop.time()
        if not clean:
            self.abort()
        # A waiter that gave up is cancelled already.
        with contextlib.suppress(asyncio.InvalidStateError):
            waiting.set_result(answer)


def _request(target: Target, headers: Mapping[str, str], body: bytes) -> bytes:
    """The request's bytes, head and body in one write. Raises ValueError for a header that would break out of its line."""
    lines = [f"POST {target.path} HTTP/1.1", f"host: {target.authority}", f"content-length: {len(body)}"]
    for name, value in headers.items():
        if not _HEADER_NAME.match(name) or not _HEADER_VALUE.match(value):
            raise ValueError(f"header {name!r} is not plain text")
        lines.append(f"{name}: {value}")
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body


def _getaddrinfo(host: str, port: int) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
    return [(*entry[:4], tuple(entry[4])) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _trusting_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
