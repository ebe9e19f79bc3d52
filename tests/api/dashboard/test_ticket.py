"""The order ticket in a real browser: one order, whatever is pressed and whatever is lost."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.api.dashboard.conftest import Served, row, watched

HEADER = "account,deal_id,instrument,quantity,price,currency,event_time\n"
ACCOUNTS = ("DOUBLE", "LOST", "AWAY", "REFUSED")
ANSWERS = ("status of 4", "status of 503")
"""What Chromium says of an order that is not taken."""


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """A page whose orders may be refused, as plain HTTP from another machine serves it."""
    with watched(browser, served, *ANSWERS) as opened:
        opened.add_init_script("delete Crypto.prototype.randomUUID")
        opened.goto(served.url)
        expect(row(opened, "MSFT", "B2")).to_be_visible()
        yield opened


@pytest.fixture(scope="module", autouse=True)
def accounts(served: Served) -> None:
    """Accounts with a deal, one for each test."""
    deals = (f"{name},{name}-1,MSFT,1,370,USD,2024-01-05T15:00:00Z\n" for name in ACCOUNTS)
    served.take("accounts.csv", HEADER + "".join(deals))


def ticket_of(page: Page, account: str = "B2", instrument: str = "MSFT") -> Locator:
    """Open the ticket and fill it in."""
    page.get_by_role("button", name="New order").click()
    ticket = page.get_by_role("form", name="Order ticket")
    ticket.get_by_label("Account").select_option(account)
    ticket.get_by_label("Instrument").fill(instrument)
    ticket.get_by_label("Quantity").fill("5")
    ticket.get_by_label("Limit price").fill("401.10")
    return ticket


def orders(served: Served, account: str) -> list[dict[str, Any]]:
    """Return the orders of an account."""
    answer = httpx.get(f"{served.url}/v1/accounts/{account}/orders", timeout=120)
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def test_a_double_click_places_one_order(page: Page, served: Served) -> None:
    ticket = ticket_of(page, "DOUBLE")
    ticket.get_by_role("button", name="Buy 5 MSFT").dblclick()
    expect(ticket.get_by_role("status")).to_contain_text("Placed")
    expect(ticket.get_by_label("Quantity")).to_have_value("")
    expect(ticket.get_by_label("Quantity")).to_be_focused()
    expect(ticket.locator("[type=submit]")).to_be_disabled()
    assert len(orders(served, "DOUBLE")) == 1
    ticket.get_by_label("Quantity").fill("6")
    ticket.get_by_label("Quantity").press("Enter")
    expect(ticket.get_by_label("Quantity")).to_have_value("")
    assert {one["quantity"] for one in orders(served, "DOUBLE")} == {"5", "6"}


def test_an_order_whose_answer_was_lost_is_sent_again_as_it_was(page: Page, served: Served) -> None:
    lost = []

    def lose(route: Route) -> None:
        """Have an order recorded, and lose the answer."""
        lost.append(route.fetch().status)
        route.abort()

    page.route("**/v1/orders*", lose)
    ticket = ticket_of(page, "LOST")
    ticket.get_by_role("button", name="Buy 5 MSFT").click()
    expect(ticket.get_by_role("status")).to_contain_text("It is not known whether this was placed")
    assert lost == [201, 200]
    expect(ticket.get_by_label("Quantity")).to_be_disabled()
    page.unroute("**/v1/orders*")
    page.reload()
    page.get_by_role("button", name="New order").click()
    expect(ticket.get_by_label("Quantity")).to_have_value("5")
    ticket.get_by_role("button", name="Send again").click()
    expect(ticket.get_by_role("status")).to_contain_text("Placed")
    expect(ticket.get_by_label("Quantity")).to_be_enabled()
    assert len(orders(served, "LOST")) == 1


def test_an_order_is_placed_once_though_the_server_was_away(page: Page, served: Served) -> None:
    ticket = ticket_of(page, "AWAY")
    served.end()
    ticket.get_by_role("button", name="Buy 5 MSFT").click()
    expect(ticket.get_by_role("button", name="Another order instead")).to_be_visible()
    served.start()
    ticket.get_by_role("button", name="Send again").click()
    expect(ticket.get_by_role("status")).to_contain_text("Placed")
    assert len(orders(served, "AWAY")) == 1


def test_a_refusal_is_an_answer_and_the_next_order_another_one(page: Page, served: Served) -> None:
    close = {"type": "CloseAccount", "key": "REFUSED", "data": {}, "command_id": "close"}
    close["event_time"] = "2024-02-01T00:00:00Z"
    answer = httpx.post(f"{served.url}/v1/commands", json=close, timeout=120)
    assert answer.status_code == 201, answer.text
    ticket = ticket_of(page, "REFUSED")
    ticket.get_by_role("button", name="Buy 5 MSFT").click()
    expect(ticket.get_by_role("status")).to_contain_text("account_closed")
    ticket.get_by_label("Account").select_option("A1")
    ticket.get_by_role("button", name="Buy 5 MSFT").click()
    expect(ticket.get_by_role("status")).to_contain_text("Placed")


def test_what_nobody_knows_is_asked_about(page: Page, served: Served) -> None:
    ticket = ticket_of(page, "B2", "MFST")
    ticket.get_by_role("button", name="Buy 5 MFST").click()
    expect(ticket.get_by_role("status")).to_contain_text("'MFST' is not known")
    before = orders(served, "B2")
    ticket.get_by_label("MFST is a new instrument").check()
    ticket.get_by_role("button", name="Buy 5 MFST").click()
    expect(ticket.get_by_role("status")).to_contain_text("Placed")
    assert len(orders(served, "B2")) == len(before) + 1


def test_no_account_is_chosen_for_anybody_and_none_in_the_past(page: Page) -> None:
    page.get_by_role("button", name="New order").click()
    ticket = page.get_by_role("form", name="Order ticket")
    expect(ticket.get_by_label("Account")).to_have_value("")
    page.get_by_label("As of").fill("2024-01-05")
    page.get_by_role("button", name="Go").click()
    expect(ticket).to_have_count(0)
