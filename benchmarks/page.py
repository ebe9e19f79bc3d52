"""How fast the dashboard is on a large book, in a real browser beside a real server.

All deals of many accounts are one table. Chromium runs without a window, at 60 frames a second;
what a frame costs is the time from its first callback until it is painted, as the page itself
measures it. Deals that come are told over HTTP, and come by the feed. CPU is that of the page's
main thread, as the browser counts it.
"""

import contextlib
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from api.wiring import running
from benchmarks.books import fresh_home, import_deals, write_deals
from benchmarks.http_queries import served
from benchmarks.rows import Row

DEALS: Final = 100_000
ACCOUNTS: Final = 1_000
INSTRUMENTS: Final = 100
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
FRAME_MS: Final = 1_000 / 60
_A_SECOND: Final = 20
_PATIENCE_MS: Final = 120_000
_STEP_PX: Final = 240
_OPENED: Final = """async () => {
  const painted = () => performance.getEntriesByName("first-contentful-paint")[0]?.startTime;
  while (document.querySelector(".rows [role=row]") === null || painted() === undefined)
    await new Promise(requestAnimationFrame);
  return [painted(), performance.now()];
}"""
_SCROLL: Final = """async ([frames, step]) => {
  const scroller = document.querySelector(".scroller");
  const painted = new MessageChannel();
  const work = [];
  const gaps = [];
  let began = 0;
  let before = 0;
  painted.port1.onmessage = () => work.push(performance.now() - began);
  await new Promise((done) => {
    const frame = () => {
      began = performance.now();
      if (before > 0) gaps.push(began - before);
      before = began;
      if (gaps.length === frames) return done();
      const most = scroller.scrollHeight - scroller.clientHeight;
      scroller.scrollTop = (scroller.scrollTop + step) % most;
      painted.port2.postMessage(null);
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  return { work, gaps };
}"""
_SORT: Final = """(title) => new Promise((done) => {
  const button = [...document.querySelectorAll(".head button")]
    .find((one) => one.textContent.trim() === title);
  const began = performance.now();
  const painted = new MessageChannel();
  painted.port1.onmessage = () => done(performance.now() - began);
  button.click();
  requestAnimationFrame(() => painted.port2.postMessage(null));
})"""


def main(*, full: bool = False) -> list[Row]:
    """Serve a book, look at it, scroll through it and let deals come."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        print(f"skipped: no browser is installed: none of {', '.join(BROWSERS)}")
        return []
    with fresh_home() as home, sync_playwright() as playwright:
        path = home.folder / "deals.csv"
        write_deals(path, DEALS, ACCOUNTS, INSTRUMENTS)
        with running(home.settings) as parts:
            import_deals(parts, path, DEALS)
            parts.projector.catch_up()
        with served(home.folder) as port:
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
            try:
                return _looked_at(browser, f"http://127.0.0.1:{port}", full=full)
            finally:
                browser.close()


def _looked_at(browser: Browser, url: str, *, full: bool) -> list[Row]:
    times, seconds = (15, 30) if full else (5, 8)
    opened = [_opened(browser, url) for _ in range(times)]
    with browser.new_page(viewport={"width": 1360, "height": 820}) as page:
        page.set_default_timeout(_PATIENCE_MS)
        page.goto(f"{url}/#tab=deals")
        page.locator(".foot").get_by_text(f"{DEALS:,} rows").wait_for()
        whole_ms = page.evaluate("performance.now()")
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        sorting = [page.evaluate(_SORT, title) for title in ("Quantity", "Price", "Deal")]
        page.evaluate(_SORT, "Time (UTC)")
        return [
            *_openings(opened, whole_ms),
            *_scrolled(page, session, url, seconds),
            *_taken(page, session, url, seconds),
            Row(
                what=f"sorting {DEALS:,} rows by another column, the slowest of three",
                unit="ms",
                ours=max(sorting),
                target=500.0,
            ),
        ]


def _opened(browser: Browser, url: str) -> tuple[float, float]:
    """Return when something is painted, and when the first rows are there, without a cache."""
    with browser.new_context(viewport={"width": 1360, "height": 820}) as context:
        page = context.new_page()
        page.set_default_timeout(_PATIENCE_MS)
        page.goto(url, wait_until="commit")
        painted, shown = page.evaluate(_OPENED)
        return painted, shown


def _openings(opened: list[tuple[float, float]], whole_ms: float) -> list[Row]:
    painted, shown = (sorted(told) for told in zip(*opened, strict=True))
    return [
        Row(
            what=f"first contentful paint, nothing cached, median of {len(opened)}",
            unit="ms",
            ours=statistics.median(painted),
            target=500.0,
            note=f"the slowest {painted[-1]:.0f} ms",
        ),
        Row(
            what="first rows of the book, nothing cached, median",
            unit="ms",
            ours=statistics.median(shown),
            note=f"the slowest {shown[-1]:.0f} ms",
        ),
        Row(what=f"all {DEALS:,} rows of the deals by the feed", unit="ms", ours=whole_ms),
    ]


def _scrolled(page: Page, session: CDPSession, url: str, seconds: int) -> list[Row]:
    """Scroll by eight rows a frame, while deals come."""
    with _deals(url, "S", seconds):
        before = _cpu_ms(session)
        told: dict[str, list[float]] = page.evaluate(_SCROLL, [seconds * 60, _STEP_PX])
        cpu = (_cpu_ms(session) - before) / len(told["gaps"])
    work, gaps = sorted(told["work"]), sorted(told["gaps"])
    missed = sum(max(0, round(gap / FRAME_MS) - 1) for gap in gaps)
    return [
        Row(
            what=f"a frame while scrolling {DEALS:,} rows, {_A_SECOND} deals/s, p99",
            unit="ms",
            ours=_p99(work),
            target=FRAME_MS,
            note=f"median {statistics.median(work):.1f}, the longest {work[-1]:.1f} ms; "
            f"CPU {cpu:.1f} ms a frame",
        ),
        Row(
            what="from one frame to the next meanwhile, p99",
            unit="ms",
            ours=_p99(gaps),
            target=1.5 * FRAME_MS,
            note=f"{missed} of {len(gaps) + missed} frames left out; "
            f"the longest gap {gaps[-1]:.1f} ms",
        ),
    ]


def _taken(page: Page, session: CDPSession, url: str, seconds: int) -> list[Row]:
    """Let deals come while nobody touches the page."""
    deltas: list[int] = []

    def heard(told: dict[str, Any]) -> None:
        text: str = told["response"]["payloadData"]
        if text.startswith('{"op":"delta"'):
            deltas.append(len(text))

    session.on("Network.webSocketFrameReceived", heard)
    session.send("Network.enable")
    cpu = []
    for name in ("", "T"):
        before = _cpu_ms(session)
        with _deals(url, name, seconds) if name else contextlib.nullcontext():
            page.wait_for_timeout(seconds * 1_000)
        cpu.append(_cpu_ms(session) - before)
    session.send("Network.disable")
    return [
        Row(
            what=f"CPU of the page for a delta, {DEALS:,} rows, {_A_SECOND} deals/s",
            unit="ms",
            ours=(cpu[1] - cpu[0]) / len(deltas),
            target=FRAME_MS,
            note=f"{len(deltas)} deltas of the tables shown for {_A_SECOND * seconds} deals",
        )
    ]


def _cpu_ms(session: CDPSession) -> float:
    told: dict[str, Any] = session.send("Performance.getMetrics")
    seconds = {one["name"]: float(one["value"]) for one in told["metrics"]}
    return seconds["ThreadTime"] * 1e3


@contextlib.contextmanager
def _deals(url: str, name: str, seconds: int) -> Iterator[None]:
    """Tell deals at a steady rate beside a block."""
    thread = threading.Thread(target=_tell, args=(url, name, _A_SECOND * seconds))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _tell(url: str, name: str, deals: int) -> None:
    start = time.monotonic()
    with httpx.Client(base_url=url) as client:
        for number in range(deals):
            time.sleep(max(0.0, start + number / _A_SECOND - time.monotonic()))
            told = {
                "account": f"A{number % ACCOUNTS:05}",
                "event_time": f"2025-01-02T{14 + number // 3600}:{number // 60 % 60:02}:00Z",
                "deal_id": f"{name}{number}",
                "instrument": f"I{number % INSTRUMENTS:03}",
                "side": "buy",
                "quantity": "100",
                "price": "100.5",
                "currency": "USD",
            }
            client.post("/v1/deals", json=told).raise_for_status()


def _p99(ordered: list[float]) -> float:
    return ordered[len(ordered) * 99 // 100]
