"""Which imports were taken back, as the log says it: told apart from events whose person was erased."""

from typing import Final

from conosco.collect.envelope import read_envelope
from conosco.model.command import UndoImport, read_command
from conosco.model.record import IMPORTED, Record
from conosco.ports.log import Log

RECORDS_PER_READ: Final = 500


class UndoneImports:
    """Finds the commands that take imports back. An import is undone before its first event is destroyed, so the command is
    in the log by the time that anybody meets destroyed ones; it is looked for from there on, once for all imports.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._ids: set[str] = set()
        # Everything up to here was looked at.
        self._until: int | None = None

    def is_of_one(self, record: Record) -> bool:
        """Whether the record belongs to an import that was taken back."""
        if not record.flags & IMPORTED or record.slices[0] is None:
            return False
        import_id = read_envelope(record.slices[0])[0].import_id
        if self._until is None:
            self._until = record.position
        if import_id not in self._ids:
            self._look(self._until)
        return import_id in self._ids

    def _look(self, after: int) -> None:
        while records := self._log.read(after, RECORDS_PER_READ):
            for record in records:
                if record.kind == "control":
                    self._ids.update(_undone(record))
            after = self._until = records[-1].position


def _undone(record: Record) -> list[str]:
    found: list[str] = []
    for body in record.slices:
        # Nearly all commands are about something else, and cost no decoding.
        if body is not None and b"undo_import" in body:
            command = read_command(body)
            if isinstance(command, UndoImport):
                found.append(command.import_id)
    return found
