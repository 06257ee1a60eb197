"""Definitions: what people configure. Each version is a record in the log and takes effect at its position."""

import re
from typing import Any, Final, Literal

import msgspec

from conosco.model.identifier import IdentityRules

KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,63}\Z", re.ASCII)
Name = str | dict[Literal["en", "it", "pl", "pt"], str]
State = Literal["active", "archived"]
Basis = Literal["consent", "contract", "legitimate_interest", "legal_obligation"]
SourceType = Literal["server", "browser", "app", "webhook"]


class Purpose(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="purpose"):
    """Why personal data may be used, and on which legal basis."""

    key: str
    name: Name
    basis: Basis
    channels: tuple[str, ...] = ()
    id: str = ""
    version: int = 0
    state: State = "active"


class SecretName(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A secret by its name; the secret itself lies behind the Keys door and in no definition."""

    secret: str


class StandardSignature(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="standard_webhooks"
):
    """Bodies are signed as the Standard Webhooks specification says. ``tolerance``: how old a signature may be."""

    secret: SecretName
    tolerance: str = "5m"


class HmacSignature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="hmac"):
    """A header carries an HMAC of the body, after ``prefix``.

    With ``timestamp_header`` that header's value (seconds since 1970) and a dot stand before the body in what is signed, and
    ``tolerance`` says how old it may be.
    """

    secret: SecretName
    header: str
    algorithm: Literal["sha256", "sha1"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    timestamp_header: str = ""
    tolerance: str = "5m"


Signature = StandardSignature | HmacSignature


class SourceSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """``max_event_age``: older events are historical. ``priority``: of two sources the higher one's traits win.

    Of a webhook source, ``mappings`` (in the mapping language) say which events its bodies are, and ``signature`` how a body
    proves where it comes from.
    """

    max_event_age: str = "1h"
    priority: int = 0
    mappings: tuple[dict[str, Any], ...] = ()
    signature: Signature | None = None


class Source(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="source"):
    """Where events come from. Only a server source may assert that two identifiers are one person.

    A webhook source takes bodies of any shape, which its mappings turn into events.
    """

    key: str
    name: Name
    type: SourceType
    region: str
    spec: SourceSpec = SourceSpec()
    write_key_hash: str = ""
    id: str = ""
    version: int = 0
    state: State = "active"


class Destination(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="destination"):
    """Where deliveries go; ``spec`` is checked by the connector named in ``type``."""

    key: str
    name: Name
    purposes: tuple[str, ...]
    region: str
    type: str
    spec: dict[str, Any]
    secret_name: str = ""
    id: str = ""
    version: int = 0
    state: State = "active"


class Segment(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="segment"):
    """A condition over people, kept live; ``spec`` is ``{"language": 1, "where": CONDITION}``."""

    key: str
    name: Name
    purpose: str
    spec: dict[str, Any]
    id: str = ""
    version: int = 0
    state: State = "active"


class Attribute(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="attribute"):
    """The definition of a computed trait; ``spec`` names aggregate, event, path, window and filter."""

    key: str
    name: Name
    spec: dict[str, Any]
    id: str = ""
    version: int = 0
    state: State = "active"


class Identity(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="identity"):
    """The identity rules of the workspace; there is one such definition, with the key ``identity``."""

    key: str = "identity"
    name: Name = "Identity rules"
    rules: IdentityRules = IdentityRules()
    id: str = ""
    version: int = 0
    state: State = "active"


class ScheduledImport(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="import"):
    """Files that are brought in again and again; ``spec`` is ``model.scheduled.ImportSpec``.

    ``basis`` and ``note`` say why the data may be kept, as for an import by hand.
    """

    key: str
    name: Name
    source: str
    basis: Basis
    note: str
    spec: dict[str, Any]
    id: str = ""
    version: int = 0
    state: State = "active"


class Export(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="export"):
    """People that are written to files; ``spec`` is ``model.scheduled.ExportSpec``, ``region`` where the files go."""

    key: str
    name: Name
    purpose: str
    region: str
    spec: dict[str, Any]
    id: str = ""
    version: int = 0
    state: State = "active"


Definition = Purpose | Source | Destination | Segment | Attribute | Identity | ScheduledImport | Export
DefinitionKind = Literal["purpose", "source", "destination", "segment", "attribute", "identity", "import", "export"]

_DECODER: msgspec.json.Decoder[Definition] = msgspec.json.Decoder(Definition)


def read_definition(raw: bytes) -> Definition:
    """Decode a definition from its log slice."""
    return _DECODER.decode(raw)


def kind_of(definition: Definition) -> DefinitionKind:
    """The kind under which a definition is kept."""
    return str(definition.__struct_config__.tag)  # type: ignore[return-value]  # tags above are exactly the kinds


def display_name(name: Name, language: str = "en") -> str:
    """The name in a language, else in English, else in whichever language there is."""
    if isinstance(name, str):
        return name
    return name.get(language) or name.get("en") or next(iter(name.values()), "")  # type: ignore[call-overload]
