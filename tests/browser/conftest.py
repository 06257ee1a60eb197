"""One browser for all tests of pages, and a server of the real application over an Office in memory for each."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import uvicorn

from conosco.model.definition import Destination, Segment, Source
from conosco.web.api import create_api
from conosco.web.app import create_app
from tests.browser.chromium import EXECUTABLE, Chromium, Tab
from tests.unit.web.fake_office import FakeOffice


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """The browser."""
    if not EXECUTABLE:
        pytest.skip("no Chromium on this machine")
    browser = Chromium(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def open_tab(chromium: Chromium) -> Iterator[Callable[..., Tab]]:
    """Makes tabs, and closes them after the test."""
    tabs: list[Tab] = []

    def make(**options: Any) -> Tab:
        tabs.append(Tab(chromium, **options))
        return tabs[-1]

    yield make
    for tab in tabs:
        tab.close()


@pytest.fixture
def office() -> FakeOffice:
    """A little world: two segments, a source, a destination."""
    office = FakeOffice()
    spec = {"language": 1, "where": {"kind": "all", "of": []}}
    names: dict[Any, str] = {"en": "Loyal", "it": "Fedeli", "pl": "Lojalni", "pt": "Fiéis"}
    for definition in (
        Segment(key="loyal", name=names, purpose="marketing", spec=spec),
        Segment(key="newcomers", name="Newcomers", purpose="marketing", spec=spec),
        Destination(key="crm", name="CRM", purposes=("marketing",), region="eu", type="webhook", spec={}),
        Source(key="web", name="Web shop", type="browser", region="eu"),
    ):
        written = office.definitions._write(definition)
        if written.key == "web":
            office.definitions.rows["source", "web"] = msgspec.structs.replace(written, id="src_web")
    return office


@pytest.fixture
def site(office: FakeOffice) -> Iterator[str]:
    """The address of a server on this machine."""

    async def no_tracking(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the page must not track")

    config = uvicorn.Config(
        create_app(create_api(office), no_tracking), port=0, log_level="error", lifespan="off", access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not (server.started and server.servers):
        if not thread.is_alive():
            raise RuntimeError("the server did not start")
        time.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    yield f"http://{host}:{port}"
    server.should_exit = True
    thread.join(10)
