"""Settings: the only place that reads the environment. Every one has a default, so that `conosco serve` needs none."""

import os
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import msgspec

from conosco.model.problem import refuse


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What one installation is told from outside.

    ``admin_token`` and ``write_key`` set the administrator's token and the first source's write key (made on first start
    if empty). ``allow_private`` are networks that destinations may reach although they are not public.
    ``supervisor`` is the id of the process that started this role and with which it ends; 0 for one that was started alone.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8000
    admin_token: str = ""
    write_key: str = ""
    allow_private: tuple[IPv4Network | IPv6Network, ...] = ()
    region: str = "eu"
    pending_bytes_max: int = 64_000_000
    warehouse_memory_mb: int = 512
    log_segment_bytes: int = 1 << 30
    supervisor: int = 0


def read_settings(data: Path, host: str, port: int, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the command line and the environment. Raises Refused naming the variable that cannot be read."""
    known = os.environ if environment is None else environment
    networks: list[IPv4Network | IPv6Network] = []
    for part in filter(None, (piece.strip() for piece in known.get("CONOSCO_ALLOW_PRIVATE", "").split(","))):
        try:
            networks.append(ip_network(part, strict=False))
        except ValueError:
            raise refuse("bad_network", variable="CONOSCO_ALLOW_PRIVATE", value=part) from None
    for engine in ("LOG", "STATE", "WAREHOUSE", "CONTROL"):
        if known.get(f"CONOSCO_{engine}_URL"):
            raise refuse("engine_not_built_yet", variable=f"CONOSCO_{engine}_URL")
    return Settings(
        data=data,
        host=host,
        port=port,
        admin_token=known.get("CONOSCO_ADMIN_TOKEN", ""),
        write_key=known.get("CONOSCO_WRITE_KEY", ""),
        allow_private=tuple(networks),
        region=known.get("CONOSCO_REGION", "eu"),
    )


def environment_with(**extra: str) -> dict[str, str]:
    """This process's environment with some variables set, for processes that it starts."""
    return {**os.environ, **extra}
