"""Routes of what can be mended: quarantined events, failed deliveries, and the list of jobs."""

from typing import Annotated

from litestar import Response, get, post
from litestar.params import JSONBody, QueryParameter

from conosco.model.answer import DeliveryAnswer, Job, KeptEvent, Page, ReplayChoice
from conosco.web.access import Desks
from conosco.web.forms import ReplayForm
from conosco.web.outgoing import read_moment
from conosco.web.people import CommandAnswer, command_response
from conosco.web.reading import LIMIT_DEFAULT, Cursor, InState, Limit, Ref

Only = Annotated[str, QueryParameter(max_length=100, description="Only those with this value; all if empty.")]
# The framework keeps the name ``state`` for itself, so that only the query calls it so.
Wanted = Annotated[str, QueryParameter(name="state", max_length=100, description="Only deliveries in this state; all if empty.")]

From = Annotated[str, QueryParameter(name="from", max_length=100, description="Only those made from this moment on.")]
To = Annotated[str, QueryParameter(name="to", max_length=100, description="Only those made before this moment.")]


@get("/api/quarantine")
async def list_quarantine(
    office: Desks,
    in_state: InState,
    reason: Only = "",
    source: Only = "",
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = "",
) -> Page[KeptEvent]:
    """Events that could not be applied, with the reason; their bytes are kept."""
    return await office.care.quarantine(reason, cursor, limit, source)


@post("/api/quarantine/replay", status_code=200)
async def replay_quarantine(office: Desks, data: JSONBody[ReplayForm | None] = None) -> Response[CommandAnswer]:
    """Try quarantined events again; without a body, all of them."""
    chosen = data or ReplayForm()
    choice = ReplayChoice(
        addresses=tuple((address.position, address.slot) for address in chosen.addresses),
        message_ids=chosen.message_ids,
        reason=chosen.reason,
        source=chosen.source,
    )
    return command_response(await office.care.replay(choice))


@get("/api/deliveries")
async def list_deliveries(
    office: Desks,
    in_state: InState,
    wanted: Wanted = "",
    destination: Only = "",
    since: From = "",
    until: To = "",
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = "",
) -> Page[DeliveryAnswer]:
    """Deliveries, newest first: of a destination, in a state, made from a moment on and before another."""
    first = read_moment(since) if since else None
    last = read_moment(until) if until else None
    return await office.care.deliveries(wanted, destination, first, last, cursor, limit)


@post("/api/deliveries/{ref:str}/retry", status_code=200)
async def retry_delivery(office: Desks, ref: Ref) -> Response[CommandAnswer]:
    """Try a delivery again that has ended without success."""
    return command_response(await office.care.retry(ref))


@get("/api/jobs")
async def list_jobs(office: Desks, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = "") -> Page[Job]:
    """Long work, newest first."""
    return await office.progress.jobs(cursor, limit)


CARE_ROUTES = (list_quarantine, replay_quarantine, list_deliveries, retry_delivery, list_jobs)
