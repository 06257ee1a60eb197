"""The OpenAPI document: what the framework derives from the routes, completed by what it leaves out."""

import re
from typing import Any, Final

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import Method

from conosco.web.problems import ProblemAnswer

# It changes when a client would have to, not with every release.
CONTRACT_VERSION: Final = "1"
# The framework names the schema of Page[Member] by its whole import path.
_GENERIC: Final = re.compile(r"Page_[\w.]*?(\w+)_(?=\")")
_VERBS: Final = ("get", "put", "post", "delete", "patch")


def _operation_id(handler: HTTPRouteHandler, _: Method, __: list[Any]) -> str:
    return handler.handler_name.rpartition(".")[2]


def openapi_config() -> OpenAPIConfig:
    """The settings from which the framework derives the document; it is served by ``read_contract`` alone."""
    return OpenAPIConfig(
        title="Conosco",
        version=CONTRACT_VERSION,
        description="The management API of Conosco. Errors are problem details (RFC 9457) with a code and parameters.",
        security=[{"token": []}, {"session": []}],
        components=Components(
            security_schemes={
                "token": SecurityScheme(type="http", scheme="bearer", description="The admin token."),
                "session": SecurityScheme(
                    type="apiKey",
                    name="conosco_session",
                    security_scheme_in="cookie",
                    description="A signed-in browser; writes also send the header X-CSRF-Token.",
                ),
            }
        ),
        operation_id_creator=_operation_id,
        path="/api/.openapi",
        render_plugins=[],
    )


def make_contract(app: Litestar) -> dict[str, Any]:
    """The document of an app: operations that anyone may use carry ``security: []``, all errors are problems."""
    derived = msgspec.json.encode(app.openapi_schema.to_schema()).decode()
    document: dict[str, Any] = msgspec.json.decode(_GENERIC.sub(r"PageOf\1", derived))
    public = {
        (path, method.lower())
        for route in app.routes
        for path in [getattr(route, "path_format", "")]
        for handler in getattr(route, "route_handlers", [])
        if handler.opt.get("public")
        for method in handler.http_methods
    }
    _, schemas = msgspec.json.schema_components((ProblemAnswer,), ref_template="#/components/schemas/{name}")
    document["components"]["schemas"].update(schemas)
    problem = {
        "description": "A problem.",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}},
    }
    for path, operations in document["paths"].items():
        for verb in _VERBS:
            operation = operations.get(verb)
            if operation is None:
                continue
            operation["responses"].pop("400", None)
            operation["responses"]["default"] = problem
            if (path, verb) in public:
                operation["security"] = []
    return document


@get("/api/openapi.json", opt={"public": True}, security=[])
async def read_contract(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """This document."""
    state = request.app.state
    # Made when first asked for: starting must not wait for it.
    if "contract" not in state:
        state["contract"] = make_contract(request.app)
    return Response(state["contract"], media_type="application/json")
