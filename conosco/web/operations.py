"""Routes for those who run the product: status, questions in SQL, health and metrics."""

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.params import JSONBody, QueryParameter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from conosco.model.answer import Readiness, Sample, Status
from conosco.runtime.metrics import METRICS
from conosco.web.access import Desks, DoorDependency, bearer_token, client_address
from conosco.web.forms import SqlForm
from conosco.web.outgoing import outgoing_samples
from conosco.web.reading import InState, InWarehouse

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@get("/api/status")
async def read_status(office: Desks, in_state: InState) -> Status:
    """How many events were accepted and what became of them."""
    return await office.progress.status()


class SqlAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a question as arrays, and the log position up to which it was answered."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    as_of: int


@post("/api/sql", status_code=200)
async def ask_sql(office: Desks, in_warehouse: InWarehouse, data: JSONBody[SqlForm]) -> SqlAnswer:
    """Answer one read-only SELECT over the documented tables."""
    answer = await office.questions.sql(data.sql, data.params)
    return SqlAnswer(columns=answer.columns, rows=answer.rows, as_of=answer.as_of)


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """This process answers."""

    status: str = "live"


@get("/health/live", opt={"public": True}, security=[])
async def read_live() -> Live:
    """Whether this process answers at all."""
    return Live()


@get("/health/ready", opt={"public": True}, security=[])
async def read_ready(
    office: Desks, what: Annotated[Literal["all", "tracking"], QueryParameter(name="for")] = "all"
) -> Response[Readiness]:
    """Whether requests can be served; 503 if not, naming what fails. ``for=tracking`` asks for what tracking needs only."""
    readiness = await office.progress.readiness(what)
    return Response(readiness, status_code=200 if readiness.ready else 503)


class SampleCollector:
    """Gives samples to Prometheus under the names of the catalogue; what is not in it is left out."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = samples

    def collect(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        """The families that the samples fill, in the order of the catalogue."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {
            name: (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
                name.removesuffix("_total"), metric.meaning, labels=metric.labels
            )
            for name, metric in METRICS.items()
        }
        for sample in self._samples:
            family = families.get(sample.metric)
            if family is not None:
                family.add_metric(sample.labels, sample.value)
        return [family for family in families.values() if family.samples]


@get("/metrics", opt={"public": True}, include_in_schema=False)
async def read_metrics(request: Request[Any, Any, Any], office: Desks, door: DoorDependency) -> Response[bytes]:
    """Metrics for Prometheus: open to this machine itself, with the admin token to others."""
    forwarded = "forwarded" in request.headers or "x-forwarded-for" in request.headers
    if forwarded or client_address(request) not in _LOOPBACK:
        door.check_token(request, bearer_token(request))
    registry = CollectorRegistry()
    samples = [*await office.progress.samples(), *outgoing_samples(await office.outgoing.healths())]
    registry.register(SampleCollector(samples))
    shared: CollectorRegistry = request.app.state.registry
    return Response(generate_latest(registry) + generate_latest(shared), media_type=_METRICS_TYPE)


OPERATION_ROUTES = (read_status, ask_sql, read_live, read_ready, read_metrics)
