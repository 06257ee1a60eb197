"""A client that speaks to the whole front, without a network, over an Office in memory."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from conosco.web.api import create_api
from conosco.web.app import create_app
from tests.unit.web.fake_office import ADMIN_TOKEN, FakeOffice


class Client:
    """Makes requests; keeps cookies as a browser does. ``token`` None sends no Authorization header."""

    def __init__(self, app: Any, address: str = "127.0.0.1", token: str | None = ADMIN_TOKEN) -> None:
        transport = httpx.ASGITransport(app=app, client=(address, 50_000), raise_app_exceptions=False)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._client = httpx.AsyncClient(transport=transport, base_url="http://front", headers=headers)
        self._runner = asyncio.Runner()

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Make one request; redirects are not followed."""
        return self._runner.run(self._client.request(method, path, **options))

    def close(self) -> None:
        """Release the loop."""
        self._runner.run(self._client.aclose())
        self._runner.close()


class Clock:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Lobby:
    """An Office that passes every request to the office of the running test, so that one application serves all tests."""

    def __init__(self) -> None:
        self.office = FakeOffice()
        self.tracked: list[str] = []
        self.notes: list[tuple[str, dict[str, Any]]] = []

    access = property(lambda self: self.office.access)
    progress = property(lambda self: self.office.progress)
    definitions = property(lambda self: self.office.definitions)
    segments = property(lambda self: self.office.segments)
    people = property(lambda self: self.office.people)
    things = property(lambda self: self.office.things)
    care = property(lambda self: self.office.care)
    hooks = property(lambda self: self.office.hooks)
    outgoing = property(lambda self: self.office.outgoing)
    questions = property(lambda self: self.office.questions)
    imports = property(lambda self: self.office.imports)
    schedules = property(lambda self: self.office.schedules)


_LOBBY = Lobby()
_CLOCK = Clock()


@pytest.fixture
def office() -> FakeOffice:
    """A fresh office."""
    _LOBBY.office = FakeOffice()
    return _LOBBY.office


@pytest.fixture
def clock() -> Clock:
    """The application's clock, past all that earlier tests did."""
    _CLOCK.now_s += 1_000
    return _CLOCK


@pytest.fixture
def tracked() -> list[str]:
    """The paths that reached tracking."""
    _LOBBY.tracked = []
    return _LOBBY.tracked


@pytest.fixture(scope="session")
def front() -> Any:
    """The application."""

    async def tracking(scope: Any, receive: Any, send: Any) -> None:
        _LOBBY.tracked.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"tracked"})

    def note(what: str, facts: dict[str, Any]) -> None:
        _LOBBY.notes.append((what, facts))

    return create_app(create_api(_LOBBY, clock_s=_CLOCK, note=note), tracking, note=note)


@pytest.fixture
def notes() -> list[tuple[str, dict[str, Any]]]:
    """What was noted for operators."""
    _LOBBY.notes = []
    return _LOBBY.notes


@pytest.fixture
def app(front: Any, office: FakeOffice, clock: Clock, tracked: list[str]) -> Any:
    """The application over a fresh office."""
    return front


@pytest.fixture
def make_client(app: Any) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def make(**options: Any) -> Client:
        clients.append(Client(app, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def ask(make_client: Callable[..., Client]) -> Client:
    """A client with the admin token."""
    return make_client()
