"""The Control door: accounts, tokens, sessions and jobs. Not derived from the log."""

from typing import Protocol


class Control(Protocol):
    """Small rows under (kind, name) with an expiry; for everything that is about operators, not customers."""

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
