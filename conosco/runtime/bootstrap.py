"""The wiring: which engine stands behind which door, and what a first start makes.

The warehouse is wired in bootstrap_warehouse.py, so that processes without questions need not load its engine.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import metadata
from pathlib import Path
from secrets import token_bytes, token_urlsafe

import msgspec

from conosco.engines.sqlite.connection import (
    UnfitLibrary,
    check_library,
    library_version,
    make_folder,
    only_one,
    replace_file,
    sync_folder,
)
from conosco.engines.sqlite.control import SqliteControl
from conosco.engines.sqlite.keys import FileKeys
from conosco.engines.sqlite.leases import SqliteLeases
from conosco.engines.sqlite.log import SqliteLog
from conosco.engines.sqlite.log_archive import SqliteArchive
from conosco.engines.sqlite.snapshot import copy_database, format_of, is_database, is_passing
from conosco.engines.sqlite.state import SqliteState
from conosco.govern.gate import Gate
from conosco.model.definition import Definition, Identity, Purpose, Source, read_definition
from conosco.model.ids import encode
from conosco.model.record import Draft
from conosco.ports.archive import Archive
from conosco.ports.control import Control
from conosco.ports.keys import Keys
from conosco.ports.leases import Leases
from conosco.ports.log import Log
from conosco.ports.state import State, scan_all
from conosco.ports.tables import DEFINITIONS, decode_row
from conosco.runtime.settings import Settings

INSTALLATION_SECRET = "installation"
GATE_SECRET = "gate"
ADMIN_TOKEN = "admin_token"


def clock() -> int:
    """The time of day in microseconds UTC; the one clock that processes are given."""
    return time.time_ns() // 1_000


class Folder:
    """Where one installation's files lie."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.log = data / "log"
        self.state = data / "state.sqlite"
        self.leases = data / "leases.sqlite"
        self.sender_standing = data / "sender-standing.json"
        self.control = data / "control.sqlite"
        self.keys = data / "keys"
        self.warehouse = data / "warehouse"
        self.socket = data / "warehouse.sock"
        self.lock = data / "serve.lock"
        # What roles report of themselves; made anew at each start.
        self.run = data / "run"
        self.format = data / "format"
        self.backup_copy = data / "backup-copy"
        self.backup_lock = data / "backup.lock"
        self.backups = data / "backups"
        self.backup_key = data / "backup-key"
        self.admin_token = data / "admin-token"
        self.uploads = data / "uploads"
        self.rebuilt = data / "rebuilt"
        # Passing files of exports and places; emptied whenever scheduled runs begin.
        self.extracts = data / "extracts"
        self.schedules_lock = data / "schedules.lock"
        # Who was in the last file of each export of changes, as hashes.
        self.exported = data / "exported"


def engine_versions() -> list[tuple[str, str, bool]]:
    """(name, version, whether it is fit) of the engines' libraries, without loading more than this process has."""
    version = library_version()
    try:
        check_library(version)
        is_fit = True
    except UnfitLibrary:
        is_fit = False
    return [("SQLite", version, is_fit), ("DuckDB", metadata.version("duckdb"), True)]


def open_log(settings: Settings) -> Log:
    """The Log of this installation."""
    return SqliteLog(Folder(settings.data).log, clock, segment_bytes=settings.log_segment_bytes)


def open_archive(settings: Settings) -> Archive:
    """The care of this installation's finished log files."""
    return SqliteArchive(Folder(settings.data).log, clock)


def open_state(settings: Settings) -> State:
    """State of this installation for reading."""
    return SqliteState(Folder(settings.data).state, read_only=True)


def open_worker_state(settings: Settings) -> tuple[State, Callable[[], object]]:
    """State for its one writer, and what another thread must call about once a second to keep commits quick."""
    state = SqliteState(Folder(settings.data).state)
    return state, state.checkpoint


def open_spare_state(path: Path, *, cache_bytes: int | None = None) -> State:
    """A State in another file: a snapshot, or one that is being rebuilt. ``cache_bytes`` bounds its memory; None is the writer's."""
    return SqliteState(path, cache_bytes=cache_bytes)


def snapshot_state(settings: Settings, path: Path) -> None:
    """Copy State as of its last commit into a new file, while the worker goes on."""
    state = SqliteState(Folder(settings.data).state, read_only=True)
    try:
        state.copy_to(path)
    finally:
        state.close()


def make_private_folder(folder: Path) -> None:
    """Make a folder and those above it durably, readable by their owner only."""
    make_folder(folder)


def sync(folder: Path) -> None:
    """Make creations, renames and removals in a folder durable."""
    sync_folder(folder)


def put_file(path: Path, body: bytes) -> None:
    """Put a small file in place as a whole, durably, readable by its owner only."""
    replace_file(path, body)


def alone(path: Path) -> AbstractContextManager[None]:
    """Hold an exclusive lock among processes while inside, waiting for whoever holds it."""
    return only_one(path)


def is_left_behind(name: str) -> bool:
    """Whether a file of this name holds nothing that a copy of the folder needs: a lock, a draft, a part of another file."""
    return is_passing(name)


def is_store(name: str) -> bool:
    """Whether a file of this name is one that an engine writes in place, so that only the engine can copy it."""
    return is_database(name)


def copy_store(source: Path, target: Path) -> None:
    """Copy a file that an engine writes in place, as of its last commit, while others go on. Raises FileNotFoundError."""
    copy_database(source, target)


def store_format(path: Path) -> int:
    """The format number inside a file that an engine writes in place."""
    return format_of(path)


def exchange_state(settings: Settings, path: Path) -> None:
    """Put what another file holds in the place of State, in one transaction: readers see all of it or nothing."""
    state = SqliteState(Folder(settings.data).state)
    try:
        state.replace_from(path)
    finally:
        state.close()


def open_leases(settings: Settings) -> Leases:
    """Leases and stop list of this installation."""
    secret = required_secret(open_keys(settings), INSTALLATION_SECRET)
    return SqliteLeases(Folder(settings.data).leases, secret=secret)


def open_control(settings: Settings) -> Control:
    """Accounts, tokens, sessions and jobs of this installation."""
    return SqliteControl(Folder(settings.data).control)


def open_keys(settings: Settings) -> Keys:
    """Secrets of this installation."""
    return FileKeys(Folder(settings.data).keys)


def required_secret(keys: Keys, name: str) -> bytes:
    """A secret that the first start has made."""
    secret = keys.secret(name)
    if secret is None:
        raise FileNotFoundError(f"the secret {name!r} is missing: was this folder made by `conosco serve`?")
    return secret


def make_gate(keys: Keys) -> Gate:
    """The gate of this installation."""
    return Gate(required_secret(keys, GATE_SECRET))


def hash_of(secret: str) -> str:
    """How write keys and tokens are kept: they are long and random, so one plain hash suffices."""
    return hashlib.sha256(secret.encode()).hexdigest()


def random_id(prefix: str) -> str:
    """A fresh random id."""
    return encode(prefix, token_bytes(16))


def prepare(settings: Settings) -> None:
    """Make what is missing: folder, secrets, the first definitions. Safe to call at every start."""
    folder = Folder(settings.data)
    make_folder(folder.data)
    shutil.rmtree(folder.run, ignore_errors=True)
    folder.run.mkdir(mode=0o700)
    keys = open_keys(settings)
    for name in (INSTALLATION_SECRET, GATE_SECRET):
        if keys.secret(name) is None:
            keys.put(name, token_bytes(32))
    token = settings.admin_token or _read_token(folder.admin_token) or token_urlsafe(32)
    if _read_token(folder.admin_token) != token:
        _write_private(folder.admin_token, token)
    keys.put(ADMIN_TOKEN, hash_of(token).encode())
    log, state = open_log(settings), SqliteState(folder.state)
    try:
        drafts = _first_definitions(settings, state, log, keys)
        if drafts:
            log.append([Draft(kind="definition", slices=(msgspec.json.encode(made),)) for made in drafts])
    finally:
        state.close()
        log.close()


def _first_definitions(settings: Settings, state: State, log: Log, keys: Keys) -> list[Definition]:
    known: dict[tuple[str, str], Definition] = {}
    for (kind, key), raw in scan_all(state, DEFINITIONS):
        known[kind, key] = read_definition(decode_row(DEFINITIONS, raw).body)
    # Definitions that the worker has not applied yet lie in the log only.
    for record in log.read(state.offset()[0], 1_000):
        if record.kind == "definition" and record.slices[0] is not None:
            made = read_definition(record.slices[0])
            known[str(made.__struct_config__.tag), made.key] = made
    drafts: list[Definition] = []
    if ("purpose", "operations") not in known:
        drafts += [
            Identity(id=random_id("prp")),
            Purpose(key="operations", name="Operations", basis="legitimate_interest", id=random_id("prp")),
            Purpose(key="marketing", name="Marketing", basis="consent", id=random_id("prp")),
        ]
    source = known.get(("source", "default"))
    if not isinstance(source, Source):
        write_key = settings.write_key or token_urlsafe(24)
        keys.put("write_key", write_key.encode())
        drafts.append(
            Source(
                key="default",
                name={"en": "First source", "it": "Prima fonte", "pl": "Pierwsze źródło", "pt": "Primeira fonte"},
                type="server",
                region=settings.region,
                id=random_id("src"),
                write_key_hash=hash_of(write_key),
            )
        )
    elif settings.write_key and source.write_key_hash != hash_of(settings.write_key):
        keys.put("write_key", settings.write_key.encode())
        drafts.append(msgspec.structs.replace(source, write_key_hash=hash_of(settings.write_key)))
    return drafts


def _read_token(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def _write_private(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        os.fchmod(handle, 0o600)
        file.write(text + "\n")
        file.flush()
        os.fsync(handle)
