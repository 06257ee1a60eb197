"""The hooks desk: what the mappings of a webhook source make of what it received, and the secrets that signatures need."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from conosco.collect.envelope import read_envelope, spell_envelope
from conosco.collect.hook import take
from conosco.collect.mapped import WEBHOOK, compiled_mappings, map_record
from conosco.collect.understand import Rejected, understand
from conosco.collect.wire import Fault
from conosco.model.answer import BodyPreview, EventPreview
from conosco.model.definition import Signature, Source, SourceSpec
from conosco.model.event import Event, read_json
from conosco.model.identifier import IdentityRules
from conosco.model.moment import parse_duration, spell_moment
from conosco.model.problem import Problem, Refused, refuse
from conosco.model.record import GENESIS, MAPPED, SCHEMA, Envelope, Record, slice_of
from conosco.ports.keys import Keys
from conosco.rules.mapping_parse import parse_event_mappings
from conosco.runtime.office.reading import Reading

LAST_MAX: Final = 100
# How far back received bodies are looked for, and in which steps.
RECORDS_SEARCHED_MAX: Final = 20_000
RECORDS_PER_READ: Final = 500
BYTES_PER_READ: Final = 16_000_000
# What one answer shows of bodies, in bytes.
SHOWN_BYTES_MAX: Final = 4_000_000
SECRET_CHARACTERS_MAX: Final = 1_000
_SECRET_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}\Z", re.ASCII)
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,100}\Z", re.ASCII)
PREFIX_CHARACTERS_MAX: Final = 50
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


def source_secret(name: str) -> str:
    """Under which name the Keys door keeps a secret that people named: nothing of ours can be meant by it."""
    return f"secret:{name}"


def problems_of_webhook(source: Source, keys: Keys) -> list[Problem]:
    """What is wrong with the mappings and the signature of a source."""
    spec = source.spec
    if source.type != WEBHOOK:
        given = [name for name in ("mappings", "signature") if getattr(spec, name)]
        return [
            Problem(code="field_not_used", params={"field": name, "test": source.type}, pointer=f"/spec/{name}") for name in given
        ]
    problems: list[Problem] = []
    try:
        parse_event_mappings(spec.mappings, "/spec/mappings")
    except Refused as refused:
        problems += refused.problems
    if spec.signature is not None:
        problems += _problems_of_signature(spec.signature, keys)
    return problems


def _problems_of_signature(signature: Signature, keys: Keys) -> Iterator[Problem]:
    at = "/spec/signature"
    name = signature.secret.secret
    if not _SECRET_NAME.match(name) or keys.secret(source_secret(name)) is None:
        yield Problem(code="unknown_secret", params={"name": name[:100]}, pointer=f"{at}/secret/secret")
    if parse_duration(signature.tolerance) is None:
        yield Problem(code="unreadable_duration", params={"value": signature.tolerance[:100]}, pointer=f"{at}/tolerance")
    for field in ("header", "timestamp_header"):
        value = getattr(signature, field, None)
        if value is not None and (value or field == "header") and not _HEADER.match(value):
            yield Problem(code="unreadable_header", params={"value": value[:100]}, pointer=f"{at}/{field}")
    if len(getattr(signature, "prefix", "")) > PREFIX_CHARACTERS_MAX:
        yield Problem(code="too_long", params={"limit": PREFIX_CHARACTERS_MAX}, pointer=f"{at}/prefix")


class HooksDesk:
    """Implements ``web.office.Hooks``."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def keep_secret(self, name: str, value: str) -> None:
        """Keep a secret under a name, durably; an older one of that name is replaced."""
        if not _SECRET_NAME.match(name):
            raise refuse("bad_key", pointer="/name", key=name[:100])
        if not 1 <= len(value) <= SECRET_CHARACTERS_MAX:
            raise refuse("out_of_range", pointer="/value", least=1, most=SECRET_CHARACTERS_MAX)
        await asyncio.to_thread(self._reading.keys.put, source_secret(name), value.encode())

    async def preview(self, ref: str, mappings: Sequence[Any] | None, last: int, body: Any) -> list[BodyPreview]:
        """What a source's mappings, or others, make of a body or of the bodies that it received last. Stores nothing."""
        source = self._reading.required("source", ref)
        if not isinstance(source, Source) or source.type != WEBHOOK:
            raise refuse("not_a_webhook_source", ref=ref)
        if not 1 <= last <= LAST_MAX:
            raise refuse("out_of_range", pointer="/last", least=1, most=LAST_MAX)
        if mappings is not None:
            parse_event_mappings(mappings, "/mappings")
            spec: SourceSpec = msgspec.structs.replace(source.spec, mappings=tuple(mappings))
            source = msgspec.structs.replace(source, spec=spec)
        rules = self._reading.configuration().rules
        if body is not None:
            return _previews(_as_record(source, body, self._reading.clock()), source, rules, is_given=True)
        return await asyncio.to_thread(self._last, source, rules, last)

    def _last(self, source: Source, rules: IdentityRules, last: int) -> list[BodyPreview]:
        """Newest first."""
        found: list[BodyPreview] = []
        shown_bytes = 0
        end = self._reading.log.head().position
        stop = max(0, end - RECORDS_SEARCHED_MAX)
        while end > stop and len(found) < last:
            begin = max(stop, end - RECORDS_PER_READ)
            for record in reversed(self._read(begin, end)):
                if record.source_id != source.id or not record.flags & MAPPED or record.kind != "request":
                    continue
                for each in reversed(_previews(record, source, rules)):
                    shown_bytes += len(_ENCODER.encode(each.body)) if len(found) < last else 0
                    if len(found) < last and (shown_bytes <= SHOWN_BYTES_MAX or not found):
                        found.append(each)
                if len(found) >= last or shown_bytes > SHOWN_BYTES_MAX:
                    return found
            end = begin
        return found

    def _read(self, begin: int, end: int) -> list[Record]:
        """All records after ``begin`` up to ``end``."""
        records: list[Record] = []
        while begin < end:
            page = self._reading.log.read(begin, end - begin, BYTES_PER_READ)
            if not page:
                break
            records += page
            begin = page[-1].position
        return records


def _as_record(source: Source, body: Any, now: int) -> Record:
    """A body as it would lie in the log. Refuses what the door itself would refuse."""
    each = [mapping.each for mapping in compiled_mappings(source)]
    bodies = take(_ENCODER.encode(body), False, each)
    envelope = Envelope(received_at=now, call=WEBHOOK, shared=msgspec.Raw(bodies.rest), body_id="preview", each=bodies.each)
    slices = (spell_envelope(envelope), *bodies.slices)
    return Record(
        position=0,
        kind="request",
        schema=SCHEMA,
        logged_at=now,
        source_id=source.id,
        flags=MAPPED,
        hashes=b"",
        chain=GENESIS,
        salts=(None,) * len(slices),
        slices=slices,
    )


def _previews(record: Record, source: Source, rules: IdentityRules, is_given: bool = False) -> list[BodyPreview]:
    """What becomes of each body of a record, in order."""
    raw = record.slices[0]
    envelope, _ = read_envelope(raw or b'{"received_at":%d}' % record.logged_at)
    told = {slice_of(record, each[0].slot): each for _, each in map_record(record, envelope, lambda _: source)}
    items: dict[int, list[Event | Rejected]] = {}
    for item in understand(record, source, rules):
        items.setdefault(slice_of(record, item.slot), []).append(item)
    found: list[BodyPreview] = []
    for index, body in enumerate(record.slices[1:], 1):
        if body is None:
            continue
        wires = {each.message_id: None if isinstance(each.event, Fault) else read_json(each.event) for each in told[index]}
        made = [_event_preview(item, wires.get(item.message_id)) for item in items[index]]
        found.append(
            BodyPreview(
                position=None if is_given else record.position,
                received_at=spell_moment(envelope.received_at),
                body=_shown(body),
                around=_shown(bytes(envelope.shared)) if envelope.each else None,
                events=made,
            )
        )
    return found


def _event_preview(item: Event | Rejected, wire: dict[str, Any] | None) -> EventPreview:
    """One event as its mapping made it, with what becomes of it."""
    if isinstance(item, Rejected):
        return EventPreview(event=wire, message_id=item.message_id, problem=Problem(code=item.reason, params=item.params))
    return EventPreview(
        event=wire,
        message_id=item.message_id,
        event_at=spell_moment(item.event_at),
        identifiers=[f"{identifier.namespace}:{identifier.value}" for identifier in item.identifiers],
    )


def _shown(body: bytes) -> Any:
    """A body as it came; as text if it cannot be read."""
    try:
        return read_json(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "replace")[:10_000]
