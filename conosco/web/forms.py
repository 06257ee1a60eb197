"""Forms: the shapes of request bodies, and of definitions as they are answered. Unknown fields are errors."""

from typing import Any, Literal

import msgspec

from conosco.model.definition import (
    Attribute,
    Basis,
    Definition,
    DefinitionKind,
    Destination,
    Export,
    Name,
    Purpose,
    ScheduledImport,
    Segment,
    Source,
    SourceSpec,
    SourceType,
    State,
)
from conosco.model.identifier import Identifier
from conosco.model.scheduled import ExportColumn, ExportFormat, ScheduleAnswer

Unset = msgspec.UnsetType
UNSET = msgspec.UNSET


class Form(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all request bodies."""


class PurposeForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A purpose as written by a person."""

    key: str
    name: Name
    basis: Basis
    channels: tuple[str, ...] = ()
    state: State = "active"

    def definition(self) -> Purpose:
        """The definition that this form asks for."""
        return Purpose(key=self.key, name=self.name, basis=self.basis, channels=self.channels, state=self.state)


class SourceForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A source as written by a person; its write key is made by us."""

    key: str
    name: Name
    type: SourceType
    region: str
    spec: SourceSpec = SourceSpec()
    state: State = "active"

    def definition(self) -> Source:
        """The definition that this form asks for."""
        return Source(key=self.key, name=self.name, type=self.type, region=self.region, spec=self.spec, state=self.state)


class DestinationForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A destination as written by a person; ``spec`` is checked by the connector named in ``type``."""

    key: str
    name: Name
    purposes: tuple[str, ...]
    region: str
    type: str
    spec: dict[str, Any]
    state: State = "active"

    def definition(self) -> Destination:
        """The definition that this form asks for."""
        return Destination(
            key=self.key,
            name=self.name,
            purposes=self.purposes,
            region=self.region,
            type=self.type,
            spec=self.spec,
            state=self.state,
        )


class SegmentForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A segment as written by a person."""

    key: str
    name: Name
    purpose: str
    spec: dict[str, Any]
    state: State = "active"

    def definition(self) -> Segment:
        """The definition that this form asks for."""
        return Segment(key=self.key, name=self.name, purpose=self.purpose, spec=self.spec, state=self.state)


class AttributeForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A computed trait's definition as written by a person."""

    key: str
    name: Name
    spec: dict[str, Any]
    state: State = "active"

    def definition(self) -> Attribute:
        """The definition that this form asks for."""
        return Attribute(key=self.key, name=self.name, spec=self.spec, state=self.state)


class ScheduledImportForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A scheduled import as written by a person; the place in ``spec`` is checked by the connector that its ``type`` names."""

    key: str
    name: Name
    source: str
    basis: Basis
    note: str
    spec: dict[str, Any]
    state: State = "active"

    def definition(self) -> ScheduledImport:
        """The definition that this form asks for."""
        return ScheduledImport(
            key=self.key,
            name=self.name,
            source=self.source,
            basis=self.basis,
            note=self.note,
            spec=self.spec,
            state=self.state,
        )


class ExportForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An export as written by a person; ``purpose`` is what every person in the file may be used for."""

    key: str
    name: Name
    purpose: str
    region: str
    spec: dict[str, Any]
    state: State = "active"

    def definition(self) -> Export:
        """The definition that this form asks for."""
        return Export(key=self.key, name=self.name, purpose=self.purpose, region=self.region, spec=self.spec, state=self.state)


class ExportFileForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """People as a file at once: those of a segment, or everyone if it is empty."""

    purpose: str
    region: str
    segment: str = ""
    columns: tuple[ExportColumn, ...] = (ExportColumn(kind="profile_id"),)
    format: ExportFormat = "csv"
    leaves_region: bool = False

    def definition(self) -> Export:
        """An export that is kept nowhere."""
        spec = {
            "place": {},
            "segment": self.segment,
            "columns": msgspec.to_builtins(self.columns),
            "format": self.format,
            "leaves_region": self.leaves_region,
        }
        return Export(key=self.segment or "people", name="", purpose=self.purpose, region=self.region, spec=spec)


class DefinitionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What all definitions answer. ``version`` is the log position of this version; a write also answers ``position``."""

    key: str
    id: str
    version: int
    name: Name
    state: State
    position: int | Unset = UNSET


class PurposeAnswer(DefinitionAnswer, frozen=True, kw_only=True):
    """A purpose."""

    basis: Basis
    channels: tuple[str, ...]


class EventCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one source by what became of them; accepted = applied + duplicates + quarantined + erased."""

    accepted: int
    applied: int
    duplicates: int
    quarantined: int
    erased: int


class SourceAnswer(DefinitionAnswer, frozen=True, kw_only=True):
    """A source; ``write_key`` is told once, when the source is made.

    Where one source is read, it also says when its first and newest event entered the log (null if none has) and the counts.
    """

    type: SourceType
    region: str
    spec: SourceSpec
    write_key: str | Unset = UNSET
    first_event_at: str | Unset | None = UNSET
    last_event_at: str | Unset | None = UNSET
    counts: EventCounts | Unset = UNSET


class DestinationAnswer(DefinitionAnswer, frozen=True, kw_only=True):
    """A destination; the signing ``secret`` of a webhook is told once, when the destination is made."""

    purposes: tuple[str, ...]
    region: str
    type: str
    spec: dict[str, Any]
    secret: str | Unset = UNSET


class SegmentAnswer(DefinitionAnswer, frozen=True, kw_only=True):
    """A segment, with how many people are in it and its condition in words where it is read."""

    purpose: str
    spec: dict[str, Any]
    member_count: int | Unset = UNSET
    sentence: str | Unset = UNSET


class AttributeAnswer(DefinitionAnswer, frozen=True, kw_only=True):
    """The definition of a computed trait."""

    spec: dict[str, Any]


class ScheduledImportAnswer(DefinitionAnswer, frozen=True, kw_only=True):
    """A scheduled import; where one is read, also when it runs next and its last run."""

    source: str
    basis: Basis
    note: str
    spec: dict[str, Any]
    runs: ScheduleAnswer | Unset = UNSET


class ExportAnswer(DefinitionAnswer, frozen=True, kw_only=True):
    """An export; where one is read, also when it runs next and its last run."""

    purpose: str
    region: str
    spec: dict[str, Any]
    runs: ScheduleAnswer | Unset = UNSET


def told(definition: Definition, kind: DefinitionKind, **further: Any) -> dict[str, Any]:
    """The fields of a definition that may be told, for its answer type; hashes and names of secrets stay inside."""
    answer_type = ANSWERS[kind]
    fields: dict[str, Any] = {
        name: getattr(definition, name) for name in answer_type.__struct_fields__ if hasattr(definition, name)
    }
    return fields | further


ANSWERS: dict[DefinitionKind, type[DefinitionAnswer]] = {
    "purpose": PurposeAnswer,
    "source": SourceAnswer,
    "destination": DestinationAnswer,
    "segment": SegmentAnswer,
    "attribute": AttributeAnswer,
    "import": ScheduledImportAnswer,
    "export": ExportAnswer,
}


class PreviewForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A condition to try out: who satisfies it, at ``true_at`` and by the knowledge of ``known_at`` if given."""

    spec: dict[str, Any]
    true_at: str | int | None = None
    known_at: str | int | None = None


class SqlForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A read-only question; ``params`` fill its question marks in order."""

    sql: str
    params: list[Any] = []


class IdentifierForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An identifier in a body."""

    namespace: str
    value: str

    def identifier(self) -> Identifier:
        """The identifier that this form names."""
        return Identifier(self.namespace, self.value)


class LinkForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's word on two identifiers."""

    kind: Literal["manual_same", "manual_different"]
    left: IdentifierForm
    right: IdentifierForm
    evidence: str = ""


class AddressForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a quarantined event lies in the log."""

    position: int
    slot: int


class ReplayForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which quarantined events to replay; an event must meet every choice that is made, and no choice means all."""

    addresses: tuple[AddressForm, ...] = ()
    message_ids: tuple[str, ...] = ()
    reason: str = ""
    source: str = ""
