"""The life of an installation: first start, sign-in, stop and start again on the same folder, taking over a rebuilt State."""

import re
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.running.installation import COMMAND, ROLES, Installation, basic, kill, until
from tests.running.shop import Shop
from tests.running.sink import Sink


def test_a_first_start_makes_its_own_secrets_and_a_link_that_signs_in_once(folder: Path) -> None:
    with Installation(folder, {"CONOSCO_ADMIN_TOKEN": "", "CONOSCO_WRITE_KEY": ""}) as installation:
        token = (installation.data / "admin-token").read_text().strip()
        assert len(token) >= 32
        assert installation.ask("GET", "/api/status", None, {"Authorization": f"Bearer {token}"}).status == 200
        assert installation.ask("GET", "/api/status", None, {"Authorization": "Bearer "}).status == 401
        assert installation.ask("POST", "/v1/batch", {"batch": [{}]}, basic("")).status == 401
        until(lambda: "sign in once at " in installation.journal_tail(), "the link is told")
        found = re.search(r"sign in once at (\S+)", installation.journal_tail())
        assert found is not None
        check_sign_in(installation, found[1].removeprefix(installation.url))


def check_sign_in(installation: Installation, link: str) -> None:
    signed = installation.ask("GET", link)
    assert (signed.status, signed.headers["location"]) == (303, "/")
    cookie = signed.headers["set-cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite" in cookie.lower()
    session = {"Cookie": cookie.split(";")[0]}
    assert installation.ask("GET", "/api/status", None, session).status == 200
    told = installation.ask("GET", "/api/session", None, session).json()
    assert told["signed_in"] is True
    purpose = {"key": "by_session", "name": "By session", "basis": "consent"}
    assert installation.ask("POST", "/api/purposes", purpose, session).status == 403
    assert installation.ask("POST", "/api/purposes", purpose, session | {"X-CSRF-Token": told["csrf_token"]}).status == 201
    again = installation.ask("GET", link)
    assert again.status == 401
    assert "set-cookie" not in again.headers


def test_sigterm_stops_it_gracefully_and_the_folder_keeps_all(folder: Path) -> None:
    with Sink() as sink, Installation(folder) as installation:
        shop = Shop(installation, sink)
        kept = "/api/profiles/user_id:anna"
        before = (
            installation.get(kept),
            installation.settled(),
            installation.sql("select * from events order by position, slot"),
        )
        assert installation.stop() == 0
        assert installation.everyone() == []
        installation.start()
        after = (installation.get(kept), installation.settled(), installation.sql("select * from events order by position, slot"))
        assert without_as_of(after[0]) == without_as_of(before[0])
        assert (after[1] | {"position": 0}, after[2]) == (before[1] | {"position": 0}, before[2])
        assert shop.profile_id == after[0]["profile_id"]
        shop.track(shop.sent)
        assert installation.settled()["duplicates"] == before[1]["duplicates"] + len(shop.sent)
        assert len(sink.received()) == 1
        # The rebuilt State takes the place of the live one.
        assert installation.stop() == 0
        swapped = subprocess.run(
            [*COMMAND, "replay", "--data", str(installation.data), "--swap"],
            check=True,
            capture_output=True,
            text=True,
            env=installation.environment,
        )
        live, rebuilt = re.findall(r"^digest (?:live|rebuilt) ([0-9a-f]{64})$", swapped.stdout, re.MULTILINE)
        assert live == rebuilt
        installation.start()
        assert without_as_of(installation.get(kept)) == without_as_of(before[0])
        installation.settled()
        assert installation.sql("select count(*) from events") == [[before[1]["applied"]]]
        assert len(sink.received()) == 1


def without_as_of(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "as_of"}


def test_each_role_runs_alone(folder: Path) -> None:
    with Installation(folder) as installation:
        assert installation.stop() == 0
        where = ["--data", str(installation.data), "--port", str(installation.port)]
        journal = (folder / "roles").open("wb")
        alone = {
            role: subprocess.Popen(
                [*COMMAND, "serve", *where, "--role", role], env=installation.environment, stderr=journal, start_new_session=True
            )
            for role in ROLES
        }
        try:
            event = {"type": "track", "event": "Alone", "userId": "solo", "messageId": "alone"}
            until(lambda: answers(installation) and installation.track({"batch": [event]}).status == 200, "the roles serve")
            assert installation.settled()["applied"] == 1
            assert installation.get("/api/profiles/user_id:solo")["profile_id"]
            for process in alone.values():
                process.terminate()
            assert {role: process.wait(30) for role, process in alone.items()} == dict.fromkeys(ROLES, 0)
        finally:
            for process in alone.values():
                kill(process.pid)
                process.wait()
            journal.close()


def answers(installation: Installation) -> bool:
    try:
        return installation.ask("GET", "/health/ready").status == 200
    except OSError:
        return False


def test_guesses_are_limited_and_the_right_token_still_works(folder: Path) -> None:
    with Installation(folder) as installation:
        assert installation.api("GET", "/api/status").status == 200
        statuses = [
            installation.ask("GET", "/api/status", None, {"Authorization": f"Bearer guess-{number}"}).status
            for number in range(25)
        ]
        assert statuses[0] == 401
        assert statuses[-1] == 429
        assert installation.api("GET", "/api/status").status == 200
        started = time.monotonic()
        assert installation.stop() == 0
        assert time.monotonic() - started < 30
