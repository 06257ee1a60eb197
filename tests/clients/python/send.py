"""Make calls with an unmodified SDK for Python. Usage: send.py SDK URL WRITE_KEY CALLS BEHIND_S

CALLS is a file with the calls in the words of the wire. The clock of this process is BEHIND_S seconds slow. What the SDK
gave up is printed as a JSON list.
"""

import datetime
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

MODULES = {"segment-python": "segment.analytics.client", "rudder-python": "rudderstack.analytics.client"}
PATIENCE_S = 3


def slow_clock(behind_s: float) -> type[datetime.datetime]:
    """A clock that is slow. The SDK must be imported after it is in place."""

    class Slow(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Slow":
            moment = super().now(tz) - datetime.timedelta(seconds=behind_s)
            return cls.fromisoformat(moment.isoformat())

        @classmethod
        def utcnow(cls) -> "Slow":
            return cls.now(datetime.UTC).replace(tzinfo=None)

    return Slow


def main(sdk: str, url: str, write_key: str, calls: str, behind_s: str) -> None:
    """Make the calls and wait until all of them are sent or given up."""
    if float(behind_s):
        datetime.datetime = slow_clock(float(behind_s))  # type: ignore[misc]  # the clock of the whole process
    name, _, option = sdk.partition(" ")
    client_of: Any = importlib.import_module(MODULES[name]).Client
    failures: list[str] = []
    client = client_of(
        write_key,
        host=url,
        gzip=option == "gzip",
        timeout=PATIENCE_S,
        upload_size=20,
        upload_interval=0.05,
        on_error=lambda error, batch: failures.append(repr(error)),
    )
    for call in json.loads(Path(calls).read_bytes()):
        kind = call.pop("type")
        told = {re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), key): value for key, value in call.items()}
        if "timestamp" in told:
            told["timestamp"] = datetime.datetime.fromisoformat(told["timestamp"])
        accepted, _ = getattr(client, kind)(**told)
        if not accepted:
            failures.append(f"not accepted: {call}")
    client.flush()
    client.join()
    print(json.dumps(failures))


if __name__ == "__main__":
    main(*sys.argv[1:])
