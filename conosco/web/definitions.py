"""Routes of definitions: purposes, sources, destinations and attributes. Those of segments are in segments.py."""

from typing import Any

from litestar import Response, get, post, put
from litestar.params import JSONBody

from conosco.model.answer import Page, Written
from conosco.model.definition import DefinitionKind
from conosco.web.access import Desks
from conosco.web.forms import (
    UNSET,
    AttributeAnswer,
    AttributeForm,
    DestinationAnswer,
    DestinationForm,
    EventCounts,
    PurposeAnswer,
    PurposeForm,
    SourceAnswer,
    SourceForm,
    told,
)
from conosco.web.reading import LIMIT_DEFAULT, Cursor, InState, Limit, Ref


def write_status(written: Written, done: int) -> int:
    """The status of a write: ``done`` if it has taken effect, else 202."""
    return done if written.applied else 202


def written_fields(written: Written, kind: DefinitionKind) -> dict[str, Any]:
    """The fields of a definition just written, with its position."""
    return told(written.definition, kind, position=written.position)


@get("/api/purposes")
async def list_purposes(
    office: Desks, in_state: InState, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = ""
) -> Page[PurposeAnswer]:
    """All purposes, by key."""
    page = await office.definitions.list("purpose", cursor, limit)
    return Page(items=[PurposeAnswer(**told(item, "purpose")) for item in page.items], next=page.next)


@get("/api/purposes/{ref:str}")
async def read_purpose(office: Desks, in_state: InState, ref: Ref) -> PurposeAnswer:
    """A purpose, by id or key."""
    return PurposeAnswer(**told(await office.definitions.get("purpose", ref), "purpose"))


@post("/api/purposes")
async def create_purpose(office: Desks, data: JSONBody[PurposeForm]) -> Response[PurposeAnswer]:
    """Make a purpose."""
    written = await office.definitions.create(data.definition())
    answer = PurposeAnswer(**written_fields(written, "purpose"))
    return Response(answer, status_code=write_status(written, 201))


@put("/api/purposes/{ref:str}")
async def replace_purpose(office: Desks, ref: Ref, data: JSONBody[PurposeForm]) -> Response[PurposeAnswer]:
    """Replace a purpose by a new version, given whole."""
    written = await office.definitions.replace(ref, data.definition())
    return Response(PurposeAnswer(**written_fields(written, "purpose")), status_code=write_status(written, 200))


@get("/api/sources")
async def list_sources(office: Desks, in_state: InState, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = "") -> Page[SourceAnswer]:
    """All sources, by key."""
    page = await office.definitions.list("source", cursor, limit)
    return Page(items=[SourceAnswer(**told(item, "source")) for item in page.items], next=page.next)


@get("/api/sources/{ref:str}")
async def read_source(office: Desks, in_state: InState, ref: Ref) -> SourceAnswer:
    """A source, by id or key, with what it has brought so far."""
    source = await office.definitions.get("source", ref)
    found = await office.progress.source_counts(source.id)
    counts = EventCounts(**{name: getattr(found, name) for name in EventCounts.__struct_fields__})
    further = {"first_event_at": found.first_event_at, "last_event_at": found.last_event_at, "counts": counts}
    return SourceAnswer(**told(source, "source", **further))


@post("/api/sources")
async def create_source(office: Desks, data: JSONBody[SourceForm]) -> Response[SourceAnswer]:
    """Make a source. Its write key is told here and never again."""
    written = await office.definitions.create(data.definition())
    answer = SourceAnswer(**written_fields(written, "source"), write_key=written.write_key or UNSET)
    return Response(answer, status_code=write_status(written, 201))


@put("/api/sources/{ref:str}")
async def replace_source(office: Desks, ref: Ref, data: JSONBody[SourceForm]) -> Response[SourceAnswer]:
    """Replace a source by a new version, given whole."""
    written = await office.definitions.replace(ref, data.definition())
    return Response(SourceAnswer(**written_fields(written, "source")), status_code=write_status(written, 200))


@get("/api/destinations")
async def list_destinations(
    office: Desks, in_state: InState, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = ""
) -> Page[DestinationAnswer]:
    """All destinations, by key."""
    page = await office.definitions.list("destination", cursor, limit)
    return Page(items=[DestinationAnswer(**told(item, "destination")) for item in page.items], next=page.next)


@get("/api/destinations/{ref:str}")
async def read_destination(office: Desks, in_state: InState, ref: Ref) -> DestinationAnswer:
    """A destination, by id or key."""
    return DestinationAnswer(**told(await office.definitions.get("destination", ref), "destination"))


@post("/api/destinations")
async def create_destination(office: Desks, data: JSONBody[DestinationForm]) -> Response[DestinationAnswer]:
    """Make a destination. The signing secret of a webhook is told here and never again."""
    written = await office.definitions.create(data.definition())
    answer = DestinationAnswer(**written_fields(written, "destination"), secret=written.secret or UNSET)
    return Response(answer, status_code=write_status(written, 201))


@put("/api/destinations/{ref:str}")
async def replace_destination(office: Desks, ref: Ref, data: JSONBody[DestinationForm]) -> Response[DestinationAnswer]:
    """Replace a destination by a new version, given whole."""
    written = await office.definitions.replace(ref, data.definition())
    return Response(DestinationAnswer(**written_fields(written, "destination")), status_code=write_status(written, 200))


@get("/api/attributes")
async def list_attributes(
    office: Desks, in_state: InState, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = ""
) -> Page[AttributeAnswer]:
    """All attributes, by key."""
    page = await office.definitions.list("attribute", cursor, limit)
    return Page(items=[AttributeAnswer(**told(item, "attribute")) for item in page.items], next=page.next)


@get("/api/attributes/{ref:str}")
async def read_attribute(office: Desks, in_state: InState, ref: Ref) -> AttributeAnswer:
    """An attribute, by id or key."""
    return AttributeAnswer(**told(await office.definitions.get("attribute", ref), "attribute"))


@post("/api/attributes")
async def create_attribute(office: Desks, data: JSONBody[AttributeForm]) -> Response[AttributeAnswer]:
    """Make an attribute."""
    written = await office.definitions.create(data.definition())
    answer = AttributeAnswer(**written_fields(written, "attribute"))
    return Response(answer, status_code=write_status(written, 201))


@put("/api/attributes/{ref:str}")
async def replace_attribute(office: Desks, ref: Ref, data: JSONBody[AttributeForm]) -> Response[AttributeAnswer]:
    """Replace an attribute by a new version, given whole."""
    written = await office.definitions.replace(ref, data.definition())
    return Response(AttributeAnswer(**written_fields(written, "attribute")), status_code=write_status(written, 200))


DEFINITION_ROUTES = (
    list_purposes,
    read_purpose,
    create_purpose,
    replace_purpose,
    list_sources,
    read_source,
    create_source,
    replace_source,
    list_destinations,
    read_destination,
    create_destination,
    replace_destination,
    list_attributes,
    read_attribute,
    create_attribute,
    replace_attribute,
)
