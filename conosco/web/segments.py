"""Routes of segments: their definitions with sizes and sentences, who is in them, who came and went, and previews."""

from litestar import Response, get, post, put
from litestar.params import JSONBody

from conosco.model.answer import Member, Movement, Page, Preview
from conosco.web.access import Desks
from conosco.web.definitions import write_status, written_fields
from conosco.web.forms import PreviewForm, SegmentAnswer, SegmentForm, told
from conosco.web.office import Office
from conosco.web.reading import LIMIT_DEFAULT, Cursor, InState, InWarehouse, Limit, Ref, parse_as_of


@get("/api/segments")
async def list_segments(
    office: Desks, in_state: InState, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = ""
) -> Page[SegmentAnswer]:
    """All segments, by key, with how many people are in each and its condition in words."""
    page = await office.definitions.list("segment", cursor, limit)
    sizes = await office.segments.sizes([item.key for item in page.items])
    return Page(
        items=[
            SegmentAnswer(**told(item, "segment"), member_count=size.members, sentence=size.sentence)
            if (size := sizes.get(item.key))
            else SegmentAnswer(**told(item, "segment"))
            for item in page.items
        ],
        next=page.next,
    )


@get("/api/segments/{ref:str}")
async def read_segment(office: Desks, in_state: InState, ref: Ref) -> SegmentAnswer:
    """A segment, by id or key."""
    return await _read(office, ref)


async def _read(office: Office, ref: str) -> SegmentAnswer:
    definition = await office.definitions.get("segment", ref)
    size = (await office.segments.sizes([definition.key])).get(definition.key)
    if size is None:
        return SegmentAnswer(**told(definition, "segment"))
    return SegmentAnswer(**told(definition, "segment"), member_count=size.members, sentence=size.sentence)


@post("/api/segments")
async def create_segment(office: Desks, data: JSONBody[SegmentForm]) -> Response[SegmentAnswer]:
    """Make a segment. People who satisfy it become its members as soon as it is applied."""
    written = await office.definitions.create(data.definition())
    return Response(SegmentAnswer(**written_fields(written, "segment")), status_code=write_status(written, 201))


@put("/api/segments/{ref:str}")
async def replace_segment(office: Desks, ref: Ref, data: JSONBody[SegmentForm]) -> Response[SegmentAnswer]:
    """Replace a segment by a new version, given whole."""
    written = await office.definitions.replace(ref, data.definition())
    return Response(SegmentAnswer(**written_fields(written, "segment")), status_code=write_status(written, 200))


@post("/api/segments/preview", status_code=200)
async def preview_segment(office: Desks, in_warehouse: InWarehouse, data: JSONBody[PreviewForm]) -> Preview:
    """Count the people who satisfy a condition, without making a segment."""
    return await office.segments.preview(data.spec, await parse_as_of(office, data.true_at, data.known_at, "/"))


@get("/api/segments/{ref:str}/members")
async def list_members(
    office: Desks, in_state: InState, ref: Ref, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = ""
) -> Page[Member]:
    """The people who are in the segment now."""
    return await office.segments.members(ref, cursor, limit)


@get("/api/segments/{ref:str}/history")
async def list_segment_history(
    office: Desks, in_warehouse: InWarehouse, ref: Ref, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = ""
) -> Page[Movement]:
    """Who entered and left the segment, newest first."""
    return await office.segments.history(ref, cursor, limit)


@get("/api/movements")
async def list_movements(office: Desks, in_state: InState, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = "") -> Page[Movement]:
    """Who entered and left any segment, newest first."""
    return await office.segments.movements(cursor, limit)


SEGMENT_ROUTES = (
    list_segments,
    read_segment,
    create_segment,
    replace_segment,
    preview_segment,
    list_members,
    list_segment_history,
    list_movements,
)
