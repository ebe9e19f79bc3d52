"""The demo's history: what it reads out of the prices, and that its rule keeps its word."""

from collections import Counter
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("bokeh_sampledata", reason="the demo's prices are not installed")

from api.demo.clock import settles
from api.demo.files import write_files
from api.demo.history import History, make_history
from api.demo.market import Market, market_of, read_market
from domain.times import Day


@pytest.fixture(scope="module")
def market() -> Market:
    """The real prices."""
    return read_market()


@pytest.fixture(scope="module")
def history(market: Market) -> History:
    """What the rule makes of them."""
    return make_history(market)


def test_the_splits_of_the_five_stocks_are_found(market: Market) -> None:
    assert market.splits == {
        "2000-06-21": {"AAPL": 2},
        "2003-02-18": {"MSFT": 2},
        "2005-02-28": {"AAPL": 2},
    }


@pytest.mark.parametrize(
    ("day", "stock", "paid"),
    [
        ("2012-08-09", "AAPL", "2.65"),
        ("2004-11-15", "MSFT", "3.08"),
        ("2003-02-19", "MSFT", "0.08"),
        ("2008-05-07", "IBM", "0.50"),
    ],
)
def test_dividends_are_near_what_the_companies_paid(
    market: Market, day: str, stock: str, paid: str
) -> None:
    found = market.dividends[Day(day)][stock]
    assert abs(found - Decimal(paid)) <= Decimal("0.05")


def test_a_price_that_merely_moves_is_no_action() -> None:
    rows = [
        {"Ticker": "A", "Date": day, "Open": price, "Close": price, "Adj Close": price}
        for day, price in (("2020-01-02", "100"), ("2020-01-03", "40"), ("2020-01-06", "90"))
    ]
    market = market_of(rows)
    assert (market.splits, market.dividends) == ({}, {})
    assert market.days == ["2020-01-02", "2020-01-03", "2020-01-06"]


def test_the_same_prices_make_the_same_files(
    market: Market, history: History, tmp_path: Path
) -> None:
    first = write_files(history, tmp_path / "1")
    second = write_files(make_history(market), tmp_path / "2")
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_files_tell_of_partial_fills_busts_corrections_and_late_deals(history: History) -> None:
    deals = history.tables["deals"]
    actions = Counter(row["action"] for row in deals)
    assert set(actions) == {"new", "bust", "correct"}
    assert min(actions.values()) > 10
    fills = Counter(row["order_id"] for row in deals if row["action"] == "new")
    assert set(fills.values()) >= {1, 2}
    times = [row["event_time"] for row in deals]
    assert sum(before > after for before, after in pairwise(times)) > 10


def test_messages_tell_of_replaces_cancels_busts_and_corrections(history: History) -> None:
    kinds = Counter(
        field
        for line in history.messages
        for field in line.split("|")
        if field.startswith(("35=", "150="))
    )
    for kind in ("35=D", "35=G", "35=F", "150=5", "150=4", "150=F", "150=G", "150=H", "150=C"):
        assert kinds[kind] > 5, kind


def test_no_order_is_for_nothing_and_no_price_is_made_up(market: Market, history: History) -> None:
    assert all(row["quantity"] > 0 for row in history.tables["orders"])
    known = {
        (stock, bar.day, price)
        for stock, bars in market.bars.items()
        for bar in bars
        for price in (bar.open, bar.close)
    }
    corrected = {
        row["ref_deal_id"] for row in history.tables["deals"] if row["action"] == "correct"
    }
    for row in history.tables["deals"]:
        if row["action"] != "bust" and row["deal_id"] not in corrected:
            assert (row["instrument"], row["event_time"][:10], row["price"]) in known


def test_trades_settle_on_the_third_weekday() -> None:
    assert settles(Day("2013-03-01")) == "2013-03-06"
    assert settles(Day("2012-11-01")) == "2012-11-06"
    assert settles(Day("2012-10-29")) == "2012-11-01"
