"""What had happened by a time: by what is known now of deals, and of when an account was there."""

from decimal import Decimal
from typing import Any

import pytest

from domain import events
from domain.decisions import Stamped
from domain.times import Day, Instant
from projections.accounts.fold import ACCOUNTS, AccountsFold
from projections.orders.fold import ORDERS, OrdersFold
from streams.past import AsOf, happened_by

MARCH = AsOf(day=Day("2024-03-31"))
NOON = AsOf(instant=Instant("2024-03-01T12:00:00.000000000Z"))
DEAL: dict[str, Any] = {
    "order_id": "O",
    "instrument": "I",
    "side": "buy",
    "quantity": Decimal(25),
    "price": Decimal(4),
    "currency": "USD",
    "terms": events.Terms(),
    "cost": Decimal(100),
    "legs": (),
}


def stamped(seq: int, day: str, event: events.Event, *flags: str) -> Stamped:
    """Return an event of nine in the morning of a day."""
    time = Instant(f"{day}T09:00:00.000000000Z")
    return Stamped(event=event, key="A", seq=seq, offset=seq, event_time=time, flags=flags)


def deal(day: str) -> events.DealRecorded:
    return events.DealRecorded(deal_id="D", trade_date=Day(day), **DEAL)


def correction(day: str, quantity: int) -> events.DealCorrected:
    told: dict[str, Any] = {**DEAL, "deal_id": "C", "ref_deal_id": "D", "chain_id": "D"}
    told["quantity"] = Decimal(quantity)
    return events.DealCorrected(trade_date=Day(day), **told)


def busted(day: str) -> events.DealBusted:
    return events.DealBusted(deal_id="B", ref_deal_id="D", chain_id="D", booked_date=Day(day))


def filled(told: list[Stamped], as_of: AsOf) -> list[str]:
    fold = OrdersFold(fresh=True)
    fold.apply(happened_by(told, as_of))
    return [str(row.cum_quantity) for row in fold.rows(ORDERS)]


@pytest.mark.parametrize("as_of", [MARCH, NOON])
def test_a_bust_that_was_told_later_is_true_of_the_past(as_of: AsOf) -> None:
    bust = busted("2024-04-02")
    told = [stamped(1, "2024-03-01", deal("2024-03-01")), stamped(2, "2024-04-02", bust)]
    assert filled(told[:1], as_of) == ["25"]
    assert filled(told, as_of) == ["0"]
    late = [stamped(1, "2024-04-01", deal("2024-04-01")), stamped(2, "2024-03-01", bust)]
    assert filled(late, as_of) == []


@pytest.mark.parametrize("as_of", [MARCH, NOON])
def test_a_corrected_deal_had_happened_by_its_last_date(as_of: AsOf) -> None:
    first = stamped(1, "2024-03-01", deal("2024-03-01"))
    same_day = stamped(2, "2024-03-01", correction("2024-03-01", 7))
    moved = stamped(2, "2024-04-02", correction("2024-04-02", 7))
    bust = stamped(2, "2024-04-02", busted("2024-04-02"))
    too_late = stamped(3, "2024-04-03", correction("2024-04-03", 7), "deal_busted")
    assert filled([first, same_day], as_of) == ["7"]
    assert filled([first, moved], as_of) == []
    assert filled([first, bust, too_late], as_of) == ["0"]


@pytest.mark.parametrize("as_of", [MARCH, NOON])
def test_an_account_was_there_when_anything_of_it_had_happened(as_of: AsOf) -> None:
    opened = stamped(1, "2024-06-01", events.AccountOpened(base_currency="EUR"), "assumed")
    changed = events.AccountChanged(from_date=Day("2020-01-01"), portfolio="P")
    closed = stamped(3, "2024-07-01", events.AccountClosed(reason="x"))
    told = [opened, stamped(2, "2020-01-01", changed), closed]

    def rows(some: list[Stamped]) -> list[Any]:
        fold = AccountsFold(fresh=True)
        handled = (events.AccountOpened, events.AccountChanged, events.AccountClosed)
        fold.apply([one for one in happened_by(some, as_of) if isinstance(one.event, handled)])
        return [(row.base_currency, row.portfolio, row.status) for row in fold.rows(ACCOUNTS)]

    assert rows(told) == [("EUR", "P", "open")]
    assert rows([opened, closed]) == []
    assert rows([opened, stamped(2, "2024-03-01", deal("2024-03-01"))]) == [("EUR", None, "open")]
