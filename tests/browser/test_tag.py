"""A page with nothing but the snippet that `conosco source show` prints, in a real browser, on another origin than ours."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from conosco.cli.snippets import snippets
from tests.browser.chromium import Chromium, Tab
from tests.running.installation import Installation, until

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A real installation."""
    with Installation(tmp_path_factory.mktemp("tag")) as installation:
        yield installation


@pytest.fixture
def write_key(installation: Installation) -> str:
    """The key of a browser source."""
    sources = installation.get("/api/sources")["items"]
    form = {"key": f"shop_{len(sources)}", "name": "Shop", "type": "browser", "region": "eu"}
    return str(installation.post("/api/sources", form)["write_key"])


@pytest.fixture
def show_page() -> Iterator[Callable[[str], str]]:
    """Serves one page on a port of its own; gives its address."""
    servers: list[ThreadingHTTPServer] = []

    def show(html: str) -> str:
        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(html.encode())

            def log_message(self, *_: Any) -> None:
                return

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Page))
        threading.Thread(target=servers[-1].serve_forever, args=(0.05,)).start()
        return f"http://localhost:{servers[-1].server_port}/shop"

    yield show
    for server in servers:
        server.shutdown()
        server.server_close()


def hosts_asked(chromium: Chromium) -> set[str]:
    """The hosts that pages have asked for anything."""
    asked = [event["params"]["request"]["url"] for event in chromium.events if event["method"] == "Network.requestWillBeSent"]
    return {url.split("/")[2] for url in asked if url.startswith("http")}


def test_a_page_with_the_snippet_alone_sends_its_events(
    installation: Installation,
    write_key: str,
    show_page: Callable[[str], str],
    chromium: Chromium,
    open_tab: Callable[..., Tab],
) -> None:
    page = f"<!doctype html><title>The shop</title>{snippets('browser', installation.url, write_key)['browser']}"
    address = show_page(page)
    chromium.events.clear()
    tab = open_tab()
    tab.open(address)
    tab.wait_for("window.analytics.initialized")
    until(lambda: installation.sql("select count(*) from events") == [[1]], "the page has arrived")
    tab.evaluate("analytics.identify('ada', {email: 'ada@example.com'})")
    tab.evaluate("analytics.track('Product Viewed', {sku: 'A-1', price: 39.5})")
    question = "select type, event, user_id, json_extract_string(context, '$.page.title') from events where user_id = 'ada' or type = 'page'"
    until(lambda: len(installation.sql(question)) == 3, "page, identify and track have arrived")
    assert sorted(map(str, installation.sql(question))) == sorted(
        map(
            str,
            [
                ["page", None, None, "The shop"],
                ["identify", None, "ada", "The shop"],
                ["track", "Product Viewed", "ada", "The shop"],
            ],
        )
    )
    # The visitor before and after signing in is one person.
    assert len(installation.sql("select distinct profile_id from events")) == 1
    assert hosts_asked(chromium) == {address.split("/")[2], f"127.0.0.1:{installation.port}"}


def test_a_pixel_is_shown_and_counted(
    installation: Installation,
    write_key: str,
    show_page: Callable[[str], str],
    open_tab: Callable[..., Tab],
) -> None:
    tab = open_tab()
    tab.open(show_page(f"<!doctype html>{snippets('browser', installation.url, write_key)['pixel']}"))
    tab.wait_for("document.images[0].complete && document.images[0].naturalWidth === 1")
    until(lambda: installation.sql("select 1 from events where event = 'Email Opened'") == [[1]], "the pixel's event is there")


def test_a_wrong_key_is_no_broken_image_and_no_tag(
    installation: Installation, show_page: Callable[[str], str], open_tab: Callable[..., Tab]
) -> None:
    tab = open_tab()
    tab.open(show_page(f"<!doctype html>{snippets('browser', installation.url, 'wrong')['pixel']}"))
    tab.wait_for("document.images[0].complete && document.images[0].naturalWidth === 1")
    tab.open(show_page(f"<!doctype html>{snippets('browser', installation.url, 'wrong')['browser']}"))
    assert tab.evaluate("window.analytics.initialized") is None
