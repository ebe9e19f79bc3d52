"""How an order changes with the deals that fill it, and with fills that are taken back."""

from decimal import Decimal
from typing import Final

from msgspec.structs import replace

from domain import money
from domain.entities import Order
from domain.events import DealCorrected, DealFields, OrderTold
from domain.order_states import OVER_FILL, Applied, event_flags, is_good_till, settle
from domain.times import Instant

FILL_DIFFERS: Final = "fill_differs"
"""Flag of a fill of another instrument or side than its order's."""


def fill_order(
    order: Order | None, order_id: str, deal: DealFields, event_time: Instant | None = None
) -> Order:
    """Return an order, None if it is not known, after a deal that belongs to it.

    A fill later than the end of its day wakes a good-till order that was done for the day.
    """
    return _fill(order, order_id, deal, event_time)[0]


def fill_flags(
    order: Order | None, order_id: str, deal: DealFields, event_time: Instant | None = None
) -> tuple[str, ...]:
    """Return the flags that belong on a deal because of what it does to its order."""
    return _fill(order, order_id, deal, event_time)[1]


def unfill_order(
    order: Order, quantity: Decimal, price: Decimal | None, told: OrderTold | None = None
) -> Order:
    """Return an order without a fill that was busted, or corrected: the new one comes after."""
    return settle(_add_fill(order, money.negated(quantity), price), told)


def _fill(
    order: Order | None, order_id: str, deal: DealFields, event_time: Instant | None
) -> Applied:
    known = order or Order(order_id=order_id)
    notes: list[str] = []
    if known.finished is not None and not isinstance(deal, DealCorrected):
        notes.append(f"fill_on_{known.finished}_order")
    side, instrument = known.side or deal.side, known.instrument or deal.instrument
    if (side, instrument) != (deal.side, deal.instrument):
        notes.append(FILL_DIFFERS)
    woken = _is_next_day(known, event_time)
    filled = replace(
        _add_fill(known, deal.quantity, deal.price),
        side=side,
        instrument=instrument,
        accepted=True,
        bidding=False,
        stopped=False,
        done_for_day_at=None if woken else known.done_for_day_at,
        calculated=known.calculated and not woken,
    )
    settled = settle(filled, deal.told, tuple(notes))
    flags = event_flags(known, settled, deal.told, tuple(notes))
    if OVER_FILL in settled.flags and OVER_FILL not in flags:
        flags = (*flags, OVER_FILL)
    return settled, flags


def _is_next_day(order: Order, event_time: Instant | None) -> bool:
    ended = order.done_for_day_at
    return (
        ended is not None
        and event_time is not None
        and is_good_till(order)
        and event_time[:10] > ended[:10]
    )


def _add_fill(order: Order, quantity: Decimal, price: Decimal | None) -> Order:
    cum_quantity = money.add((order.cum_quantity, quantity))
    if price is None:
        unpriced = money.add((order.unpriced_quantity, quantity))
        return replace(order, cum_quantity=cum_quantity, unpriced_quantity=unpriced)
    notional = money.add((order.cum_notional, money.multiply(quantity, price)))
    return replace(order, cum_quantity=cum_quantity, cum_notional=notional)
