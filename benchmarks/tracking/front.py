"""What the tracking benchmark loads, in a process of its own: the real front, or the bare HTTP stack.

``python -m benchmarks.tracking.front front FOLDER PORT MS`` serves with so many milliseconds added to every sync;
``... sink PORT`` reads bodies and answers.
"""

import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from conosco.engines.sqlite.log import SqliteLog
from conosco.model.record import Draft
from conosco.ports.log import Appended, Log
from conosco.runtime.bootstrap import Folder, clock
from conosco.runtime.settings import Settings
from conosco.web import front

Message = MutableMapping[str, Any]


class SlowLog(SqliteLog):
    """A log on a disk whose every sync takes so many seconds longer."""

    added_s = 0.0

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        """As the log, and a wait."""
        appended = super().append(drafts)
        time.sleep(self.added_s)
        return appended


async def sink(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
    """Read the body, answer as shortly as tracking could."""
    more = scope["type"] == "http"
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"16")]})
    await send({"type": "http.response.body", "body": b'{"success":true}'})


def main(words: Sequence[str]) -> None:
    if words[0] == "sink":
        uvicorn.run(sink, port=int(words[1]), loop="uvloop", http="httptools", lifespan="off", log_level="warning")
        return
    folder, port, added_ms = Path(words[1]), int(words[2]), float(words[3])

    def open_slow_log(settings: Settings) -> Log:
        log = SlowLog(Folder(settings.data).log, clock)
        log.added_s = added_ms / 1_000
        return log

    if added_ms:
        # All else is the front as it is served.
        front.open_log = open_slow_log  # type: ignore[attr-defined]  # the one name that is exchanged
    front.run_front(Settings(data=folder, port=port))


if __name__ == "__main__":
    main(sys.argv[1:])
