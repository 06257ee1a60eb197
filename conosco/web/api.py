"""The management API as one Litestar application over an Office."""

import time
from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Litestar, Response
from litestar.di import Provide
from litestar.exceptions import HTTPException, ValidationException
from prometheus_client import CollectorRegistry

from conosco.model.problem import Refused
from conosco.ports.log import LogFull
from conosco.ports.warehouse import QueryFailed
from conosco.web.access import Door, GuessLimit, close_session, open_session, read_session
from conosco.web.care import CARE_ROUTES
from conosco.web.contract import openapi_config, read_contract
from conosco.web.definitions import DEFINITION_ROUTES
from conosco.web.hook_previews import HOOK_ROUTES
from conosco.web.imports import IMPORT_ROUTES
from conosco.web.journal import Note, keep_silent
from conosco.web.not_built import NOT_BUILT_ROUTES
from conosco.web.office import Office
from conosco.web.operations import OPERATION_ROUTES
from conosco.web.outgoing import OUTGOING_ROUTES
from conosco.web.page import PAGE_ROUTES, load_static
from conosco.web.people import PEOPLE_ROUTES
from conosco.web.problems import ProblemTeller
from conosco.web.reading import dependency_types
from conosco.web.schedules import SCHEDULE_ROUTES
from conosco.web.segments import SEGMENT_ROUTES
from conosco.web.things import THING_ROUTES
from conosco.web.wording import Wording, load_catalogues

BODY_BYTES_MAX = 10_000_000
# Exact numbers stay numbers on the wire: a Decimal is written with its own digits.
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class ExactResponse(Response[Any]):
    """A response whose JSON keeps exact numbers exact."""

    def render(self, content: Any, media_type: str, enc_hook: Any = None) -> bytes:
        """Encode the content; bytes pass as they are."""
        if isinstance(content, bytes) or "json" not in media_type:
            return super().render(content, media_type) if enc_hook is None else super().render(content, media_type, enc_hook)
        return _ENCODER.encode(content)


def create_api(
    office: Office,
    registry: CollectorRegistry | None = None,
    clock_s: Callable[[], float] = time.monotonic,
    note: Note = keep_silent,
) -> Litestar:
    """Build the API and the start page. ``registry`` holds further metrics of this process, shown under /metrics.

    ``clock_s`` is a monotonic clock in seconds; it is used to limit guesses only. Defects are noted without values.
    """
    wording = Wording(load_catalogues())
    teller = ProblemTeller(wording, note)
    door = Door(office, GuessLimit(clock_s))

    def the_office() -> Office:
        return office

    def the_door() -> Door:
        return door

    app = Litestar(
        route_handlers=[
            *PAGE_ROUTES,
            *OPERATION_ROUTES,
            *DEFINITION_ROUTES,
            *SEGMENT_ROUTES,
            *PEOPLE_ROUTES,
            *THING_ROUTES,
            *CARE_ROUTES,
            *HOOK_ROUTES,
            *OUTGOING_ROUTES,
            *SCHEDULE_ROUTES,
            *IMPORT_ROUTES,
            *NOT_BUILT_ROUTES,
            read_session,
            open_session,
            close_session,
            read_contract,
        ],
        dependencies={
            "office": Provide(the_office, sync_to_thread=False),
            "door": Provide(the_door, sync_to_thread=False),
            **{name: Provide(dependency) for name, dependency in dependency_types().items()},
        },
        guards=[door.guard],
        exception_handlers={
            Refused: teller.on_refused,
            QueryFailed: teller.on_query_failed,
            LogFull: teller.on_full,
            RecursionError: teller.on_too_deep,
            ValidationException: teller.on_invalid,
            HTTPException: teller.on_http,
            UnicodeDecodeError: teller.on_no_text,
            Exception: teller.on_crash,
        },
        response_class=ExactResponse,
        openapi_config=openapi_config(),
        request_max_body_size=BODY_BYTES_MAX,
        logging_config=None,
        debug=False,
    )
    app.state.registry = registry or CollectorRegistry()
    app.state.wording = wording
    app.state.static = load_static()
    return app
