"""The journal of the front: one JSON object a line. It names routes, never paths, and holds no personal data."""

import logging
from typing import Any, Final

import msgspec

# The process decides where lines go by giving this logger a handler that prints the message as it is.
_LOGGER: Final = logging.getLogger("conosco.front")


def journal(what: str, **facts: Any) -> None:
    """Write a line: what happened, and facts that are safe to keep (ids of requests, statuses, durations)."""
    if _LOGGER.isEnabledFor(logging.INFO):
        _LOGGER.info(msgspec.json.encode({"what": what, **facts}).decode())
