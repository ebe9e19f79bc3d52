"""A served ledger, and a real browser to look at its page."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    Locator,
    Page,
    WebSocketRoute,
    expect,
    sync_playwright,
)

from api.dashboard.build import DIST
from tests import servers
from tests.api.command_line import CommandLine

PATIENCE_MS = 60_000
"""For whatever is waited for: how fast the machine is today is no property of the page."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ROWS = """account,deal_id,instrument,quantity,price,currency,event_time
A1,D1,AAPL,100,185.50,USD,2024-01-02T14:30:00Z
A1,D2,AAPL,-40,190.10,USD,2024-01-11T19:45:12Z
A1,D3,MSFT,10,370.25,USD,2024-01-03T15:00:00Z
B2,D4,MSFT,7,371,USD,2024-01-04T15:00:00Z
"""
PRICES = """instrument,price,currency,event_time
AAPL,200.25,USD,2024-02-01T21:00:00Z
MSFT,400,USD,2024-02-01T21:00:00Z
"""


class Served:
    """`daybook serve` in a process of its own, at one port for as long as the test runs."""

    def __init__(self, daybook: CommandLine) -> None:
        self.daybook = daybook
        self.port = servers.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Serve, and return once the page can be had."""
        words = ("serve", "--port", str(self.port))
        self._process = self.daybook.start(*words, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == f"{self.url}\n"

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.communicate(timeout=120)
            self._process = None

    def take(self, name: str, text: str) -> None:
        """Import a file, in another process than the server's."""
        path = self.daybook.folder / name
        path.write_text(text)
        done = self.daybook("import", name)
        assert done.code == 0, done.err


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A ledger of two accounts, served."""
    if not (DIST / "index.html").exists():
        pytest.skip("the dashboard is not built here: `make dashboard` says why")
    server = Served(CommandLine(tmp_path_factory.mktemp("dashboard")))
    server.take("deals.csv", ROWS)
    server.take("prices.csv", PRICES)
    server.start()
    try:
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The demo's book, served."""
    pytest.importorskip("bokeh_sampledata", reason="the demo's prices are not installed")
    if not (DIST / "index.html").exists():
        pytest.skip("the dashboard is not built here: `make dashboard` says why")
    server = Served(CommandLine(tmp_path_factory.mktemp("demo")))
    home = server.daybook.home
    subprocess.run([sys.executable, "-m", "api.demo", home], check=True, capture_output=True)
    server.start()
    try:
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium as the machine has it."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)}")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


class Relay:
    """Stands between a page and the feed: hears what is asked, and may lose what is told."""

    def __init__(self, page: Page) -> None:
        self.sockets: list[WebSocketRoute] = []
        self._servers: list[WebSocketRoute] = []
        self.asked: list[dict[str, Any]] = []
        self.loses: Callable[[dict[str, Any]], bool] = lambda _frame: False
        page.route_web_socket("**/v1/feed", self._follow)

    def _follow(self, socket: WebSocketRoute) -> None:
        self.sockets.append(socket)
        server = socket.connect_to_server()
        self._servers.append(server)

        def to_server(text: str | bytes) -> None:
            self.asked.append(json.loads(text))
            server.send(text)

        def to_page(text: str | bytes) -> None:
            if not self.loses(json.loads(text)):
                socket.send(text)

        socket.on_message(to_server)
        server.on_message(to_page)

    def of(self, account: str | None, topic: str = "positions") -> list[dict[str, Any]]:
        """Return what was asked for of a topic and account, in its order."""
        told = (one for one in self.asked if one["op"] == "subscribe")
        return [one for one in told if (one["topic"], one.get("account")) == (topic, account)]

    def refuse(self, account: str | None, name: str, status: int) -> None:
        """End the page's subscription to an account, and tell it so."""
        told_id = self.of(account)[-1]["id"]
        self._servers[-1].send(json.dumps({"op": "unsubscribe", "id": told_id}))
        problem = {"type": f"urn:daybook:problem:{name}", "title": "No", "status": status}
        problem["detail"] = "refused by the test"
        told = {"op": "error", "id": told_id, "problem": problem}
        self.sockets[-1].send(json.dumps(told))


def row(page: Page, *texts: str) -> Locator:
    """Return the row of the table that has these texts."""
    found = page.locator(".rows [role=row]")
    for text in texts:
        found = found.filter(has=page.get_by_role("gridcell", name=text, exact=True))
    return found


@contextlib.contextmanager
def watched(browser: Browser, served: Served, *foreseen: str) -> Iterator[Page]:
    """Open a page for a block; what it says in the console or asks of others fails the test.

    `foreseen` are parts of what it may say beside what a server that is killed breaks off.
    """
    faults: list[str] = []
    opened = browser.new_page(viewport={"width": 1360, "height": 820})
    opened.set_default_timeout(PATIENCE_MS)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda told: told.type == "error" and faults.append(told.text))
    opened.on(
        "request",
        lambda asked: asked.url.startswith(served.url) or faults.append(f"asks {asked.url}"),
    )
    try:
        yield opened
    finally:
        opened.close()
    known = ("WebSocket connection", "Failed to load resource: net::ERR_", *foreseen)
    unforeseen = [one for one in faults if not any(told in one for told in known)]
    assert unforeseen == []


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """A page at the dashboard."""
    with watched(browser, served) as opened:
        opened.goto(served.url)
        yield opened
