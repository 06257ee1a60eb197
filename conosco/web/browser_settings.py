"""What SDKs in browsers fetch before they send anything: their settings, and the tag itself. None of it is personal."""

import gzip
import hashlib
import re
from importlib.resources import files
from typing import Any, Final, Literal, NamedTuple

import msgspec

from conosco.model.problem import refuse

# A source that is archived goes silent in browsers within this time; the tag itself changes with a release only.
SETTINGS_AGE_SECONDS: Final = 60
TAG_AGE_SECONDS: Final = 3_600

_PROJECT: Final = re.compile(r"(?:/analytics\.js)?/v1/projects/([^/]{1,256})/settings/?\Z")
_TAG: Final = re.compile(r"/analytics\.js/v1/([^/]{1,256})/analytics(?:\.min)?\.js\Z")
_SOURCE_CONFIG: Final = re.compile(r"/sourceConfig/?\Z")
_HOST: Final = re.compile(rb"[A-Za-z0-9._\-]{1,253}(?::[0-9]{1,5})?\Z|\[[0-9a-fA-F:.]{2,45}\](?::[0-9]{1,5})?\Z")


class Wanted(NamedTuple):
    """Which of the three an address asks for; ``write_key`` is empty where it does not stand in the path."""

    kind: Literal["project", "tag", "source_config"]
    write_key: str


class Tag(NamedTuple):
    """The script, plain and packed, and a tag of its bytes."""

    plain: bytes
    packed: bytes
    etag: bytes


def wanted(path: str) -> Wanted | None:
    """Read the address; None if it asks for none of them."""
    if found := _PROJECT.match(path):
        return Wanted("project", found[1])
    if found := _TAG.match(path):
        return Wanted("tag", found[1])
    return Wanted("source_config", "") if _SOURCE_CONFIG.match(path) else None


def load_tag() -> Tag:
    """Read the script from the package (see web/tag/README.md)."""
    plain = (files("conosco.web") / "tag" / "analytics.min.js").read_bytes()
    etag = f'"{hashlib.sha256(plain).hexdigest()[:16]}"'
    return Tag(plain, gzip.compress(plain, 9, mtime=0), etag.encode())


def project_settings(write_key: str, scheme: str, host: bytes) -> bytes:
    """The settings of analytics.js: events go to the address that the settings were asked of, and nothing goes elsewhere.

    Refuses ``bad_host`` (400) if the request names no host that could be spoken to.
    """
    if not _HOST.match(host):
        raise refuse("bad_host", status=400)
    api_host = f"{host.decode()}/v1"
    segment: dict[str, Any] = {
        "apiKey": write_key,
        "apiHost": api_host,
        "protocol": "https" if scheme == "https" else "http",
        "unbundledIntegrations": [],
        "addBundledMetadata": True,
        "maybeBundledConfigIds": {},
    }
    settings: dict[str, Any] = {
        "integrations": {"Segment.io": segment},
        "plan": {},
        "edgeFunction": {},
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "remotePlugins": [],
        "analyticsNextEnabled": True,
        "legacyVideoPluginsEnabled": False,
        # Without this the script would tell its maker how it is used.
        "metrics": {"sampleRate": 0, "host": api_host},
    }
    return msgspec.json.encode(settings)


def source_config(write_key: str, source_id: str, enabled: bool) -> bytes:
    """The settings of the RudderStack SDK for browsers; it sends nothing if ``enabled`` is false."""
    silent = {"errors": {"enabled": False}, "metrics": {"enabled": False}}
    source = {
        "id": source_id,
        "name": source_id,
        "writeKey": write_key,
        "enabled": enabled,
        "workspaceId": "conosco",
        "config": {"statsCollection": silent},
        "connections": [],
        "destinations": [],
        "dataplanes": {},
    }
    return msgspec.json.encode({"source": source, "consentManagementMetadata": {"providers": []}})
