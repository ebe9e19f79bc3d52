"""The dashboard in the past: nothing of the present is beside it, and nothing is missing."""

import httpx
from playwright.sync_api import Page, Route, expect

from tests.api.dashboard.conftest import Served, row

HEADER = "account,deal_id,instrument,quantity,price,currency,event_time\n"
PAST_ROWS = "**/v1/accounts/*/*as_of*"


def go_to(page: Page, as_of: str) -> None:
    """Put the page in the past."""
    page.get_by_label("As of").fill(as_of)
    page.get_by_role("button", name="Go").click()
    expect(page.locator(".banner")).to_contain_text(f"as of {as_of}")


def test_what_is_open_goes_to_the_past_too(page: Page, served: Served) -> None:
    row(page, "AAPL", "A1").get_by_role("gridcell").nth(2).click()
    behind = page.get_by_role("complementary")
    expect(behind.locator(".asked")).to_contain_text("60")
    expect(behind.get_by_text("2 behind this")).to_be_visible()
    go_to(page, "2024-01-05")
    expect(behind.locator(".asked")).to_contain_text("100")
    expect(behind.get_by_text("1 behind this")).to_be_visible()
    behind.get_by_text("deal recorded").click()
    expect(behind.locator("pre")).to_contain_text('"deal_id": "D1"')
    go_to(page, "2024-01-01")
    expect(page.locator(".empty")).to_contain_text("Nothing")
    expect(behind).to_have_count(0)
    page.get_by_role("button", name="Now", exact=True).click()
    expect(behind.locator(".asked")).to_contain_text("60")


def test_a_bust_since_is_behind_a_number_of_the_past(page: Page, served: Served) -> None:
    served.take("bust.csv", HEADER + "BUST,B1,IBM,5,180,USD,2024-01-05T16:00:00Z\n")
    bust = {"account": "BUST", "event_time": "2024-01-09T09:00:00Z"}
    answer = httpx.post(f"{served.url}/v1/deals/B1/bust", json=bust, timeout=120)
    assert answer.status_code == 201, answer.text
    page.get_by_label("open only").uncheck()
    go_to(page, "2024-01-06")
    page.get_by_role("tab", name="Deals").click()
    row(page, "IBM", "BUST").get_by_role("gridcell").first.click()
    behind = page.get_by_role("complementary")
    expect(behind.get_by_text("2 behind this")).to_be_visible()
    expect(behind.locator(".events .what")).to_have_text(["deal busted", "deal recorded"])


def test_rows_of_another_time_are_gone_before_those_asked_for_come(page: Page) -> None:
    held: list[Route] = []
    expect(row(page, "AAPL", "A1")).to_be_visible()

    def hold(route: Route) -> None:
        held.append(route)

    page.route(PAST_ROWS, hold)
    go_to(page, "2024-01-05")
    expect(page.locator(".rows [role=row]")).to_have_count(0)
    expect(page.locator(".totals li")).to_have_count(0)
    go_to(page, "2024-01-08")
    expect(page.locator(".empty")).to_have_text("Loading")
    page.unroute(PAST_ROWS)
    page.get_by_role("button", name="Now", exact=True).click()
    expect(row(page, "AAPL", "A1").get_by_role("gridcell").nth(2)).to_have_text("60")
    assert held


def test_accounts_opened_since_the_page_was_are_in_the_past(page: Page, served: Served) -> None:
    expect(row(page, "AAPL", "A1")).to_be_visible()
    served.take("new.csv", HEADER + "NEW,N1,IBM,5,180,USD,2024-01-04T16:00:00Z\n")
    go_to(page, "2024-01-05")
    expect(row(page, "IBM", "NEW")).to_be_visible()
    expect(page.get_by_label("Account", exact=True).locator("option[value=NEW]")).to_have_count(1)


def test_a_fault_of_the_time_is_told_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.get_by_label("As of").fill("yesterday")
    expect(page.get_by_role("alert")).to_be_visible()
