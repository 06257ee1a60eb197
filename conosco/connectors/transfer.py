"""Blocking requests with bodies that are files, under the rules of ``outbound``: checked addresses only, no redirects, limits.

One connection a request; whoever uses it is a process of its own that may wait.
"""

import hashlib
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import certifi
import msgspec

from conosco.connectors.outbound import Network, parse_url
from conosco.connectors.place import CHUNK, PlaceFailed, addresses_of

CONNECT_S: Final = 15.0
# Between two parts of a body.
SILENCE_S: Final = 60.0
ANSWER_BYTES_MAX: Final = 8_000_000


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: its status, headers in small letters, and its body unless that went into a file."""

    status: int
    headers: dict[str, str]
    body: bytes
    digest: str = ""


def request(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | tuple[BinaryIO, int] = b"",
    *,
    networks: Sequence[Network],
    into: Path | None = None,
    bytes_max: int = ANSWER_BYTES_MAX,
) -> Told:
    """Send a request; ``body`` may be an open file and how much of it. A good answer goes into the new file ``into``.

    Raises PlaceFailed: place_unresolvable, place_address_refused, place_unreachable, file_too_large; then there is no file.
    """
    target = parse_url(url)
    address = addresses_of(target.host, target.port, networks)[0]
    connection = http.client.HTTPConnection(target.host, target.port, timeout=SILENCE_S)
    try:
        connection.sock = _connected(address, target.port, target.host if target.secure else "")
        connection.putrequest(method, target.path, skip_host=True, skip_accept_encoding=True)
        length = len(body) if isinstance(body, bytes) else body[1]
        for name, value in {"host": target.authority, "content-length": str(length), **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        _send(connection, body)
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        if into is not None and answer.status == 200:
            return Told(status=200, headers=told, body=b"", digest=_spill(answer, into, bytes_max))
        found = answer.read(ANSWER_BYTES_MAX + 1)
        if len(found) > ANSWER_BYTES_MAX:
            raise PlaceFailed("file_too_large", name=target.host, limit=ANSWER_BYTES_MAX)
        return Told(status=answer.status, headers=told, body=found)
    except (OSError, http.client.HTTPException):
        if into is not None:
            into.unlink(missing_ok=True)
        raise PlaceFailed("place_unreachable", host=target.host) from None
    finally:
        connection.close()


def _connected(address: str, port: int, tls_host: str) -> socket.socket:
    line = socket.create_connection((str(ipaddress.ip_address(address)), port), CONNECT_S)
    line.settimeout(SILENCE_S)
    if not tls_host:
        return line
    trust = ssl.create_default_context()
    trust.load_verify_locations(certifi.where())
    try:
        return trust.wrap_socket(line, server_hostname=tls_host)
    except OSError:
        line.close()
        raise


def _send(connection: http.client.HTTPConnection, body: bytes | tuple[BinaryIO, int]) -> None:
    if isinstance(body, bytes):
        if body:
            connection.send(body)
        return
    file, left = body
    while left:
        part = file.read(min(CHUNK, left))
        if not part:
            raise OSError("the file has become shorter")
        connection.send(part)
        left -= len(part)


def _spill(answer: http.client.HTTPResponse, path: Path, bytes_max: int) -> str:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("xb") as file:
            while part := answer.read(CHUNK):
                size += len(part)
                if size > bytes_max:
                    raise PlaceFailed("file_too_large", name=path.name, limit=bytes_max)
                digest.update(part)
                file.write(part)
        if answer.length:
            raise OSError("the answer broke off")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return digest.hexdigest()
