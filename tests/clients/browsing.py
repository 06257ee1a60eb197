"""SDKs for browsers in a real one: pages on a server of their own that load the unmodified bundle and make the calls."""

import json
import subprocess
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.browser.chromium import EXECUTABLE, Chromium, Tab
from tests.clients.calls import visit
from tests.clients.fault_proxy import FaultProxy
from tests.clients.sending import BEHIND_S, HERE, NODE_MODULES, PATIENCE_S, PLAN, Client, Plan, missing
from tests.running.installation import Installation


class BrowserSdk(NamedTuple):
    """What differs between SDKs for browsers: its page, how it is loaded, its paths and what its bodies are called, whether it
    has screens, sends nulls, and how many calls its snippet makes by itself.
    """

    page: str
    load: Mapping[str, Any] | bool
    paths: str
    content_type: str
    screens: bool
    nulls: bool
    own_pages: int
    plan: Plan = PLAN


IN_BATCHES = {
    "integrations": {"Segment.io": {"deliveryStrategy": {"strategy": "batching", "config": {"size": 10, "timeout": 200}}}}
}
BROWSERS: Mapping[str, BrowserSdk] = {
    "segment-js": BrowserSdk("segment.html", True, "/v1/p /v1/t /v1/a /v1/i /v1/s /v1/g", "text/plain", True, True, 1),
    # After the first fault it sends all the rest in a batch or two.
    "segment-js batches": BrowserSdk(
        "segment.html", IN_BATCHES, "/v1/b", "text/plain", True, True, 1, (("500",), ("close_after",))
    ),
    "rudder-js": BrowserSdk("rudder.html", True, "/v1/batch", "application/json;charset=UTF-8", False, False, 0),
}
RUDDER = NODE_MODULES / "@rudderstack/analytics-js/dist/npm/modern/bundled/umd/index.js"
# Node prints the snippet that the documentation shows; here the server that it loads from speaks no TLS.
SNIPPET = """
const { max } = require('@segment/snippet')
const [host, apiKey, load] = process.argv.slice(1)
const options = { host, apiKey, load: JSON.parse(load), useHostForBundles: true }
console.log(max(options).replaceAll('https://', 'http://'))
"""
SLOW_CLOCK = """
const Right = Date
const now = () => Right.now() - %d
window.Date = class Date extends Right {
  constructor(...words) { super(...(words.length ? words : [now()])) }
  static now() { return now() }
}
"""


class Page(Client):
    """A page with an SDK. ``message_ids`` are those that the SDK gave to the calls, in their order."""

    message_ids: list[str]
    _tab: Tab

    def start(self, chromium: Chromium, address: str, behind_s: int) -> None:
        """Open the page and make the calls."""
        self._tab = Tab(chromium)
        if behind_s:
            self._tab.call("Page.addScriptToEvaluateOnNewDocument", source=SLOW_CLOCK % (behind_s * 1000))
        self.started_at = datetime.now(UTC)
        self._tab.open(address)
        try:
            self._tab.wait_for("window.isReady")
            self._tab.evaluate(f"void makeCalls({json.dumps(self.calls)})")
        except (AssertionError, RuntimeError) as refused:
            # Told by the tests of this page alone.
            self.problem = f"the SDK is not ready: {refused} {self._tab.requested()} "

    def wait(self) -> None:
        """Wait until all is acknowledged."""
        until = time.monotonic() + PATIENCE_S
        while not self.problem and not self._is_done():
            if time.monotonic() > until:
                self.problem = f"{len(self.message_ids)} of {len(self.calls)} calls told, {len(self.lane.stored)} stored: "
            time.sleep(0.1)
        self.ended_at = datetime.now(UTC)
        if self.problem or self._tab.complaints():
            self.problem += str(self._tab.complaints())
        self._tab.close()

    def _is_done(self) -> bool:
        self.message_ids = [told for told in self._tab.evaluate("told") if told]
        return len(self.message_ids) == len(self.calls) and set(self.message_ids) <= self.lane.stored.keys()


class Site:
    """Serves pages on a free port while it is entered."""

    def __init__(self) -> None:
        pages = self.pages = {"/rudder.js": RUDDER.read_bytes()}

        class Door(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the library calls it so
                found = pages.get(self.path)
                self.send_response(404 if found is None else 200)
                self.send_header("content-type", "text/javascript" if self.path.endswith(".js") else "text/html;charset=utf-8")
                self.end_headers()
                self.wfile.write(found or b"")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def publish(self, sdk: BrowserSdk, page: Page) -> str:
        """The address of a page with the SDK set up as its documentation says."""
        path = f"/{page.source_id}.html"
        text = (HERE / "pages" / sdk.page).read_text()
        if "SNIPPET" in text:
            words = ["node", "-e", SNIPPET, page.url.removeprefix("http://"), page.write_key, json.dumps(sdk.load)]
            snippet = subprocess.run(words, cwd=HERE / "node", capture_output=True, text=True, check=True).stdout
            text = text.replace("SNIPPET", snippet)
        self.pages[path] = text.replace("WRITE_KEY", page.write_key).replace("URL", page.url).encode()
        return self.url + path

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


def missing_browser() -> str:
    """Why no page can be opened here; empty if one can."""
    return missing("browser") or ("" if EXECUTABLE else "needs Chromium")


def start_pages(
    installation: Installation, proxy: FaultProxy, chromium: Chromium, site: Site, rounds_each: int
) -> dict[tuple[str, bool], Page]:
    """Open a page with every SDK for browsers twice: through faults, and with a slow clock but no faults."""
    pages = {}
    for name, sdk in BROWSERS.items():
        for faulty in (True, False):
            who, count = name.replace(" ", "-"), rounds_each
            if not faulty:
                who, count = f"{who}-slow", 1
            calls = visit(who, count, screens=sdk.screens, nulls=sdk.nulls)
            page = pages[name, faulty] = Page(
                installation, proxy, who.replace("-", "_"), "browser", calls, sdk.plan if faulty else ()
            )
            page.start(chromium, site.publish(sdk, page), 0 if faulty else BEHIND_S)
    return pages
