"""Settings: the only place that reads the environment. Every one has a default, so that `conosco serve` needs none."""

import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final

import msgspec

from conosco.model.problem import refuse

# Every variable that is read, with its default and what it says, in the words of docs/reference/settings.md.
VARIABLES: Final[dict[str, tuple[str, str]]] = {
    "CONOSCO_ADMIN_TOKEN": (
        "made at the first start, kept in `DIR/admin-token`",
        "The administrator's token for `/api`. Whoever has it may do everything.",
    ),
    "CONOSCO_WRITE_KEY": ("made at the first start", "The write key of the first source, a server source."),
    "CONOSCO_REGION": ("`eu`", "The region that the first source is labelled with."),
    "CONOSCO_ALLOW_PRIVATE": (
        "empty: none",
        "Networks, separated by commas (`10.1.0.0/16,192.168.7.20/32`), that destinations may reach although they are private.",
    ),
    "CONOSCO_FILES": (
        "empty: none",
        "The folder below which destinations of the type `files`, scheduled imports and exports have their folders. Without it none has.",
    ),
    "CONOSCO_TRUSTED_PROXIES": (
        "empty: none",
        "Networks of the reverse proxies in front of Conosco. Only their `X-Forwarded-For`, `-Proto` and `-Host` are believed.",
    ),
    "CONOSCO_BACKUP_KEY": ("none", "The backup key for `conosco restore`, where it is given no `--key-file`."),
    "CONOSCO_IMPORT_FOLDERS": (
        "empty: none",
        "Folders of the server, separated by commas, whose files may be imported by their path; other files are uploaded.",
    ),
    "CONOSCO_UPLOAD_MB": ("`4096`", "The largest file that may be uploaded."),
    "CONOSCO_PUBLIC_URL": (
        "the address that `serve` listens on",
        "The address under which people reach Conosco, such as `https://cdp.example.com`; sign-in links begin with it.",
    ),
    "CONOSCO_LOG_SEGMENT_MB": ("`1024`", "The size from which a file of the log is finished, and then sealed into Parquet."),
    "CONOSCO_DISK_RESERVE_MB": (
        "2 % of the disk, at least 256, at most a tenth of it",
        "The free room below which no event is taken (503), so that erasure and the worker can still work.",
    ),
    "CONOSCO_KEEP_RAW_DAYS": (
        "`0`: for ever",
        "For how many days requests are kept as received. `conosco retention --dry-run` shows what that would destroy.",
    ),
}
_PUBLIC_URL: Final = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+\Z", re.ASCII)
Network = IPv4Network | IPv6Network


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What one installation is told from outside.

    ``admin_token`` and ``write_key`` set the administrator's token and the first source's write key (made on first start
    if empty). ``files`` is the folder below which destinations may write files. ``allow_private`` are networks that destinations may reach although they are not public, ``trusted_proxies``
    those whose word on the client's address is taken; ``public_url`` is where people reach this installation, if elsewhere.
    ``log_segment_bytes`` is the size from which a file of the log is followed by the next and sealed. ``disk_reserve_mb`` is
    the free room below which no event is taken any more (None: 2 % of the disk, at least 256 MB, at most a tenth of it).
    ``keep_raw_days`` is how long requests are kept as received; 0 is for ever.
    ``import_folders`` are those from which the API may import files of this machine; none if empty. An upload is at most
    ``upload_bytes_max`` long and leaves the disk's reserve free.
    ``supervisor`` is the id of the process that started this role and with which it ends; 0 for one that was started alone.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8000
    admin_token: str = ""
    write_key: str = ""
    allow_private: tuple[Network, ...] = ()
    files: Path | None = None
    trusted_proxies: tuple[Network, ...] = ()
    public_url: str = ""
    region: str = "eu"
    pending_bytes_max: int = 64_000_000
    warehouse_memory_mb: int = 512
    log_segment_bytes: int = 1 << 30
    disk_reserve_mb: int | None = None
    keep_raw_days: int = 0
    import_folders: tuple[Path, ...] = ()
    upload_bytes_max: int = 4 << 30
    supervisor: int = 0


def read_settings(data: Path, host: str, port: int, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the command line and the environment. Raises Refused naming the variable that cannot be read."""
    known = os.environ if environment is None else environment
    for engine in ("LOG", "STATE", "WAREHOUSE", "CONTROL"):
        if known.get(f"CONOSCO_{engine}_URL"):
            raise refuse("engine_not_built_yet", variable=f"CONOSCO_{engine}_URL")
    return Settings(
        data=data,
        host=host,
        port=port,
        admin_token=known.get("CONOSCO_ADMIN_TOKEN", ""),
        write_key=known.get("CONOSCO_WRITE_KEY", ""),
        allow_private=_networks(known, "CONOSCO_ALLOW_PRIVATE"),
        files=_files(known),
        trusted_proxies=_networks(known, "CONOSCO_TRUSTED_PROXIES"),
        public_url=_public_url(known),
        region=known.get("CONOSCO_REGION", "eu"),
        log_segment_bytes=_number(known, "CONOSCO_LOG_SEGMENT_MB", 1_024, 1) << 20,
        disk_reserve_mb=_number(known, "CONOSCO_DISK_RESERVE_MB", -1, 0) if known.get("CONOSCO_DISK_RESERVE_MB") else None,
        keep_raw_days=_number(known, "CONOSCO_KEEP_RAW_DAYS", 0, 0),
        import_folders=tuple(Path(part) for part in known.get("CONOSCO_IMPORT_FOLDERS", "").split(",") if part.strip()),
        upload_bytes_max=_number(known, "CONOSCO_UPLOAD_MB", 4_096, 1) << 20,
    )


def _networks(known: Mapping[str, str], variable: str) -> tuple[Network, ...]:
    networks: list[Network] = []
    for part in filter(None, (piece.strip() for piece in known.get(variable, "").split(","))):
        try:
            networks.append(ip_network(part, strict=False))
        except ValueError:
            raise refuse("bad_network", variable=variable, value=part) from None
    return tuple(networks)


def _files(known: Mapping[str, str]) -> Path | None:
    named = known.get("CONOSCO_FILES", "").strip()
    if not named:
        return None
    folder = Path(named)
    if not folder.is_absolute() or not folder.is_dir():
        raise refuse("bad_files_folder", variable="CONOSCO_FILES", value=named)
    return folder


def _public_url(known: Mapping[str, str]) -> str:
    url = known.get("CONOSCO_PUBLIC_URL", "").strip().rstrip("/")
    if url and not _PUBLIC_URL.match(url):
        raise refuse("bad_public_url", variable="CONOSCO_PUBLIC_URL", value=url)
    return url


def _number(known: Mapping[str, str], variable: str, default: int, least: int) -> int:
    """A whole number from the environment. Raises Refused naming the variable."""
    text = known.get(variable, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) >= least):
        raise refuse("bad_number", variable=variable, value=text, least=least)
    return int(text)


def read_backup_key(environment: Mapping[str, str] | None = None) -> str:
    """The backup key that a restore is given in the environment; empty if it is not."""
    return (os.environ if environment is None else environment).get("CONOSCO_BACKUP_KEY", "")


def environment_with(**extra: str) -> dict[str, str]:
    """This process's environment with some variables set, for processes that it starts."""
    return {**os.environ, **extra}


# What an interpreter needs to start; nothing of it is secret.
_BARE = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "TZDIR")


def bare_environment() -> dict[str, str]:
    """The environment of a process that must know nothing of this installation."""
    return {name: os.environ[name] for name in _BARE if name in os.environ}
