"""The dashboard in a real browser, on a real server, fed by other processes."""

import gzip
import re
import signal

from playwright.sync_api import Page, expect

from api.dashboard.build import DIST
from tests.api.dashboard.conftest import PATIENCE_MS, Relay, Served, row

PAINTED = """(patience) => new Promise((done) => {
  const heard = (list) => list.getEntriesByName("first-contentful-paint").length > 0 && done(true);
  new PerformanceObserver(heard).observe({ type: "paint", buffered: true });
  setTimeout(() => done(false), patience);
})"""
LIVE = re.compile("^live$")
HEADER = "account,deal_id,instrument,quantity,price,currency,event_time\n"


def test_the_book_is_shown_with_exact_numbers(page: Page) -> None:
    expect(page.locator(".mark [role=status]")).to_have_text(LIVE)
    apple = row(page, "AAPL", "A1")
    cells = apple.get_by_role("gridcell")
    expect(cells).to_have_text(
        ["AAPL", "A1", "60", "185.5000", "200.25", "12,015.00", "885.00", "184.00", "0.00", "USD"]
    )
    expect(page.locator(".foot")).to_contain_text("3 rows")
    expect(page.locator(".totals")).to_contain_text("18,815.00")


def test_what_another_process_records_appears(page: Page, served: Served) -> None:
    expect(row(page, "MSFT", "B2")).to_be_visible()
    served.take("live.csv", HEADER + "B2,L1,MSFT,3,372,USD,2024-01-05T15:00:00Z\n")
    expect(row(page, "MSFT", "B2").get_by_role("gridcell").nth(2)).to_have_text("10")


def test_a_new_price_marks_what_is_held(page: Page, served: Served) -> None:
    cells = row(page, "MSFT", "B2").get_by_role("gridcell")
    expect(cells.nth(4)).to_have_text("400.00")
    header = "instrument,price,currency,event_time\n"
    served.take("later.csv", header + "MSFT,410.5,USD,2024-02-02T21:00:00Z\n")
    expect(cells.nth(4)).to_have_text("410.50")
    served.take("back.csv", header + "MSFT,400,USD,2024-02-03T21:00:00Z\n")
    expect(cells.nth(4)).to_have_text("400.00")


def test_it_goes_on_after_the_server_was_killed(page: Page, served: Served) -> None:
    expect(page.locator(".mark [role=status]")).to_have_text(LIVE)
    served.end(signal.SIGKILL)
    expect(page.locator(".mark [role=status]")).to_have_text("reconnecting")
    served.take("down.csv", HEADER + "B2,K1,IBM,5,180,USD,2024-01-05T16:00:00Z\n")
    served.start()
    expect(page.locator(".mark [role=status]")).to_have_text(LIVE)
    expect(row(page, "IBM", "B2").get_by_role("gridcell").nth(2)).to_have_text("5")
    page.get_by_role("button", name="Feed: live").click()
    health = page.locator("#health")
    expect(health).to_contain_text(re.compile(r"Reconnects\s*[1-9]"))
    expect(health).to_contain_text(re.compile(r"Gaps closed\s*0"))


def test_the_whole_page_goes_to_the_past_and_back(page: Page) -> None:
    page.get_by_label("As of").fill("2024-01-05")
    page.get_by_role("button", name="Go").click()
    expect(page.locator(".banner")).to_contain_text("as of 2024-01-05")
    expect(row(page, "AAPL", "A1").get_by_role("gridcell").nth(2)).to_have_text("100")
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Deals").click()
    expect(row(page, "D1")).to_have_count(1)
    expect(row(page, "D2")).to_have_count(0)
    page.reload()
    expect(page.locator(".banner")).to_contain_text("as of 2024-01-05")
    page.get_by_role("button", name="Now", exact=True).click()
    expect(row(page, "D2")).to_have_count(1)


def test_a_time_that_is_none_is_said_to_be_none(page: Page) -> None:
    page.get_by_label("As of").fill("yesterday")
    expect(page.get_by_role("alert")).to_contain_text("Expected a date like 2024-01-05")


def test_behind_a_number_are_its_lots_and_events(page: Page) -> None:
    row(page, "AAPL", "A1").get_by_role("gridcell").nth(6).click()
    behind = page.get_by_role("complementary")
    expect(behind.locator(".asked")).to_contain_text("885")
    expect(behind.locator(".plain-table tbody tr")).to_have_count(1)
    expect(behind.locator(".plain-table tbody tr")).to_contain_text("11,130.00")
    expect(behind.get_by_text("deal recorded")).to_have_count(2)
    behind.get_by_text("deal recorded").first.click()
    expect(behind.locator("pre").first).to_contain_text('"deal_id": "D2"')
    expect(behind.locator("canvas")).to_be_visible()
    page.keyboard.press("Escape")
    expect(behind).to_have_count(0)


def test_the_keyboard_is_enough(page: Page) -> None:
    expect(row(page, "AAPL", "A1")).to_be_visible()
    page.keyboard.press("3")
    expect(page.get_by_role("tab", name="Deals")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("/")
    page.keyboard.type("D3")
    expect(page.locator(".foot")).to_have_text("1 row")
    page.keyboard.press("Escape")
    page.get_by_role("grid", name="Deals").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("complementary")).to_contain_text("370.25")


def test_a_ticket_places_one_order(page: Page, served: Served) -> None:
    page.get_by_label("Account", exact=True).select_option("B2")
    page.locator("h1").click()
    page.keyboard.press("t")
    ticket = page.get_by_role("form", name="Order ticket")
    expect(ticket.get_by_label("Instrument")).to_be_focused()
    ticket.get_by_label("Instrument").fill("MSFT")
    ticket.get_by_label("Quantity").fill("12.5")
    ticket.get_by_label("Limit price").fill("1e3")
    expect(ticket.get_by_role("button", name="Buy 12.5 MSFT")).to_be_disabled()
    ticket.get_by_label("Limit price").fill("401.10")
    expect(ticket.locator(".notional")).to_have_text("5,013.75 in all")
    ticket.get_by_role("button", name="Buy 12.5 MSFT").click()
    expect(ticket.get_by_role("status")).to_contain_text("Placed")
    placed = served.daybook("orders", "--account", "B2", "--format", "json").json
    assert [(one["side"], one["quantity"], one["limit_price"]) for one in placed] == [
        ("buy", "12.5", "401.10")
    ]
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Orders").click()
    expect(page.locator(".foot")).to_have_text("1 row")


def test_a_table_is_asked_for_once_and_only_when_it_is_looked_at(page: Page) -> None:
    relay = Relay(page)
    page.reload()
    expect(row(page, "AAPL", "A1")).to_be_visible()
    assert {one["topic"] for one in relay.asked} == {"positions"}
    page.get_by_role("tab", name="Deals").click()
    expect(row(page, "D4")).to_be_visible()
    asked = list(relay.asked)
    for name in ("Book", "Deals"):
        page.get_by_role("tab", name=name).click()
    expect(row(page, "D4")).to_be_visible()
    assert relay.asked == asked
    page.get_by_label("Account", exact=True).select_option("A1")
    expect(row(page, "D4")).to_have_count(0)
    expect(row(page, "D3")).to_be_visible()
    assert len(relay.of("A1", "deals")) == len(relay.of("A1", "positions")) == 1
    assert relay.of("A1", "orders") == []


def test_what_is_closed_is_said_to_be_there(page: Page, served: Served) -> None:
    bought = "SHUT,S1,IBM,5,180,USD,2024-01-05T16:00:00Z\n"
    sold = "SHUT,S2,IBM,-5,181,USD,2024-01-06T16:00:00Z\n"
    served.take("shut.csv", HEADER + bought + sold)
    page.get_by_label("Account", exact=True).select_option("SHUT")
    expect(page.locator(".empty")).to_have_text("No open positions; closed: 1.")
    page.get_by_label("open only").uncheck()
    expect(row(page, "IBM", "SHUT")).to_be_visible()
    page.get_by_role("tab", name="Deals").click()
    expect(page.get_by_label("open only")).to_have_count(0)


def test_many_rows_are_few_in_the_page_and_stay_in_order(page: Page, served: Served) -> None:
    lines = [
        f"MANY,N{number},AAPL,{number},1.5,USD,2024-01-02T14:{number // 60 % 60:02}:00Z\n"
        for number in range(1, 6001)
    ]
    served.take("many.csv", HEADER + "".join(lines))
    page.get_by_label("Account", exact=True).select_option("MANY")
    page.get_by_role("tab", name="Deals").click()
    expect(page.locator(".foot")).to_contain_text("6,000 rows")
    assert page.locator(".rows [role=row]").count() < 100
    page.get_by_role("grid", name="Deals").focus()
    page.get_by_role("button", name="Quantity").click()
    page.keyboard.press("End")
    expect(row(page, "6,000")).to_be_visible()
    for index in (0, 40, 5_990):
        shown_at(page, index, f"{index + 1:,}")
    # What comes while so many rows are shown is put in its place, without sorting the others.
    served.take("between.csv", HEADER + "MANY,B1,AAPL,40.5,1.5,USD,2024-01-03T14:00:00Z\n")
    expect(page.locator(".foot")).to_contain_text("6,001 rows")
    for index, quantity in ((39, "40"), (40, "40.5"), (41, "41"), (6_000, "6,000")):
        shown_at(page, index, quantity)
    page.get_by_label("Filter the rows").fill("b1")
    expect(page.locator(".foot")).to_have_text("1 row")
    expect(row(page, "40.5")).to_be_visible()
    page.get_by_label("Filter the rows").fill("n5")
    expect(page.locator(".foot")).to_have_text("1,111 rows")
    page.get_by_role("tab", name="Book").click()
    page.get_by_label("Filter the rows").fill("")
    expect(row(page, "18,003,040.5")).to_be_visible()


def shown_at(page: Page, index: int, quantity: str) -> None:
    """Scroll to the row at a place, and see its quantity."""
    page.locator(".scroller").evaluate("(one, top) => one.scrollTo(0, top)", index * 30)
    wanted = page.locator(f".rows [aria-rowindex='{index + 2}']")
    expect(wanted.get_by_role("gridcell", name=quantity, exact=True)).to_be_visible()


def test_it_fits_a_phone_in_the_dark(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme="dark")
    expect(row(page, "AAPL").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(16, 21, 20)"


def test_the_first_paint_waits_for_no_script_and_no_rows(page: Page) -> None:
    page.route("**/*.js", lambda route: route.abort())
    page.reload()
    expect(page.locator(".starting")).to_have_text("Daybook")
    assert page.evaluate(PAINTED, PATIENCE_MS)


def test_the_page_is_small_and_sent_packed(page: Page) -> None:
    built = [path.read_bytes() for path in DIST.rglob("*") if path.is_file()]
    assert sum(len(gzip.compress(content)) for content in built) < 100_000
    expect(row(page, "AAPL", "A1")).to_be_visible()
    told = page.evaluate(
        "performance.getEntriesByType('resource').filter(one => /\\.(js|css)$/.test(one.name))"
        ".map(one => [one.encodedBodySize, one.decodedBodySize])"
    )
    assert len(told) >= 2
    assert all(0 < sent < whole / 2 for sent, whole in told)
