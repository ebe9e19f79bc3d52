"""Units that move without a deal: worked examples, real statements, and what always holds."""

import copy
import itertools
from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from msgspec.structs import replace

from domain.errors import InvalidValue
from domain.events import MovementReason
from projections.positions.facts import (
    UNIT,
    CashLeg,
    Deal,
    Fact,
    Movement,
    NamedLot,
    PositionKey,
    UnitLeg,
)
from projections.positions.lots import (
    COST_UNKNOWN,
    LOTS_UNMATCHED,
    PROCEEDS_ELSEWHERE,
    SENT_LOTS_OUTDATED,
    Book,
    Method,
)
from projections.positions.reference import apply, fold
from tests.projections.position_facts import (
    check_book,
    deal,
    instant,
    leg,
    lots_of,
    money,
    movement,
    units,
)

NEW = PositionKey("A1", "NEW", "USD")
OLD = PositionKey("A1", "ACME", "USD")


def told(lot_id: str, quantity: str | int, cost: str | int | None = None) -> NamedLot:
    return NamedLot(lot_id, units(quantity), instant(0), None if cost is None else money(cost))


def three_lots() -> list[Fact]:
    return [deal(1, 5000, "0.41"), deal(2, 6000, "0.4"), deal(3, 1000, 0, cost="412.7")]


def test_a_tender_keeps_every_lot_with_its_cost_and_date() -> None:
    book = fold([*three_lots(), movement(9, "corporate_action", leg("ACME", -12000),
                                         leg("NEW", 12000))])  # fmt: skip
    assert lots_of(book, "NEW") == [
        ("m9/1", Decimal(5000), Decimal(2050)),
        ("m9/2", Decimal(6000), Decimal(2400)),
        ("m9/3", Decimal(1000), Decimal("412.7")),
    ]
    assert [(lot.deal_id, lot.opened_at) for lot in book[NEW].lots] == [
        (f"d{n}", instant(n)) for n in (1, 2, 3)
    ]
    assert (book[OLD].quantity, book[OLD].cost36, book[OLD].realised36) == (0, 0, 0)
    check_book(book)


@pytest.mark.parametrize("in_first", [True, False])
def test_a_split_1_for_25_in_place_whatever_the_order_of_its_legs(in_first: bool) -> None:
    legs = [leg("ACME", 480), leg("ACME", -12000)]
    split = movement(9, "corporate_action", *(legs if in_first else reversed(legs)))
    book = fold([*three_lots(), split])
    assert lots_of(book) == [
        ("m9/1", Decimal(200), Decimal(2050)),
        ("m9/2", Decimal(240), Decimal(2400)),
        ("m9/3", Decimal(40), Decimal("412.7")),
    ]
    assert book[OLD].flags == set()


def test_a_split_3_for_7_divides_no_cost_and_the_last_lot_takes_the_rest() -> None:
    facts = [deal(1, 10, "1"), deal(2, 10, "2"), deal(3, 10, "3")]
    new = str(Decimal(90) / 7)  # more decimals than a lot has, cut to what is told
    told_units = str(Decimal(new).quantize(Decimal("1e-18")))
    book = fold([*facts, movement(9, "corporate_action", leg("ACME", -30), leg("NEW", told_units))])
    assert lots_of(book, "NEW") == [
        ("m9/1", Decimal("4.2857142857"), Decimal(10)),
        ("m9/2", Decimal("4.2857142857"), Decimal(20)),
        ("m9/3", Decimal(told_units) - 2 * Decimal("4.2857142857"), Decimal(30)),
    ]


def test_a_lot_too_small_for_the_new_units_gives_its_cost_to_its_neighbour() -> None:
    tiny = "0.00000000001"
    facts = [deal(1, tiny, "7"), deal(2, 10, "1"), deal(3, tiny, "9")]
    held = str(Decimal(10) + 2 * Decimal(tiny))
    book = fold([*facts, movement(9, "corporate_action", leg("ACME", f"-{held}"), leg("NEW", 3))])
    assert lots_of(book, "NEW") == [("m9/1", Decimal(3), Decimal(10) + 16 * Decimal(tiny))]
    assert sum(state.realised36 for state in book.values()) == 0


def test_a_split_of_a_short_position_mirrors_it() -> None:
    legs = leg("ACME", 120), leg("NEW", -40)
    book = fold([deal(1, -90, "3"), deal(2, -30, "4"), movement(9, "corporate_action", *legs)])
    assert lots_of(book, "NEW") == [
        ("m9/1", Decimal(-30), Decimal(-270)),
        ("m9/2", Decimal(-10), Decimal(-120)),
    ]
    assert book[OLD].realised36 == book[NEW].realised36 == 0


def test_a_cash_merger_earns_the_cash_minus_the_cost() -> None:
    merger = movement(9, "corporate_action", leg("ACME", -12000), cash="6000")
    book = fold([*three_lots(), merger])
    assert book[OLD].realised36 == money(6000) - money("4862.7")
    assert not book[OLD].lots


def test_cash_beside_new_units_is_realised_and_the_cost_goes_with_the_units() -> None:
    merger = movement(9, "corporate_action", leg("ACME", -10), leg("NEW", 3), cash="4")
    book = fold([deal(1, 10, "1"), merger])
    assert book[OLD].realised36 == money(4)
    assert lots_of(book, "NEW") == [("m9/1", Decimal(3), Decimal(10))]


def test_an_expiry_loses_the_cost_and_earns_the_premium_of_a_short() -> None:
    book = fold([deal(1, 2, "150"), movement(2, "expiry", leg("ACME", -2))])
    assert book[OLD].realised36 == money(-300)
    book = fold([deal(1, -2, "150"), movement(2, "expiry", leg("ACME", 2))])
    assert book[OLD].realised36 == money(300)


def test_a_transfer_out_takes_the_cost_along_and_earns_nothing() -> None:
    named = NamedLot("d2", units(-6000))
    book = fold([*three_lots(), movement(9, "transfer", leg("ACME", -6000, named))])
    assert lots_of(book) == [
        ("d1", Decimal(5000), Decimal(2050)),
        ("d3", Decimal(1000), Decimal("412.7")),
    ]
    assert (book[OLD].realised36, book[OLD].flags) == (0, set())


def test_a_transfer_out_may_tell_the_cost_that_it_leaves_with() -> None:
    facts = [deal(1, 10, "1"), deal(2, 10, "2")]
    book = fold([*facts, movement(9, "transfer", leg("ACME", -10, told("d2", -10, -20)))])
    assert lots_of(book) == [("d1", Decimal(10), Decimal(10))]
    assert book[OLD].realised36 == 0


def test_an_opening_position_opens_the_lots_it_tells() -> None:
    lots = told("a", 5, "7"), told("b", 6, "9")
    book = fold([movement(1, "opening", leg("ACME", 12, *lots))])
    assert lots_of(book) == [
        ("a", Decimal(5), Decimal(7)),
        ("b", Decimal(6), Decimal(9)),
        ("m1/1", Decimal(1), Decimal(0)),  # a unit that no lot was told for
    ]
    assert book[OLD].lots[0].opened_at == instant(0)
    assert book[OLD].flags == {COST_UNKNOWN}


def test_told_lots_without_a_cost_keep_their_names_and_are_flagged() -> None:
    book = fold([movement(1, "opening", leg("ACME", 5, told("a", 5)))])
    assert lots_of(book) == [("a", Decimal(5), Decimal(0))]
    assert book[OLD].flags == {COST_UNKNOWN}


def test_a_told_lot_whose_name_is_open_gets_one_of_its_own() -> None:
    book = fold([deal(1, 5, "2"), movement(2, "transfer", leg("ACME", 5, told("d1", 5, 9)))])
    assert [name for name, _, _ in lots_of(book)] == ["m2/1", "d1"]
    check_book(book)


def test_a_told_lot_that_meets_a_short_closes_it_like_a_deal() -> None:
    book = fold([deal(1, -4, "5"), movement(2, "transfer", leg("ACME", 10, told("a", 10, 30)))])
    # four units sold at 5 are covered by units that cost 3
    assert book[OLD].realised36 == money(8)
    assert lots_of(book) == [("a", Decimal(6), Decimal(18))]


def test_a_lot_that_moves_in_keeps_its_age_and_is_taken_before_younger_ones() -> None:
    tender = movement(3, "corporate_action", leg("ACME", -10), leg("NEW", 10))
    facts = [deal(1, 10, "1"), deal(2, 10, "5", NEW), tender, deal(4, -10, "6", NEW)]
    book = fold(facts)
    assert book[NEW].realised36 == money(50)
    assert lots_of(book, "NEW") == [("d2", Decimal(10), Decimal(50))]


def test_units_from_nowhere_come_in_at_no_cost_and_are_flagged() -> None:
    book = fold([movement(1, "adjustment", leg("ACME", 7))])
    assert lots_of(book) == [("m1/1", Decimal(7), Decimal(0))]
    assert book[OLD].flags == {COST_UNKNOWN}


def test_more_units_leave_than_were_known() -> None:
    book = fold([deal(1, 10, "3"), movement(2, "transfer", leg("ACME", -25))])
    assert lots_of(book) == [("m2/1", Decimal(-15), Decimal(0))]
    assert (book[OLD].flags, book[OLD].realised36) == ({COST_UNKNOWN}, 0)


def test_an_exchange_at_a_told_cost_realises_the_difference() -> None:
    exchange = movement(2, "corporate_action", leg("ACME", -10), leg("NEW", 5, told("n", 5, 45)))
    book = fold([deal(1, 10, "3"), exchange])
    assert (book[OLD].realised36, book[NEW].realised36) == (money(15), 0)
    assert lots_of(book, "NEW") == [("n", Decimal(5), Decimal(45))]


def test_of_two_heirs_the_first_inherits_and_the_second_is_flagged() -> None:
    spin_off = leg("ACME", -10), leg("NEW", 10), leg("SPUN", 2)
    book = fold([deal(1, 10, "3"), movement(2, "corporate_action", *spin_off)])
    assert lots_of(book, "NEW") == [("m2/1", Decimal(10), Decimal(30))]
    assert lots_of(book, "SPUN") == [("m2/2", Decimal(2), Decimal(0))]
    assert book[PositionKey("A1", "SPUN", "USD")].flags == {COST_UNKNOWN}


def test_proceeds_in_another_currency_are_flagged_and_not_guessed() -> None:
    merger = Movement(
        "m2", "corporate_action", instant(2), 0, 2, (leg("ACME", -10),), (CashLeg("EUR", money(9)),)
    )
    book = fold([deal(1, 10, "3"), merger])
    assert book[OLD].realised36 == money(-30)
    assert book[OLD].flags == {PROCEEDS_ELSEWHERE}


def test_under_average_cost_the_pool_moves_as_one() -> None:
    tender = movement(9, "corporate_action", leg("ACME", -6000), leg("NEW", 3000))
    book = fold([*three_lots(), tender], Method.AVERAGE)
    assert lots_of(book) == [("d1", Decimal(6000), Decimal("2431.35"))]
    assert lots_of(book, "NEW") == [("m9/1", Decimal(3000), Decimal("2431.35"))]


def test_names_that_are_not_open_are_flagged() -> None:
    book = fold([deal(1, 10, "3"), movement(2, "transfer", leg("ACME", -4, told("zz", -4)))])
    assert lots_of(book) == [("d1", Decimal(6), Decimal(18))]
    assert book[OLD].flags == {LOTS_UNMATCHED}


def test_a_refused_movement_leaves_the_book_untouched() -> None:
    book = fold(three_lots())
    before = copy.deepcopy(book)
    for bad in (leg("NEW", 0), leg("NEW", 5, told("a", 0, 1))):
        with pytest.raises(InvalidValue, match="movement m9"):
            apply(book, movement(9, "corporate_action", leg("ACME", -12000), bad))
    assert book == before


def ibkr_facts(statement: Path, prefix: str) -> list[Fact]:
    """The deals, commissions capitalised, and corporate actions of one symbol in a statement."""
    tree = etree.parse(statement)
    facts: list[Fact] = []
    for n, row in enumerate(tree.iter("Trade"), 1):
        if row.get("symbol", "").startswith(prefix):
            key = PositionKey("A1", row.get("symbol"), row.get("currency"))
            more = {"fees36": -money(row.get("ibCommission")), "capitalise_fees": True}
            facts.append(deal(n, row.get("quantity"), row.get("tradePrice"), key, **more))
    found = [row for row in tree.iter("CorporateAction") if row.get("symbol").startswith(prefix)]
    for m, (_, rows) in enumerate(itertools.groupby(found, lambda row: row.get("dateTime")), 1000):
        rows = list(rows)
        legs = [leg(r.get("symbol"), r.get("quantity"), currency="CAD") for r in rows]
        cash = tuple(CashLeg("CAD", money(r.get("proceeds"))) for r in rows)
        facts.append(Movement(f"m{m}", "corporate_action", instant(m), 0, m, tuple(legs), cash))
    return facts


def test_a_broker_s_tender_and_cash_merger_are_met_to_the_last_digit(shared_data: Path) -> None:
    statement = shared_data / "ibkr-flex" / "flex-01.xml"
    facts = ibkr_facts(statement, "UUU")
    assert len(facts) == 10 + 2
    book = fold(facts)
    (merged,) = [
        row
        for row in etree.parse(statement).iter("CorporateAction")
        if row.get("symbol") == "UUU.TEN2" and "MERGED" in row.get("description")
    ]
    final = book[PositionKey("A1", "UUU.TEN2", "CAD")]
    assert final.realised36 == money(merged.get("fifoPnlRealized")) == money(2358)
    assert final.quantity == 0
    assert book[PositionKey("A1", "UUU", "CAD")].realised36 == 0
    tendered = fold(facts[:-1])[PositionKey("A1", "UUU.TEN2", "CAD")]
    assert [lot.remaining // UNIT for lot in tendered.lots] == [
        int(fact.quantity) // UNIT for fact in facts if isinstance(fact, Deal)
    ]
    assert tendered.cost36 == money(31962)


@st.composite
def histories(draw: st.DrawFn) -> list[Fact]:
    """Deals and movements of every reason over three instruments, whole and odd quantities."""
    names = st.sampled_from(["ACME", "NEW", "SPUN"])
    sizes = st.one_of(st.integers(-9, 9).map(lambda n: n * UNIT), st.integers(-(10**20), 10**20))
    some = sizes.filter(bool)
    costs = st.integers(-(10**40), 10**40)
    facts: list[Fact] = []
    for n in range(1, draw(st.integers(1, 14)) + 1):
        if draw(st.booleans()):
            key = PositionKey("A1", draw(names), "USD")
            facts.append(Deal(key, f"d{n}", instant(n), 0, n, draw(some), draw(costs)))
            continue
        legs = []
        for _ in range(draw(st.integers(1, 3))):
            lots = draw(
                st.lists(
                    st.builds(
                        NamedLot,
                        st.integers(1, n).map(lambda m: f"d{m}"),
                        some,
                        st.just(instant(0)),
                        st.one_of(st.none(), costs),
                    ),
                    max_size=2,
                )
            )
            legs.append(UnitLeg(PositionKey("A1", draw(names), "USD"), draw(some), tuple(lots)))
        cash = tuple(CashLeg("USD", draw(costs)) for _ in range(draw(st.integers(0, 1))))
        reason = draw(st.sampled_from(get_args(MovementReason)))
        facts.append(Movement(f"m{n}", reason, instant(n), 0, n, tuple(legs), cash))
    return facts


def worth(book: Book) -> int:
    return sum(state.realised36 - state.cost36 for state in book.values())


@settings(deadline=None)
@given(histories(), st.sampled_from(Method))
def test_any_history_keeps_lots_positions_units_and_cash_together(
    facts: list[Fact], method: Method
) -> None:
    book: Book = {}
    held: dict[PositionKey, int] = {}
    for fact in facts:
        before, releasing = worth(book), {k for k, state in book.items() if state.quantity}
        cost_before = {k: state.cost36 for k, state in book.items()}
        apply(book, fact, method)
        check_book(book)
        moves = [fact] if isinstance(fact, Deal) else fact.legs
        for move in moves:
            held[move.key] = held.get(move.key, 0) + move.quantity
        assert {k: state.quantity for k, state in book.items()} == held
        if isinstance(fact, Deal):
            assert worth(book) - before == -fact.cost36
        elif fact.reason == "corporate_action" and not any(x.lots for x in fact.legs):
            released = any(
                key in releasing and book[key].cost36 != cost_before[key]
                for key in {x.key for x in fact.legs}
            )
            cash = sum(x.amount36 for x in fact.cash)
            assert worth(book) - before in ({cash} if released else {cash, 0})
    assert book == fold(facts, method)


@pytest.mark.parametrize(("told_ns", "flags"), [(1, set()), (9, {SENT_LOTS_OUTDATED})])
def test_what_comes_before_a_transfer_and_is_told_after_it_is_flagged(
    told_ns: int, flags: set[str]
) -> None:
    moved = movement(3, "transfer", leg("ACME", -10))
    sent = replace(moved, movement_id="transfer/t/sent", told_ns=3)
    (position,) = fold([deal(1, 10, 5, told_ns=told_ns), deal(2, 10, 1), sent]).values()
    assert (position.flags, position.cost36, position.realised36) == (flags, money(10), 0)
