"""A backup is made under load and becomes an installation again; and the page that tells how is followed word by word."""

import re
import shlex
import subprocess
import threading
from pathlib import Path

from tests.running.installation import COMMAND, REPOSITORY, Installation
from tests.running.load import Load, define
from tests.running.sink import Sink

PAGE = REPOSITORY / "docs" / "how-to" / "backup.md"
LOAD_S = 1.0


def command(installation: Installation, *arguments: str, key: str = "") -> str:
    """What a command said to standard output and error; it must succeed."""
    environment = {**installation.environment, "CONOSCO_BACKUP_KEY": key}
    ran = subprocess.run([*COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def key_in(said: str) -> str:
    found = re.search(r"^ {4}((?:[A-Z2-7]{8}-){6}[A-Z2-7]{8})$", said, re.MULTILINE)
    assert found, said
    return found[1]


def test_a_backup_under_load_holds_all_that_was_acknowledged_before_it(folder: Path) -> None:
    with Sink() as sink, Installation(folder) as installation:
        define(installation, sink.url)
        with Load(installation, seed=1) as load:
            threading.Event().wait(LOAD_S)
            before = set(load.ledger.acknowledged)
            assert before
            said = command(installation, "backup", "--data", str(installation.data), "--to", str(folder / "one.backup"))
            mark = int(re.findall(r"^mark (\d+)$", said, re.MULTILINE)[0])
            threading.Event().wait(LOAD_S / 2)
        installation.settled()
        assert installation.stop() == 0
        everything = set(load.ledger.acknowledged)
    assert everything > before
    (folder / "again").mkdir()
    again = Installation(folder / "again")
    told = command(again, "restore", "--from", str(folder / "one.backup"), "--to", str(again.data), key=key_in(said))
    assert int(re.findall(r"^position (\d+)$", told, re.MULTILINE)[0]) >= mark
    with again as restored:
        status = restored.settled()
        found = {row[0] for row in restored.sql("select message_id from outcomes")}
        assert before <= found <= set(load.ledger.sent)
        assert status["accepted"] == status["applied"] + status["duplicates"] + status["quarantined"]
        live, rebuilt, exit_code = restored.replay()
        assert (exit_code, live) == (0, rebuilt)
        # It takes up its work: what is sent again is known, what is new is applied.
        known = next(load.ledger.sent[each] for each in sorted(before) if load.ledger.acknowledged[each] == "stored")
        new = {"type": "track", "event": "After", "userId": "user-after", "messageId": "after"}
        assert restored.track({"batch": [known, new]}).status == 200
        after = restored.settled()
        assert (after["applied"], after["duplicates"]) == (status["applied"] + 1, status["duplicates"] + 1)


def test_the_page_is_followed_word_by_word(folder: Path) -> None:
    blocks = re.findall(r"^```\n(conosco .*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert [shlex.split(line)[1] for line in lines] == ["backup", "backup", "backup", "restore", "replay"]
    keys: list[str] = []
    with Installation(folder) as installation:
        event = {"type": "track", "event": "Bought", "userId": "user", "messageId": "one"}
        assert installation.track({"batch": [event]}).status == 200
        installation.settled()
        for line in lines:
            if "restore" in line:
                # The newest backup was closed for the second key.
                (folder / "backup-key").write_text(keys[-1] + "\n")
            ran = subprocess.run(
                [*COMMAND, *shlex.split(line)[1:]],
                cwd=folder,
                env={**installation.environment, "PYTHONPATH": str(REPOSITORY)},
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert ran.returncode == 0, (line, ran.stdout + ran.stderr)
            keys += [key_in(ran.stderr)] if "A backup key was made" in ran.stderr else []
    assert len(keys) == 2
    assert len(list((folder / "backups").iterdir())) == 3
