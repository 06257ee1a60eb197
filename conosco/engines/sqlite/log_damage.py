"""What is known of damage to the log: alarms that stay until somebody looks, and copies of the damaged bytes."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from conosco.engines.sqlite.connection import sync_folder
from conosco.engines.sqlite.log_file import Mark
from conosco.engines.sqlite.log_notes import read_note, sync_file, write_note
from conosco.ports.archive import Alarm

# Held by whoever changes files that are finished: seals, erases, prunes.
CARE_LOCK: Final = "care.lock"
FOLDER: Final = "damage"
ALARMS_MAX: Final = 1_000
COPIES_BYTES_MAX: Final = 2 << 30


class _Alarms(msgspec.Struct, frozen=True, kw_only=True):
    alarms: tuple[Alarm, ...] = ()


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What ``log.head`` holds: a record that was durable when it was written."""

    position: int
    logged_at: int
    chain: str


class DamageBook:
    """Alarms and copies in the folder ``damage`` of a log. Trouble with the disk is no harm: damage is found again."""

    def __init__(self, log_folder: Path) -> None:
        self._folder = log_folder / FOLDER
        self._path = self._folder / "alarms"

    def alarms(self) -> list[Alarm]:
        """All that were raised and kept."""
        try:
            known = read_note(self._path.read_bytes(), _Alarms)[0]
        except OSError:
            return []
        return list(known.alarms) if known is not None else []

    def add(self, alarm: Alarm) -> None:
        """Keep an alarm, unless one says the same of the same file."""
        alarms = self.alarms()
        if any((known.file, known.what, known.lost) == (alarm.file, alarm.what, alarm.lost) for known in alarms):
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        write_note(self._path, _Alarms(alarms=(*alarms, alarm)[-ALARMS_MAX:]))

    def mended(self, clock: Callable[[], int]) -> Callable[[str], None]:
        """What to call with the name of each file that was mended."""
        return lambda name: self.add(Alarm(found_at=clock(), file=name, what="mended"))

    def keep_copy(self, paths: Sequence[Path], found_at: int) -> str:
        """Copy damaged files aside, with all their bytes; the name of the first copy, empty if there was no room."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        kept = sum(path.stat().st_size for path in self._folder.iterdir())
        if kept + sum(path.stat().st_size for path in paths) > COPIES_BYTES_MAX:
            return ""
        names = []
        for path in paths:
            copy = self._folder / f"{found_at}-{path.name}"
            try:
                shutil.copyfile(path, copy)
                sync_file(copy)
            except OSError:
                copy.unlink(missing_ok=True)
                return ""
            names.append(copy.name)
        sync_folder(self._folder)
        return names[0]

    def forget_copies(self) -> None:
        """Remove all copies: an erasure cannot tell whose bytes they hold."""
        if not self._folder.is_dir():
            return
        copies = [path for path in self._folder.iterdir() if path != self._path]
        for path in copies:
            path.unlink(missing_ok=True)
        if copies:
            sync_folder(self._folder)


def read_head(folder: Path, damage: DamageBook, clock: Callable[[], int]) -> Mark | None:
    """The mark in ``log.head``; None if there is none or it is unreadable. Damage to it raises an alarm."""
    path = folder / "log.head"
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        if raw[:1] == b"{":
            # As versions before the second copy wrote it.
            note: Note | None = msgspec.json.decode(raw, type=Note)
            is_whole = True
        else:
            note, is_whole = read_note(raw, Note)
        mark = Mark(note.position, note.logged_at, bytes.fromhex(note.chain)) if note is not None else None
    except ValueError:
        mark, is_whole = None, False
    if not is_whole:
        found_at = clock()
        kept = damage.keep_copy([path], found_at)
        damage.add(Alarm(found_at=found_at, file=path.name, what="note_damaged", kept=kept))
    return mark
