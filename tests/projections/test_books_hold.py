"""After any history the read models say what is in force, and money and units are kept."""

from collections import defaultdict
from decimal import Decimal

from hypothesis import given

from domain import events
from domain.money import COST_SCALE, QUANTITY_SCALE, from_scaled
from projections.cash.fold import PROJECTION as CASH
from projections.cash.tables import BALANCE_DAYS, CASH_LEGS
from projections.orders.fold import ORDERS
from projections.orders.fold import PROJECTION as ORDERS_PROJECTION
from projections.positions.fold import PROJECTION as POSITIONS_PROJECTION
from projections.positions.lots import Method
from projections.positions.reference import fold
from projections.positions.tables import DEALS, LOTS, POSITIONS
from tests.projections.effective_facts import Book
from tests.projections.histories import ACCOUNTS, HISTORIES, History, play
from tests.projections.row_store import fold_fresh


def _books(recorded: list[events.Event]) -> dict[str, Book]:
    return {name: Book(one for one in recorded if one.key == name) for name in ACCOUNTS}


@given(HISTORIES)
def test_positions_are_the_reference_fold_of_what_is_in_force(history: History) -> None:
    recorded = play(history).events["events"]
    made = fold_fresh(POSITIONS_PROJECTION, recorded)
    rows = {(row.account, row.instrument, row.currency): row for row in made.rows(POSITIONS)}
    lots = defaultdict(list)
    for lot in made.rows(LOTS):
        if lot.remaining:
            lots[lot.account, lot.instrument, lot.currency].append(lot)
    expected = {}
    for book in _books(recorded).values():
        expected |= fold(book.facts(), Method(book.method))
    for key, row in rows.items():
        position = expected.pop(key, None)
        if position is None:
            assert (row.quantity, row.cost_basis, row.realised_pnl, row.fees) == (0, 0, 0, 0)
            assert key not in lots
            continue
        assert row.quantity == from_scaled(position.quantity, QUANTITY_SCALE)
        assert row.cost_basis == from_scaled(position.cost36, COST_SCALE)
        assert row.realised_pnl == from_scaled(position.realised36, COST_SCALE)
        assert row.fees == from_scaled(position.fees36, COST_SCALE)
        assert set(row.flags) == position.flags
        assert [(lot.lot_id, lot.remaining) for lot in sorted(lots[key], key=_age)] == [
            (lot.lot_id, from_scaled(lot.remaining, QUANTITY_SCALE)) for lot in position.lots
        ]
        assert sum(lot.remaining for lot in lots[key]) == row.quantity
        assert sum(lot.cost for lot in lots[key]) == row.cost_basis
    assert not expected


def _age(lot: LOTS.row) -> tuple[int, int]:
    return lot.opened_at_ns, lot.ordinal


@given(HISTORIES)
def test_balances_are_the_cash_of_what_is_in_force(history: History) -> None:
    recorded = play(history).events["events"]
    made = fold_fresh(CASH, recorded)
    by_day: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    by_leg: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for row in made.rows(BALANCE_DAYS):
        by_day[row.account, row.currency] += row.amount
    by_deal: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
    for row in made.rows(CASH_LEGS):
        by_leg[row.account, row.currency] += row.amount
        if row.source == "deal":
            by_deal[row.account, row.source_id, row.currency] += row.amount
    for deal in fold_fresh(POSITIONS_PROJECTION, recorded).rows(DEALS):
        if deal.status != "busted":
            assert deal.net == by_deal[deal.account, deal.deal_id, deal.currency]
    expected = {
        (account, currency): total
        for account, book in _books(recorded).items()
        for currency, total in book.balances().items()
    }
    assert {key: total for key, total in by_day.items() if total} == expected
    assert {key: total for key, total in by_leg.items() if total} == expected


@given(HISTORIES)
def test_every_deal_balances(history: History) -> None:
    for one in play(history).events["events"]:
        event = one.event
        if not isinstance(event, events.DealRecorded):
            continue
        sign = 1 if event.side == "buy" else -1
        legs: dict[str, Decimal] = defaultdict(Decimal)
        for leg in event.legs:
            legs[leg.currency] += leg.amount
        if event.terms.kind == "fx":
            legs["EUR"] -= sign * event.quantity
        for fee in event.fees:
            legs[fee.currency] += fee.amount
        if event.terms.cash_style == "paid" and "net_differs" not in one.flags:
            legs[event.currency] += sign * event.cost
        assert not any(legs.values())


@given(HISTORIES)
def test_orders_hold_the_fills_in_force(history: History) -> None:
    recorded = play(history).events["events"]
    made = fold_fresh(ORDERS_PROJECTION, recorded)
    filled: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for account, book in _books(recorded).items():
        for chain in book.effective():
            event = chain.current.event
            if event.order_id is not None:
                filled[account, event.order_id] += event.quantity
    for row in made.rows(ORDERS):
        assert row.cum_quantity == filled.pop((row.account, row.order_id), 0)
    assert not filled


@given(HISTORIES)
def test_the_decider_remembers_the_orders_that_the_read_model_shows(history: History) -> None:
    journal = play(history)
    made = fold_fresh(ORDERS_PROJECTION, journal.events["events"])
    for row in made.rows(ORDERS):
        order = journal.entity("order", row.order_id, row.account)
        assert (order.cum_quantity, order.status) == (row.cum_quantity, row.status)
        assert list(order.flags) == row.flags


@given(HISTORIES)
def test_deals_sum_to_positions_bought(history: History) -> None:
    recorded = play(history).events["events"]
    rows = {
        (row.account, row.deal_id): row
        for row in fold_fresh(POSITIONS_PROJECTION, recorded).rows(DEALS)
    }
    in_force = 0
    for account, book in _books(recorded).items():
        for chain in book.effective():
            in_force += 1
            event = chain.current.event
            deal_id = getattr(event, "chain_id", event.deal_id)
            row = rows[account, deal_id]
            fees = [*event.fees, *(fee for fees in chain.late_fees for fee in fees)]
            own_fees = sum((fee.amount for fee in fees if fee.currency == row.currency), Decimal(0))
            own_cash = sum(
                (leg.amount for leg in chain.legs if leg.currency == row.currency), Decimal(0)
            )
            late = sum(
                fee.amount
                for fees in chain.late_fees
                for fee in fees
                if fee.currency == row.currency
            )
            assert (row.quantity, row.cost) == (event.quantity, chain.cost)
            assert row.fees == own_fees
            assert row.net == own_cash - late
    assert in_force == sum(row.status != "busted" for row in rows.values())
