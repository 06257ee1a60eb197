"""What the management API notes for operators: a word and facts that are safe to keep. It names routes, never paths or people."""

from collections.abc import Callable
from typing import Any

# Takes what happened and its facts; the process decides where lines go.
Note = Callable[[str, dict[str, Any]], None]


def keep_silent(what: str, facts: dict[str, Any]) -> None:
    """Note nothing: for a process that keeps no journal."""
