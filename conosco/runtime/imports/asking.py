"""How an import begins, whoever asks for it: a person through the office, or a schedule."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from conosco.model.command import BeginImport
from conosco.model.importing import ENDED, FileFormat, ImportRun


def how_of(mapping: list[Any], form: FileFormat, key: Sequence[str]) -> str:
    """A digest of how rows become events: the same file read in two ways would contradict itself."""
    return hashlib.sha256(msgspec.json.Encoder(decimal_format="number").encode((mapping, form, key))).hexdigest()


def imported_otherwise(runs: Iterable[ImportRun], source_id: str, digest: str, how: str) -> str:
    """The import that brought the same file into the same source in another way; empty if there is none."""
    for other in runs:
        same = (other.source_id, other.file_digest) == (source_id, digest)
        if same and other.mapping_digest != how and other.status != "undone" and (other.accepted or other.status not in ENDED):
            return other.import_id
    return ""


def begin_command(run: ImportRun) -> BeginImport:
    """The command that tells the log of an import."""
    return BeginImport(
        import_id=run.import_id,
        name=run.asked.name or run.file_name,
        source_id=run.source_id,
        file_digest=run.file_digest,
        basis=run.asked.basis,
        note=run.asked.note,
    )


def begin_import(run: ImportRun, append: Callable[[BeginImport], int]) -> ImportRun:
    """The import as it is once the log knows of it."""
    position = append(begin_command(run))
    return msgspec.structs.replace(run, position_before=position, position_last=position)
