"""Real files through the command line: every message and every line accounted for."""

from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from tests.api.command_line import CommandLine
from tests.api.conftest import NewDaybook

LOBSTER = "lobster/AAPL_2012-06-21_0930-1030_messages.csv.gz"
FLEX = ("01", "02", "05", "06", "12", "14", "16", "20", "23", "26")


@pytest.fixture(scope="module")
def venue(new_daybook: NewDaybook, shared_data: Path) -> CommandLine:
    """One hour of one stock at one exchange."""
    made = new_daybook()
    words = ("import", str(shared_data / LOBSTER), "--date", "2012-06-21", "--json")
    counts = made.good(*words).json
    assert (counts["read"], counts["accepted"]) == (91_997, 91_997)
    again = made.good(*words).json
    assert (again["accepted"], again["duplicate"]) == (0, 91_997)
    return made


def test_lobster_totals_by_type_are_the_files(venue: CommandLine) -> None:
    types: Counter[str] = Counter()
    for line in venue.good("log").lines:
        kind = line["type"]
        if kind == "OrderCanceled":
            kind += " in part" if "quantity" in line["data"] else ""
        if kind == "DealRecorded":
            kind += " hidden" if "hidden" in line["data"].get("tags", ()) else ""
        types[kind] += 1
    assert types == {
        "LogCreated": 16,
        "AccountOpened": 1,
        "OrderPlaced": 44_256,
        "OrderCanceled in part": 469,
        "OrderCanceled": 41_004,
        "DealRecorded": 4_067,
        "DealRecorded hidden": 2_201,
    }


def test_lobster_orders_and_deals_are_in_the_read_models(venue: CommandLine) -> None:
    deals = venue.rows("deals")
    assert len(deals) == 4_067 + 2_201
    orders = venue.rows("orders")
    placed = [order for order in orders if order["quantity"] is not None]
    assert len(placed) == 44_256
    filled = sum(Decimal(order["cum_quantity"]) for order in orders)
    visible = sum(Decimal(deal["quantity"]) for deal in deals if deal["order_id"] is not None)
    assert filled == visible
    assert all(order["order_id"].startswith("2012-06-21/") for order in orders)
    venue.good("verify")


@pytest.fixture(scope="module")
def broker(new_daybook: NewDaybook, shared_data: Path) -> tuple[CommandLine, dict[str, Any]]:
    """The ten statements of a broker in one ledger, and what was said of each."""
    made = new_daybook()
    told = {}
    for name in FLEX:
        path = str(shared_data / "ibkr-flex" / f"flex-{name}.xml")
        done = made("import", path, "--json")
        told[name] = done.json
        again = made("import", path, "--json").json
        assert again["accepted"] == 0
        assert again["duplicate"] + again["rejected"] == told[name]["read"]
    return made, told


FACTS = dict(zip(FLEX, (24, 12, 3, 3, 18, 731, 2, 6, 3, 4), strict=True))
LISTED = dict(zip(FLEX, (17, 2, 1, 2, 1, 2, 0, 12, 1, 2), strict=True))
TOLD_BEFORE = {"06": 3}
"""Facts of one statement that another has told already."""


def test_every_line_of_the_statements_is_accounted_for(
    broker: tuple[CommandLine, dict[str, Any]],
) -> None:
    daybook, told = broker
    assert {name: one["problems"] for name, one in told.items()} == {name: [] for name in FLEX}
    assert {name: one["read"] for name, one in told.items()} == FACTS
    assert {name: n for name, one in told.items() if (n := one["duplicate"])} == TOLD_BEFORE
    accepted = {name: one["accepted"] for name, one in told.items()}
    assert accepted == {name: FACTS[name] - TOLD_BEFORE.get(name, 0) for name in FLEX}
    assert {name: one["listed"] for name, one in told.items()} == LISTED
    daybook.good("verify")


def test_the_cash_report_is_met_to_the_last_digit(
    new_daybook: NewDaybook, shared_data: Path
) -> None:
    path = shared_data / "ibkr-flex" / "flex-14.xml"
    daybook = new_daybook()
    assert daybook.good("import", str(path), "--json").json["accepted"] == FACTS["14"]
    report = {
        line.get("currency"): line
        for line in etree.parse(path).iter("CashReportCurrency")
        if line.get("currency") != "BASE_SUMMARY"
    }
    balances = {row["currency"]: row for row in daybook.rows("balances", "--as-of", "2023-02-28")}
    assert set(report) <= set(balances)
    for currency, line in report.items():
        for ours, theirs in (("balance", "endingCash"), ("settled", "endingSettledCash")):
            if line.get(theirs):
                assert Decimal(balances[currency][ours]) == Decimal(line.get(theirs)), currency
