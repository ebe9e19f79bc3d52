"""A small language for telling what happens to an order, and what its row must then be."""

from decimal import Decimal
from typing import Any

from domain.decisions import Stamped
from domain.entities import Order
from domain.events import (
    DealCorrected,
    DealRecorded,
    Event,
    OrderPending,
    OrderPlaced,
    OrderReplaced,
    OrderReplaceRequested,
    OrderTold,
    Terms,
)
from domain.order_reports import evolve_order
from domain.orders import fill_order, unfill_order
from domain.times import Instant

ORDER_ID = "2024-01-02/X"
DAY_1 = Instant("2024-01-02T14:30:00.000000000Z")
DAY_2 = Instant("2024-01-03T14:30:00.000000000Z")


def stamped(event: Event, event_time: Instant = DAY_1, **fields: Any) -> Stamped:
    return Stamped(event=event, key="A1", seq=1, offset=1, event_time=event_time, **fields)


def placed(quantity: int = 10000, **fields: Any) -> OrderPlaced:
    terms: dict[str, Any] = {"order_type": "limit", "limit_price": Decimal(50), "pending": True}
    return OrderPlaced(
        order_id=ORDER_ID,
        instrument="XYZ",
        side="buy",
        quantity=Decimal(quantity),
        cl_ord_id="X",
        **{**terms, **fields},
    )


def told(status: str, cum: int | str, leaves: int | str) -> OrderTold:
    return OrderTold(status=status, cum_quantity=Decimal(cum), leaves_quantity=Decimal(leaves))


def report(kind: type[Any], *, at: Instant = DAY_1, **fields: Any) -> Stamped:
    return stamped(kind(order_id=ORDER_ID, **fields), at)


def fill(
    quantity: int | str, price: int | str | None = 50, *, correction: bool = False, **fields: Any
) -> DealRecorded:
    terms: dict[str, Any] = {
        "deal_id": "D",
        "instrument": "XYZ",
        "side": "buy",
        "quantity": Decimal(quantity),
        "price": None if price is None else Decimal(price),
        "currency": "USD",
        "terms": Terms(),
        "cost": Decimal(0),
        "legs": (),
        "order_id": ORDER_ID,
        **fields,
    }
    if correction:
        return DealCorrected(**terms, ref_deal_id="D0", chain_id="D0")
    return DealRecorded(**terms)


def traded(quantity: int, status: str, cum: int, leaves: int, price: int = 50) -> Any:
    return fill(quantity, price, told=told(status, cum, leaves))


def part(quantity: int, cum: int, total: int = 10000) -> tuple[Any, str]:
    """A partial fill on an order with nothing pending, and its row."""
    deal = traded(quantity, "partially_filled", cum, total - cum)
    return deal, f"partially_filled {cum} {total - cum} 50"


def ask_replace(cl_ord_id: str, orig: str, quantity: int | None = None, **fields: Any) -> Any:
    return report(
        OrderReplaceRequested,
        cl_ord_id=cl_ord_id,
        orig_cl_ord_id=orig,
        quantity=None if quantity is None else Decimal(quantity),
        **fields,
    )


def pending(what: str, cl_ord_id: str, cum: int, leaves: int, orig: str = "X") -> Any:
    totals = told(f"pending_{what}", cum, leaves)
    return report(OrderPending, what=what, cl_ord_id=cl_ord_id, orig_cl_ord_id=orig, told=totals)


def replaced(cl_ord_id: str, orig: str, quantity: int, status: str, cum: int, leaves: int) -> Any:
    return report(
        OrderReplaced,
        cl_ord_id=cl_ord_id,
        orig_cl_ord_id=orig,
        quantity=Decimal(quantity),
        told=told(status, cum, leaves),
    )


def refused(kind: type[Any], cl_ord_id: str, status: str, reason: str = "too_late") -> Any:
    return report(kind, cl_ord_id=cl_ord_id, reason=reason, told=OrderTold(status=status))


class Next:
    """A fill on the following day."""

    def __init__(self, deal: DealRecorded) -> None:
        self.deal = deal


class Bust:
    """A fill taken back, with what the venue says of the order then."""

    def __init__(self, deal: DealRecorded, told: OrderTold | None = None) -> None:
        self.deal = deal
        self.told = told


class Correct:
    """A fill told anew."""

    def __init__(self, old: DealRecorded, new: DealRecorded) -> None:
        self.old = old
        self.new = new


def step(order: Order | None, what: Any) -> Order:
    match what:
        case Stamped():
            return evolve_order(order, what)
        case OrderPlaced():
            return evolve_order(order, stamped(what))
        case DealRecorded():
            return fill_order(order, ORDER_ID, what, DAY_1)
        case Next():
            return fill_order(order, ORDER_ID, what.deal, DAY_2)
        case Bust():
            assert order is not None
            return unfill_order(order, what.deal.quantity, what.deal.price, what.told)
        case Correct():
            assert order is not None
            without = unfill_order(order, what.old.quantity, what.old.price)
            return fill_order(without, ORDER_ID, what.new, DAY_1)
    raise AssertionError(f"{what!r} is no step")
