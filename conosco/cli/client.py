"""A plain client of a running installation on this machine, for commands of the command line."""

import base64
import http.client
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import msgspec


class Failed(Exception):
    """The server refused; the text says what it said."""


class Unreachable(Failed):
    """Nothing answers there."""


class Client:
    """Talks to one server, with one kept connection. ``token`` is the administrator's, ``write_key`` a source's."""

    def __init__(self, host: str, port: int, token: str, write_key: str, *, tls: bool = False) -> None:
        connection = http.client.HTTPSConnection if tls else http.client.HTTPConnection
        self._connection = connection(host, port, timeout=60)
        self._token = token
        self._write_key = write_key

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """A management call; its answer decoded. Raises Failed."""
        raw = None if body is None else msgspec.json.encode(body)
        return self._call(method, path, raw, f"Bearer {self._token}")

    def track(self, batch: bytes, write_key: str = "") -> Any:
        """Send a batch of events as an SDK does, with the key of another source if one is given. Raises Failed."""
        basic = base64.b64encode(f"{write_key or self._write_key}:".encode()).decode()
        return self._call("POST", "/v1/batch", batch, f"Basic {basic}")

    def send(self, path: str, file: BinaryIO, size: int, advance: Callable[[int], None]) -> Any:
        """Send a file as the body of a POST; ``advance`` is told how much of it went. Raises Failed."""

        def parts() -> Iterator[bytes]:
            sent = 0
            while part := file.read(1 << 18):
                yield part
                sent += len(part)
                advance(sent)

        return self._decoded(self._answer("POST", path, parts(), f"Bearer {self._token}", {"content-length": str(size)}))

    def fetch(self, path: str) -> bytes:
        """The bytes that a GET answers. Raises Failed."""
        return self._answer("GET", path, None, f"Bearer {self._token}", {})

    def fetch_into(self, path: str, body: Any, file: BinaryIO) -> None:
        """Write what a POST answers into a file as it comes. Raises Failed."""
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        try:
            self._connection.request("POST", path, msgspec.json.encode(body), headers)
            answer = self._connection.getresponse()
            if answer.status >= 400:
                raw = answer.read()
                raise Failed(_words_of(raw) or f"POST {path}: {answer.status}")
            while part := answer.read(1 << 18):
                file.write(part)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Unreachable(f"POST {path}: {error}") from None

    def _call(self, method: str, path: str, body: bytes | None, authorization: str) -> Any:
        return self._decoded(self._answer(method, path, body, authorization, {"content-type": "application/json"}))

    def _decoded(self, raw: bytes) -> Any:
        return msgspec.json.decode(raw) if raw else None

    def _answer(
        self, method: str, path: str, body: bytes | Iterator[bytes] | None, authorization: str, extra: dict[str, str]
    ) -> bytes:
        headers = {"authorization": authorization, **extra}
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            raw = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Unreachable(f"{method} {path}: {error}") from None
        if answer.status >= 400:
            raise Failed(_words_of(raw) or f"{method} {path}: {answer.status} {raw[:500].decode(errors='replace')}")
        return raw


def _words_of(raw: bytes) -> str:
    """The sentences of a problem, of each part of it if it has several; empty if the answer is none."""
    try:
        problem = msgspec.json.decode(raw)
        parts = [problem, *problem.get("problems", ())]
        return "\n".join(f"{part['detail']} {part['next']}".strip() for part in parts)
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError):
        return ""
