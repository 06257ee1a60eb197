"""Who may come in: the admin token, or a session that a one-time link or the token opened, and a limit on wrong guesses."""

import hashlib
import hmac
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.handlers.base import BaseRouteHandler
from litestar.params import SkipValidation

from conosco.model.answer import Session
from conosco.model.problem import refuse
from conosco.web.office import Office

COOKIE: Final = "conosco_session"
CSRF_HEADER: Final = "x-csrf-token"
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
AnyConnection = ASGIConnection[Any, Any, Any, Any]
# The office reaches every route as a dependency of this name and type.
Desks = NamedDependency[SkipValidation[Office]]


class GuessLimit:
    """Counts wrong credentials by client address: after ``most`` within ``window_s`` the address must wait.

    A credential that was right from an address before stays usable there, so that nobody can be locked out by the
    wrong guesses of others behind the same address.
    """

    def __init__(self, clock_s: Callable[[], float], most: int = 20, window_s: int = 60, addresses_max: int = 10_000) -> None:
        self._clock_s = clock_s
        self._most = most
        self._window_s = window_s
        self._addresses_max = addresses_max
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._proven: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def check(self, address: str, credential: str) -> None:
        """Refuse ``too_many_attempts`` (429) if this address must wait."""
        if (address, _digest(credential)) in self._proven:
            return
        wrong = self._wrong.get(address)
        if wrong is None:
            return
        now = self._clock_s()
        while wrong and wrong[0] <= now - self._window_s:
            wrong.popleft()
        if len(wrong) >= self._most:
            raise refuse("too_many_attempts", status=429, retry_s=max(1, int(wrong[0] + self._window_s - now) + 1))

    def failed(self, address: str) -> None:
        """Count a wrong credential."""
        self._wrong.setdefault(address, deque(maxlen=self._most)).append(self._clock_s())
        self._wrong.move_to_end(address)
        if len(self._wrong) > self._addresses_max:
            self._wrong.popitem(last=False)

    def proved(self, address: str, credential: str) -> None:
        """Remember a right credential."""
        self._proven[address, _digest(credential)] = None
        if len(self._proven) > self._addresses_max:
            self._proven.popitem(last=False)


class Door:
    """Lets requests in or refuses them. Its ``guard`` stands before every operation that is not public."""

    def __init__(self, office: Office, limit: GuessLimit) -> None:
        self._office = office
        self._limit = limit

    async def guard(self, connection: AnyConnection, handler: BaseRouteHandler) -> None:
        """Pass the bearer of the admin token, or a session; refuse 401, 403 or 429."""
        if handler.opt.get("public"):
            return
        token = bearer_token(connection)
        if token:
            self.check_token(connection, token)
            return
        session = await self.session(connection)
        if session is None:
            raise refuse("not_signed_in", status=401)
        if str(connection.scope.get("method")) not in _READING:
            check_csrf(connection, session)

    def check_token(self, connection: AnyConnection, token: str) -> None:
        """Refuse anything but the admin token."""
        address = client_address(connection)
        self._limit.check(address, token)
        if not self._office.access.check_token(token):
            self._limit.failed(address)
            raise refuse("wrong_token", status=401)
        self._limit.proved(address, token)

    async def session(self, connection: AnyConnection) -> Session | None:
        """The session of the request's cookie, if it has one that is still good."""
        secret = connection.cookies.get(COOKIE, "")
        if not secret:
            return None
        # Secrets of sessions are long and random, so wrong ones (a browser that was signed out) are not counted.
        return await self._office.access.session(secret)

    async def redeem(self, connection: AnyConnection, code: str) -> bool:
        """Use up a one-time code."""
        address = client_address(connection)
        self._limit.check(address, code)
        good = bool(code) and await self._office.access.redeem(code)
        if not good:
            self._limit.failed(address)
        return good


DoorDependency = NamedDependency[SkipValidation[Door]]


class SessionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this browser is signed in, and the token that it must send back with every write."""

    signed_in: bool
    csrf_token: str | None = None


@get("/api/session", opt={"public": True}, security=[])
async def read_session(request: Request[Any, Any, Any], door: DoorDependency) -> SessionAnswer:
    """Whether the request carries a good session; never an error, so that the page can ask first."""
    session = await door.session(request)
    return SessionAnswer(signed_in=session is not None, csrf_token=session.csrf_token if session else None)


@post("/api/session", status_code=201)
async def open_session(request: Request[Any, Any, Any], office: Desks) -> Response[SessionAnswer]:
    """Sign this browser in; the request carries the admin token."""
    session = await office.access.open_session()
    answer = SessionAnswer(signed_in=True, csrf_token=session.csrf_token)
    return Response(answer, status_code=201, cookies=[session_cookie(request, session)])


@delete("/api/session", status_code=200)
async def close_session(request: Request[Any, Any, Any], office: Desks) -> Response[SessionAnswer]:
    """Sign this browser out."""
    secret = request.cookies.get(COOKIE, "")
    if secret:
        await office.access.close_session(secret)
    gone = Cookie(key=COOKIE, value="", max_age=0, path="/", httponly=True, samesite="lax", secure=_is_secure(request))
    return Response(SessionAnswer(signed_in=False), status_code=200, cookies=[gone])


def session_cookie(request: Request[Any, Any, Any], session: Session) -> Cookie:
    """The cookie of a session: out of reach of scripts, not sent by other sites' forms, encrypted transport kept."""
    return Cookie(
        key=COOKIE,
        value=session.secret,
        path="/",
        httponly=True,
        samesite="lax",
        secure=_is_secure(request),
        max_age=session.lifetime_s,
    )


def bearer_token(connection: AnyConnection) -> str:
    """The token of an Authorization header of the Bearer scheme, or an empty text."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def check_csrf(connection: AnyConnection, session: Session) -> None:
    """Refuse a write of a session that does not carry the session's own token: another site may have sent it."""
    sent = connection.headers.get(CSRF_HEADER, "")
    if not hmac.compare_digest(_digest(sent), _digest(session.csrf_token)):
        raise refuse("csrf_token_missing", status=403)


def client_address(connection: AnyConnection) -> str:
    """The address that the request came from, as the server saw it."""
    return connection.client.host if connection.client else ""


def _is_secure(request: Request[Any, Any, Any]) -> bool:
    return request.scope.get("scheme") == "https"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
