"""A folder of another machine over SFTP, by the system's own OpenSSH: a child process in batch mode, without shell or prompts.

The host key is pinned in the settings, the private key is a secret by name; it lies in a file of its own only while we talk.
"""

import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from conosco.connectors.place import (
    LIST_MAX,
    Entry,
    Place,
    PlaceContext,
    PlaceFailed,
    addresses_of,
    digest_of,
    is_name,
)
from conosco.connectors.settings import convert_settings
from conosco.model.definition import SecretName
from conosco.model.moment import DAY, SECOND

type: Final = "sftp"
writes_files: Final = False

CONNECT_S: Final = 15
SHORT_S: Final = 60.0
LONG_S: Final = 3_600.0
OUTPUT_MAX: Final = 4_000_000
_HOST: Final = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.-]{0,252}|[0-9A-Fa-f:]{2,39})\Z", re.ASCII)
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\Z", re.ASCII)
_KEY: Final = re.compile(r"(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/=]{40,2000}\Z", re.ASCII)
_FOLDER: Final = re.compile(r"/?[A-Za-z0-9_][A-Za-z0-9_. -]*(?:/[A-Za-z0-9_][A-Za-z0-9_. -]*)*\Z", re.ASCII)
_LINE: Final = re.compile(
    r"-\S{9,10}\s+\S+\s+\S+\s+\S+\s+(?P<bytes>\d+)\s+(?P<when>[A-Z][a-z]{2}\s+\d{1,2}\s+(?:\d\d:\d\d|\d{4}))\s(?P<name>.*)\Z"
)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``host_key`` is the server's public key as ``ssh-keyscan`` prints it (``ssh-ed25519 AAAA...``), ``key`` the secret with
    the private key in OpenSSH's format. ``allow_private`` asks for the private networks that the administrator has opened.
    """

    host: str
    user: str
    folder: str
    host_key: str
    key: SecretName
    port: int = 22
    allow_private: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for what cannot be meant."""
        if not _HOST.match(self.host):
            raise ValueError("a host is a name or an address, such as files.example.com")
        if not _USER.match(self.user):
            raise ValueError("a user has letters, digits and . _ - @")
        if not 1 <= self.port <= 65_535:
            raise ValueError("a port is between 1 and 65535")
        if not _KEY.match(self.host_key):
            raise ValueError("host_key is a kind and a key, such as ssh-ed25519 AAAA..., without host and comment")
        if len(self.folder) > 500 or not _FOLDER.match(self.folder):
            raise ValueError("a folder has names of letters, digits, _ - . and blanks joined by /")


def read_settings(spec: dict[str, Any]) -> Settings:
    """Check a place's spec. Raises Refused: ``spec_invalid`` with the field's pointer and a sentence."""
    return convert_settings(spec, Settings, "host")


def open_place(settings: Settings, context: PlaceContext) -> Place:
    """Get ready; nothing is sent yet. Raises PlaceFailed: openssh_missing, place_secret_missing, place_address_refused, ..."""
    program = shutil.which("sftp")
    if program is None:
        raise PlaceFailed("openssh_missing")
    key = context.secret(settings.key.secret)
    if key is None:
        raise PlaceFailed("place_secret_missing", secret=settings.key.secret)
    address = addresses_of(settings.host, settings.port, context.networks if settings.allow_private else ())[0]
    folder = context.scratch / f"sftp-{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700)
    private, known = folder / "key", folder / "known"
    private.touch(mode=0o600)
    private.write_bytes(key.rstrip() + b"\n")
    known.write_text(f"conosco-pinned {settings.host_key}\n")
    return SftpPlace(settings, _command(program, settings, address, private, known), folder, context.clock)


def _command(program: str, settings: Settings, address: str, private: Path, known: Path) -> list[str]:
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": "conosco-pinned",
        "HostKeyAlgorithms": _algorithms(settings.host_key),
        "IdentityFile": str(private),
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PreferredAuthentications": "publickey",
        "ConnectTimeout": str(CONNECT_S),
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "3",
        "ForwardAgent": "no",
        "ControlMaster": "no",
        "ControlPath": "none",
        "UpdateHostKeys": "no",
        "LogLevel": "ERROR",
        "User": settings.user,
        "Port": str(settings.port),
    }
    # No file of settings of this machine has a say: neither proxies nor commands of its users.
    words = [program, "-F", "/dev/null", "-b", "-"]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return [*words, f"[{address}]" if ":" in address else address]


def _algorithms(host_key: str) -> str:
    kind = host_key.split(" ", maxsplit=1)[0]
    return "rsa-sha2-512,rsa-sha2-256" if kind == "ssh-rsa" else kind


class SftpPlace:
    """Implements ``Place``. Each step is one child process, so that nothing is left open between them."""

    def __init__(self, settings: Settings, command: Sequence[str], folder: Path, clock: Callable[[], int]) -> None:
        self._settings = settings
        self._command = command
        self._folder = folder
        self._clock = clock

    def list(self) -> list[Entry]:
        """Its files, by name."""
        printed = self._run([f"cd {_quoted(self._settings.folder)}", "ls -ln"], "", SHORT_S)
        found: list[Entry] = []
        for line in printed.splitlines():
            match = _LINE.match(line)
            if match is None or not is_name(match["name"]):
                continue
            version = f"{match['bytes']}-{match['when']}"
            changed_at = _moment_of(match["when"], self._clock())
            found.append(Entry(name=match["name"], bytes=int(match["bytes"]), version=version, changed_at=changed_at))
            if len(found) > LIST_MAX:
                raise PlaceFailed("place_too_full", limit=LIST_MAX)
        return sorted(found, key=lambda entry: entry.name)

    def get(self, name: str, path: Path, bytes_max: int) -> str:
        """Fetch a file, watched while it comes; the same size is asked for before and after."""
        size = self._size_of(name)
        if size > bytes_max:
            raise PlaceFailed("file_too_large", name=name, limit=bytes_max)
        try:
            self._run([self._cd(), f"get {_quoted(name)} {_quoted(str(path))}"], name, LONG_S, (path, bytes_max))
            if not path.is_file() or path.stat().st_size != size or self._size_of(name) != size:
                raise PlaceFailed("file_vanished", name=name)
            return digest_of(path)
        except PlaceFailed:
            path.unlink(missing_ok=True)
            raise

    def _size_of(self, name: str) -> int:
        found = next((entry for entry in self.list() if entry.name == name), None)
        if found is None:
            raise PlaceFailed("file_vanished", name=name)
        return found.bytes

    def put(self, path: Path, name: str) -> None:
        """Write beside and rename: OpenSSH renames over an older one in one step."""
        fresh = f".{name}.new"
        steps = [self._cd(), f"put -f {_quoted(str(path))} {_quoted(fresh)}", f"rename {_quoted(fresh)} {_quoted(name)}"]
        self._run([self._made(""), *steps], name, LONG_S)

    def move(self, name: str, folder: str, as_name: str) -> None:
        """Move a file into a folder inside this one."""
        target = f"{folder}/{as_name}"
        self._run([self._cd(), f"-mkdir {_quoted(folder)}", f"rename {_quoted(name)} {_quoted(target)}"], name, SHORT_S)

    def delete(self, name: str) -> None:
        """Delete a file."""
        if any(entry.name == name for entry in self.list()):
            self._run([self._cd(), f"rm {_quoted(name)}"], name, SHORT_S)

    def close(self) -> None:
        """Remove the key's file."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _cd(self) -> str:
        return f"cd {_quoted(self._settings.folder)}"

    def _made(self, folder: str) -> str:
        """Make the folder unless it is there; a leading - lets the step fail."""
        return f"-mkdir {_quoted(self._settings.folder + folder)}"

    def _run(self, steps: Sequence[str], name: str, seconds: float, watched: tuple[Path, int] | None = None) -> str:
        """Run steps in one child; what it printed. A watched file that grows too large ends it."""
        printed, said = self._folder / "out", self._folder / "err"
        with printed.open("wb") as out, said.open("wb") as err:
            child = subprocess.Popen(
                list(self._command),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            )
            try:
                assert child.stdin is not None
                try:
                    child.stdin.write("".join(step + "\n" for step in steps).encode())
                    child.stdin.close()
                except BrokenPipeError:
                    pass  # What it says of that is read below.
                self._await(child, seconds, printed, watched)
            finally:
                if child.poll() is None:
                    child.kill()
                    child.wait()
        if child.returncode:
            raise self._failure(said.read_text(errors="replace"), name)
        return printed.read_text(errors="replace")

    def _await(self, child: "subprocess.Popen[bytes]", seconds: float, printed: Path, watched: tuple[Path, int] | None) -> None:
        left = seconds
        while True:
            try:
                child.wait(0.1)
                return
            except subprocess.TimeoutExpired:
                left -= 0.1
            if left <= 0:
                raise PlaceFailed("place_too_slow", host=self._settings.host, seconds=round(seconds))
            if printed.stat().st_size > OUTPUT_MAX:
                raise PlaceFailed("place_too_full", limit=LIST_MAX)
            if watched is not None and watched[0].exists() and watched[0].stat().st_size > watched[1]:
                raise PlaceFailed("file_too_large", name=watched[0].name, limit=watched[1])

    def _failure(self, said: str, name: str) -> PlaceFailed:
        host, detail = self._settings.host, said.strip().splitlines()[0][:200] if said.strip() else ""
        if "Host key verification failed" in said or "host key is known" in said or "no matching host key" in said:
            return PlaceFailed("host_key_changed", host=host)
        if "Permission denied (" in said or "Load key" in said:
            return PlaceFailed("place_denied", host=host, detail=detail)
        if "No such file" in said and name:
            return PlaceFailed("file_vanished", name=name)
        if any(word in said for word in ("Connection refused", "timed out", "Connection closed", "Connection reset", "No route")):
            return PlaceFailed("place_unreachable", host=host)
        return PlaceFailed("place_failed", detail=detail)


def _quoted(text: str) -> str:
    """One word of sftp's own language. Names have no control characters, so quotes and backslashes are all there is.

    Inside quotes sftp takes wildcards for themselves.
    """
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _moment_of(when: str, now: int) -> int:
    """The latest moment that the listing can mean: it tells whole minutes, or for old files the day alone, in our zone UTC."""
    today = datetime.fromtimestamp(now / SECOND, UTC)
    month, day, last = when.split()
    if ":" not in last:
        last, today = "23:59", today.replace(year=int(last))
    found = datetime.strptime(f"{today.year} {month} {day} {last}:59 +0000", "%Y %b %d %H:%M:%S %z")
    if found.timestamp() * SECOND > now + DAY and ":" in when:
        found = found.replace(year=found.year - 1)
    return round(found.timestamp()) * SECOND
