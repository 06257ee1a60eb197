"""What all reads share: waiting for one's own write, as-of moments, pages, and references to people."""

from typing import Annotated, Any, Final, Literal

from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter, SkipValidation

from conosco.model.answer import AsOf
from conosco.model.identifier import Identifier
from conosco.model.moment import parse_moment
from conosco.model.problem import refuse
from conosco.web.access import Desks
from conosco.web.office import Office, PersonRef

WAIT_MS_DEFAULT: Final = 2_000
WAIT_MS_MAX: Final = 30_000
LIMIT_DEFAULT: Final = 1_000
LIMIT_MAX: Final = 10_000
# A person reference is carried through the router in hexadecimal behind this mark (see app.py).
CARRIED: Final = "~"

After = Annotated[
    int | None,
    QueryParameter(ge=0, description="Wait until the log up to this position is applied, so that you read what you wrote."),
]
WaitMs = Annotated[int | None, QueryParameter(ge=0, le=WAIT_MS_MAX, description="How long to wait at most, in milliseconds.")]
TrueAt = Annotated[
    str | None, QueryParameter(description="The moment asked about: RFC 3339, or microseconds since 1970. Now if absent.")
]
KnownAt = Annotated[
    str | None,
    QueryParameter(description="By the knowledge of then: a log position, or a moment in RFC 3339. Everything if absent."),
]
Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX, description="How many items at most.")]
Cursor = Annotated[str, QueryParameter(max_length=1_000, description="The `next` of the page before; empty for the first page.")]
Ref = FromPath[str]
# What a route names to be run only once its own writes have arrived.
InState = NamedDependency[SkipValidation[bool]]
InWarehouse = NamedDependency[SkipValidation[bool]]
Asked = NamedDependency[SkipValidation[AsOf]]


async def arrived(office: Office, position: int | None, wait_ms: int | None, where: Literal["state", "warehouse"]) -> None:
    """Wait for a position; refuse ``not_yet_applied`` (503) if it is not there in time. No position: no wait."""
    if position is None:
        return
    wait = WAIT_MS_DEFAULT if wait_ms is None else wait_ms
    if not await office.progress.wait(position, wait, where):
        raise refuse("not_yet_applied", status=503, position=position, wait_ms=wait)


async def in_state(office: Desks, after: After = None, wait_ms: WaitMs = None) -> Literal[True]:
    """A dependency: State includes the position asked for."""
    await arrived(office, after, wait_ms, "state")
    return True


async def in_warehouse(office: Desks, after: After = None, wait_ms: WaitMs = None) -> Literal[True]:
    """A dependency: the warehouse includes the position asked for."""
    await arrived(office, after, wait_ms, "warehouse")
    return True


async def read_as_of(
    office: Desks, after: After = None, wait_ms: WaitMs = None, true_at: TrueAt = None, known_at: KnownAt = None
) -> AsOf:
    """A dependency: the moment and knowledge asked about, once what answers it includes the position asked for."""
    as_of = await parse_as_of(office, true_at, known_at)
    await arrived(office, after, wait_ms, "state" if as_of.is_now else "warehouse")
    return as_of


async def parse_as_of(office: Office, true_at: str | int | None, known_at: str | int | None, place: str = "") -> AsOf:
    """Read both; refuses ``bad_moment`` and ``bad_position`` (422). A knowledge moment becomes its log position."""
    return AsOf(true_at=_read_true_at(true_at, place), known_at=await _read_known_at(office, known_at, place))


def _read_true_at(text: str | int | None, place: str) -> int | None:
    if text is None or text == "":
        return None
    if isinstance(text, int):
        return text
    if _is_whole(text):
        return int(text)
    moment = parse_moment(text)
    if moment is None:
        raise refuse("bad_moment", pointer=place and f"{place}/true_at", value=text)
    return moment


async def _read_known_at(office: Office, text: str | int | None, place: str) -> int | None:
    if text is None or text == "":
        return None
    position: int | None
    if isinstance(text, int) or _is_whole(text):
        position = int(text)
    else:
        moment = parse_moment(text)
        position = None if moment is None else await office.progress.position_at(moment)
    if position is None or position < 0:
        raise refuse("bad_position", pointer=place and f"{place}/known_at", value=str(text))
    return position


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and text.isascii() and len(text) <= 18


def read_person_ref(ref: str) -> PersonRef:
    """Read a profile id, or ``namespace:value``; refuses ``bad_reference`` (422)."""
    ref = read_carried(ref)
    if ref.startswith("pro_") and ":" not in ref:
        return ref
    namespace, colon, value = ref.partition(":")
    if not colon or not namespace or not value:
        raise refuse("bad_reference", ref=ref)
    return Identifier(namespace, value)


def read_carried(ref: str) -> str:
    """A reference as it was before it was carried through the router; refuses ``bad_reference`` (422)."""
    if not ref.startswith(CARRIED):
        return ref
    try:
        return bytes.fromhex(ref.removeprefix(CARRIED)).decode()
    except ValueError:
        raise refuse("bad_reference", ref=ref) from None


def dependency_types() -> dict[str, Any]:
    """The reads' dependencies, by the name under which routes ask for them."""
    return {"in_state": in_state, "in_warehouse": in_warehouse, "as_of": read_as_of}
