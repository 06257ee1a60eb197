"""A bucket of S3, or of anything that speaks its language (MinIO, Ceph, R2, ...), signed with AWS Signature Version 4.

A prefix of the bucket is the folder. What is put appears whole or not at all, which is how S3 works; large files go in parts.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote
from xml.etree import ElementTree

import msgspec

from conosco.connectors.outbound import parse_url
from conosco.connectors.place import LIST_MAX, Entry, Place, PlaceContext, PlaceFailed, is_name
from conosco.connectors.settings import convert_settings
from conosco.connectors.transfer import Told, request
from conosco.model.definition import SecretName
from conosco.model.moment import SECOND, parse_moment

type: Final = "s3"
writes_files: Final = False

PART_BYTES: Final = 16 << 20
# So many parts are allowed; larger files have larger parts.
PARTS_MAX: Final = 9_000
PAGES_MAX: Final = LIST_MAX // 1_000 + 2
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z", re.ASCII)
_REGION: Final = re.compile(r"[a-z0-9-]{1,40}\Z", re.ASCII)
_PREFIX: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]*(?:/[A-Za-z0-9_][A-Za-z0-9_. -]*)*\Z", re.ASCII)
_EMPTY: Final = hashlib.sha256(b"").hexdigest()
# Bodies of files are protected by TLS and by what S3 compares them with itself.
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``endpoint`` is the service's address (``https://s3.eu-central-1.amazonaws.com``); ``style`` says where the bucket's name goes.

    ``access_key`` is the key's id, ``secret_key`` the secret by its name. ``allow_private`` asks for the private networks that
    the administrator has opened.
    """

    endpoint: str
    bucket: str
    region: str
    access_key: str
    secret_key: SecretName
    prefix: str = ""
    style: Literal["path", "host"] = "path"
    allow_private: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for what cannot be meant."""
        if parse_url(self.endpoint).path != "/":
            raise ValueError("an endpoint has no path: the bucket and the prefix have fields of their own")
        if not _BUCKET.match(self.bucket):
            raise ValueError("a bucket's name has 3 to 63 small letters, digits, dots and -")
        if not _REGION.match(self.region):
            raise ValueError("a region is such as eu-central-1")
        if self.prefix and (len(self.prefix) > 500 or not _PREFIX.match(self.prefix)):
            raise ValueError("a prefix has names of letters, digits, _ - . and blanks joined by /")
        if not self.access_key.isascii() or not self.access_key.isprintable() or not 1 <= len(self.access_key) <= 200:
            raise ValueError("access_key is the id of the key, as the service shows it")


def read_settings(spec: dict[str, Any]) -> Settings:
    """Check a place's spec. Raises Refused: ``spec_invalid`` with the field's pointer and a sentence."""
    return convert_settings(spec, Settings, "endpoint")


def open_place(settings: Settings, context: PlaceContext) -> Place:
    """Get ready; nothing is sent yet. Raises PlaceFailed: place_secret_missing."""
    secret = context.secret(settings.secret_key.secret)
    if secret is None:
        raise PlaceFailed("place_secret_missing", secret=settings.secret_key.secret)
    return S3Place(settings, secret.strip(), context)


class S3Place:
    """Implements ``Place`` over one prefix of a bucket."""

    def __init__(self, settings: Settings, secret: bytes, context: PlaceContext) -> None:
        self._settings = settings
        self._secret = secret
        self._context = context
        self._target = parse_url(settings.endpoint)

    def list(self) -> list[Entry]:
        """Its files, by name; what lies deeper is left out."""
        found: list[Entry] = []
        query = {"list-type": "2", "prefix": self._prefix(), "delimiter": "/"}
        for _ in range(PAGES_MAX):
            page = _tree(self._ask("GET", "", query).body)
            for item in page.iter("Contents"):
                name = (item.findtext("Key") or "").removeprefix(self._prefix())
                if not is_name(name):
                    continue
                version = f"{item.findtext('ETag')}-{item.findtext('Size')}"
                changed_at = parse_moment(item.findtext("LastModified") or "") or 0
                found.append(Entry(name=name, bytes=int(item.findtext("Size") or 0), version=version, changed_at=changed_at))
            after = page.findtext("NextContinuationToken") or ""
            if page.findtext("IsTruncated") != "true" or not after:
                return sorted(found, key=lambda entry: entry.name)
            if len(found) > LIST_MAX:
                break
            query["continuation-token"] = after
        raise PlaceFailed("place_too_full", limit=LIST_MAX)

    def get(self, name: str, path: Path, bytes_max: int) -> str:
        """Fetch a file as it comes: S3 gives one version of it."""
        return self._ask("GET", self._key(name), {}, name=name, into=path, bytes_max=bytes_max).digest

    def put(self, path: Path, name: str) -> None:
        """Put a file, a large one in parts; nothing is seen of it before the last one."""
        size = path.stat().st_size
        if size > PART_BYTES:
            return self._put_parts(path, name, size)
        with path.open("rb") as file:
            self._ask("PUT", self._key(name), {}, body=(file, size))
        return None

    def _put_parts(self, path: Path, name: str, size: int) -> None:
        key = self._key(name)
        upload = _tree(self._ask("POST", key, {"uploads": ""}).body).findtext("UploadId") or ""
        part_bytes = max(PART_BYTES, -(-size // PARTS_MAX))
        parts = ""
        try:
            with path.open("rb") as file:
                for number, at in enumerate(range(0, size, part_bytes), 1):
                    query = {"partNumber": str(number), "uploadId": upload}
                    told = self._ask("PUT", key, query, body=(file, min(part_bytes, size - at)))
                    tag = told.headers.get("etag", "").replace("&", "").replace("<", "")
                    parts += f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
            whole = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
            done = _tree(self._ask("POST", key, {"uploadId": upload}, body=whole).body)
            # This one call may answer 200 and tell of an error inside.
            if done.tag == "Error":
                raise PlaceFailed("place_failed", detail=(done.findtext("Code") or "")[:200])
        except PlaceFailed:
            self._ask("DELETE", key, {"uploadId": upload}, good=(200, 204, 404))
            raise

    def move(self, name: str, folder: str, as_name: str) -> None:
        """Copy, then delete: S3 has no renaming, so after a kill in between both are there."""
        source = quote(f"/{self._settings.bucket}/{self._key(name)}", safe="/-_.~")
        told = self._ask("PUT", self._key(f"{folder}/{as_name}"), {}, name=name, headers={"x-amz-copy-source": source})
        if _tree(told.body).tag == "Error":
            raise PlaceFailed("place_failed", detail="CopyObject")
        self.delete(name)

    def delete(self, name: str) -> None:
        """Delete a file."""
        self._ask("DELETE", self._key(name), {}, good=(200, 204, 404))

    def close(self) -> None:
        """Nothing is kept open."""

    def _prefix(self) -> str:
        return f"{self._settings.prefix}/" if self._settings.prefix else ""

    def _key(self, name: str) -> str:
        return self._prefix() + name

    def _ask(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        *,
        name: str = "",
        body: Any = b"",
        headers: Mapping[str, str] | None = None,
        into: Path | None = None,
        bytes_max: int = 0,
        good: Sequence[int] = (200,),
    ) -> Told:
        """One signed request. Raises PlaceFailed: file_vanished, place_denied, place_failed, and as ``request``."""
        settings, target = self._settings, self._target
        in_host = settings.style == "host"
        authority = f"{settings.bucket}.{target.authority}" if in_host else target.authority
        path = quote("/" + (key if in_host else f"{settings.bucket}/{key}"), safe="/-_.~")
        asked = "&".join(f"{quote(n, safe='-_.~')}={quote(v, safe='-_.~')}" for n, v in sorted(query.items()))
        at = datetime.fromtimestamp(self._context.clock() / SECOND, UTC)
        payload = _UNSIGNED if isinstance(body, tuple) else hashlib.sha256(body).hexdigest() if body else _EMPTY
        signed = {
            **(headers or {}),
            "host": authority,
            "x-amz-content-sha256": payload,
            "x-amz-date": at.strftime("%Y%m%dT%H%M%SZ"),
        }
        signed["authorization"] = sign(method, path, asked, signed, settings.access_key, self._secret, settings.region)
        url = f"{'https' if target.secure else 'http'}://{authority}{path}{'?' + asked if asked else ''}"
        networks = self._context.networks if settings.allow_private else ()
        told = request(method, url, signed, body, networks=networks, into=into, bytes_max=bytes_max)
        if told.status in good:
            return told
        raise self._failure(told, name)

    def _failure(self, told: Told, name: str) -> PlaceFailed:
        try:
            code = _tree(told.body).findtext("Code") or ""
        except PlaceFailed:
            code = ""
        if told.status == 404 and name and code in ("", "NoSuchKey"):
            return PlaceFailed("file_vanished", name=name)
        if told.status in (401, 403):
            return PlaceFailed("place_denied", host=self._target.host, detail=code or str(told.status))
        return PlaceFailed("place_failed", detail=f"{told.status} {code}".strip()[:200])


def sign(method: str, path: str, query: str, headers: Mapping[str, str], access_key: str, secret: bytes, region: str) -> str:
    """The Authorization header of AWS Signature Version 4; path and query are encoded, all of ``headers`` are signed."""
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        (
            method,
            path,
            query,
            *(f"{name}:{' '.join(headers[name].split())}" for name in sorted(headers)),
            "",
            names,
            headers["x-amz-content-sha256"],
        )
    )
    stamp = headers["x-amz-date"]
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + secret
    for part in (stamp[:8], region, "s3", "aws4_request", text):
        key = hmac.digest(key, part.encode(), "sha256")
    return f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={key.hex()}"


def _tree(body: bytes) -> ElementTree.Element:
    """An XML answer without its namespaces. Declarations of entities, with which small texts become large, are refused."""
    if b"<!" in body:
        raise PlaceFailed("place_failed", detail="XML")
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        raise PlaceFailed("place_failed", detail="XML") from None
    for part in root.iter():
        part.tag = part.tag.rpartition("}")[2]
    return root
