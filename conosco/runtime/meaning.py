"""Which version of a source a record is read by: the one in force where it lies, so that reading it again gives the same.

Only bodies of webhooks depend on it. One that was quarantined and mapped later is read by the version that mapped it then.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from conosco.collect.understand import Rejected, understand
from conosco.model.definition import Source, read_definition
from conosco.model.event import Event
from conosco.model.record import MAPPED, Record
from conosco.ports.state import Key, State, Table
from conosco.ports.tables import DEFINITION_VERSIONS, MAPPED_BY, decode_row
from conosco.runtime.configuration import Configuration

VERSIONS_MAX: Final = 100_000
SLICES_MAX: Final = 20_000
Item = Event | Rejected
# What scans decoded rows: (table, first key, stop, most).
Scan = Callable[[Table, Key, Key | None, int], Sequence[tuple[Key, Any]]]


def source_of_record(record: Record, configuration: Configuration) -> Source:
    """The source of a record as it is defined now; a source that nobody knows observes only."""
    source = configuration.definitions_by_id.get(record.source_id)
    if isinstance(source, Source):
        return source
    return Source(key="unknown", name="unknown", type="browser", region="", id=record.source_id)


class Meaning:
    """Reads records again, by the definitions that were in force where they lie."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        # All versions of a source, by its key.
        self._versions: dict[str, list[Source]] = {}

    def items(self, record: Record, configuration: Configuration) -> list[Item]:
        """The events of a record, and what was rejected of it, as the worker read them."""
        source = source_of_record(record, configuration)
        if not record.flags & MAPPED:
            return understand(record, source, configuration.rules)
        later: dict[int, int] = {
            key[1]: row.version for key, row in self._scan(MAPPED_BY, (record.position,), (record.position + 1,), SLICES_MAX)
        }
        versions = self._versions_of(source.key, max((source.version, *later.values())))
        original = _at(versions, record.position) or source
        by_slice = {index: _at(versions, version) or original for index, version in later.items()}
        return understand(record, original, configuration.rules, lambda index: by_slice.get(index, original))

    def _versions_of(self, key: str, newest: int) -> list[Source]:
        found = self._versions.get(key)
        if found is None or not found or found[-1].version < newest:
            rows = self._scan(DEFINITION_VERSIONS, ("source", key), ("source", key + "\x00"), VERSIONS_MAX)
            found = [made for _, row in rows if isinstance(made := read_definition(row.body), Source)]
            self._versions[key] = found
        return found


def _at(versions: Sequence[Source], position: int) -> Source | None:
    """The newest version that is not after a position."""
    return next((made for made in reversed(versions) if made.version <= position), None)


def scan_of(state: State) -> Scan:
    """Scan State as of its last commit."""

    def scan(table: Table, start: Key, stop: Key | None, most: int) -> Sequence[tuple[Key, Any]]:
        return [(key, decode_row(table, raw)) for key, raw in state.scan(table, start, stop, most)]

    return scan
