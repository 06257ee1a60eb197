"""Problem details (RFC 9457): every error of the management API is told as a code with parameters, and in words."""

import difflib
import re
import traceback
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from conosco.model.answer import ProfileSplit
from conosco.model.problem import Problem, Refused
from conosco.ports.log import LogFull
from conosco.ports.warehouse import QueryFailed
from conosco.web.journal import Note
from conosco.web.wording import Language, Wording, choose_language

PROBLEM_TYPE: Final = "application/problem+json"
# What the warehouse cannot do now, as opposed to what it will never do.
_QUERY_STATUS: Final = {"busy": 503, "warehouse_unavailable": 503, "warehouse_broken": 503, "query_timeout": 504}
_HTTP_CODES: Final = {
    400: "unreadable_body",
    401: "not_signed_in",
    404: "no_such_path",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unreadable_body",
}
AnyRequest = Request[Any, Any, Any]


class ProblemPart(msgspec.Struct, frozen=True, kw_only=True):
    """A further problem of the same request."""

    code: str
    title: str
    detail: str
    params: dict[str, str | int]
    pointer: str
    next: str


class ProblemAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A problem: ``code`` and ``params`` are for programs, title, detail and next for people, in their language.

    ``pointer`` (RFC 6901) says where in the request body. ``problems`` holds what else is wrong, ``candidates`` the
    profile ids that a split profile may now be.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    params: dict[str, str | int]
    pointer: str
    next: str
    request_id: str
    problems: list[ProblemPart] | msgspec.UnsetType = msgspec.UNSET
    candidates: list[str] | msgspec.UnsetType = msgspec.UNSET


class ProblemTeller:
    """Turns exceptions into problem answers; its methods are the API's exception handlers."""

    def __init__(self, wording: Wording, note: Note) -> None:
        self._wording = wording
        self._note = note

    def on_refused(self, request: AnyRequest, refused: Refused) -> Response[ProblemAnswer]:
        """What was asked for cannot be done: all problems, the worst one first."""
        candidates = refused.candidates if isinstance(refused, ProfileSplit) else ()
        return self.answer(request, refused.problems, refused.status, candidates)

    def on_query_failed(self, request: AnyRequest, failed: QueryFailed) -> Response[ProblemAnswer]:
        """A question that the warehouse refused or could not answer."""
        status = _QUERY_STATUS.get(failed.code, 422)
        return self.answer(request, [Problem(code=failed.code, params=failed.params, pointer="")], status)

    def on_full(self, request: AnyRequest, _: LogFull) -> Response[ProblemAnswer]:
        """Nothing can be written at present; nothing of the request was kept."""
        return self.answer(request, [Problem(code="log_full")], 503)

    def on_invalid(self, request: AnyRequest, invalid: ValidationException) -> Response[ProblemAnswer]:
        """A body or a query parameter that does not have its shape."""
        cause = invalid.__cause__
        if not isinstance(cause, msgspec.ValidationError):
            if missing := _MISSING_PARAMETER.match(invalid.detail):
                return self.answer(request, [Problem(code="missing_parameter", params={"parameter": missing[1]})], 422)
            return self.answer(request, [Problem(code="unreadable_body")], 400)
        target = request.route_handler.parsed_fn_signature.parameters.get("data")
        return self.answer(request, [read_validation_error(str(cause), target and target.annotation)], 422)

    def on_http(self, request: AnyRequest, error: HTTPException) -> Response[ProblemAnswer]:
        """What the framework itself refuses: unknown paths, wrong methods, unreadable or oversized bodies."""
        code = _HTTP_CODES.get(error.status_code)
        if code is None:
            return self.on_crash(request, error)
        params: dict[str, str | int] = {"method": request.method} if error.status_code in (404, 405) else {}
        response = self.answer(request, [Problem(code=code, params=params)], error.status_code)
        for name, value in (error.headers or {}).items():
            response.headers[name] = value
        return response

    def on_too_deep(self, request: AnyRequest, _: RecursionError) -> Response[ProblemAnswer]:
        """JSON nested deeper than any reader goes; nothing of ours recurses without a limit."""
        return self.answer(request, [Problem(code="unreadable_body")], 400)

    def on_no_text(self, request: AnyRequest, _: UnicodeDecodeError) -> Response[ProblemAnswer]:
        """A body whose bytes are no text; what is already stored has been checked, so nothing else is decoded here."""
        return self.answer(request, [Problem(code="unreadable_body")], 400)

    def on_crash(self, request: AnyRequest, error: Exception) -> Response[ProblemAnswer]:
        """A defect of ours. The reader gets the request id; the journal gets the place, without any values."""
        frames = traceback.extract_tb(error.__traceback__)[-8:]
        facts = {
            "request_id": request_id(request),
            "error": type(error).__name__,
            "places": [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames],
        }
        self._note("crashed", facts)
        return self.answer(request, [Problem(code="internal_error")], 500)

    def answer(
        self, request: AnyRequest, problems: Sequence[Problem], status: int, candidates: Sequence[str] = ()
    ) -> Response[ProblemAnswer]:
        """Tell problems, the first as the main one, in the language that the request asks for."""
        language = choose_language(request.headers.get("accept-language", ""))
        first, *others = problems or [Problem(code="internal_error")]
        words = self._wording.words(first.code, first.params, language)
        told = ProblemAnswer(
            type=f"urn:conosco:error:{first.code}",
            title=words.title or HTTPStatus(status).phrase,
            status=status,
            detail=words.detail,
            code=first.code,
            params=first.params,
            pointer=first.pointer,
            next=words.next,
            request_id=request_id(request),
            problems=[self._part(problem, language) for problem in others] or msgspec.UNSET,
            candidates=list(candidates) or msgspec.UNSET,
        )
        headers = {"Content-Language": language, "Vary": "Accept-Language"}
        if status in (429, 503):
            headers["Retry-After"] = str(first.params.get("retry_s", 1))
        if status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="conosco"'
        return Response(told, status_code=status, media_type=PROBLEM_TYPE, headers=headers)

    def _part(self, problem: Problem, language: Language) -> ProblemPart:
        words = self._wording.words(problem.code, problem.params, language)
        return ProblemPart(
            code=problem.code,
            title=words.title,
            detail=words.detail,
            params=problem.params,
            pointer=problem.pointer,
            next=words.next,
        )


def request_id(request: AnyRequest) -> str:
    """The id under which this request is found in the journal."""
    return str(request.scope.get("state", {}).get("request_id", ""))


_LOCATED: Final = re.compile(r"(?P<text>.*?)(?: - at `(?:key` in `)?(?P<path>\$[^`]*)`)?\Z", re.DOTALL)
_PART: Final = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+)\]|\[(\.\.\.)\]")
_MISSING_PARAMETER: Final = re.compile(r"Missing required query parameter '(\w+)'")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`\Z", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`\Z", re.DOTALL)
_WRONG: Final = re.compile(r"Expected `(.*)`, got `(.*)`\Z", re.DOTALL)
_CHOICE: Final = re.compile(r"Invalid enum value (.*)\Z", re.DOTALL)


def read_validation_error(message: str, target: Any) -> Problem:
    """Turn msgspec's message into a code, parameters and a pointer; an unknown field names the nearest known one.

    ``target`` is the type of the body. For a query parameter the pointer is empty and the parameter is named.
    """
    located = _LOCATED.match(message)
    text, path = (located["text"], located["path"] or "$") if located else (message, "$")
    parts = [name or index or "*" for name, index, _ in _PART.findall(path)]
    in_body = parts[:1] == ["data"]
    pointer = "".join("/" + part for part in parts[1:]) if in_body else ""
    params: dict[str, str | int] = {} if in_body or not parts else {"parameter": parts[0]}
    code: Literal["unknown_field", "missing_field", "wrong_type", "invalid_choice", "invalid_value"]
    if found := _UNKNOWN.match(text):
        code = "unknown_field"
        params |= {"field": found[1], "nearest": nearest(found[1], field_names(target, parts[1:]))}
        pointer += "/" + found[1]
    elif found := _MISSING.match(text):
        if found[1] == "data":
            return Problem(code="body_missing")
        code, pointer = "missing_field", f"{pointer}/{found[1]}"
        params |= {"field": found[1]}
    elif found := _WRONG.match(text):
        code = "wrong_type"
        params |= {"expected": _type_words(found[1]), "actual": _type_words(found[2]), "field": _last(parts)}
    elif found := _CHOICE.match(text):
        code = "invalid_choice"
        params |= {"value": found[1].strip("'"), "field": _last(parts)}
    else:
        code = "invalid_value"
        params |= {"reason": text, "field": _last(parts)}
    return Problem(code=code, params=params, pointer=pointer)


def _last(parts: Sequence[str]) -> str:
    """The name of what a path leads to."""
    return parts[-1] if parts and parts[-1] != "data" else "body"


# The validator's names of types, in the words that conditions use too.
_TYPE_WORDS: Final = {
    "str": "text",
    "int": "whole_number",
    "float": "number",
    "bool": "boolean",
    "array": "list",
    "null": "nothing",
}


def _type_words(names: str) -> str:
    """Types as our words, joined by a bar; that a value may be left out is not said."""
    words = [_TYPE_WORDS.get(name, name) for name in names.split(" | ")]
    return "|".join(word for word in words if word != "nothing" or len(words) == 1)


def nearest(name: str, known: Sequence[str]) -> str:
    """The known name most like this one; empty if none is known."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return close[0] if close else ""


def field_names(target: Any, path: Sequence[str]) -> list[str]:
    """The names of the fields of the struct at this path inside a type; none where the path leads to no struct."""
    kind = msgspec.inspect.type_info(target) if target else None
    for part in path:
        kind = _step(kind, part)
    structs = [kind] if isinstance(kind, msgspec.inspect.StructType) else []
    if isinstance(kind, msgspec.inspect.UnionType):
        structs = [option for option in kind.types if isinstance(option, msgspec.inspect.StructType)]
    return [field.encode_name for struct in structs for field in struct.fields]


def _step(kind: msgspec.inspect.Type | None, part: str) -> msgspec.inspect.Type | None:
    """The type below a part of a path."""
    options = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    for option in options:
        if isinstance(option, msgspec.inspect.StructType):
            for field in option.fields:
                if field.encode_name == part:
                    return field.type
        if isinstance(option, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
            return option.item_type
    return None
