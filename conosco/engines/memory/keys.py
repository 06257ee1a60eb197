"""The Keys in memory: secrets that end with the process."""


class MemoryKeys:
    """The Keys door on a dictionary."""

    def __init__(self) -> None:
        self._secrets: dict[str, bytes] = {}

    def secret(self, name: str) -> bytes | None:
        """A secret by name."""
        return self._secrets.get(name)

    def put(self, name: str, value: bytes) -> None:
        """Set a secret."""
        self._secrets[name] = value

    def destroy(self, name: str) -> None:
        """Forget a secret."""
        self._secrets.pop(name, None)
