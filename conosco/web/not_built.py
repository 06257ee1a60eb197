"""Operations that the outside contract names and that later parts will build: they say so instead of pretending."""

from typing import Any, Final

from litestar import Request, route

from conosco.model.problem import refuse

_NOT_BUILT: Final = (
    (["POST"], "/api/consents"),
    (["GET", "POST"], "/api/journeys"),
    (["GET", "PUT"], "/api/journeys/{ref:str}"),
    (["GET", "POST"], "/api/journeys/{ref:str}/{verb:str}"),
    (["POST"], "/api/decide"),
    (["GET", "POST"], "/api/privacy/requests"),
    (["GET"], "/api/privacy/requests/{ref:str}"),
    (["GET"], "/api/audit"),
    (["GET", "POST"], "/api/segments/{ref:str}/backtest"),
)


def _operation(methods: list[Any], path: str) -> Any:
    """A route that refuses with 501, naming itself."""

    @route(path, http_method=methods, include_in_schema=False)
    async def refuse_not_built(request: Request[Any, Any, Any]) -> None:
        raise refuse("not_built_yet", status=501, kind=f"{request.method} {path.replace(':str', '')}")

    return refuse_not_built


NOT_BUILT_ROUTES: Final = tuple(_operation(methods, path) for methods, path in _NOT_BUILT)
