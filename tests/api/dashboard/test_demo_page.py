"""The demo's book in a real browser: the page says what the demo printed.

DAYBOOK_SCREENSHOT names a file in which to keep the picture: that of the README is made so.
"""

import os

from playwright.sync_api import Browser, expect

from tests.api.dashboard.conftest import Served

BOOK = {"Value": "2,343,427.39", "Unrealised": "312,793.02"}
"""As the README has them of the demo."""


def test_the_demo_is_shown_as_it_was_printed(browser: Browser, demo: Served) -> None:
    page = browser.new_page(viewport={"width": 1360, "height": 820})
    page.goto(demo.url)
    for title, amount in BOOK.items():
        expect(page.locator(".totals")).to_contain_text(f"{title} {amount}")
    apple = page.locator(".rows [role=row]").filter(has_text="AAPL").filter(has_text="DEMO-EQUAL")
    apple.get_by_role("gridcell").nth(5).click()
    behind = page.get_by_role("complementary")
    expect(behind.locator(".asked")).to_contain_text("204,042.78")
    expect(behind.locator("canvas")).to_be_visible()
    expect(behind.get_by_text("behind this")).to_be_visible()
    if told := os.environ.get("DAYBOOK_SCREENSHOT"):
        page.screenshot(path=told)
    page.close()
