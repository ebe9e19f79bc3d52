"""What deals cost and which cash they move, against figures worked out by hand."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import money
from domain.commands import RecordDeal
from domain.deal_amounts import cost_and_legs
from domain.events import Fee, Terms

D = Decimal
FACTORS = st.decimals(-10_000, 10_000, places=4)
PAID = Terms()
FUTURE = Terms(kind="future", cash_style="margined", multiplier=D(50))
BOND = Terms(kind="bond", price_unit=D("0.01"), multiplier=D(1))
PENCE = Terms(price_unit=D("0.01"))
PAIR = Terms(kind="fx", base_currency="EUR")


def fee(amount: str, currency: str = "USD", settles: str | None = None) -> Fee:
    return Fee(kind="commission", amount=D(amount), currency=currency, settlement_date=settles)


def booked(
    terms: Terms = PAID, side: str = "buy", quantity: str = "10", **told: Any
) -> tuple[str, list[tuple[str, str, str | None]], tuple[str, ...]]:
    fields = {"currency": "USD", **told}
    for name in ("price", "net", "gross", "accrued_interest", "settlement_amount"):
        if name in fields:
            fields[name] = D(fields[name])
    deal = RecordDeal(deal_id="d", instrument="X", side=side, quantity=D(quantity), **fields)
    cost, legs, flags = cost_and_legs(deal, terms)
    listed = [(leg.currency, str(leg.amount), leg.settlement_date) for leg in legs]
    return str(cost), listed, flags


CASES: dict[str, tuple[dict[str, Any], str, dict[str, str], tuple[str, ...]]] = {
    "price only": ({"price": "10.25"}, "102.50", {"USD": "-102.50"}, ()),
    "no more zeros than were told": (
        {"price": "10.50", "quantity": "1.50"},
        "15.75",
        {"USD": "-15.75"},
        (),
    ),
    "no fewer zeros than were told": (
        {"price": "10.00", "quantity": "1.5000"},
        "15.0000",
        {"USD": "-15.0000"},
        (),
    ),
    "a sale": ({"price": "10.25", "side": "sell"}, "102.50", {"USD": "102.50"}, ()),
    "with a fee": ({"price": "10", "fees": (fee("1.25"),)}, "100", {"USD": "-101.25"}, ()),
    "a sale with a fee": (
        {"price": "10", "side": "sell", "fees": (fee("1.25"),)},
        "100",
        {"USD": "98.75"},
        (),
    ),
    "a rebate": ({"price": "10", "fees": (fee("-0.5"),)}, "100", {"USD": "-99.5"}, ()),
    "net only": ({"net": "-101.25", "fees": (fee("1.25"),)}, "100.00", {"USD": "-101.25"}, ()),
    "net only, of a sale": (
        {"net": "98.75", "side": "sell", "fees": (fee("1.25"),)},
        "100.00",
        {"USD": "98.75"},
        (),
    ),
    "net of the wrong sign": ({"net": "100"}, "100", {"USD": "-100"}, ("net_sign_assumed",)),
    "net of the wrong sign beside a price": (
        {"price": "10", "net": "101.25", "fees": (fee("1.25"),)},
        "100.00",
        {"USD": "-101.25"},
        ("net_sign_assumed",),
    ),
    "net of the wrong sign beside a gross amount": (
        {"gross": "100", "net": "-98.75", "side": "sell", "fees": (fee("1.25"),)},
        "100",
        {"USD": "98.75"},
        ("net_sign_assumed",),
    ),
    "net of the wrong sign and size": (
        {"price": "10", "net": "90"},
        "-90",
        {"USD": "90"},
        ("gross_differs",),
    ),
    "a fee above what a sale brings": (
        {"price": "0.01", "net": "-0.90", "side": "sell", "fees": (fee("1"),)},
        "0.10",
        {"USD": "-0.90"},
        (),
    ),
    "net of the wrong sign of a future": (
        {"terms": FUTURE, "price": "2", "net": "1000"},
        "1000",
        {},
        (),
    ),
    "net beats price within rounding": (
        {"price": "3.333", "net": "-33.33"},
        "33.33",
        {"USD": "-33.33"},
        (),
    ),
    "net beats price beyond rounding": (
        {"price": "3", "net": "-33.33"},
        "33.33",
        {"USD": "-33.33"},
        ("gross_differs",),
    ),
    "gross beats price": (
        {"price": "3", "gross": "31.00"},
        "31.00",
        {"USD": "-31.00"},
        ("gross_differs",),
    ),
    "gross told signed": ({"price": "3", "gross": "-30"}, "30", {"USD": "-30"}, ()),
    "gross and net that agree": (
        {"gross": "30", "net": "-31", "fees": (fee("1"),)},
        "30",
        {"USD": "-31"},
        (),
    ),
    "gross and net that do not": (
        {"gross": "30", "net": "-35", "fees": (fee("1"),)},
        "30",
        {"USD": "-35"},
        ("net_differs",),
    ),
    "accrued interest is paid": (
        {"terms": BOND, "price": "99.5", "quantity": "1000", "accrued_interest": "12.34"},
        "995.00",
        {"USD": "-1007.34"},
        (),
    ),
    "accrued interest is received": (
        {
            "terms": BOND,
            "price": "99.5",
            "quantity": "1000",
            "accrued_interest": "12.34",
            "side": "sell",
        },
        "995.00",
        {"USD": "1007.34"},
        (),
    ),
    "a price in pence": (
        {"terms": PENCE, "price": "123.4", "currency": "GBP"},
        "12.34",
        {"GBP": "-12.34"},
        (),
    ),
    "a fee in another currency": (
        {"price": "10", "fees": (fee("2", "EUR"),)},
        "100",
        {"USD": "-100", "EUR": "-2"},
        (),
    ),
    "a negative price": ({"price": "-37.63"}, "-376.30", {"USD": "376.30"}, ()),
    "a price of zero": ({"price": "0"}, "0", {}, ()),
    "a future": (
        {"terms": FUTURE, "price": "4000.25", "quantity": "2", "fees": (fee("4.2"),)},
        "400025.00",
        {"USD": "-4.2"},
        (),
    ),
    "an exchange": (
        {"terms": PAIR, "price": "1.0950", "quantity": "1000", "fees": (fee("2"),)},
        "1095.0000",
        {"EUR": "1000", "USD": "-1097.0000"},
        (),
    ),
    "an exchange the other way": (
        {"terms": PAIR, "price": "1.0950", "quantity": "1000", "side": "sell"},
        "1095.0000",
        {"EUR": "-1000", "USD": "1095.0000"},
        (),
    ),
    "settled in another currency": (
        {"price": "10", "settlement_currency": "EUR", "settlement_amount": "91.5"},
        "100",
        {"EUR": "-91.5"},
        (),
    ),
    "a buy at a negative price settled in another currency": (
        {"price": "-10", "settlement_currency": "EUR", "settlement_amount": "91.5"},
        "-100",
        {"EUR": "91.5"},
        (),
    ),
    "amounts told are never rounded": (
        {"price": "0.00005528", "quantity": "1", "gross": "0.00005528", "side": "sell"},
        "0.00005528",
        {"USD": "0.00005528"},
        (),
    ),
}


@pytest.mark.parametrize(("told", "cost", "cash", "flags"), CASES.values(), ids=CASES.keys())
def test_cost_and_cash(
    told: dict[str, Any], cost: str, cash: dict[str, str], flags: tuple[str, ...]
) -> None:
    found_cost, legs, found_flags = booked(**told)
    assert (found_cost, found_flags) == (cost, flags)
    assert {currency: amount for currency, amount, _ in legs} == cash


def test_legs_settle_when_they_were_told_to() -> None:
    fees = (
        fee("1"),
        fee("2", settles="2024-01-09"),
        fee("3", "EUR"),
        fee("4", "CHF", "2024-01-08"),
    )
    _, legs, _ = booked(price="10", fees=fees, settlement_date="2024-01-04")
    assert legs == [
        ("USD", "-101", "2024-01-04"),
        ("USD", "-2", "2024-01-09"),
        ("EUR", "-3", "2024-01-04"),
        ("CHF", "-4", "2024-01-08"),
    ]


def test_a_cost_of_more_than_36_decimals_is_rounded_half_even() -> None:
    tiny = "0." + "0" * 17 + "5"
    terms = Terms(multiplier=D("0.1"))
    cost, legs, _ = booked(terms, quantity=tiny, price="0." + "0" * 17 + "1")
    assert D(cost) == 0
    assert legs == []
    cost, _, _ = booked(terms, quantity=tiny, price="0." + "0" * 17 + "3")
    assert D(cost) == D("2e-36")


def test_38_digits_are_kept() -> None:
    cost, legs, _ = booked(quantity="9" * 38, price="9" * 38)
    assert cost == str(int("9" * 38) ** 2)
    assert legs == [("USD", f"-{cost}", None)]


@given(st.lists(st.one_of(FACTORS, FACTORS.map(money.normalized)), min_size=1, max_size=4))
def test_a_product_keeps_its_value_and_no_zero_that_nobody_told(factors: list[Decimal]) -> None:
    product = money.multiply(*factors)
    shown = money.shortened(product, *factors)
    least = min(map(money.exponent_of, factors))
    assert shown == product
    assert money.exponent_of(shown) >= money.exponent_of(product)
    assert money.exponent_of(shown) <= max(least, money.exponent_of(product))
    assert money.exponent_of(shown) == least or shown.is_zero() or shown.as_tuple().digits[-1]
