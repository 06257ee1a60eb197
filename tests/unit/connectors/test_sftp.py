"""The SFTP place against a real sshd on this machine: the suite of all places, the pinned key, walls."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from conosco.connectors.place import Place, PlaceContext, PlaceFailed
from conosco.connectors.places import sftp
from conosco.model.problem import Refused
from conosco.testing.conformance.places import PlaceConformance

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin:/bin")
pytestmark = pytest.mark.skipif(SSHD is None or shutil.which("sftp") is None, reason="OpenSSH's server is not installed here")


class Server(NamedTuple):
    """A running sshd: what a place's spec needs to know of it."""

    port: int
    host_key: str
    private: bytes
    folder: Path


def make_key(path: Path) -> str:
    """A key pair; the public part without comment."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("sshd")
    host_key, user_key = make_key(home / "host"), make_key(home / "user")
    (home / "authorized").write_text(user_key + "\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": home / "host",
        "AuthorizedKeysFile": home / "authorized",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "StrictModes": "no",
        "UsePAM": "no",
        "PermitRootLogin": "yes",
        "PidFile": "none",
        "Subsystem": "sftp internal-sftp",
    }
    (home / "config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [str(SSHD), "-D", "-e", "-f", str(home / "config")], stderr=(home / "said").open("wb"), stdin=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (home / "said").read_text()
            time.sleep(0.05)
        yield Server(port, host_key, (home / "user").read_bytes(), home)
    finally:
        process.terminate()
        process.wait()


def open_with(server: Server, inside: Path, scratch: Path, **spec: Any) -> Place:
    scratch.mkdir(exist_ok=True)
    user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
    whole = {
        "host": "127.0.0.1",
        "port": server.port,
        "user": user,
        "folder": str(inside),
        "host_key": server.host_key,
        "key": {"secret": "sftp_key"},
        "allow_private": True,
        **spec,
    }
    secret: Callable[[str], bytes | None] = {"sftp_key": server.private}.get
    context = PlaceContext(
        root=None,
        networks=(ip_network("127.0.0.0/8"),),
        secret=secret,
        clock=lambda: time.time_ns() // 1_000,
        scratch=scratch,
    )
    return sftp.open_place(sftp.read_settings(whole), context)


@pytest.fixture
def place(server: Server, tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "in").mkdir()
    opened = open_with(server, tmp_path / "in", tmp_path / "scratch")
    yield opened
    opened.close()
    assert list((tmp_path / "scratch").iterdir()) == []


class TestSftp(PlaceConformance):
    pass


def failure_of(place: Place) -> str:
    try:
        with pytest.raises(PlaceFailed) as failed:
            place.list()
        return failed.value.code
    finally:
        place.close()


def test_another_host_key_or_user_key_is_refused(server: Server, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    assert failure_of(open_with(server, tmp_path, tmp_path / "scratch", host_key=other)) == "host_key_changed"
    stranger = server._replace(private=(tmp_path / "other").read_bytes())
    assert failure_of(open_with(stranger, tmp_path, tmp_path / "scratch")) == "place_denied"


def test_private_addresses_need_the_administrator(server: Server, tmp_path: Path) -> None:
    with pytest.raises(PlaceFailed) as failed:
        open_with(server, tmp_path, tmp_path / "scratch", allow_private=False)
    assert failed.value.code == "place_address_refused"


def test_a_server_that_is_not_there_is_told(server: Server, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = open_with(server, tmp_path, tmp_path / "scratch", port=probe.getsockname()[1])
        assert failure_of(nobody) == "place_unreachable"


@pytest.mark.parametrize(
    "spec",
    [
        {"host": "-oProxyCommand=x"},
        {"user": "-l"},
        {"host_key": "ssh-ed25519 AAAA\nother"},
        {"folder": 'a"\nrm *'},
        {"folder": "../x"},
        {"port": 0},
    ],
)
def test_what_could_mean_something_else_is_refused(server: Server, tmp_path: Path, spec: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        open_with(server, tmp_path, tmp_path / "scratch", **spec)
