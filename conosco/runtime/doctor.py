"""The doctor: looks at an installation, running or not, and says in plain words what is well, what is not, and what to do.

It reads only; the one thing it writes is a small file of its own in the data folder, to learn how long a sync takes.
"""

import fcntl
import os
import resource
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from conosco.model.moment import DAY, SECOND, spell_moment
from conosco.model.problem import Refused
from conosco.ports.tables import META, decode_row
from conosco.runtime.backup import SUFFIX
from conosco.runtime.bootstrap import Folder, clock, engine_versions, open_archive, open_log, open_state
from conosco.runtime.deriving import is_state_lost
from conosco.runtime.migrations.steps import STEPS, check_format, is_new
from conosco.runtime.settings import Settings

Level = Literal["ok", "note", "warning", "failure"]
FREE_BYTES_LEAST: Final = 1 << 30
FREE_SHARE_LEAST: Final = 0.05
FILES_OPEN_LEAST: Final = 4_096
SYNCS: Final = 20
SYNC_SLOW_MS: Final = 20.0
# Below this no disk that keeps its word can be: there is a cache which must survive a power cut, or it does not.
SYNC_SUSPICIOUS_MS: Final = 0.02
RECORDS_CHECKED: Final = 2_000
LAG_S_MOST: Final = 10.0
BACKUP_DAYS_MOST: Final = 2.0
# The first day of 2025: no clock that is set can say less.
CLOCK_LEAST: Final = 20_089 * DAY
_NETWORK_SYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "glusterfs", "ceph"})
_PASSING_SYSTEMS: Final = frozenset({"tmpfs", "ramfs", "overlay"})


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one look found: ``said`` in plain words, and ``todo`` where there is something to do."""

    check: str
    level: Level
    said: str
    todo: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything, the cheapest first. A look that fails itself is a finding, not an error."""
    for check, look in _LOOKS.items():
        try:
            yield from look(settings)
        except Exception as failure:  # noqa: BLE001  # whatever a broken installation raises is what the doctor is asked about
            yield Finding(
                check=check,
                level="failure",
                said=f"could not be looked at: {type(failure).__name__}: {failure}",
                todo="If the lines above do not explain it, report it.",
            )


def _versions(_: Settings) -> Iterator[Finding]:
    python = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding(check="versions", level="ok", said=f"Python {python}")
    for name, version, is_fit in engine_versions():
        if is_fit:
            yield Finding(check="versions", level="ok", said=f"{name} {version}")
        else:
            yield Finding(
                check="versions",
                level="failure",
                said=f"{name} {version} can lose what was committed",
                todo="Install the versions that the lock file names.",
            )


def _folder(settings: Settings) -> Iterator[Finding]:
    data = settings.data
    if not data.is_dir():
        yield Finding(
            check="folder",
            level="note",
            said=f"{data} does not exist yet",
            todo="`conosco serve` makes it at its first start; if it should exist, --data names the wrong place.",
        )
        return
    mode = stat.S_IMODE(data.stat().st_mode)
    if mode & 0o077:
        yield Finding(
            check="folder", level="warning", said=f"others may look into {data} (mode {mode:04o})", todo=f"chmod 0700 {data}"
        )
    if data.stat().st_uid != os.getuid():
        yield Finding(
            check="folder",
            level="warning",
            said=f"{data} belongs to another account than the one that looks",
            todo="Run the doctor, and the server, as the account that owns the folder.",
        )
    usage = shutil.disk_usage(data)
    low = usage.free < max(FREE_BYTES_LEAST, usage.total * FREE_SHARE_LEAST)
    yield Finding(
        check="folder",
        level="warning" if low else "ok",
        said=f"{_bytes(usage.free)} free of {_bytes(usage.total)}, {_bytes(_size(data))} used by this installation",
        todo="Make room or move the folder to a larger disk before it is full." if low else "",
    )
    system = _file_system(data)
    if system in _NETWORK_SYSTEMS:
        yield Finding(
            check="folder",
            level="failure",
            said=f"the folder lies on a network file system ({system}), whose locks and syncs cannot be relied on",
            todo="Move it to a local disk or a block device.",
        )
    elif system in _PASSING_SYSTEMS:
        yield Finding(
            check="folder",
            level="warning",
            said=f"the folder lies on {system}, which may be gone after a restart",
            todo="Put it on a disk; in a container, mount a volume at it.",
        )
    else:
        yield Finding(check="folder", level="ok", said=f"file system {system or 'unknown'}")


def _secrets(settings: Settings) -> Iterator[Finding]:
    folder = Folder(settings.data)
    kept = [path for path in (folder.admin_token, folder.keys, folder.control, folder.leases) if path.exists()]
    exposed = [path for path in kept if stat.S_IMODE(path.stat().st_mode) & 0o077]
    for path in exposed:
        yield Finding(check="secrets", level="failure", said=f"others may read {path}", todo=f"chmod 0600 {path}")
    if kept and not exposed:
        yield Finding(check="secrets", level="ok", said="secrets are readable by their owner only")


def _syncing(settings: Settings) -> Iterator[Finding]:
    if not settings.data.is_dir():
        return
    path = settings.data / f".doctor-{os.getpid()}"
    times: list[float] = []
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for _ in range(SYNCS):
            begun = time.perf_counter()
            os.write(handle, bytes(4096))
            os.fdatasync(handle)
            times.append((time.perf_counter() - begun) * 1_000)
    finally:
        os.close(handle)
        path.unlink()
    median = sorted(times)[SYNCS // 2]
    if median < SYNC_SUSPICIOUS_MS:
        level: Level = "warning"
        todo = "Check that the disk, or the machine that lends it, keeps what was synced through a power cut."
    elif median > SYNC_SLOW_MS:
        level, todo = (
            "warning",
            "Every acknowledgement waits for a sync: use a faster disk, such as an SSD with power-loss protection.",
        )
    else:
        level, todo = "ok", ""
    yield Finding(check="sync", level=level, said=f"a durable write takes {median:.2f} ms", todo=todo)


def _clock(settings: Settings) -> Iterator[Finding]:
    now = clock()
    if now < CLOCK_LEAST:
        yield Finding(
            check="clock", level="failure", said=f"the clock says {spell_moment(now)}", todo="Set it, and keep it set by NTP."
        )
        return
    if Folder(settings.data).log.is_dir():
        log = open_log(settings)
        try:
            ahead_us = log.head().logged_at - now
        finally:
            log.close()
        if ahead_us > SECOND:
            yield Finding(
                check="clock",
                level="warning",
                said=f"the log is {ahead_us / SECOND:.0f} s ahead of the clock, which was set back",
                todo="Nothing is lost: time stands still inside until the clock has caught up. Keep the clock set by NTP.",
            )
            return
    yield Finding(check="clock", level="ok", said=f"{spell_moment(now)}")


def _limits(_: Settings) -> Iterator[Finding]:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft != resource.RLIM_INFINITY and soft < FILES_OPEN_LEAST
    yield Finding(
        check="limits",
        level="warning" if few else "ok",
        said=f"{'unlimited' if soft == resource.RLIM_INFINITY else soft} open files are allowed",
        todo=f"Raise it to {FILES_OPEN_LEAST} or more (`ulimit -n`, or LimitNOFILE of the unit): each client needs one."
        if few
        else "",
    )


def _serving(settings: Settings) -> Iterator[Finding]:
    running = is_running(settings)
    listening = listening_on(settings.port)
    if running:
        yield Finding(check="server", level="ok", said="a server runs on this folder")
    else:
        yield Finding(check="server", level="note", said="no server runs on this folder")
        if listening:
            yield Finding(
                check="server",
                level="warning",
                said=f"somebody else listens on port {settings.port}",
                todo="Stop that, or choose another port with --port.",
            )
    if running and not listening:
        yield Finding(
            check="server",
            level="note",
            said=f"it does not listen on port {settings.port}",
            todo="Tell the doctor the server's port with --port.",
        )
    everywhere = running and any(address in ("0.0.0.0", "::") for address in listening)  # looked for, not listened on
    if everywhere and not settings.trusted_proxies:
        yield Finding(
            check="server",
            level="warning",
            said=f"port {settings.port} is open to every network without TLS",
            todo="Listen on 127.0.0.1 behind a proxy with TLS (docs/how-to/proxy.md), and name it in CONOSCO_TRUSTED_PROXIES.",
        )


def _log(settings: Settings) -> Iterator[Finding]:
    if not Folder(settings.data).log.is_dir():
        return
    log = open_log(settings)
    try:
        head = log.head()
        wrong = log.verify(max(0, head.position - RECORDS_CHECKED))
    finally:
        log.close()
    if wrong:
        yield Finding(
            check="log",
            level="failure",
            said=f"{len(wrong)} of the newest {RECORDS_CHECKED} records do not match what was written, first at position {wrong[0][0]}",
            todo="Suspect the disk. Take a backup now, look at its health, and restore from a backup made before.",
        )
    else:
        yield Finding(check="log", level="ok", said=f"{head.position} records; the newest {RECORDS_CHECKED} match their chain")


def _format(settings: Settings) -> Iterator[Finding]:
    if not settings.data.is_dir() or is_new(settings.data):
        return
    try:
        found = check_format(settings.data)
    except Refused as refused:
        (problem,) = refused.problems
        known = problem.params.get("known", len(STEPS))
        said = (
            f"{problem.params['path']} cannot be read, so nothing says how to read the folder"
            if problem.code == "format_unreadable"
            else f"the folder, or a store in it, has format {problem.params['found']}; this version knows up to {known}"
        )
        yield Finding(
            check="format",
            level="failure",
            said=said,
            todo="Start the newer version again, or restore the backup from before the upgrade with this one (docs/how-to/backup.md).",
        )
        return
    is_older = found.format < len(STEPS)
    yield Finding(
        check="format",
        level="note" if is_older else "ok",
        said=f"the folder has format {found.format}" + (f", and this version's is {len(STEPS)}" if is_older else ""),
        todo="The next `conosco serve` brings it there, after a backup." if is_older else "",
    )


def _damage(settings: Settings) -> Iterator[Finding]:
    if not Folder(settings.data).log.is_dir():
        return
    archive = open_archive(settings)
    try:
        alarms = archive.alarms()
    finally:
        archive.close()
    if not alarms:
        yield Finding(check="damage", level="ok", said="no damage to the log was ever found")
        return
    lost, newest = sum(alarm.lost for alarm in alarms), max(alarm.found_at for alarm in alarms)
    yield Finding(
        check="damage",
        level="failure" if lost else "warning",
        said=f"damage to the log was found {len(alarms)} times, last at {spell_moment(newest)}; {lost} records are lost by it",
        todo="`conosco verify` says what it was. Look at the disk"
        + (", and take the lost records from a backup." if lost else ": bits rarely fall alone."),
    )


def _backups(settings: Settings) -> Iterator[Finding]:
    folder = Folder(settings.data)
    if folder.backup_key.exists():
        yield Finding(
            check="backup",
            level="warning",
            said=f"the backup key lies beside the data, in {folder.backup_key}",
            todo="Move it to where you keep such keys: whoever takes this folder could read your backups.",
        )
    if not folder.backups.is_dir():
        return
    # A backup made before an upgrade counts as well: it holds everything until then.
    newest = max((path.stat().st_mtime for path in folder.backups.glob(f"*{SUFFIX}")), default=0.0)
    days = max(0.0, clock() / SECOND - newest) / (DAY / SECOND)
    is_old = not newest or days > BACKUP_DAYS_MOST
    yield Finding(
        check="backup",
        level="warning" if is_old else "ok",
        said=f"the newest backup in {folder.backups} is {days:.1f} days old"
        if newest
        else f"there is no backup in {folder.backups}",
        todo="Let a timer run `conosco backup` once a day (docs/how-to/backup.md)." if is_old else "",
    )


def _state(settings: Settings) -> Iterator[Finding]:
    if is_state_lost(settings):
        yield Finding(
            check="state",
            level="failure",
            said="State is missing, or has applied nothing, although the log holds records",
            todo="`conosco serve` derives it anew from the log before anything is sent; where that takes too long, restore a backup.",
        )
        return
    if not Folder(settings.data).state.exists():
        return
    log, state = open_log(settings), open_state(settings)
    try:
        head, (position, _epoch) = log.head(), state.offset()
        raw = state.get_many(META, [("now",)]).get(("now",))
    finally:
        state.close()
        log.close()
    if position > head.position:
        yield Finding(
            check="state",
            level="failure",
            said=f"State has applied position {position}, and the log ends at {head.position}: the log lost its end",
            todo="Restore the log from a backup, or run `conosco replay --swap` to derive State from the log that is there.",
        )
        return
    behind = head.position - position
    applied_at = int(decode_row(META, raw).value) if raw is not None else head.logged_at
    lag_s = max(0.0, (head.logged_at - applied_at) / SECOND) if behind else 0.0
    late = lag_s > LAG_S_MOST and is_running(settings)
    yield Finding(
        check="state",
        level="warning" if late else "ok",
        said=f"{behind} records wait to be applied ({lag_s:.0f} s)" if behind else "everything logged is applied",
        todo="See whether the worker runs and what its journal says." if late else "",
    )


def _companions(_: Settings) -> Iterator[Finding]:
    if shutil.which("sftp") is None:
        yield Finding(
            check="extras",
            level="note",
            said="OpenSSH's `sftp` is not installed",
            todo="Install openssh-client if files should come from, or go to, SFTP servers.",
        )


_LOOKS: Final[dict[str, Callable[[Settings], Iterator[Finding]]]] = {
    "versions": _versions,
    "folder": _folder,
    "secrets": _secrets,
    "sync": _syncing,
    "clock": _clock,
    "limits": _limits,
    "server": _serving,
    "format": _format,
    "log": _log,
    "damage": _damage,
    "backup": _backups,
    "state": _state,
    "extras": _companions,
}


def is_running(settings: Settings) -> bool:
    """Whether a supervisor holds the folder."""
    try:
        handle = os.open(Folder(settings.data).lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def listening_on(port: int) -> list[str]:
    """The local addresses on which somebody listens on a port, as the system lists them."""
    found: list[str] = []
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        table = Path("/proc/net") / name
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = line.split()
            address, _, number = fields[1].partition(":")
            if int(number, 16) == port and fields[3] == "0A":
                raw = bytes.fromhex(address)
                words = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
                found.append(socket.inet_ntop(family, words))
    return found


def _file_system(path: Path) -> str:
    """The type of the file system that holds a path, as the kernel names it."""
    here, best, system = str(path.resolve()), "", ""
    table = Path("/proc/mounts")
    for line in table.read_text().splitlines() if table.exists() else ():
        _, place, kind, *_ = line.split()
        place = place.replace("\\040", " ")  # the kernel's spelling of a blank
        if (here == place or here.startswith(place.rstrip("/") + "/")) and len(place) >= len(best):
            best, system = place, kind
    return system


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except FileNotFoundError:
            continue
    return total


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1_000:
            return f"{count:.0f} {unit}"
        count /= 1_000
    return f"{count:.1f} TB"


def summary(findings: list[Finding]) -> dict[str, Any]:
    """The findings for programs: the worst level, and each finding."""
    order: tuple[Level, ...] = ("ok", "note", "warning", "failure")
    worst = max((found.level for found in findings), key=order.index, default="ok")
    return {"level": worst, "findings": findings}
