"""The dashboard where tokens are needed, as those see it who may not see everything."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from api.dashboard.build import DIST
from api.http.keys import signing_key
from tests.api.command_line import CommandLine
from tests.api.dashboard.conftest import ROWS, Relay, Served, row, watched
from tests.api.http.server import token

HEADER = "account,deal_id,instrument,quantity,price,currency,event_time\n"
REFUSED = "status of 401"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A ledger that is served to those with a token."""
    if not (DIST / "index.html").exists():
        pytest.skip("the dashboard is not built here: `make dashboard` says why")
    server = Served(CommandLine(tmp_path_factory.mktemp("guarded")))
    server.take("deals.csv", ROWS + "C3,D5,IBM,3,180,USD,2024-01-04T15:00:00Z\n")
    signing_key(server.daybook.home)  # from then on a token is needed
    server.start()
    try:
        yield server
    finally:
        server.end()


@pytest.fixture
def page(browser: Browser, guarded: Served) -> Iterator[Page]:
    """A page that is told to bring a token."""
    with watched(browser, guarded, REFUSED) as opened:
        opened.goto(guarded.url)
        expect(opened.get_by_role("heading", name="A token is needed")).to_be_visible()
        yield opened


def give(page: Page, told: str) -> None:
    """Bring a token."""
    page.get_by_label("Token").fill(told)
    page.get_by_role("button", name="Use it").click()


def test_a_token_is_asked_for_until_one_is_good(page: Page, guarded: Served) -> None:
    give(page, "none")
    expect(page.locator(".token p").first).to_contain_text("token")
    give(page, token(guarded.daybook.home, "quant"))
    expect(page.locator(".mark [role=status]")).to_have_text("live")
    expect(row(page, "IBM", "C3")).to_be_visible()
    expect(page.get_by_label("Account", exact=True)).to_contain_text("All accounts")


def test_a_trader_sees_all_of_his_accounts_and_no_other(page: Page, guarded: Served) -> None:
    give(page, token(guarded.daybook.home, "trader", accounts=["A1", "B2"]))
    expect(page.locator(".rows [role=row]")).to_have_count(3)
    expect(row(page, "MSFT", "B2")).to_be_visible()
    picker = page.get_by_label("Account", exact=True)
    expect(picker.locator("option")).to_have_text(["All of mine", "A1", "B2"])
    for name in ("Orders", "Cash", "Deals"):
        page.get_by_role("tab", name=name).click()
        expect(page.locator(".empty", has_text="Loading")).to_have_count(0)
        expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator(".rows [role=row]")).to_have_count(4)
    guarded.take("more.csv", HEADER + "B2,M1,IBM,1,180,USD,2024-01-05T15:00:00Z\n")
    expect(row(page, "M1")).to_be_visible()
    picker.select_option("A1")
    expect(page.locator(".rows [role=row]")).to_have_count(3)
    picker.select_option("")
    expect(row(page, "M1")).to_be_visible()
    page.get_by_label("As of").fill("2024-01-03")
    page.get_by_role("button", name="Go").click()
    expect(page.locator(".foot")).to_contain_text("2 rows")


def test_another_token_is_asked_for_when_one_has_ended(page: Page, guarded: Served) -> None:
    relay = Relay(page)
    good = token(guarded.daybook.home, "trader", accounts=["A1"])
    give(page, good)
    expect(row(page, "AAPL", "A1")).to_be_visible()
    page.evaluate("sessionStorage.setItem('daybook-token', 'ended')")
    relay.sockets[-1].close(code=4401, reason="the token has ended")
    expect(page.get_by_role("heading", name="A token is needed")).to_be_visible()
    expect(page.locator(".mark [role=status]")).to_have_text("refused")
    tried = len(relay.sockets)
    give(page, good)
    expect(row(page, "AAPL", "A1")).to_be_visible()
    assert len(relay.sockets) == tried + 1


def test_rows_that_may_not_be_seen_any_more_are_gone(page: Page, guarded: Served) -> None:
    relay = Relay(page)
    give(page, token(guarded.daybook.home, "trader", accounts=["A1", "C3"]))
    expect(page.locator(".rows [role=row]")).to_have_count(3)
    relay.refuse("C3", "unknown-account", 404)
    expect(page.locator(".rows [role=row]")).to_have_count(2)
    expect(page.get_by_role("alert")).to_have_text("refused by the test")
