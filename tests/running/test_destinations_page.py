"""docs/how-to/destinations.md: every command on it is run as it stands there."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.running.installation import ADMIN_TOKEN, REPOSITORY, Installation, until
from tests.running.sink import Sink
from tests.running.test_destinations import buyers, moment, order

PAGE = REPOSITORY / "docs" / "how-to" / "destinations.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands use curl, which is not here")
def test_every_command_of_the_page_does_what_it_says(tmp_path: Path) -> None:
    commands = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    files = tmp_path / "out"
    files.mkdir()
    with Sink() as sink, Installation(tmp_path, {"CONOSCO_FILES": str(files)}) as installation:
        buyers(installation)
        environment = {
            "PATH": os.environ["PATH"],
            "CONOSCO": installation.url,
            "TOKEN": ADMIN_TOKEN,
            "HOOK": sink.url,
            "SINCE": moment(-10),
            "UNTIL": moment(10),
        }
        answers = []
        for number, command in enumerate(commands):
            if number == 3:
                order(installation, "ada", "bob")
                until(lambda: len(sink.received()) == 3, "two deliveries and a test")
                installation.settled()
            ran = subprocess.run(
                ["bash", "-ec", command], check=True, capture_output=True, text=True, env=environment, timeout=60
            )
            answers.append([json.loads(line) for line in re.sub(r"\}\{", "}\n{", ran.stdout).splitlines()])
        (made,), (tested,), (health, dead), (counted, sent), (lake,), (forwarding,) = answers
        assert made["secret"].startswith("whsec_")
        assert (tested["state"], health["breaker"], dead["items"]) == ("delivered", "closed", [])
        assert counted["states"] == {"delivered": 2}
        assert sent["count"] == 2
        assert "secret" not in lake
        until(lambda: len(sink.received()) == 5, "they are sent again")
        event = {"type": "track", "event": "Order Completed", "userId": "eve", "messageId": "m-eve", "properties": {"total": 7}}
        assert installation.track({"batch": [event]}).status == 200
        until(lambda: any(b'"type":"event"' in each.body for each in sink.received()), "the event is forwarded")
        assert forwarding["spec"]["fields"] == ["plan"]
