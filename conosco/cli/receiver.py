"""A receiver of webhooks on this machine, so that the demo can show what a destination gets."""

from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

import msgspec

KEPT: Final = 10_000
BODY_BYTES_MAX: Final = 1_000_000


class Receiver:
    """Listens on a free port of 127.0.0.1 while entered; keeps the bodies of what arrives, oldest first."""

    def __init__(self) -> None:
        kept: deque[dict[str, Any]] = deque(maxlen=KEPT)

        class Answering(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # the name that the standard library calls
                length = min(int(self.headers.get("content-length", 0)), BODY_BYTES_MAX)
                kept.append(msgspec.json.decode(self.rfile.read(length)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # the base class's own name
                """Say nothing: the demo shows what arrives."""

        self._kept = kept
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self._thread = Thread(target=self._server.serve_forever, name="receiver", daemon=True)

    @property
    def url(self) -> str:
        """Where to send."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    @property
    def received(self) -> list[dict[str, Any]]:
        """What has arrived."""
        return list(self._kept)

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
