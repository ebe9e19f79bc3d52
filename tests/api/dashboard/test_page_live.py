"""The dashboard while the book moves, and where the feed loses or refuses something."""

import re
import signal
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.api.dashboard.conftest import PATIENCE_MS, Relay, Served, row, watched

HEADER = "account,deal_id,instrument,quantity,price,currency,event_time\n"


@pytest.fixture
def relay(browser: Browser, served: Served) -> Iterator[tuple[Page, Relay]]:
    """A page whose feed passes through the test."""
    with watched(browser, served) as page:
        relay = Relay(page)
        page.goto(served.url)
        expect(row(page, "AAPL", "A1")).to_be_visible()
        yield page, relay


def tell(served: Served, deal_id: str, instrument: str = "MSFT", **told: str) -> None:
    """Record a deal of one unit by the server."""
    deal = {"account": "B2", "deal_id": deal_id, "instrument": instrument, "side": "buy"}
    terms = {"quantity": "1", "price": "370", "currency": "USD"}
    time = {"event_time": "2024-01-08T15:00:00Z"}
    body = {**deal, **terms, **time, **told}
    answer = httpx.post(f"{served.url}/v1/deals", json=body, timeout=120)
    assert answer.status_code == 201, answer.text


def of_b2(page: Page) -> None:
    """Look at one account, whose rows fit into the page."""
    page.get_by_label("Account", exact=True).select_option("B2")


def test_a_frame_that_is_lost_is_asked_for_again_from_where_it_was(
    relay: tuple[Page, Relay], served: Served
) -> None:
    page, feed = relay
    lost: list[str] = []

    def loses(frame: dict[str, object]) -> bool:
        if frame["op"] == "delta" and not lost:
            lost.append(str(frame["previous"]))
            return True
        return False

    feed.loses = loses
    tell(served, "GAP1", "GAP1")
    for _ in range(PATIENCE_MS // 20):
        if lost:
            break
        page.wait_for_timeout(20)
    tell(served, "GAP2", "GAP2")
    expect(row(page, "GAP1", "B2")).to_be_visible()
    expect(row(page, "GAP2", "B2")).to_be_visible()
    first, again = feed.of(None)
    assert again["from"] == lost[0]
    assert {"op": "unsubscribe", "id": first["id"]} in feed.asked
    page.get_by_role("button", name="Feed: live").click()
    expect(page.locator("#health")).to_contain_text(re.compile(r"Gaps closed\s*1"))


def test_what_the_server_gives_up_is_asked_for_again(
    relay: tuple[Page, Relay], served: Served
) -> None:
    page, feed = relay
    feed.refuse(None, "internal", 500)
    expect(page.get_by_role("alert")).to_have_text("refused by the test")
    expect(page.get_by_role("alert")).to_have_count(0)
    assert len(feed.of(None)) == 2
    tell(served, "GIVEN1", "GIVEN")
    expect(row(page, "GIVEN", "B2")).to_be_visible()


def test_prices_that_came_while_the_feed_was_lost_mark_a_large_book(
    page: Page, served: Served
) -> None:
    deals = [f"BIG,BIG{n},X{n},1,1,USD,2024-01-05T15:00:00Z\n" for n in range(1, 1002)]
    prices = "instrument,price,currency,event_time\nX777,{},USD,{}T21:00:00Z\n"
    served.take("big.csv", HEADER + "".join(deals))
    served.take("price.csv", prices.format("10", "2024-02-01"))
    page.reload()
    page.get_by_label("Account", exact=True).select_option("BIG")
    page.get_by_label("Filter the rows").fill("X777")
    mark = row(page, "X777", "BIG").get_by_role("gridcell").nth(4)
    expect(mark).to_have_text("10.00")
    served.end(signal.SIGKILL)
    served.take("later.csv", prices.format("11", "2024-02-02"))
    served.start()
    expect(mark).to_have_text("11.00")


def test_events_behind_a_row_come_while_it_is_open(page: Page, served: Served) -> None:
    tell(served, "OPEN1", "OPEN")
    of_b2(page)
    row(page, "OPEN", "B2").get_by_role("gridcell").nth(2).click()
    behind = page.get_by_role("complementary")
    behind.get_by_text("deal recorded").click()
    expect(behind.locator("pre")).to_contain_text('"deal_id": "OPEN1"')
    tell(served, "OPEN2", "OPEN")
    tell(served, "OTHER", "MSFT")
    expect(behind.get_by_text("2 behind this")).to_be_visible()
    expect(behind.locator(".plain-table tbody tr")).to_have_count(2)
    expect(behind.locator("details[open] pre")).to_contain_text('"deal_id": "OPEN1"')


def test_what_is_behind_a_row_is_not_asked_for_again_when_others_move(
    page: Page, served: Served
) -> None:
    tell(served, "STILL1", "STILL")
    of_b2(page)
    row(page, "STILL", "B2").get_by_role("gridcell").nth(2).click()
    expect(page.get_by_text("1 behind this")).to_be_visible()
    asked: list[str] = []

    def note(request: Request) -> None:
        # Marks are asked for of positions, whatever is open.
        if "instrument=STILL" in request.url and "/positions" not in request.url:
            asked.append(request.url)

    page.on("request", note)
    tell(served, "MOVED", "MOVED")
    expect(row(page, "MOVED", "B2")).to_be_visible()
    page.get_by_role("tab", name="Deals").click()
    expect(row(page, "MOVED")).to_be_visible()
    assert asked == []


def test_a_row_flashes_each_time_it_changes(browser: Browser, served: Served) -> None:
    tell(served, "FLASH1", "FLASH")
    with watched(browser, served) as page:
        page.add_init_script(
            "window.flashed = []; const animate = Element.prototype.animate;"
            "Element.prototype.animate = function (...told) {"
            "  window.flashed.push(this.textContent); return animate.apply(this, told); };"
        )
        page.goto(served.url)
        of_b2(page)
        expect(row(page, "FLASH", "B2")).to_be_visible()
        page.evaluate("window.flashed = []")
        for held in (2, 3, 4):
            tell(served, f"FLASH{held}", "FLASH")
            expect(row(page, "FLASH", "B2").get_by_role("gridcell").nth(2)).to_have_text(str(held))
        flashed = page.evaluate("window.flashed")
    assert [text.startswith("FLASHB2") for text in flashed] == [True, True, True]


def test_the_mark_stays_on_its_row_and_the_keyboard_sorts(page: Page, served: Served) -> None:
    of_b2(page)
    page.get_by_role("tab", name="Deals").click()
    grid = page.get_by_role("grid", name="Deals")
    expect(row(page, "D4")).to_be_visible()
    tell(served, "BELOW")
    expect(row(page, "BELOW")).to_be_visible()
    grid.focus()
    marked = page.locator(".rows .row.active")
    page.keyboard.press("ArrowDown")
    before = marked.get_by_role("gridcell").nth(2).inner_text()
    tell(served, "TOP", event_time="2025-01-08T15:00:00Z")
    expect(row(page, "TOP")).to_be_visible()
    expect(marked.get_by_role("gridcell").nth(2)).to_have_text(before)
    page.keyboard.press("Enter")
    behind = page.get_by_role("complementary")
    expect(behind).to_be_focused()
    expect(behind.get_by_role("heading", name=before)).to_be_visible()
    page.keyboard.press("Escape")
    expect(grid).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Time (UTC)")).to_be_focused()
    page.keyboard.press("Enter")
    head = page.get_by_role("columnheader", name="Time (UTC)")
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(behind).to_have_count(0)
    owned = page.locator(".rows").get_attribute("aria-owns") or ""
    ids = page.locator(".rows [role=row]").evaluate_all(
        "rows => rows.sort((a, b) => a.ariaRowIndex - b.ariaRowIndex).map(row => row.id)"
    )
    assert owned.split() == ids
