"""Imports as Control keeps them, and their files: uploads, and the rows that were rejected.

An import belongs to the front until it waits, then to the process that runs it, until it has ended. What the front wants
of a running one (to cancel it) is a row apart, so that neither writes over the other.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from conosco.model.importing import ENDED, ImportRun, RejectedRow, Uploaded
from conosco.model.moment import DAY
from conosco.model.problem import refuse
from conosco.ports.control import Control
from conosco.runtime.bootstrap import Folder

KIND: Final = "import"
CANCEL: Final = "import_cancel"
UPLOAD: Final = "upload"
UPLOAD_LIFETIME: Final = DAY
_RUN: Final = msgspec.json.Decoder(ImportRun)
_ROW: Final = msgspec.json.Decoder(RejectedRow)


class Imports:
    """All imports of an installation. ``now`` is asked for what expires."""

    def __init__(self, control: Control, folder: Folder) -> None:
        self._control = control
        self.folder = folder.uploads

    def put(self, run: ImportRun) -> None:
        """Keep an import."""
        self._control.put(KIND, run.import_id, msgspec.json.encode(run))

    def get(self, import_id: str) -> ImportRun | None:
        """An import by its id."""
        raw = self._control.get(KIND, import_id, 0)
        return None if raw is None else _RUN.decode(raw)

    def required(self, import_id: str) -> ImportRun:
        """An import. Refuses not_found (404)."""
        run = self.get(import_id)
        if run is None:
            raise refuse("not_found", status=404, kind="import", ref=import_id[:100])
        return run

    def all(self) -> list[ImportRun]:
        """All imports, newest first."""
        runs = [_RUN.decode(raw) for _, raw in self._control.list(KIND, 0)]
        return sorted(runs, key=lambda run: (run.created_at, run.import_id), reverse=True)

    def next(self) -> ImportRun | None:
        """The oldest import that needs work."""
        waiting = [run for run in self.all() if run.status not in ENDED]
        return waiting[-1] if waiting else None

    def ask_cancel(self, import_id: str) -> None:
        """Ask whoever runs it to stop."""
        self._control.put(CANCEL, import_id, b"")

    def is_cancelled(self, import_id: str) -> bool:
        """Whether somebody asked."""
        return self._control.get(CANCEL, import_id, 0) is not None

    # Files.

    def upload(self, upload: str) -> Uploaded:
        """What is known of an upload. Refuses not_found (404)."""
        raw = self._control.get(UPLOAD, upload, 0)
        if raw is None or not self.path_of(upload).exists():
            raise refuse("not_found", status=404, kind="upload", ref=upload[:100])
        return msgspec.json.decode(raw, type=Uploaded)

    def keep_upload(self, upload: Uploaded) -> None:
        """Remember an upload whose file is complete."""
        self._control.put(UPLOAD, upload.upload, msgspec.json.encode(upload))

    def drop_upload(self, upload: str) -> None:
        """Remove an upload and its file; an absent one is no error."""
        self.path_of(upload).unlink(missing_ok=True)
        self._control.delete(UPLOAD, upload)

    def sweep(self, now: int) -> None:
        """Remove uploads of more than a day ago that no import needs any more: people looked, and decided otherwise."""
        needed = {run.asked.upload for run in self.all() if run.status not in ENDED}
        for name, raw in self._control.list(UPLOAD, 0):
            kept = msgspec.json.decode(raw, type=Uploaded)
            if name not in needed and now - kept.created_at > UPLOAD_LIFETIME:
                self.drop_upload(name)

    def path_of(self, upload: str) -> Path:
        """Where an upload lies."""
        return self.folder / Path(upload).name

    def rejected_path(self, import_id: str) -> Path:
        """Where the rejected rows of an import lie."""
        return self.folder / f"{Path(import_id).name}.rejected"

    def rejected(self, import_id: str) -> Iterator[RejectedRow]:
        """The rejected rows in file order."""
        try:
            with self.rejected_path(import_id).open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        yield _ROW.decode(line)
        except FileNotFoundError:
            return

    def cut_rejected(self, import_id: str, last: int) -> int:
        """Keep only rejected rows up to this one: later ones will be met again. Returns how many there are."""
        path, count = self.rejected_path(import_id), 0
        draft = path.with_suffix(".cut")
        with draft.open("wb") as file:
            for row in self.rejected(import_id):
                if row.row <= last:
                    file.write(msgspec.json.encode(row) + b"\n")
                    count += 1
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        return count

    def add_rejected(self, import_id: str, rows: list[RejectedRow]) -> None:
        """Add rejected rows durably."""
        with self.rejected_path(import_id).open("ab") as file:
            file.write(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())
