"""Routes for webhook sources: what their mappings make of bodies, and the secrets that their signatures need."""

from typing import Annotated, Any

import msgspec
from litestar import Request, post, put
from litestar.params import JSONBody, PathParameter

from conosco.model.answer import BodyPreview
from conosco.web.access import Desks
from conosco.web.forms import Form
from conosco.web.reading import Ref
from conosco.web.wording import Wording, choose_language

LAST_DEFAULT = 20


class HookPreviewForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which mappings to try (the source's own if none are given), on a body or on as many as were received last."""

    mappings: list[Any] | None = None
    last: int = LAST_DEFAULT
    body: Any = None


class SecretForm(Form, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A secret."""

    value: str


class SecretAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A secret is kept under this name. It is never told."""

    name: str


class ToldProblem(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no event, for programs and in words."""

    code: str
    params: dict[str, str | int]
    title: str
    detail: str
    next: str


class EventPreviewAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An event that would be made, in the shape of the tracking API, or the problem that stands in its way."""

    message_id: str
    event: dict[str, Any] | None
    event_at: str | None
    identifiers: list[str]
    problem: ToldProblem | None


class BodyPreviewAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A body and what it would become. ``position`` is where it lies in the log, ``around`` the rest of what an element came in."""

    position: int | None
    received_at: str
    body: Any
    around: Any
    events: list[EventPreviewAnswer]


class HookPreviewAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Bodies, newest first."""

    items: list[BodyPreviewAnswer]


@post("/api/sources/{ref:str}/preview", status_code=200)
async def preview_source(
    request: Request[Any, Any, Any], office: Desks, ref: Ref, data: JSONBody[HookPreviewForm | None] = None
) -> HookPreviewAnswer:
    """Try mappings on a body or on what a webhook source received last. Nothing is stored."""
    asked = data or HookPreviewForm()
    bodies = await office.hooks.preview(ref, asked.mappings, asked.last, asked.body)
    wording: Wording = request.app.state.wording
    language = choose_language(request.headers.get("accept-language", ""))

    def told(preview: BodyPreview) -> BodyPreviewAnswer:
        events = []
        for made in preview.events:
            problem = None
            if made.problem is not None:
                words = wording.words(made.problem.code, made.problem.params, language)
                problem = ToldProblem(
                    code=made.problem.code,
                    params=made.problem.params,
                    title=words.title,
                    detail=words.detail,
                    next=words.next,
                )
            events.append(
                EventPreviewAnswer(
                    message_id=made.message_id,
                    event=made.event,
                    event_at=made.event_at,
                    identifiers=made.identifiers,
                    problem=problem,
                )
            )
        return BodyPreviewAnswer(
            position=preview.position,
            received_at=preview.received_at,
            body=preview.body,
            around=preview.around,
            events=events,
        )

    return HookPreviewAnswer(items=[told(preview) for preview in bodies])


SecretRef = Annotated[str, PathParameter(description="The name of the secret.")]


@put("/api/secrets/{name:str}")
async def keep_secret(office: Desks, name: SecretRef, data: JSONBody[SecretForm]) -> SecretAnswer:
    """Keep a secret under a name, by which definitions refer to it: ``{"secret": NAME}``. It is never told again."""
    await office.hooks.keep_secret(name, data.value)
    return SecretAnswer(name=name)


HOOK_ROUTES = (preview_source, keep_secret)
