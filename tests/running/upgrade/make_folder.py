"""Makes the folder of the previous format that the upgrade tests begin with: ``python -m tests.running.upgrade.make_folder``.

Run it with the code of that format, which is the point of keeping what it made. Synthetic: two people of no one's.
"""

import os
import tarfile
import tempfile
from pathlib import Path

from tests.running.installation import Installation

ARCHIVE = Path(__file__).with_name("format-0.tar.gz")
KEPT = ("admin-token", "control.sqlite", "keys", "leases.sqlite", "log", "state.sqlite")


def main() -> None:
    """Serve a folder, send a few events, stop it, and pack what is not derived by the warehouse."""
    with tempfile.TemporaryDirectory() as place, Installation(Path(place)) as installation:
        for number in range(6):
            event = {"type": "track", "event": "Bought", "userId": f"user-{number % 2}", "messageId": f"message-{number}"}
            assert installation.track({"batch": [event]}).status == 200
        installation.settled()
        assert installation.stop() == 0
        (installation.data / "format").unlink(missing_ok=True)
        with tarfile.open(ARCHIVE, "w:gz") as archive:
            for name in KEPT:
                archive.add(installation.data / name, name, filter=_anonymous)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return None if entry.name.endswith((".lock", "-wal", "-shm")) else entry


if __name__ == "__main__":
    os.umask(0o077)
    main()
