"""Routes of people: profiles and what lies behind them, and the links that a person may assert or retract."""

from typing import Annotated

import msgspec
from litestar import Response, delete, get, post
from litestar.params import JSONBody, QueryParameter

from conosco.model.answer import (
    Commanded,
    ConsentRecord,
    Explanation,
    IdentityAnswer,
    LinkDraft,
    LinkWritten,
    Membership,
    Page,
    Profile,
    TimelineEntry,
)
from conosco.web.access import Desks
from conosco.web.forms import LinkForm
from conosco.web.reading import LIMIT_DEFAULT, Asked, Cursor, Limit, Ref, read_person_ref


@get("/api/profiles/{ref:str}")
async def read_profile(office: Desks, as_of: Asked, ref: Ref) -> Profile:
    """Everything known about a person: by profile id, current or former, or by ``namespace:value``, percent-encoded."""
    return await office.people.profile(read_person_ref(ref), as_of)


@get("/api/profiles/{ref:str}/timeline")
async def read_timeline(
    office: Desks, as_of: Asked, ref: Ref, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = ""
) -> Page[TimelineEntry]:
    """What happened to a person, newest first."""
    return await office.people.timeline(read_person_ref(ref), as_of, cursor, limit)


@get("/api/profiles/{ref:str}/identity")
async def read_identity(office: Desks, as_of: Asked, ref: Ref) -> IdentityAnswer:
    """Why these identifiers are one person."""
    return await office.people.identity(read_person_ref(ref), as_of)


@get("/api/profiles/{ref:str}/memberships")
async def read_memberships(office: Desks, as_of: Asked, ref: Ref) -> Page[Membership]:
    """The segments that a person is or was in, the current ones first."""
    return Page(items=await office.people.memberships(read_person_ref(ref), as_of))


@get("/api/profiles/{ref:str}/explain")
async def explain_membership(
    office: Desks, as_of: Asked, ref: Ref, segment: Annotated[str, QueryParameter(description="Id or key of the segment.")]
) -> Explanation:
    """Why a person is or is not in a segment, condition by condition."""
    return await office.people.explain(read_person_ref(ref), segment, as_of)


@get("/api/profiles/{ref:str}/consents")
async def read_consents(office: Desks, as_of: Asked, ref: Ref) -> Page[ConsentRecord]:
    """What a person agreed to and refused, for all identifiers."""
    return Page(items=await office.people.consents(read_person_ref(ref), as_of))


class LinkAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A manual link that was written."""

    id: str
    position: int


class CommandAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A command that was written, and how many things it concerns."""

    position: int
    count: int


def command_response(commanded: Commanded) -> Response[CommandAnswer]:
    """The answer to a command: 200 if it has taken effect, else 202."""
    answer = CommandAnswer(position=commanded.position, count=commanded.count)
    return Response(answer, status_code=200 if commanded.applied else 202)


@post("/api/links")
async def create_link(office: Desks, data: JSONBody[LinkForm]) -> Response[LinkAnswer]:
    """Say that two identifiers are the same person, or that they are not."""
    draft = LinkDraft(kind=data.kind, left=data.left.identifier(), right=data.right.identifier(), evidence=data.evidence)
    written: LinkWritten = await office.people.link(draft)
    answer = LinkAnswer(id=written.link_id, position=written.position)
    return Response(answer, status_code=201 if written.applied else 202)


@delete("/api/links/{ref:str}", status_code=200)
async def retract_link(office: Desks, ref: Ref) -> Response[CommandAnswer]:
    """Retract a link, whatever made it; everything derived from it follows."""
    return command_response(await office.people.retract(ref))


PEOPLE_ROUTES = (
    read_profile,
    read_timeline,
    read_identity,
    read_memberships,
    explain_membership,
    read_consents,
    create_link,
    retract_link,
)
