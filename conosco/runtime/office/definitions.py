"""The definitions desk: checks a definition, gives it an id and its secrets, and appends it to the log."""

import asyncio
from collections.abc import Mapping, Sequence
from secrets import token_bytes, token_urlsafe
from typing import Final

import msgspec

from conosco.model.answer import Page, Written
from conosco.model.definition import (
    KEY,
    Attribute,
    Definition,
    DefinitionKind,
    Destination,
    Export,
    ScheduledImport,
    Segment,
    Source,
    kind_of,
    read_definition,
)
from conosco.model.moment import parse_duration
from conosco.model.problem import Problem, Refused, refuse
from conosco.model.record import Draft
from conosco.ports.tables import DEFINITIONS
from conosco.rules.catalogue import Catalogue
from conosco.rules.interest import interest_problems
from conosco.rules.parse import parse_attribute, parse_where
from conosco.runtime.bootstrap import hash_of, random_id
from conosco.runtime.configuration import Configuration
from conosco.runtime.office.hooks import problems_of_webhook
from conosco.runtime.office.reading import APPLIED_WITHIN_MS, Reading, cursor_of, read_cursor
from conosco.runtime.office.schedules import SchedulesDesk
from conosco.runtime.sender_lane import Connector

PREFIXES: Final = {
    "purpose": "prp",
    "source": "src",
    "destination": "dst",
    "segment": "seg",
    "attribute": "atr",
    "identity": "idr",
    "import": "sim",
    "export": "exp",
}


class DefinitionsDesk:
    """Implements ``web.office.Definitions``."""

    def __init__(
        self, reading: Reading, connectors: Mapping[str, Connector], schedules: SchedulesDesk, *, files_allowed: bool
    ) -> None:
        self._schedules = schedules
        self._files_allowed = files_allowed
        self._reading = reading
        self._connectors = connectors
        # One writer at a time, so that of two who want the same key the second is told so.
        self._writing = asyncio.Lock()

    async def list(self, kind: DefinitionKind, cursor: str, limit: int) -> Page[Definition]:
        """Current definitions by key."""
        after = read_cursor(cursor, str)
        start = (kind,) if after is None else (kind, after + "\x00")
        found = self._reading.scan(DEFINITIONS, start, (kind + "\x00",), limit + 1)
        items = [read_definition(row.body) for _, row in found[:limit]]
        return Page(items=items, next=cursor_of(items[-1].key) if len(found) > limit else None)

    async def get(self, kind: DefinitionKind, ref: str) -> Definition:
        """The current definition."""
        return self._reading.required(kind, ref)

    async def create(self, definition: Definition) -> Written:
        """Append a new definition."""
        kind = kind_of(definition)
        async with self._writing:
            if self._reading.definition(kind, definition.key) is not None:
                raise refuse("key_taken", status=409, pointer="/key", kind=kind, key=definition.key)
            made = msgspec.structs.replace(definition, id=random_id(PREFIXES[kind]), version=0)
            write_key = secret = ""
            if isinstance(made, Source):
                write_key = token_urlsafe(24)
                made = msgspec.structs.replace(made, write_key_hash=hash_of(write_key))
            self._check(made)
            if isinstance(made, Destination):
                secret = self._connectors[made.type].spell_secret(token_bytes(32))
                if secret:
                    made = msgspec.structs.replace(made, secret_name=f"destination:{made.id}")
                    self._reading.keys.put(made.secret_name, secret.encode())
            return await self._write(made, write_key, secret)

    async def replace(self, ref: str, definition: Definition) -> Written:
        """Append a new version; key, id and secrets stay."""
        kind = kind_of(definition)
        async with self._writing:
            known = self._reading.required(kind, ref)
            if definition.key != known.key:
                raise refuse("key_is_fixed", pointer="/key", key=known.key)
            made = msgspec.structs.replace(definition, id=known.id, version=0)
            if isinstance(made, Source) and isinstance(known, Source):
                made = msgspec.structs.replace(made, write_key_hash=known.write_key_hash)
            if isinstance(made, Destination) and isinstance(known, Destination):
                made = msgspec.structs.replace(made, secret_name=known.secret_name)
            self._check(made)
            return await self._write(made, "", "")

    async def _write(self, made: Definition, write_key: str, secret: str) -> Written:
        position = await self._reading.append([Draft(kind="definition", slices=(msgspec.json.encode(made),))])
        applied = await self._reading.applied(position, APPLIED_WITHIN_MS)
        return Written(
            definition=msgspec.structs.replace(made, version=position),
            position=position,
            applied=applied,
            write_key=write_key,
            secret=secret,
        )

    def _check(self, made: Definition) -> None:
        """Refuse what is wrong in it, all of it at once."""
        configuration = self._reading.configuration()
        problems: list[Problem] = []
        if not KEY.match(made.key):
            problems.append(Problem(code="bad_key", params={"key": made.key[:100]}, pointer="/key"))
        match made:
            case Segment():
                problems += _unknown_purposes(configuration, (made.purpose,), "/purpose")
                if made.state == "active":
                    problems += _problems_of_segment(configuration, made)
                else:
                    problems += _still_used(configuration, "segments", made.key)
            case Attribute():
                try:
                    parse_attribute(made.spec)
                except Refused as refused:
                    problems += _below_spec(refused)
                if made.state == "archived":
                    problems += _still_used(configuration, "attributes", made.key)
            case Destination():
                problems += _unknown_purposes(configuration, made.purposes, "/purposes")
                problems += self._problems_of_destination(made)
            case Source():
                if parse_duration(made.spec.max_event_age) is None:
                    params: dict[str, str | int] = {"value": made.spec.max_event_age}
                    problems.append(Problem(code="unreadable_duration", params=params, pointer="/spec/max_event_age"))
                problems += problems_of_webhook(made, self._reading.keys)
            case ScheduledImport():
                problems += self._schedules.problems_of_import(made)
            case Export():
                problems += self._schedules.problems_of_export(made)
            case _:
                pass
        if problems:
            raise Refused(problems)

    def _problems_of_destination(self, made: Destination) -> Sequence[Problem]:
        connector = self._connectors.get(made.type)
        if connector is None:
            params: dict[str, str | int] = {"type": made.type, "known": ", ".join(sorted(self._connectors))}
            return [Problem(code="unknown_destination_type", params=params, pointer="/type")]
        if connector.writes_files and not self._files_allowed:
            return [Problem(code="files_not_allowed", pointer="/type")]
        try:
            connector.read_settings(made.spec)
        except Refused as refused:
            return refused.problems
        known = self._reading.configuration().sources.values()
        return interest_problems(made, {source.key for source in known})


def _problems_of_segment(configuration: Configuration, made: Segment) -> list[Problem]:
    catalogue = Catalogue(
        segments={**configuration.catalogue.segments, made.key: made.spec},
        attributes=configuration.catalogue.attributes,
    )
    try:
        parse_where(made.spec, catalogue, key=made.key)
    except Refused as refused:
        return _below_spec(refused)
    return []


def _below_spec(refused: Refused) -> list[Problem]:
    return [msgspec.structs.replace(problem, pointer="/spec" + problem.pointer) for problem in refused.problems]


def _unknown_purposes(configuration: Configuration, keys: tuple[str, ...], pointer: str) -> list[Problem]:
    return [
        Problem(
            code="unknown_purpose", params={"purpose": key, "known": ", ".join(sorted(configuration.purposes))}, pointer=pointer
        )
        for key in keys
        if key not in configuration.purposes
    ]


def _still_used(configuration: Configuration, what: str, key: str) -> list[Problem]:
    """What another segment reads cannot be archived: that segment would silently change its meaning."""
    users = sorted(user for user, read in configuration.references().items() if user != key and key in getattr(read, what))
    return [Problem(code="still_used", params={"key": key, "users": ", ".join(users)}, pointer="/state")] if users else []
