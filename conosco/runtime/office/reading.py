"""What all desks share: a reader of State, the log, the warehouse, and how a command enters the log and is waited for."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from conosco.model.command import Command
from conosco.model.definition import Definition, DefinitionKind, read_definition
from conosco.model.identifier import Identifier
from conosco.model.problem import refuse
from conosco.model.record import Draft
from conosco.ports.keys import Keys
from conosco.ports.log import Log, LogFull
from conosco.ports.state import State, Table
from conosco.ports.tables import (
    DEFINITIONS,
    IDENTIFIERS,
    META,
    PERSONS,
    PROFILES,
    IdentifierRow,
    PersonRow,
    ProfileRow,
    decode_row,
)
from conosco.runtime.asking import Asking
from conosco.runtime.configuration import Configuration, load

POLL_S: Final = 0.004
APPLIED_WITHIN_MS: Final = 2_000


class Reading:
    """Shared by the desks of one process. Reads see the last commit; nothing here writes State."""

    def __init__(self, log: Log, state: State, asking: Asking, keys: Keys, clock: Callable[[], int]) -> None:
        self.log = log
        self.state = state
        self.asking = asking
        self.keys = keys
        self.clock = clock
        self._configuration: Configuration | None = None
        self._versions: tuple[Any, ...] = ()

    def row(self, table: Table, key: tuple[Any, ...]) -> Any:
        """A decoded row, or None."""
        raw = self.state.get_many(table, [key]).get(key)
        return None if raw is None else decode_row(table, raw)

    def rows(self, table: Table, keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], Any]:
        """Decoded rows by key; absent ones are left out."""
        return {key: decode_row(table, raw) for key, raw in self.state.get_many(table, keys).items()}

    def scan(self, table: Table, start: tuple[Any, ...], stop: tuple[Any, ...] | None, most: int) -> list[tuple[Any, Any]]:
        """Decoded rows in key order."""
        return [(key, decode_row(table, raw)) for key, raw in self.state.scan(table, start, stop, most)]

    def meta(self, name: str, default: Any) -> Any:
        """A named value of the worker."""
        row = self.row(META, (name,))
        return default if row is None else row.value

    def configuration(self) -> Configuration:
        """The configuration that State holds now; parsed again only when a definition changed."""
        found = self.state.scan(DEFINITIONS, (), None, 10_000)
        versions = tuple((key, len(raw), hash(raw)) for key, raw in found)
        if self._configuration is None or versions != self._versions:
            self._configuration, self._versions = load(self.state), versions
        return self._configuration

    def definition(self, kind: DefinitionKind, ref: str) -> Definition | None:
        """A current definition by key or id."""
        row = self.row(DEFINITIONS, (kind, ref))
        if row is not None:
            return read_definition(row.body)
        for key, row in self.scan(DEFINITIONS, (kind,), (kind + "\x00",), 10_000):
            made = read_definition(row.body)
            if key[0] == kind and made.id == ref:
                return made
        return None

    def required(self, kind: DefinitionKind, ref: str) -> Definition:
        """A current definition. Refuses not_found (404)."""
        found = self.definition(kind, ref)
        if found is None:
            raise refuse("not_found", status=404, kind=kind, ref=ref)
        return found

    # People.

    def number_of(self, identifier: Identifier) -> int | None:
        """The person that an identifier belongs to now, by its internal number."""
        row: IdentifierRow | None = self.row(IDENTIFIERS, (identifier.namespace, identifier.value))
        return row.person or None if row is not None else None

    def person(self, number: int) -> PersonRow | None:
        """A person's row."""
        found: PersonRow | None = self.row(PERSONS, (number,))
        return found

    def profile_row(self, profile_id: str) -> ProfileRow | None:
        """What a profile id, current or former, stands for."""
        found: ProfileRow | None = self.row(PROFILES, (profile_id,))
        return found

    # Writing goes through the log.

    async def append(self, drafts: Sequence[Draft]) -> int:
        """Append and return the position of the last draft. Refuses log_full (503)."""
        loop = asyncio.get_running_loop()
        try:
            appended = await loop.run_in_executor(None, self.log.append, drafts)
        except LogFull:
            raise refuse("log_full", status=503) from None
        return appended[-1].position

    async def command(self, command: Command) -> tuple[int, bool]:
        """Append a command; (its position, whether it was applied within 2 s)."""
        position = await self.append([Draft(kind="control", slices=(msgspec.json.encode(command),))])
        return position, await self.applied(position, APPLIED_WITHIN_MS)

    async def applied(self, position: int, wait_ms: int) -> bool:
        """Wait until State includes a position, at most ``wait_ms``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_ms / 1_000
        while self.state.offset()[0] < position:
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True


def cursor_of(value: Any) -> str:
    """Spell where a page ended."""
    return msgspec.json.encode(value).hex()


def read_cursor(cursor: str, shape: Any) -> Any:
    """Read where a page ended; None for the first page. Refuses bad_cursor (422)."""
    if not cursor:
        return None
    try:
        return msgspec.json.decode(bytes.fromhex(cursor), type=shape)
    except (ValueError, msgspec.MsgspecError):
        raise refuse("bad_cursor", cursor=cursor[:100]) from None
