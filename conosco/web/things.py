"""Routes of visits and objects: what a person did in a stretch, which things there are, and who deals with them."""

from typing import Annotated

from litestar import get
from litestar.params import QueryParameter

from conosco.model.answer import KnownObject, Page, PersonObject, Visit
from conosco.model.definition import KEY
from conosco.model.problem import refuse
from conosco.web.access import Desks
from conosco.web.reading import LIMIT_DEFAULT, Asked, Cursor, InWarehouse, Limit, Ref, read_carried, read_person_ref

Kind = Annotated[str, QueryParameter(max_length=64, description="Only objects of this kind, such as `order`; all if absent.")]


@get("/api/profiles/{ref:str}/visits")
async def read_visits(
    office: Desks, in_warehouse: InWarehouse, as_of: Asked, ref: Ref, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = ""
) -> Page[Visit]:
    """A person's visits, newest first: stretches of activity on one device, without those of programs."""
    return await office.things.visits(read_person_ref(ref), as_of, cursor, limit)


@get("/api/profiles/{ref:str}/objects")
async def read_objects_of_person(
    office: Desks, as_of: Asked, ref: Ref, kind: Kind = "", limit: Limit = LIMIT_DEFAULT, cursor: Cursor = ""
) -> Page[PersonObject]:
    """The orders, products, subscriptions and other objects that a person deals with, by kind and id."""
    return await office.things.objects_of(read_person_ref(ref), kind, as_of, cursor, limit)


@get("/api/objects/{kind:str}/{ref:str}")
async def read_object(office: Desks, as_of: Asked, kind: Ref, ref: Ref) -> KnownObject:
    """An object: its state with provenance, the newest changes, and the people who deal with it. The id is percent-encoded."""
    object_id = read_carried(ref)
    if KEY.match(kind) is None:
        raise refuse("not_found", status=404, kind=kind[:64], ref=object_id)
    return await office.things.object(kind, object_id, as_of)


THING_ROUTES = (read_visits, read_objects_of_person, read_object)
