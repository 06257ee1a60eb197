"""The Control door: accounts, tokens, sessions and jobs. Not derived from the log."""

from typing import Protocol


class ControlFull(Exception):
    """A change could not be made durable (disk full, read-only). Nothing of it was kept; try again later."""


class Control(Protocol):
    """Small rows under (kind, name) with an expiry; for everything that is about operators, not customers.

    A row expires at its ``expires_at`` (microseconds UTC, like every ``now``); None never does. Changes are durable on
    return, else ControlFull is raised.
    """

    def put(self, kind: str, name: str, value: bytes, expires_at: int | None = None) -> None:
        """Insert or replace."""

    def get(self, kind: str, name: str, now: int) -> bytes | None:
        """The value, unless absent or expired."""

    def take(self, kind: str, name: str, now: int) -> bytes | None:
        """The value, and delete it in the same step: of two callers only one gets it."""

    def list(self, kind: str, now: int) -> list[tuple[str, bytes]]:
        """All unexpired (name, value) of a kind, by name."""

    def delete(self, kind: str, name: str) -> None:
        """Delete; absent is no error."""

    def close(self) -> None:
        """Release files."""
