"""Health tells the truth: what fails is named within five seconds, and once it is mended so is the answer."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from conosco.runtime.metrics import METRICS
from tests.running.installation import Installation, until

SEEN_WITHIN_S = 5.0
EVENT = {"type": "track", "userId": "a", "event": "Seen"}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("health")) as running:
        until(lambda: len(checks(running)) == 5 and all(checks(running).values()), "all is well")
        yield running


def checks(installation: Installation, what: str = "all") -> dict[str, bool]:
    found: dict[str, bool] = installation.ask("GET", f"/health/ready?for={what}").json()["checks"]
    return found


@contextmanager
def held(pid: int) -> Iterator[None]:
    """A process that does nothing, without being dead."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("role", ["worker", "sender", "warehouse"])
def test_a_role_that_stands_still_is_named(installation: Installation, role: str) -> None:
    with held(installation.pids()[role]):
        until(lambda: not checks(installation)[role], f"the {role} is named", SEEN_WITHIN_S)
        answer = installation.ask("GET", "/health/ready")
        assert (answer.status, answer.json()["ready"]) == (503, False)
        assert "journal" in answer.json()["wrong"][role]
        # Whoever only sends events is not turned away for it.
        assert installation.ask("GET", "/health/ready?for=tracking").status == 200
        assert installation.track({"batch": [EVENT] * 20}).status == 200
    until(lambda: installation.ask("GET", "/health/ready").status == 200, "all is well again")


def test_a_store_that_takes_nothing_is_named(installation: Installation) -> None:
    """The files of State become immutable under the worker that holds them open."""
    files = [str(path) for path in installation.data.glob("state.sqlite*")]
    chattr = shutil.which("chattr")
    if chattr is None or subprocess.run([chattr, "+i", *files], check=False, capture_output=True).returncode:
        pytest.skip("only root can make a file immutable, where the file system has that")
    try:
        until(lambda: not checks(installation)["worker"], "the worker is named", SEEN_WITHIN_S)
        answer = installation.ask("GET", "/health/ready")
        assert (answer.status, "goes on by itself" in answer.json()["wrong"]["worker"]) == (503, True)
        assert installation.track({"batch": [EVENT]}).status == 200
    finally:
        subprocess.run([chattr, "-i", *files], check=True)
    until(lambda: installation.ask("GET", "/health/ready").status == 200, "it goes on by itself")
    installation.settled()


def test_the_metrics_speak_for_all_roles(installation: Installation) -> None:
    assert installation.track({"batch": [EVENT] * 40}).status == 200
    installation.settled()
    until(lambda: "conosco_stage_seconds" in installation.ask("GET", "/metrics").body.decode(), "the worker has reported")
    text = installation.ask("GET", "/metrics").body.decode()
    named = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE conosco_")}
    for role in ("worker", "sender", "warehouse"):
        assert f'conosco_role_resident_bytes{{role="{role}"}}' in text
    assert {"conosco_stage_seconds", "conosco_ready", "conosco_log_bytes"} <= {name.removesuffix("_total") for name in named}
    assert 'conosco_source_events_total{outcome="applied",source="default"}' in text
    # Of destinations there is something to tell only once there is one.
    told = {name for name, metric in METRICS.items() if "destination" not in metric.labels}
    assert told == named & set(METRICS)
