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


@pytest.fixture
def office() -> FakeOffice:
    return FakeOffice()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tracked() -> list[str]:
    """The paths that reached tracking."""
    return []


@pytest.fixture
def app(office: FakeOffice, clock: Clock, tracked: list[str]) -> Any:
    async def tracking(scope: Any, receive: Any, send: Any) -> None:
        tracked.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"tracked"})

    return create_app(create_api(office, clock_s=clock), tracking)


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
