"""A receiver of webhooks that remembers all it was sent, and refuses a part of it first, so that deliveries are repeated."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from types import TracebackType
from typing import NamedTuple, Self


class Received(NamedTuple):
    """One request as it came in, and what was answered."""

    webhook_id: str
    headers: dict[str, str]
    body: bytes
    answered: int


class Sink:
    """Listens on a free port while it is entered. ``refused_share`` of all requests are answered with 500."""

    def __init__(self, refused_share: float = 0.0, seed: int = 1) -> None:
        self._refused_share = refused_share
        self._chance = Random(seed)
        self._lock = threading.Lock()
        self._received: list[Received] = []
        sink = self

        class Door(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # the library calls it so
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = sink._take(headers, body)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Door)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def _take(self, headers: dict[str, str], body: bytes) -> int:
        with self._lock:
            status = 500 if self._chance.random() < self._refused_share else 200
            self._received.append(Received(headers.get("webhook-id", ""), headers, body, status))
        return status

    def received(self) -> list[Received]:
        """All requests so far, in order."""
        with self._lock:
            return list(self._received)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A sender that was killed while it spoke is expected here."""
