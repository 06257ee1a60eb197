"""The Keys door: secrets and what is derived from them."""

from typing import Protocol


class Keys(Protocol):
    """Named secrets. They are never logged, never in a definition, never in an answer after the first."""

    def secret(self, name: str) -> bytes | None:
        """A secret by name, or None."""

    def put(self, name: str, value: bytes) -> None:
        """Set a secret, durably."""

    def destroy(self, name: str) -> None:
        """Forget a secret; what was made with it can no longer be read."""
