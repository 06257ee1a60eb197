"""Files: batches of deliveries as JSON Lines, CSV or Parquet, in a folder that the administrator has opened.

A batch is one file whose name is the batch's id, which begins with its time. It is written beside, synced and renamed, and
written again under the same name if nobody knows whether that worked: so each delivery lies in exactly one file.
"""

import asyncio
import csv
import errno
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from conosco.connectors.cells import safe_cell
from conosco.connectors.outbound import Context
from conosco.connectors.settings import BatchSpec, convert_settings
from conosco.model.delivery import BatchLimits, Intent, Parcel, Reply
from conosco.model.event import read_json
from conosco.model.moment import spell_moment
from conosco.rules.interest import Interest

type: Final = "files"
title: Final = "Files"
is_idempotent: Final = True
writes_files: Final = True

PARTS_MAX: Final = 8
COLUMNS_MAX: Final = 200
# What every file tells of a delivery; ``body`` is what a webhook would be sent, as JSON.
COLUMNS: Final = ("delivery_id", "type", "profile_id", "segment", "created_at", "replay_of", "body")
_PART: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_. -]{0,62}[A-Za-z0-9_-])?\Z", re.ASCII)
_FILE_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


class Settings(Interest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``folder``: below the one that the administrator has opened, such as ``crm/daily``. ``columns``: dotted paths in the body.

    Columns are of CSV and Parquet: each takes the value at its path instead of the whole body.
    """

    folder: str
    format: Literal["jsonl", "csv", "parquet"] = "jsonl"
    columns: tuple[str, ...] = ()
    batch: BatchSpec = BatchSpec(events=1_000, bytes=8_000_000, wait_ms=10_000)

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for a folder that cannot be used."""
        parts = self.folder.split("/")
        if len(parts) > PARTS_MAX or not all(map(_PART.match, parts)):
            raise ValueError(
                f"a folder has at most {PARTS_MAX} names joined by /, each of letters, digits, _ - . and blanks, "
                "not beginning with a dot: it lies below the folder that the administrator has opened"
            )
        if len(self.columns) > COLUMNS_MAX:
            raise ValueError(f"a file has at most {COLUMNS_MAX} columns")


def read_settings(spec: dict[str, Any]) -> Settings:
    """Check a destination's spec. Raises Refused: ``spec_invalid`` with the field's pointer and a sentence."""
    return convert_settings(spec, Settings, "folder")


def spell_secret(key: bytes) -> str:
    """Files need no secret."""
    return ""


def batch_limits(settings: Settings) -> BatchLimits | None:
    """Files are always batches: one for each delivery would be thousands."""
    return settings.batch.limits()


def to_payload(parcel: Parcel, settings: Settings) -> bytes:
    """The lines of a file: the same bytes for the same parcel. For Parquet they are JSON Lines, of which it is made."""
    if settings.format == "csv":
        return _csv(parcel, settings)
    rows = (_row(intent) for intent in parcel.intents)
    if settings.format == "jsonl":
        return b"".join(_json_line(intent) for intent in parcel.intents)
    names = _names(settings)
    return b"".join(_ENCODER.encode(dict(zip(names, _cells(row, settings), strict=True))) + b"\n" for row in rows)


async def deliver(parcel: Parcel, settings: Settings, secret: bytes, context: Context) -> Reply:
    """Write the file of a batch; file_written, or why not: files_not_allowed, folder_refused, file_failed, parquet_failed."""
    if context.files is None:
        return Reply("retry", "files_not_allowed")
    body = to_payload(parcel, settings)
    if settings.format == "parquet":
        if context.to_parquet is None:
            return Reply("retry", "parquet_failed")
        try:
            body = await context.to_parquet(body)
        except OSError:
            return Reply("retry", "parquet_failed")
    name = f"{parcel.id}.{settings.format}"
    loop = asyncio.get_running_loop()
    try:
        await loop.run_in_executor(None, write_file, context.files, settings.folder.split("/"), name, body)
    except OSError as error:
        return Reply("retry", "folder_refused" if error.errno in (errno.ELOOP, errno.ENOTDIR) else "file_failed")
    return Reply("delivered", "file_written")


def write_file(root: Path, parts: Sequence[str], name: str, body: bytes) -> None:
    """Write a file whole or not at all, below ``root``; it is durable on return. Raises OSError.

    No link is followed below the root, whoever puts one there and whenever: each folder is opened inside the one before.
    """
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            inner = _open_folder(folder, part)
            os.close(folder)
            folder = inner
        fresh = f".{name}.new"
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE_MODE, dir_fd=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    finally:
        os.close(folder)


def _open_folder(parent: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=parent)
    except FileNotFoundError:
        os.mkdir(name, _FOLDER_MODE, dir_fd=parent)
        os.fsync(parent)
        return os.open(name, flags, dir_fd=parent)


# Rows ---------------------------------------------------------------------------------------------------------------------


def _body(intent: Intent) -> bytes:
    return intent.body or msgspec.json.encode(intent.payload)


def _json_line(intent: Intent) -> bytes:
    told = _ENCODER.encode({name: value for name, value in _row(intent).items() if name != "body" and value != ""})
    return told[:-1] + b',"body":' + _body(intent) + b"}\n"


def _row(intent: Intent) -> dict[str, str]:
    return {
        "delivery_id": intent.delivery_id,
        "type": intent.type,
        "profile_id": intent.profile_id,
        "segment": intent.segment,
        "created_at": spell_moment(intent.created_at),
        "replay_of": intent.replay_of,
        "body": _body(intent).decode(),
    }


def _names(settings: Settings) -> tuple[str, ...]:
    return (*COLUMNS[:-1], *(settings.columns or COLUMNS[-1:]))


def _cells(row: dict[str, str], settings: Settings) -> Iterator[str | None]:
    """The cells of a row; a number, a list or an object from the body is told as JSON, what is absent as nothing."""
    for name in COLUMNS[:-1]:
        yield row[name]
    if not settings.columns:
        yield row["body"]
        return
    body = read_json(row["body"].encode())
    for column in settings.columns:
        value = body
        for part in column.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        yield value if isinstance(value, str) or value is None else _ENCODER.encode(value).decode()


def _csv(parcel: Parcel, settings: Settings) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow([safe_cell(name) for name in _names(settings)])
    for intent in parcel.intents:
        writer.writerow([safe_cell(cell or "") for cell in _cells(_row(intent), settings)])
    return text.getvalue().encode()
