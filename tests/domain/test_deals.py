"""Deals, corrections and busts in every order of arrival, and what comes after a deal."""

from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from domain import money
from domain.commands import (
    AmendDealTerms,
    AssignLots,
    BustDeal,
    CloseAccount,
    Command,
    CorrectDeal,
    DefineInstrument,
    OpenAccount,
    PlaceOrder,
    RecordDeal,
    RecordFees,
)
from domain.decisions import Accepted, Known, Lacking, Refused
from domain.entities import Alias, Deal, Order
from domain.events import CashLeg, Fee, LotPick, OrderTold, Terms
from domain.postings import balance, postings
from projections.cash.fold import PROJECTION as CASH
from projections.cash.tables import CASH_LEGS
from projections.positions.fold import PROJECTION as POSITIONS
from projections.positions.tables import DEALS, WAITING_FEES
from projections.positions.tables import POSITIONS as POSITION_ROWS
from tests.domain.journal import Journal, at
from tests.projections.row_store import fold_fresh

D = Decimal


@pytest.fixture
def journal() -> Journal:
    """An account of New York and an instrument."""
    opened = Journal()
    opened.accept(OpenAccount(base_currency="USD", time_zone="America/New_York"))
    opened.accept(DefineInstrument(), key="X")
    return opened


def deal(deal_id: str = "d1", quantity: str = "10", price: str | None = "5", **told: Any) -> Any:
    fields = {"instrument": "X", "side": "buy", "currency": "USD", **told}
    amount = None if price is None else D(price)
    return RecordDeal(deal_id=deal_id, quantity=D(quantity), price=amount, **fields)


def correct(deal_id: str, ref: str, quantity: str = "7", **told: Any) -> CorrectDeal:
    fields = {"instrument": "X", "side": "buy", "currency": "USD", "price": D(5), **told}
    return CorrectDeal(deal_id=deal_id, ref_deal_id=ref, quantity=D(quantity), **fields)


def bust(deal_id: str, ref: str) -> BustDeal:
    return BustDeal(deal_id=deal_id, ref_deal_id=ref)


def late_fee(ref: str) -> RecordFees:
    fee = Fee(kind="tax", amount=D(3), currency="USD")
    return RecordFees(fee_id="f1", deal_id=ref, fees=(fee,))


def in_force(journal: Journal) -> dict[str, Decimal]:
    """The quantities of the deals that count, by their row's id."""
    rows = fold_fresh(POSITIONS, journal.events["events"]).rows(DEALS)
    return {row.deal_id: row.quantity for row in rows if row.status != "busted"}


STORIES: list[tuple[list[Command], list[str]]] = [
    ([deal(), bust("b1", "d1")], []),
    ([deal(), correct("c1", "d1")], ["7"]),
    ([deal(), correct("c1", "d1"), correct("c2", "c1", "6")], ["6"]),
    ([deal(), correct("c1", "d1"), bust("b1", "c1")], []),
    ([deal(), correct("c1", "d1"), bust("b1", "d1")], []),
    ([deal(), bust("b1", "d1"), bust("b2", "d1")], []),
    ([deal(), correct("c1", "d1"), correct("c2", "c1", "6"), bust("b1", "c2")], []),
]


@pytest.mark.parametrize(("story", "expected"), STORIES)
def test_any_order_of_arrival_ends_in_the_same_books(
    story: list[Command], expected: list[str]
) -> None:
    for order in permutations(story):
        journal = Journal()
        journal.accept(OpenAccount(base_currency="USD"))
        journal.accept(DefineInstrument(), key="X")
        for command in order:
            journal.accept(command)
        assert list(in_force(journal).values()) == [D(text) for text in expected], order
        for command in order:
            assert isinstance(journal.submit(command), Known)


LATE: list[tuple[list[Command], dict[str, str], str]] = [
    # what is told, the fees of positions and balances that come of it, in any order of arrival
    ([deal(), correct("c1", "d1"), late_fee("d1")], {"USD": "3"}, "-38"),
    ([deal(), correct("c1", "d1"), late_fee("c1")], {"USD": "3"}, "-38"),
    ([deal(), correct("c1", "d1"), correct("c2", "c1", "6"), late_fee("d1")], {"USD": "3"}, "-33"),
    ([deal(), correct("c1", "d1"), bust("b1", "d1"), late_fee("c1")], {}, "0"),
]


@pytest.mark.parametrize(("story", "fees", "cash"), LATE)
def test_late_fees_stay_with_their_deal_in_any_order_of_arrival(
    story: list[Command], fees: dict[str, str], cash: str
) -> None:
    for order in permutations(story):
        journal = Journal()
        journal.accept(OpenAccount(base_currency="USD"))
        journal.accept(DefineInstrument(), key="X")
        for command in order:
            journal.accept(command)
        made = fold_fresh(POSITIONS, journal.events["events"])
        charged = {row.currency: str(row.fees) for row in made.rows(POSITION_ROWS) if row.fees}
        assert (charged, list(made.rows(WAITING_FEES))) == (fees, []), order
        legs = fold_fresh(CASH, journal.events["events"]).rows(CASH_LEGS)
        assert money.add(leg.amount for leg in legs) == D(cash), order


def test_a_correction_of_any_id_means_the_current_version(journal: Journal) -> None:
    journal.accept(deal())
    journal.accept(correct("c1", "d1", "7"))
    assert journal.accept(correct("c2", "d1", "6")).event.chain_id == "d1"
    assert in_force(journal) == {"d1": D(6)}
    journal.accept(correct("c3", "c1", "5"))
    assert in_force(journal) == {"d1": D(5)}


def test_the_flags_of_what_came_too_early_or_too_late(journal: Journal) -> None:
    assert journal.accept(bust("b1", "d1")).flags == ("waiting",)
    assert journal.accept(bust("b2", "d1")).flags == ("deal_busted",)
    assert journal.accept(deal()).flags == ("reversed_before_arrival",)
    assert journal.accept(correct("c1", "d1")).flags == ("deal_busted",)
    assert journal.accept(correct("c2", "d2")).flags == ("unknown_deal",)
    assert journal.accept(deal("d2")).flags == ("reversed_before_arrival",)
    assert in_force(journal) == {"d2": D(7)}


def test_a_chain_found_by_a_late_correction_goes_on_under_all_its_ids(journal: Journal) -> None:
    journal.accept(deal())
    journal.accept(correct("c2", "c1", "6"))
    assert journal.accept(correct("c1", "d1")).flags == ("reversed_before_arrival",)
    assert in_force(journal) == {"c1": D(6)}
    assert journal.accept(correct("c3", "d1", "5")).event.chain_id == "c1"
    assert in_force(journal) == {"c1": D(5)}
    journal.accept(bust("b1", "d1"))
    assert in_force(journal) == {}


def test_a_bust_reaches_a_correction_whose_link_came_last(journal: Journal) -> None:
    journal.accept(deal())
    journal.accept(bust("b1", "d1"))
    journal.accept(correct("c2", "c1", "6"))
    assert in_force(journal) == {"c1": D(6)}
    assert journal.accept(correct("c1", "d1")).flags == ("deal_busted",)
    assert in_force(journal) == {}


@pytest.mark.parametrize(
    ("command", "other"),
    [
        (deal(), deal(quantity="11")),
        (correct("c1", "d1"), correct("c1", "d1", "8")),
        (bust("b1", "d1"), bust("b1", "d2")),
        (correct("c1", "d1"), deal("c1")),
        (bust("b1", "d1"), deal("b1")),
    ],
)
def test_an_id_told_again(journal: Journal, command: Command, other: Command) -> None:
    journal.accept(command)
    offset = journal.events["events"][-1].offset
    known = journal.submit(command)
    assert isinstance(known, Known)
    assert known.offset == offset
    conflict = journal.submit(other)
    assert conflict == Refused("conflict", {"first_seq": str(known.seq), "id": command.deal_id})


def test_the_same_numbers_written_otherwise_are_the_same(journal: Journal) -> None:
    journal.accept(deal(quantity="10", price="5.0"))
    assert isinstance(journal.submit(deal(quantity="10.00", price="5")), Known)


def test_what_names_itself_is_refused(journal: Journal) -> None:
    assert journal.refuse(correct("c1", "c1")) == "corrects_itself"
    assert journal.refuse(bust("b1", "b1")) == "busts_itself"
    journal.accept(correct("c1", "c2"))
    assert journal.refuse(correct("c2", "c1")) == "corrects_itself"
    journal.accept(correct("c2", "c3"))
    assert journal.refuse(correct("c3", "c1")) == "corrects_itself"
    assert journal.refuse(correct("c3", "c2")) == "corrects_itself"


def test_corrections_that_arrive_backwards_are_one_chain(journal: Journal) -> None:
    journal.accept(correct("c3", "c2", "9"))
    journal.accept(correct("c2", "c1", "8"))
    journal.accept(correct("c1", "d1", "7"))
    journal.accept(deal())
    assert in_force(journal) == {"c2": D(9)}
    journal.accept(bust("b1", "c1"))
    assert in_force(journal) == {}


def test_what_is_lacking(journal: Journal) -> None:
    assert journal.submit(deal(), key="A9") == Lacking("unknown_account", "no account 'A9' is open")
    assert isinstance(journal.submit(deal(instrument="Q")), Lacking)
    assert isinstance(journal.submit(deal(price=None)), Lacking)
    journal.accept(DefineInstrument(kind="fx"), key="no pair")
    assert isinstance(journal.submit(deal(instrument="no pair")), Lacking)


def test_a_closed_account_takes_deals_flagged(journal: Journal) -> None:
    journal.accept(CloseAccount())
    assert journal.accept(deal()).flags == ("account_closed",)
    assert journal.accept(bust("b1", "d1")).flags == ("account_closed",)


def test_what_the_asker_assumed_stays_flagged(journal: Journal) -> None:
    for command in (
        deal(),
        correct("c1", "d1"),
        bust("b1", "d1"),
        RecordFees(fee_id="f1", deal_id="d9", fees=()),
    ):
        assert "zone_assumed" in journal.accept(command, flags=("zone_assumed",)).flags


def test_trade_dates(journal: Journal) -> None:
    late = at(12 * 3600)  # 2024-01-03 05:00 UTC is midnight in New York
    event = journal.accept(deal(), at_time=at(12 * 3600 - 1)).event
    assert (event.trade_date, event.trade_date_derived) == ("2024-01-02", True)
    assert journal.accept(deal("d2"), at_time=late).event.trade_date == "2024-01-03"
    journal.accept(DefineInstrument(time_zone="Asia/Tokyo"), key="T")
    tokyo = journal.accept(deal("d3", instrument="T"), at_time=at(0)).event
    assert tokyo.trade_date == "2024-01-03"
    told = journal.accept(deal("d4", trade_date="2024-01-09")).event
    assert (told.trade_date, told.trade_date_derived) == ("2024-01-09", False)


def test_fees_that_come_late(journal: Journal) -> None:
    fee = Fee(kind="tax", amount=D("1.5"), currency="USD", settlement_date="2024-01-05")
    told = RecordFees(fee_id="f1", deal_id="c1", fees=(fee,))
    journal.accept(deal())
    journal.accept(correct("c1", "d1"))
    accepted = journal.accept(told, at_time=at(11 * 3600))
    event = accepted.event
    assert (accepted.flags, event.chain_id, event.booked_date) == ((), "d1", "2024-01-02")
    assert event.legs == (CashLeg(currency="USD", amount=D("-1.5"), settlement_date="2024-01-05"),)
    assert isinstance(journal.submit(told, at_time=at(11 * 3600)), Known)
    other = RecordFees(fee_id="f1", deal_id="d1", fees=(fee,))
    assert journal.refuse(other) == "conflict"
    journal.accept(bust("b1", "d1"))
    later = RecordFees(fee_id="f2", deal_id="d1", fees=(fee,))
    assert journal.accept(later).flags == ("deal_busted",)
    early = RecordFees(fee_id="f3", deal_id="d7", fees=(fee,))
    assert journal.accept(early).flags == ("unknown_deal",)


def test_what_is_taken_out_again_keeps_every_digit(with_order: Journal) -> None:
    journal, most = with_order, D("12345678901234567890.123456789012345678")
    fee = Fee(kind="tax", amount=most, currency="USD")
    journal.accept(deal(quantity=str(most), order_id="o1"))
    late = journal.accept(RecordFees(fee_id="f1", deal_id="d1", fees=(fee,))).event
    assert money.add((late.legs[0].amount, most)) == 0
    assert set(balance(postings(late)).values()) == {D(0)}
    journal.accept(bust("b1", "d1"))
    assert (order_of(journal).cum_quantity, order_of(journal).cum_notional) == (0, 0)


def test_terms_that_were_assumed_are_amended_once(journal: Journal) -> None:
    journal.accept(DefineInstrument(), key="Z", flags=("assumed",))
    assert journal.accept(deal(instrument="Z")).flags == ("terms_assumed",)
    amend = AmendDealTerms(deal_id="d1", terms=Terms(kind="option", multiplier=D(100)))
    event = journal.accept(amend).event
    assert (event.cost, event.legs) == (D(5000), (CashLeg(currency="USD", amount=D(-5000)),))
    assert journal.refuse(amend) == "terms_were_told"
    journal.accept(deal("d2", instrument="Z"))
    journal.accept(bust("b2", "d2"))
    assert journal.refuse(AmendDealTerms(deal_id="d2", terms=Terms())) == "deal_busted"
    assert isinstance(journal.submit(AmendDealTerms(deal_id="d9", terms=Terms())), Lacking)
    told = journal.accept(deal("d3", instrument="Z", kind="equity"))
    assert told.flags == ()
    journal.accept(deal("d4", instrument="Z"))
    nameless = AmendDealTerms(deal_id="d4", terms=Terms(kind="fx"))
    assert isinstance(journal.submit(nameless), Lacking)


def test_lots_named_after_the_sale(journal: Journal) -> None:
    journal.accept(deal())
    pick = AssignLots(deal_id="d1", lots=(LotPick(lot="L", quantity=D(4)),))
    assert journal.accept(pick).event.chain_id == "d1"
    more = AssignLots(deal_id="d1", lots=(LotPick(lot="L", quantity=D(11)),))
    assert journal.submit(more) == Refused("more_than_the_deal", {"picked": "11", "quantity": "10"})
    assert isinstance(journal.submit(AssignLots(deal_id="d2", lots=pick.lots)), Lacking)
    journal.accept(bust("b1", "d1"))
    assert journal.accept(pick).flags == ("deal_busted",)


def order_of(journal: Journal) -> Order:
    order = journal.entity("order", "o1")
    assert isinstance(order, Order)
    return order


@pytest.fixture
def with_order(journal: Journal) -> Journal:
    """The same with an order of 10."""
    journal.accept(
        PlaceOrder(order_id="o1", instrument="X", side="buy", quantity=D(10), order_type="market")
    )
    return journal


def test_fills_corrections_and_busts_of_an_order(with_order: Journal) -> None:
    journal = with_order
    assert journal.accept(deal(quantity="4", order_id="o1")).flags == ()
    assert journal.accept(deal("d2", "6", "8", order_id="o1")).flags == ()
    assert (order_of(journal).status, order_of(journal).cum_notional) == ("filled", D(68))
    assert journal.accept(deal("d3", "1", order_id="o1")).flags == ("over_fill",)
    journal.accept(bust("b3", "d3"))
    assert (order_of(journal).cum_quantity, order_of(journal).flags) == (D(10), ())
    corrected = journal.accept(correct("c1", "d1", "3", order_id="o1"))
    assert corrected.flags == ()
    assert order_of(journal).cum_quantity == D(9)
    told = OrderTold(cum_quantity=D(5))
    wrong = BustDeal(deal_id="b2", ref_deal_id="d2", told=told)
    assert journal.accept(wrong).flags == ("told_cum_quantity_differs",)
    assert order_of(journal).flags == ("told_cum_quantity_differs",)
    assert order_of(journal).cum_quantity == D(3)


def test_a_busted_fill_is_taken_out_of_its_order_in_any_order_of_arrival() -> None:
    story = [
        deal(quantity="4", order_id="o1"),
        correct("c1", "d1", "3", order_id="o1"),
        bust("b1", "c1"),
    ]
    for order in permutations(story):
        journal = Journal()
        journal.accept(OpenAccount(base_currency="USD"))
        journal.accept(DefineInstrument(), key="X")
        for command in order:
            journal.accept(command)
        known = journal.entity("order", "o1")
        assert known is None or (isinstance(known, Order) and known.cum_quantity == 0)


def test_what_is_remembered_of_a_chain(journal: Journal) -> None:
    journal.accept(deal())
    journal.accept(correct("c1", "d1"))
    chain, alias = journal.entity("deal", "d1"), journal.entity("deal", "c1")
    assert isinstance(chain, Deal)
    assert (chain.status, chain.quantity, chain.told) == ("corrected", D(7), True)
    assert isinstance(alias, Alias)
    assert alias.target == "d1"
    decision = journal.decisions[-1]
    assert isinstance(decision, Accepted)
    assert decision.event.chain_id == "d1"
