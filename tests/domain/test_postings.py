"""Double entry: whatever happens, postings sum to zero for each currency and each instrument."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.deal_amounts import cost_and_legs
from domain.events import (
    CashLeg,
    DealRecorded,
    Event,
    Fee,
    PositionMoved,
    Terms,
    TransferReceived,
    TransferSent,
    UnitLeg,
)
from domain.postings import balance, postings
from tests.schemas.samples import SAMPLES

numbers = st.decimals(
    min_value=Decimal("-1e9"), max_value=Decimal("1e9"), allow_nan=False, places=8
)
positive = st.decimals(min_value=Decimal("1e-8"), max_value=Decimal("1e9"), places=8)
currencies = st.sampled_from(["USD", "EUR", "JPY"])


@st.composite
def deals(draw: st.DrawFn, *, told: bool) -> DealRecorded:
    terms = Terms(
        multiplier=draw(st.sampled_from([Decimal(1), Decimal(100)])),
        cash_style=draw(st.sampled_from(["paid", "margined"])),
    )
    fees = st.builds(Fee, kind=st.just("commission"), amount=numbers, currency=currencies)
    deal = DealRecorded(
        deal_id="D1",
        instrument="XYZ",
        side=draw(st.sampled_from(["buy", "sell"])),
        quantity=draw(positive),
        currency="USD",
        price=draw(numbers),
        net=draw(st.none() | numbers) if told else None,
        gross=draw(st.none() | numbers) if told else None,
        fees=tuple(draw(st.lists(fees, max_size=3))),
        accrued_interest=draw(st.none() | numbers),
        terms=terms,
        cost=Decimal(0),
        legs=(),
    )
    cost, legs, _ = cost_and_legs(deal, terms)
    return msgspec.structs.replace(deal, cost=cost, legs=legs)


@given(deals(told=True))
def test_a_deal_sums_to_zero_whatever_is_told(deal: DealRecorded) -> None:
    assert set(balance(postings(deal)).values()) == {Decimal(0)}


@given(deals(told=False))
def test_the_legs_explain_a_deal_that_tells_its_price_alone(deal: DealRecorded) -> None:
    assert "difference" not in {one.place for one in postings(deal)}


@given(deals(told=True))
def test_a_difference_is_flagged(deal: DealRecorded) -> None:
    _, _, flags = cost_and_legs(deal, deal.terms)
    difference = [one for one in postings(deal) if one.place == "difference"]
    if any(abs(one.amount) > 1 for one in difference):
        assert "net_differs" in flags


@pytest.mark.parametrize("event", SAMPLES.values(), ids=lambda event: type(event).__name__)
def test_every_kind_of_event_sums_to_zero(event: Event) -> None:
    assert all(amount == 0 for amount in balance(postings(event)).values())


def test_what_is_in_transit_leaves_one_account_and_arrives_in_the_other() -> None:
    legs = (UnitLeg(instrument="XYZ", quantity=Decimal(5), currency="USD"),)
    cash = (CashLeg(currency="USD", amount=Decimal("10.50")),)
    sent = TransferSent(transfer_id="T1", to_account="B", cash=cash, legs=legs)
    received = TransferReceived(transfer_id="T1", from_account="A", cash=cash, legs=legs)
    in_transit = [one for one in postings(sent) if one.place == "transit"]
    assert {(one.unit, one.amount) for one in in_transit} == {
        ("XYZ", Decimal(5)),
        ("USD", Decimal("10.50")),
    }
    both = [*in_transit, *(one for one in postings(received) if one.place == "transit")]
    assert set(balance(both).values()) == {Decimal(0)}


def test_units_that_move_come_from_the_world() -> None:
    leg = UnitLeg(instrument="XYZ", quantity=Decimal(3), currency="USD")
    posted = postings(PositionMoved(movement_id="M1", reason="opening", legs=(leg,)))
    assert [(one.place, one.amount) for one in posted] == [
        ("units", Decimal(3)),
        ("world", Decimal(-3)),
    ]
