"""Routes of what goes out: how a destination fares, trying it out, and sending again; and the same figures for Prometheus."""

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.params import JSONBody, QueryParameter

from conosco.model.answer import DestinationHealth, ReplayedDeliveries, ReplayRange, Sample, TestResult
from conosco.model.moment import parse_moment
from conosco.model.problem import refuse
from conosco.web.access import Desks
from conosco.web.forms import Form
from conosco.web.reading import InState, InWarehouse, Ref
from conosco.web.wording import Wording, choose_language, load_catalogues

TEST_WAIT_MS: Final = 5_000
TEST_WAIT_MS_MAX: Final = 30_000
TestWait = Annotated[
    int,
    QueryParameter(name="wait_ms", ge=0, le=TEST_WAIT_MS_MAX, description="How long to wait for its result, in milliseconds."),
]
AnyRequest = Request[Any, Any, Any]
_BREAKER: Final = {"closed": 0, "half_open": 1, "open": 2}


class DeliveryReplayForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"since": "from", "until": "to"}):
    """Which deliveries to send again: those made from a moment on and before another, in these states.

    ``of`` names another destination whose deliveries this one is to be given. A dry run only counts.
    """

    since: str
    until: str
    states: tuple[Literal["delivered", "dead", "unknown"], ...] = ("delivered", "dead", "unknown")
    of: str = ""
    dry_run: bool = False

    def asked(self) -> ReplayRange:
        """As the office takes it. Refuses ``bad_moment`` (422)."""
        return ReplayRange(
            since=read_moment(self.since, "/from"),
            until=read_moment(self.until, "/to"),
            states=self.states,
            of=self.of,
            dry_run=self.dry_run,
        )


def read_moment(text: str, pointer: str = "") -> int:
    """A moment that a person wrote. Refuses ``bad_moment`` (422)."""
    moment = parse_moment(text)
    if moment is None:
        raise refuse("bad_moment", pointer=pointer, value=text)
    return moment


@cache
def _wording() -> Wording:
    return Wording(load_catalogues())


def _sentence(request: AnyRequest, code: str) -> str:
    return _wording().delivery(code, choose_language(request.headers.get("accept-language", "")))


@get("/api/destinations/{ref:str}/health")
async def read_health(request: AnyRequest, office: Desks, in_state: InState, ref: Ref) -> DestinationHealth:
    """How a destination fares: its breaker, counts by state and by reason, latencies, and the last error in words."""
    health = await office.outgoing.health(ref)
    if health.last_error is None:
        return health
    error = msgspec.structs.replace(health.last_error, sentence=_sentence(request, health.last_error.code))
    return msgspec.structs.replace(health, last_error=error)


@post("/api/destinations/{ref:str}/test", status_code=200)
async def test_destination(
    request: AnyRequest, office: Desks, ref: Ref, wait_for: TestWait = TEST_WAIT_MS
) -> Response[TestResult]:
    """Send a delivery that is marked as a test, through the way of all others; 202 if its result is still awaited."""
    result = await office.outgoing.test(ref, wait_for)
    sentence = _sentence(request, result.code) if result.attempts else ""
    answer = msgspec.structs.replace(result, sentence=sentence)
    return Response(answer, status_code=200 if result.attempts else 202)


@post("/api/destinations/{ref:str}/replay", status_code=200)
async def replay_deliveries(
    office: Desks, in_warehouse: InWarehouse, ref: Ref, data: JSONBody[DeliveryReplayForm]
) -> Response[ReplayedDeliveries]:
    """Send again what went out in a range of time: what was delivered in a new round, what failed under its own id."""
    replayed = await office.outgoing.replay(ref, data.asked())
    return Response(replayed, status_code=200 if replayed.applied else 202)


def outgoing_samples(healths: Sequence[DestinationHealth]) -> list[Sample]:
    """The health of all destinations as metrics; codes and states are closed words."""
    samples: list[Sample] = []
    for health in healths:
        name = health.destination
        samples.extend(Sample("conosco_deliveries", (name, state), count) for state, count in health.deliveries.items())
        samples.extend(Sample("conosco_delivery_attempts_total", (name, code), count) for code, count in health.attempts.items())
        if health.breaker in _BREAKER:
            samples.append(Sample("conosco_destination_breaker", (name,), _BREAKER[health.breaker]))
        samples.append(Sample("conosco_delivery_latency_p99_ms", (name,), health.latency.p99_ms))
    return samples


OUTGOING_ROUTES = (read_health, test_destination, replay_deliveries)
