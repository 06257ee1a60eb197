"""What deploy/ holds works: the proxy's example in front of a real server, the unit, and the container's own steps."""

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from conosco.runtime.metrics import METRICS
from tests.running.installation import ADMIN_TOKEN, REPOSITORY, WRITE_KEY, Installation, basic, free_port, until

DEPLOY = REPOSITORY / "deploy"
OPENSSL, NGINX = shutil.which("openssl"), shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")


class Proxied(NamedTuple):
    """An installation and the port of the proxy before it."""

    installation: Installation
    port: int

    def ask(self, method: str, path: str, headers: dict[str, str], body: str | None = None) -> http.client.HTTPResponse:
        """One request through the proxy, as a browser at its public address would make it."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=30)
        connection.request(method, path, body, {"Host": "cdp.example.com", **headers})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    if NGINX is None or OPENSSL is None:
        pytest.skip("needs nginx and openssl")
    folder = tmp_path_factory.mktemp("proxied")
    environment = {"CONOSCO_TRUSTED_PROXIES": "127.0.0.1/32", "CONOSCO_PUBLIC_URL": "https://cdp.example.com"}
    with Installation(folder, environment) as installation:
        port = free_port()
        configuration = nginx_configuration(folder, installation.port, port, free_port())
        server = subprocess.Popen([NGINX, "-c", str(configuration), "-g", "daemon off;"])
        try:
            until(lambda: listens(port), "nginx listens")
            yield Proxied(installation, port)
        finally:
            server.terminate()
            server.wait(10)


def nginx_configuration(folder: Path, behind: int, port: int, plain_port: int) -> Path:
    """The example as it stands, but for addresses and paths that a test may use."""
    certificate, key = folder / "fullchain.pem", folder / "privkey.pem"
    request = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=cdp.example.com"]
    subprocess.run([str(OPENSSL), "req", *request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    text = (DEPLOY / "nginx.conf").read_text()
    for told, here in (
        ("127.0.0.1:8000", f"127.0.0.1:{behind}"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("listen 80;", f"listen 127.0.0.1:{plain_port};"),
        ("/etc/ssl/conosco/fullchain.pem", str(certificate)),
        ("/etc/ssl/conosco/privkey.pem", str(key)),
        ("/etc/nginx/conosco-proxy.conf", str(DEPLOY / "conosco-proxy.conf")),
    ):
        assert told in text
        text = text.replace(told, here)
    text = "\n".join(line for line in text.splitlines() if "listen [::]" not in line)
    whole = folder / "nginx.conf"
    places = "".join(f"  {name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    whole.write_text(
        f"pid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\nhttp {{\n  access_log off;\n{places}{text}\n}}\n"
    )
    return whole


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_events_and_the_api_pass_through(proxied: Proxied) -> None:
    body = '{"userId": "anna", "event": "Seen", "messageId": "m-1"}'
    assert proxied.ask("POST", "/v1/track", basic(WRITE_KEY), body).status == 200
    token = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    assert proxied.ask("GET", "/api/status", token).status == 200
    assert proxied.installation.settled()["applied"] == 1


def test_a_session_through_tls_has_a_cookie_for_tls_only(proxied: Proxied) -> None:
    answer = proxied.ask("POST", "/api/session", {"Authorization": f"Bearer {ADMIN_TOKEN}"}, "")
    assert answer.status == 201
    assert "; Secure" in (answer.getheader("set-cookie") or "")


def test_metrics_are_not_open_to_those_behind_the_proxy(proxied: Proxied) -> None:
    assert proxied.ask("GET", "/metrics", {}).status == 401
    assert proxied.ask("GET", "/metrics", {"X-Forwarded-For": "127.0.0.1"}).status == 401


def test_the_sign_in_link_names_the_public_address(proxied: Proxied) -> None:
    assert "https://cdp.example.com/sign-in?code=" in proxied.installation.journal_tail()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_is_understood(tmp_path: Path) -> None:
    unit = tmp_path / "conosco.service"
    unit.write_text((DEPLOY / "conosco.service").read_text().replace("/opt/conosco/bin/conosco", sys.executable))
    said = subprocess.run(["systemd-analyze", "verify", str(unit)], check=False, capture_output=True, text=True)
    assert [line for line in said.stderr.splitlines() if str(unit) in line or "conosco.service" in line] == []


def steps(instruction: str) -> list[str]:
    """The instructions of a kind in the container file, with their continued lines joined."""
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
    return [line.split(" ", 1)[1].strip() for line in text.splitlines() if line.startswith(instruction + " ")]


def test_the_container_copies_what_there_is() -> None:
    copied = [word for step in steps("COPY") if not step.startswith("--from") for word in step.split()[:-1]]
    assert copied
    assert [word for word in copied if not (REPOSITORY / word).exists()] == []
    assert steps("USER") == ["conosco"]
    assert "secret" not in (DEPLOY / "Containerfile").read_text().lower()


@pytest.mark.deep
@pytest.mark.timeout(600)
def test_what_the_container_installs_serves(tmp_path: Path) -> None:
    """Its first stage, step by step, in a folder instead of a container."""
    build, home = tmp_path / "build", tmp_path / "opt"
    build.mkdir()
    for step in steps("COPY"):
        *sources, target = step.split()
        for source in sources if not step.startswith("--from") else ():
            place = REPOSITORY / source
            if place.is_dir():
                shutil.copytree(place, build / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(place, build)
    for command in steps("RUN")[0].split("&&"):
        here = command.strip().replace("/opt/conosco", str(home)).replace("python -m venv", f"{sys.executable} -m venv", 1)
        subprocess.run(here, shell=True, check=True, cwd=build, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
    port = free_port()
    serve = [str(home / "bin" / "conosco"), "serve", "--data", str(tmp_path / "data"), "--port", str(port)]
    server = subprocess.Popen(serve, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, stdout=subprocess.DEVNULL)
    try:
        check = steps("HEALTHCHECK")[0].rpartition("CMD ")[2].replace("8000", str(port)).replace("/opt/conosco", str(home))
        words: list[str] = json.loads(check)
        until(lambda: subprocess.run(words, check=False, capture_output=True).returncode == 0, "the health check passes")
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_the_alerts_are_understood_and_name_metrics_that_there_are() -> None:
    rules = DEPLOY / "prometheus-rules.yml"
    said = subprocess.run(["promtool", "check", "rules", str(rules)], check=False, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr
    expressions = " ".join(line for line in rules.read_text().splitlines() if "expr:" in line)
    assert set(re.findall(r"conosco_[a-z_]+", expressions)) <= set(METRICS)
