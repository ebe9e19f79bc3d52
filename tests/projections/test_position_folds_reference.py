"""The reference fold: worked examples, and what must hold for any deals."""

import copy
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import InvalidValue
from projections.positions.facts import MONEY, UNIT, Deal, NamedLot, PositionKey, order_key
from projections.positions.lots import LOTS_UNMATCHED, Method, cost_of_part
from projections.positions.reference import apply, fold
from tests.projections.position_facts import (
    KEY,
    check_book,
    check_cash,
    deal,
    instant,
    lots_of,
    money,
    units,
)

FIFO, AVERAGE = Method.FIFO, Method.AVERAGE


def test_fifo_takes_the_oldest_first() -> None:
    book = fold([deal(1, 100, "10"), deal(2, 100, "12"), deal(3, -150, "15")])
    position = book[KEY]
    # sold for 2250, of lots that cost 1000 and 600
    assert position.realised36 == money(650)
    assert lots_of(book) == [("d2", Decimal(50), Decimal(600))]
    assert (position.quantity, position.cost36) == (units(50), money(600))


def test_a_short_earns_when_it_is_bought_back_for_less() -> None:
    book = fold([deal(1, -100, "10"), deal(2, -100, "9"), deal(3, 150, "8")])
    position = book[KEY]
    # sold 100 at 10 and 50 at 9, bought back at 8
    assert position.realised36 == money(100 * 2 + 50 * 1)
    assert lots_of(book) == [("d2", Decimal(-50), Decimal(-450))]
    assert position.cost36 == -money(450)


def test_one_deal_crosses_zero() -> None:
    book = fold([deal(1, 100, "10"), deal(2, -150, "12")])
    assert book[KEY].realised36 == money(200)
    assert lots_of(book) == [("d2", Decimal(-50), Decimal(-600))]
    lot = book[KEY].lots[0]
    assert (lot.deal_id, lot.opened_at, lot.quantity) == ("d2", instant(2), units(-50))


def test_a_negative_price_is_a_price() -> None:
    book = fold([deal(1, 10, "-37.63"), deal(2, -10, "5")])
    assert book[KEY].realised36 == money("426.3")
    assert not book[KEY].lots


def test_a_cost_that_does_not_divide_is_rounded_and_the_rest_stays() -> None:
    facts = [deal(1, 3, 0, cost="10"), deal(2, -1, "5"), deal(3, -1, "5"), deal(4, -1, "5")]
    book = fold(facts[:2])
    # 10 / 3 = 3.3333333333 at ten decimals
    assert book[KEY].realised36 == money("1.6666666667")
    assert lots_of(book) == [("d1", Decimal(2), Decimal("6.6666666667"))]
    apply(book, facts[2])
    # 6.6666666667 / 2 divides: no rounding
    assert lots_of(book) == [("d1", Decimal(1), Decimal("3.33333333335"))]
    apply(book, facts[3])
    assert book[KEY].realised36 == money("5")


def test_a_crossing_whose_proceeds_do_not_divide() -> None:
    book = fold([deal(1, 1, "2"), deal(2, -3, 0, cost="-10")])
    assert book[KEY].realised36 == money("1.3333333333")
    assert lots_of(book) == [("d2", Decimal(-2), Decimal("-6.6666666667"))]


def test_an_odd_last_digit_is_rounded_half_even_at_ten_decimals() -> None:
    # a third of these lies just above and just below half of the tenth decimal
    assert cost_of_part(3 * 5 * 10**25 + 1, 1, 3) == 10**26
    assert cost_of_part(3 * 5 * 10**25 - 1, 1, 3) == 0
    assert cost_of_part(-(3 * 5 * 10**25) - 1, 1, 3) == -(10**26)
    assert cost_of_part(10, 3, 3) == 10


def test_named_lots_are_taken_before_the_oldest() -> None:
    named = (NamedLot("d2", units(60)), NamedLot("d3", units(10)))
    facts = [deal(1, 100, "10"), deal(2, 100, "12"), deal(3, 100, "14")]
    book = fold([*facts, deal(4, -70, "15", lots=named)])
    assert book[KEY].realised36 == money(60 * 3 + 10 * 1)
    assert [(name, left) for name, left, _ in lots_of(book)] == [
        ("d1", Decimal(100)),
        ("d2", Decimal(40)),
        ("d3", Decimal(90)),
    ]
    assert book[KEY].flags == set()


def test_a_name_that_no_lot_answers_to_is_flagged_and_the_oldest_taken() -> None:
    named = (NamedLot("gone", units(60)), NamedLot("d2", units(500)))
    book = fold([deal(1, 100, "10"), deal(2, 10, "12"), deal(3, -30, "15", lots=named)])
    assert lots_of(book) == [("d1", Decimal(80), Decimal(800))]
    assert book[KEY].flags == {LOTS_UNMATCHED}


def test_average_cost_keeps_one_pool() -> None:
    facts = [deal(1, 100, "10"), deal(2, 50, "13"), deal(3, -60, "15"), deal(4, 10, "20")]
    book = fold(facts[:3], AVERAGE)
    # the pool: 150 units for 1650, 11 each
    assert book[KEY].realised36 == money(60 * 4)
    assert lots_of(book) == [("d1", Decimal(90), Decimal(990))]
    touched = apply(book, facts[3], AVERAGE)
    assert lots_of(book) == [("d1", Decimal(100), Decimal(1190))]
    assert touched == list(book[KEY].lots)
    assert touched[0].quantity == units(160)


def test_average_cost_starts_a_new_pool_after_zero() -> None:
    book = fold([deal(1, 10, "10"), deal(2, 10, "20"), deal(3, -25, "30")], AVERAGE)
    assert book[KEY].realised36 == money(20 * 30 - 300)
    assert lots_of(book) == [("d3", Decimal(-5), Decimal(-150))]


def test_an_account_that_turns_to_average_cost_merges_its_lots() -> None:
    book = fold([deal(1, 10, "10"), deal(2, 10, "20")])
    touched = apply(book, deal(3, -5, "20"), AVERAGE)
    assert lots_of(book) == [("d1", Decimal(15), Decimal(225))]
    assert {lot.lot_id: lot.remaining for lot in touched} == {"d1": units(15), "d2": 0}
    check_book(book)


def test_expensed_fees_stay_out_of_cost_and_profit() -> None:
    book = fold([deal(1, 10, "10", fees36=money(1)), deal(2, -10, "12", fees36=money(2))])
    assert (book[KEY].realised36, book[KEY].fees36) == (money(20), money(3))


def test_capitalised_fees_raise_cost_and_lower_proceeds() -> None:
    more = {"capitalise_fees": True, "fees36": money(3)}
    book = fold([deal(1, 10, "10", **more)])
    assert lots_of(book) == [("d1", Decimal(10), Decimal(103))]
    apply(book, deal(2, -15, "12", **more))
    # proceeds 180 - 3 = 177, two thirds of it close
    assert (book[KEY].realised36, book[KEY].fees36) == (money(118 - 103), 0)
    assert lots_of(book) == [("d2", Decimal(-5), Decimal(-59))]


def test_apply_names_the_lots_it_touched() -> None:
    book = fold([deal(1, 10, "10"), deal(2, 10, "11"), deal(3, 10, "12")])
    touched = apply(book, deal(4, -15, "12"))
    assert [(lot.lot_id, lot.remaining) for lot in touched] == [("d1", 0), ("d2", units(5))]
    touched = apply(book, deal(5, -20, "12"))
    assert [(lot.lot_id, lot.remaining) for lot in touched] == [
        ("d2", 0),
        ("d3", 0),
        ("d5", units(-5)),
    ]


def test_a_refused_fact_leaves_the_book_untouched() -> None:
    book = fold([deal(1, 10, "10")])
    before = copy.deepcopy(book)
    with pytest.raises(InvalidValue, match="quantity"):
        apply(book, deal(2, 0, "10", fees36=money(1)))
    with pytest.raises(InvalidValue, match="quantity"):
        apply(book, deal(2, 0, "10", key=PositionKey("A1", "NEW", "USD")))
    assert book == before


def test_facts_are_ordered_by_time_then_sequence_then_seq() -> None:
    first, second, third = deal(1, 1, 1), deal(2, 1, 1), deal(3, 1, 1)
    assert sorted([third, first, second], key=order_key) == [first, second, third]


keys = st.sampled_from([PositionKey("A1", name, "USD") for name in ("X", "Y", "Z")])


@st.composite
def told_deals(draw: st.DrawFn) -> list[Deal]:
    """Deals at any told cost, most of them indivisible, some naming lots or capitalising fees."""
    deals = []
    for n in range(1, draw(st.integers(1, 25)) + 1):
        size = draw(st.one_of(st.integers(1, 5).map(lambda k: k * UNIT), st.integers(1, 10**30)))
        sign = draw(st.sampled_from((-1, 1)))
        cost = draw(st.integers(-(10**40), 10**40))
        picks = draw(st.lists(st.tuples(st.integers(1, n), st.integers(1, 10**19)), max_size=2))
        fees, capitalise = draw(st.integers(-MONEY, MONEY)), draw(st.booleans())
        lots = tuple(NamedLot(f"d{m}", quantity) for m, quantity in picks)
        deals.append(
            Deal(draw(keys), f"d{n}", instant(n), 0, n, sign * size, cost, fees, capitalise, lots)
        )
    return deals


@settings(deadline=None)
@given(told_deals(), st.sampled_from(Method))
def test_lots_make_up_the_position_and_cash_is_conserved(deals: list[Deal], method: Method) -> None:
    book = fold(deals, method)
    check_book(book)
    check_cash(book, deals)


@settings(deadline=None)
@given(told_deals(), st.sampled_from(Method), st.integers(0, 25))
def test_incremental_equals_fresh_and_touched_lots_are_all_that_changed(
    deals: list[Deal], method: Method, cut: int
) -> None:
    book = fold(deals[:cut], method)
    for fact in deals[cut:]:
        before = {id(lot): copy.copy(lot) for state in book.values() for lot in state.lots}
        touched = {id(lot) for lot in apply(book, fact, method)}
        after = {id(lot): lot for state in book.values() for lot in state.lots}
        for known, lot in after.items():
            assert known in touched or lot == before[known]
        assert before.keys() - after.keys() <= touched
    assert book == fold(deals, method)
