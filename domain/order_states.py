"""What an order's facts come to: its status by precedence, what it leaves, its average, its flags.

Source: FIX 4.4 with Errata 20030618, Volume 4, ExecutionReport (the precedence of OrdStatus, and
LeavesQty = OrderQty - CumQty, or 0 for an order that is no longer active), and Appendix D.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from domain import money
from domain.entities import Order, OrderStatus
from domain.events import OrderTold, OrderType, Side

PRECEDENCE: Final[dict[OrderStatus, int]] = {
    "pending_cancel": 12,
    "pending_replace": 11,
    "done_for_day": 10,
    "calculated": 9,
    "filled": 8,
    "stopped": 7,
    "suspended": 6,
    "canceled": 5,
    "expired": 5,
    "partially_filled": 4,
    "new": 2,
    "rejected": 2,
    "pending_new": 2,
    "accepted_for_bidding": 2,
}
"""The status told of an order that is in several at once is the highest of them."""

UNKNOWN_ORDER: Final = "unknown_order"
"""Flag of an order that only reports or fills tell of: nobody has placed it."""
ASSUMED_ORDER: Final = "assumed_order"
"""Flag of an order whose terms are taken from a report, because its placing was not told."""
OVER_FILL: Final = "over_fill"
"""Flag of an order that is filled beyond its quantity."""

Applied = tuple[Order, tuple[str, ...]]
"""An order after an event, and the flags that belong on the event."""

_CURRENT: Final = frozenset((UNKNOWN_ORDER, ASSUMED_ORDER, OVER_FILL))
_TOLD: Final = "told_"
_GOOD_TILL: Final = frozenset(("gtc", "gtd"))
_PENDING: Final[dict[str, OrderStatus]] = {
    "cancel": "pending_cancel",
    "replace": "pending_replace",
}
_LEAST_AVERAGE_SCALE: Final = 2


class OrderRow(Struct, frozen=True, kw_only=True):
    """An order as the read model shows it; `quantity` and `leaves_quantity` are null if unknown."""

    account: str
    order_id: str
    ids: dict[str, str]
    cl_ord_id: str | None
    instrument: str | None
    side: Side | None
    order_type: OrderType | None
    status: OrderStatus
    quantity: Decimal | None
    limit_price: Decimal | None
    cum_quantity: Decimal
    leaves_quantity: Decimal | None
    average_price: Decimal | None
    flags: tuple[str, ...]


def order_row(account: str, order: Order) -> OrderRow:
    """Return the row of an order in the read model `orders`."""
    return OrderRow(
        account=account,
        order_id=order.order_id,
        ids=order.ids,
        cl_ord_id=order.cl_ord_id,
        instrument=order.instrument,
        side=order.side,
        order_type=order.order_type,
        status=order.status,
        quantity=order.quantity,
        limit_price=order.limit_price,
        cum_quantity=order.cum_quantity,
        leaves_quantity=leaves_quantity(order),
        average_price=average_price(order),
        flags=order.flags,
    )


def order_status(order: Order) -> OrderStatus:
    """Return the status with the highest precedence among all that the order is in."""
    return max(_states(order), key=PRECEDENCE.__getitem__)


def _states(order: Order) -> Iterator[OrderStatus]:
    yield _first_state(order)
    for request in order.requests:
        if request.seen or not request.crossed:
            yield _PENDING[request.kind]
    if order.done_for_day_at is not None:
        yield "done_for_day"
    if order.calculated:
        yield "calculated"
    if is_filled(order):
        yield "filled"
    elif order.cum_quantity > 0:
        yield "partially_filled"
    if order.stopped:
        yield "stopped"
    if order.suspended:
        yield "suspended"
    if order.finished is not None:
        yield order.finished


def _first_state(order: Order) -> OrderStatus:
    """Return the one of the states of equal, lowest precedence that the order is in."""
    if order.finished == "rejected":
        return "rejected"
    if order.bidding:
        return "accepted_for_bidding"
    if order.pending_new and not order.accepted:
        return "pending_new"
    return "new"


def working_quantity(order: Order) -> Decimal | None:
    """Return the quantity that fills count against: less what was cancelled in part meanwhile.

    Of an order that ended by a cancel it is the whole quantity: it was not filled by being cut.
    """
    if order.quantity is None or order.finished is not None or not order.canceled_quantity:
        return order.quantity
    return money.EXACT.subtract(order.quantity, order.canceled_quantity)


def is_filled(order: Order) -> bool:
    """Tell whether the fills of an order have reached its quantity."""
    quantity = working_quantity(order)
    return quantity is not None and order.cum_quantity > 0 and order.cum_quantity >= quantity


def is_good_till(order: Order) -> bool:
    """Tell whether an order outlives its day: done for the day, it works again the next."""
    return order.time_in_force in _GOOD_TILL


def leaves_quantity(order: Order) -> Decimal | None:
    """Return what may still be filled (FIX LeavesQty); None where the quantity is not known.

    It is 0 once an order is no longer active. A good-till order that is done for the day keeps what
    it leaves, for the next day.
    """
    if order.finished is not None or order.calculated:
        return money.ZERO
    if order.done_for_day_at is not None and not is_good_till(order):
        return money.ZERO
    return _open_quantity(order)


def _open_quantity(order: Order) -> Decimal | None:
    quantity = working_quantity(order)
    if quantity is None:
        return None
    return max(money.EXACT.subtract(quantity, order.cum_quantity), money.ZERO)


def average_price(order: Order) -> Decimal | None:
    """Return the average price of the fills (FIX AvgPx) at ten decimals, half-even.

    None without fills, and where a fill told no price.
    """
    if order.cum_quantity <= 0 or order.unpriced_quantity:
        return None
    return money.average(order.cum_notional, order.cum_quantity)


def order_told_flags(order: Order, told: OrderTold | None) -> tuple[str, ...]:
    """Return a flag for each total that a source told and that is not what the order comes to.

    An average told is met when it differs by less than one unit of its last decimal, or of the
    second: sources round and cut averages.
    """
    if told is None:
        return ()
    flags = []
    if told.status is not None and told.status != order.status:
        flags.append("told_status_differs")
    if told.cum_quantity is not None and told.cum_quantity != order.cum_quantity:
        flags.append("told_cum_quantity_differs")
    if told.leaves_quantity is not None and not _leaves_agree(order, told.leaves_quantity):
        flags.append("told_leaves_quantity_differs")
    if told.average_price is not None and not _average_agrees(order, told.average_price):
        flags.append("told_average_price_differs")
    return tuple(flags)


def _leaves_agree(order: Order, told: Decimal) -> bool:
    leaves = leaves_quantity(order)
    if leaves is None or told == leaves:
        return True
    # The standard says of such an order only that LeavesQty could be 0.
    resting = order.done_for_day_at is not None or order.calculated or order.suspended
    return resting and told in (money.ZERO, _open_quantity(order))


def _average_agrees(order: Order, told: Decimal) -> bool:
    if order.unpriced_quantity:
        return True
    if order.cum_quantity <= 0:
        return told == 0
    exponent = told.as_tuple().exponent
    scale = max(-exponent, _LEAST_AVERAGE_SCALE) if isinstance(exponent, int) else 0
    unit = Decimal(1).scaleb(-scale)
    difference = money.EXACT.subtract(order.cum_notional, money.multiply(told, order.cum_quantity))
    return difference.copy_abs() < money.multiply(unit, order.cum_quantity)


def settle(order: Order, told: OrderTold | None = None, notes: tuple[str, ...] = ()) -> Order:
    """Return the order with the status and flags that its facts come to.

    Flags of totals told are of the last ones told; `notes` are kept for good.
    """
    heard = _hear(order, told)
    current = replace(heard, status=order_status(heard))
    flags = {
        flag
        for flag in order.flags
        if flag not in _CURRENT and not (told is not None and flag.startswith(_TOLD))
    }
    flags.update(notes, current_flags(current), order_told_flags(current, told))
    return replace(current, flags=tuple(sorted(flags)))


def current_flags(order: Order) -> tuple[str, ...]:
    """Return the flags of an order that hold as long as their reason does."""
    flags = []
    if not order.content_hash:
        flags.append(UNKNOWN_ORDER)
    elif order.assumed:
        flags.append(ASSUMED_ORDER)
    quantity = working_quantity(order)
    if quantity is not None and order.cum_quantity > quantity:
        flags.append(OVER_FILL)
    return tuple(flags)


def _hear(order: Order, told: OrderTold | None) -> Order:
    """Return the order with its requests marked by the status that the venue told.

    A request counts as pending from when it was made. A venue that tells a status without it had
    not received it: the report crossed it, and the venue's status stands until it has (B.1.b).
    """
    if told is None or told.status is None or not order.requests:
        return order
    if told.status in _PENDING.values():
        return _hear_pending(order, told.status)
    requests = tuple(replace(request, crossed=True) for request in order.requests)
    return replace(order, requests=requests)


def _hear_pending(order: Order, status: str) -> Order:
    """Return the order with its first request of the kind seen, unless one is that explains it."""
    kind = [each for each in order.requests if _PENDING[each.kind] == status]
    if not kind or any(request.seen for request in kind):
        return order
    requests = (replace(each, seen=True) if each is kind[0] else each for each in order.requests)
    return replace(order, requests=tuple(requests))


def event_flags(
    before: Order, after: Order, told: OrderTold | None, notes: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the flags of the event that led from one state to the other."""
    flags = [*notes]
    if not after.content_hash:
        flags.append(UNKNOWN_ORDER)
    if OVER_FILL in after.flags and OVER_FILL not in before.flags:
        flags.append(OVER_FILL)
    return (*flags, *order_told_flags(after, told))
