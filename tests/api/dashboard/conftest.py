"""A served ledger, and a real browser to look at its page."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

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


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """A page at the dashboard; what it says in the console or asks of others fails the test."""
    faults: list[str] = []
    opened = browser.new_page(viewport={"width": 1360, "height": 820})
    opened.set_default_timeout(PATIENCE_MS)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda told: told.type == "error" and faults.append(told.text))
    opened.on(
        "request",
        lambda asked: asked.url.startswith(served.url) or faults.append(f"asks {asked.url}"),
    )
    opened.goto(served.url)
    yield opened
    opened.close()
    # A server that is killed breaks off what is asked of it just then.
    foreseen = ("WebSocket connection", "Failed to load resource: net::ERR_")
    unforeseen = [one for one in faults if not any(told in one for told in foreseen)]
    assert unforeseen == []
