"""Definitions: what people configure. Each version is a record in the log and takes effect at its position."""

import re
from typing import Any, Final, Literal

import msgspec

from conosco.model.identifier import IdentityRules

KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,63}\Z", re.ASCII)
Name = str | dict[Literal["en", "it", "pl", "pt"], str]
State = Literal["active", "archived"]
Basis = Literal["consent", "contract", "legitimate_interest", "legal_obligation"]
SourceType = Literal["server", "browser", "app"]


class Purpose(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="purpose"):
    """Why personal data may be used, and on which legal basis."""

    key: str
    name: Name
    basis: Basis
    channels: tuple[str, ...] = ()
    id: str = ""
    version: int = 0
    state: State = "active"


class SourceSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """``max_event_age``: older events are historical. ``priority``: of two sources the higher one's traits win."""

    max_event_age: str = "1h"
    priority: int = 0


class Source(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="source"):
    """Where events come from. Only a server source may assert that two identifiers are one person."""

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


Definition = Purpose | Source | Destination | Segment | Attribute | Identity
DefinitionKind = Literal["purpose", "source", "destination", "segment", "attribute", "identity"]

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
