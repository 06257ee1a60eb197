"""State is lost, or comes back with the log's sealed files: everything is derived again, and nothing goes out a second time."""

import subprocess
from pathlib import Path

from tests.running.installation import COMMAND, Installation, until
from tests.running.sink import Sink
from tests.running.test_backup import command, key_in
from tests.running.test_destinations import a_webhook, buyers, order
from tests.running.test_sealing import batch

USERS = tuple(f"user-{number}" for number in range(8))


def settings(installation: Installation) -> tuple[str, str]:
    return "--data", str(installation.data)


def test_a_lost_state_is_derived_and_nothing_is_sent_twice(folder: Path) -> None:
    with Sink() as sink, Sink(refused_share=1.0) as broken, Installation(folder) as installation:
        buyers(installation)
        installation.post("/api/destinations", a_webhook("crm", sink.url))
        installation.post("/api/destinations", a_webhook("broken", broken.url))
        order(installation, *USERS)
        until(lambda: len(sink.received()) == len(USERS), "all are delivered")
        until(lambda: len(broken.received()) >= len(USERS), "all are tried at the other place")
        before = installation.settled()
        until(lambda: installation.get("/api/destinations/crm/health")["deliveries"]["delivered"] == len(USERS), "it is known")
        installation.stop()
        tried = len(broken.received())
        for path in installation.data.glob("state.sqlite*"):
            path.unlink()
        ran = subprocess.run(
            [*COMMAND, "replay", *settings(installation)], capture_output=True, text=True, check=False, timeout=60
        )
        assert (ran.returncode, "There is no State" in ran.stderr) == (1, True), ran.stderr
        alone = [*COMMAND, "serve", *settings(installation), "--role", "worker"]
        ran = subprocess.run(alone, capture_output=True, text=True, check=False, timeout=60, env=installation.environment)
        assert (ran.returncode, "without --role" in ran.stderr) == (2, True), ran.stderr
        installation.start()
        journal = installation.journal_tail()
        assert "State is missing although the log holds records." in journal
        assert f"{len(USERS)} deliveries may have been sent before and wait as `unknown`" in journal
        status = installation.settled()
        assert {name: status[name] for name in ("accepted", "applied")} == {
            name: before[name] for name in ("accepted", "applied")
        }
        states = dict(installation.sql("select state, count(*) from deliveries group by 1"))
        assert states == {"delivered": len(USERS), "unknown": len(USERS)}
        # Somebody new is told of: the sender is at work, and has left the others alone.
        order(installation, "somebody-new")
        until(lambda: len(sink.received()) > len(USERS), "a delivery after it")
        assert len(sink.received()) == len(USERS) + 1
        assert len({each.webhook_id for each in broken.received()[tried:]}) <= 1
        live, rebuilt, code = installation.replay()
        assert (live, code) == (rebuilt, 0)


def test_a_backup_made_while_files_are_sealed_comes_back_whole(folder: Path, tmp_path: Path) -> None:
    small = {"CONOSCO_LOG_SEGMENT_MB": "1"}
    with Installation(folder, small) as installation:
        log = installation.data / "log"
        for number in range(25):
            assert installation.track(batch(number)).status == 200
        until(lambda: len(list(log.glob("*.sealed"))) >= 1, "sealing has begun")
        said = command(installation, "backup", *settings(installation), "--to", str(folder / "during.backup"))
        key = key_in(said)
        until(lambda: len(list(log.glob("*.sqlite"))) == 1, "only the newest file is not sealed")
        command(installation, "backup", *settings(installation), "--to", str(folder / "after.backup"))
        status = installation.settled()
        installation.stop()
        for name in ("during", "after"):
            back = Installation(folder / name, small)
            command(installation, "restore", "--from", str(folder / f"{name}.backup"), "--to", str(back.data), key=key)
            live, rebuilt, code = back.replay()
            assert (live, code) == (rebuilt, 0)
        command(installation, "verify", *settings(back))
        assert list((back.data / "log").glob("*.sealed"))
        with back:
            restored = back.settled()
            assert (restored["accepted"], restored["applied"]) == (status["accepted"], status["applied"])
            assert back.track(batch(3)).status == 200
            assert back.settled()["duplicates"] == 100
