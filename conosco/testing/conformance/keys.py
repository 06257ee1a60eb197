"""The suite of the Keys door: secrets by name, replaced and destroyed."""

from conosco.ports.keys import Keys


class KeysSuite:
    """Promises of every Keys. Give it the fixture ``door``: an empty one."""

    def test_secrets_are_kept_by_name(self, door: Keys) -> None:
        assert door.secret("installation") is None
        door.put("installation", bytes(range(256)))
        door.put("webhook:żółw", b"")
        assert door.secret("installation") == bytes(range(256))
        assert door.secret("webhook:żółw") == b""
        door.put("installation", b"new")
        assert door.secret("installation") == b"new"

    def test_destroyed_secrets_are_forgotten(self, door: Keys) -> None:
        door.put("a", b"1")
        door.put("b", b"2")
        door.destroy("a")
        door.destroy("never")
        assert door.secret("a") is None
        assert door.secret("b") == b"2"
