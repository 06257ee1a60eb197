"""Scheduled imports and exports on a running installation: new files once, moved away, killed in between; people out again."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.running.installation import ADMIN_TOKEN, COMMAND, REPOSITORY, Installation, until

MAPPING = [
    {
        "type": {"const": "identify"},
        "user_id": {"path": ["id"]},
        "traits": {"email": {"path": ["email"]}, "plan": {"path": ["plan"]}},
    }
]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Installation]:
    (tmp_path / "files").mkdir()
    with Installation(tmp_path, {"CONOSCO_FILES": str(tmp_path / "files")}) as installation:
        yield installation


def drop(tmp_path: Path, name: str, text: str) -> Path:
    """A file that nobody has touched for a minute."""
    folder = tmp_path / "files" / "in"
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    a_minute_ago = time.time() - 60
    os.utime(path, (a_minute_ago, a_minute_ago))
    return path


def scheduled_import(**spec: Any) -> dict[str, Any]:
    place = {"type": "folder", "folder": "in"}
    whole = {"place": place, "pattern": "people-*.csv", "mapping": MAPPING, **spec}
    return {"key": "people", "name": "People", "source": "default", "basis": "contract", "note": "customers", "spec": whole}


def run(installation: Installation, path: str) -> dict[str, Any]:
    """Ask for a run and wait for its end."""
    before = len(installation.get(f"{path}/runs")["items"])
    assert installation.api("POST", f"{path}/run").status == 202
    found: list[dict[str, Any]] = []

    def has_ended() -> bool:
        items = installation.get(f"{path}/runs")["items"]
        found[:] = items[:1]
        return len(items) > before and items[0]["status"] != "running"

    until(has_ended, "the run has ended")
    return found[0]


@pytest.mark.timeout(200)
def test_new_files_are_imported_once_and_people_are_exported(served: Installation, tmp_path: Path) -> None:
    first = drop(tmp_path, "people-1.csv", "id,email,plan\nu1,a@example.it,=gold\nu2,b@example.it,\n")
    drop(tmp_path, "other.txt", "nothing\n")
    served.post("/api/imports/schedules", scheduled_import(after="move", move_to="done"))
    path = "/api/imports/schedules/people"
    done = run(served, path)
    assert done["status"] == "done", done
    assert [(file["name"], file["status"], file["accepted"]) for file in done["files"]] == [("people-1.csv", "moved", 2)]
    assert not first.exists()
    assert [moved.name[13:] for moved in (tmp_path / "files" / "in" / "done").iterdir()] == ["people-1.csv"]
    # The same content under the same name is the same file; another content is a new one.
    drop(tmp_path, "people-1.csv", "id,email,plan\nu1,a@example.it,=gold\nu2,b@example.it,\n")
    again = run(served, path)
    assert (again["status"], again["rows"]) == ("done", 0)
    drop(tmp_path, "people-1.csv", "id,email,plan\nu3,c@example.it,silver\n")
    third = run(served, path)
    assert [(file["status"], file["accepted"]) for file in third["files"]] == [("moved", 1)]
    served.settled()
    assert served.sql("select count(*) from events where historical") == [[3]]

    columns = [
        {"kind": "identifier", "name": "email", "heading": "E-mail"},
        {"kind": "trait", "name": "plan"},
        {"kind": "profile_id"},
    ]
    spec = {"place": {"type": "folder", "folder": "out"}, "columns": columns, "file": "all-{date}"}
    export = {"key": "everyone", "name": "Everyone", "purpose": "operations", "region": "eu", "spec": spec}
    served.post("/api/exports", export)
    out = run(served, "/api/exports/everyone")
    assert (out["status"], out["rows"], out["left_out"]) == ("done", 3, 0), out
    name = out["files"][0]["name"]
    body = (tmp_path / "files" / "out" / name).read_bytes()
    lines = body.decode().splitlines()
    assert lines[0] == '"E-mail","plan","profile_id"'
    assert sorted(line.split(",")[:2] for line in lines[1:]) == [
        ['"a@example.it"', '"\'=gold"'],
        ['"b@example.it"', '""'],
        ['"c@example.it"', '"silver"'],
    ]
    manifest = json.loads((tmp_path / "files" / "out" / f"{name}.manifest.json").read_bytes())
    assert manifest["sha256"] == sha256(body).hexdigest()
    assert (manifest["rows"], manifest["as_of"]) == (3, out["as_of"])
    assert served.api("GET", "/api/exports/everyone/file").body == body
    assert served.ask("GET", "/api/exports/everyone/file").status == 401

    # Nobody has agreed to marketing, so nobody is in that file, and everyone is counted.
    served.post("/api/exports", {**export, "key": "ads", "purpose": "marketing"})
    out = run(served, "/api/exports/ads")
    assert (out["status"], out["rows"], out["left_out"]) == ("done", 0, 3)


@pytest.mark.timeout(200)
def test_a_run_that_is_killed_is_finished_and_takes_each_file_once(served: Installation, tmp_path: Path) -> None:
    for number in range(20):
        drop(tmp_path, f"people-{number:02}.csv", f"id,email,plan\nk{number},k{number}@example.it,gold\n")
    served.post("/api/imports/schedules", scheduled_import(after="delete"))
    path = "/api/imports/schedules/people"
    assert served.api("POST", f"{path}/run").status == 202
    until(lambda: served.get(f"{path}/runs")["items"] != [], "the run has begun")
    served.kill_all()
    served.start()
    until(lambda: served.get(f"{path}/runs")["items"][0]["status"] == "done", "the run is done")
    runs = served.get(f"{path}/runs")["items"]
    assert len(runs) == 1 and len(runs[0]["files"]) == 20, runs
    assert list((tmp_path / "files" / "in").glob("people-*")) == []
    served.settled()
    assert served.sql("select count(*), count(distinct user_id) from events") == [[20, 20]]
    assert served.status()["duplicates"] == 0


def page_commands() -> list[str]:
    """The shell blocks of the page, a command each."""
    page = (REPOSITORY / "docs" / "how-to" / "schedules.md").read_text()
    return [part for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for part in re.split(r"\n(?=curl)", block)]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")
@pytest.mark.timeout(200)
def test_every_command_of_the_page_does_what_the_page_says(served: Installation, tmp_path: Path) -> None:
    drop(tmp_path, "people-1.csv", "id,email\nu1,a@example.it\n")
    environment = {**os.environ, "CONOSCO": served.url, "TOKEN": ADMIN_TOKEN}

    def shell(command: str) -> Any:
        ran = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=60, check=True)
        return json.loads(ran.stdout)

    for define, ask, runs in zip(*[iter(page_commands())] * 3, strict=True):
        made = shell(define)
        assert made.get("version"), made
        assert shell(ask)["is_asked"] or shell(runs)["items"]
        until(lambda runs=runs: [run["status"] for run in shell(runs)["items"]] == ["done"], "the run is done")  # type: ignore[misc]
        served.settled()
    assert [path.name for path in (tmp_path / "files" / "out").glob("*.csv")] != []
    command = [*COMMAND, "export", "all", "--to", "people.csv", "--purpose", "operations", "--identifier", "email"]
    where = ["--url", served.url, "--token", ADMIN_TOKEN]
    ran = subprocess.run(
        [*command, *where], cwd=tmp_path, env=served.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran
    assert "a@example.it" in (tmp_path / "people.csv").read_text()
