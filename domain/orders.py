"""Orders: what may be asked of one, and what is recorded of it.

What a user asks is checked; what a venue reports is a fact, and only flagged.
"""

from decimal import Decimal
from typing import Any, Final, assert_never

import msgspec

from domain import money
from domain.accounts import find_account, unknown_account
from domain.commands import (
    CancelOrder,
    OrderReportCommand,
    PlaceOrder,
    ReplaceOrder,
    Request,
)
from domain.decisions import Accepted, Decision, Known, Lacking, Refused, Stamped, View
from domain.entities import Alias, Entity, Instrument, Order
from domain.events import OrderPlaced, OrderReport, OrderType, Report
from domain.order_fills import fill_flags, fill_order, unfill_order
from domain.order_reports import ASSUMED, apply_report, evolve_order
from domain.order_states import (
    OrderRow,
    average_price,
    is_filled,
    is_good_till,
    leaves_quantity,
    order_row,
    order_status,
    order_told_flags,
    working_quantity,
)
from domain.times import Instant

_LIMITED: Final[frozenset[OrderType]] = frozenset(("limit", "stop_limit", "limit_on_close"))
_STOPPED: Final[frozenset[OrderType]] = frozenset(("stop", "stop_limit"))


def decide_order(view: View, request: Request, content_hash: str) -> Decision:
    """Decide on an order, a request about one, or a report on one.

    Reports are never refused. An order that is only assumed from a report is known already where it
    was placed.
    """
    account = find_account(view)
    if account is None:
        return unknown_account(request.key)
    command = request.command
    match command:
        case PlaceOrder():
            decision = _place(view, request, command, content_hash)
            asked = ASSUMED not in request.flags
        case CancelOrder() | ReplaceOrder():
            decision = _ask(view, request, command)
            asked = True
        case OrderReport():
            decision = _report(view, request, command)
            asked = False
        case _:
            raise AssertionError(f"{type(command).__name__} is not a command about orders")
    if account.closed and isinstance(decision, Accepted):
        if asked:
            return Refused("account_closed")
        return Accepted(decision.event, (*decision.flags, "account_closed"))
    return decision


def evolve_orders(view: View, stamped: Stamped) -> list[tuple[str, str, Entity]]:
    """Return the entities that an event of an order changes: the order, and its further ids."""
    event = stamped.event
    if not isinstance(event, OrderPlaced | OrderReport):
        raise TypeError(f"{type(event).__name__} is not an event of an order")
    before = _find(view, event.order_id)
    after = evolve_order(before, stamped)
    return [("order", event.order_id, after), *aliases(after, stamped)]


def resolve_order(view: View, order_id: str, ids: dict[str, str]) -> tuple[str, Order | None]:
    """Return the id that an order has been kept under, and the order if it is known.

    A source that sees only a part of a chain of ClOrdIDs names an order by one of them,
    `DATE/ClOrdID`. On a later day a good-till order is found by the venue's OrderID.
    """
    order = _find(view, order_id)
    if order is not None:
        return order_id, order
    for key in (order_id, f"OrderID/{ids['OrderID']}" if "OrderID" in ids else None):
        alias = view.get("cl_ord_id", key) if key else None
        found = _find(view, alias.target) if isinstance(alias, Alias) else None
        if found is None:
            continue
        if key == order_id or (is_good_till(found) and leaves_quantity(found) != 0):
            return found.order_id, found
    return order_id, None


def aliases(order: Order, stamped: Stamped) -> list[tuple[str, str, Entity]]:
    """Return the further ids under which an order can be found after an event.

    A ClOrdID is unique for a day, and so is kept as `DATE/ClOrdID`; the venue's OrderID of a
    good-till order as `OrderID/...`.
    """
    event = stamped.event
    told = [getattr(event, "cl_ord_id", None), getattr(event, "orig_cl_ord_id", None)]
    keys = [f"{stamped.event_time[:10]}/{cl_ord_id}" for cl_ord_id in told if cl_ord_id]
    venue_id = getattr(event, "ids", {}).get("OrderID")
    if venue_id and is_good_till(order):
        keys.append(f"OrderID/{venue_id}")
    return [
        ("cl_ord_id", key, Alias(target=order.order_id)) for key in keys if key != order.order_id
    ]


def _find(view: View, order_id: str) -> Order | None:
    entity = view.get("order", order_id)
    return entity if isinstance(entity, Order) else None


def _place(view: View, request: Request, command: PlaceOrder, content_hash: str) -> Decision:
    assumed = ASSUMED in request.flags
    order_id, order = command.order_id, _find(view, command.order_id)
    if assumed:
        order_id, order = resolve_order(view, command.order_id, command.ids)
    if order is not None and order.content_hash:
        if assumed or (order.content_hash == content_hash and not order.assumed):
            return Known(order.offset, order.seq)
        if not order.assumed:
            return Refused("conflict", {"first_seq": str(order.seq), "id": order_id})
    if not isinstance(view.get("instrument", command.instrument), Instrument):
        return Lacking("unknown_instrument", f"no instrument {command.instrument!r} is defined")
    refused = _check_terms(
        command.quantity, command.order_type, command.limit_price, command.stop_price
    )
    if refused is not None and not assumed:
        return refused
    fields: dict[str, Any] = msgspec.structs.asdict(command)
    return Accepted(OrderPlaced(**{**fields, "order_id": order_id}), request.flags)


def _check_terms(
    quantity: Decimal | None,
    order_type: OrderType | None,
    limit_price: Decimal | None,
    stop_price: Decimal | None,
) -> Refused | None:
    """Refuse a quantity that is not above zero, and a type without its prices.

    Prices may be negative.
    """
    if quantity is not None and quantity <= 0:
        return Refused("quantity_not_positive", {"quantity": money.to_plain(quantity)})
    if order_type in _LIMITED and limit_price is None:
        return Refused("limit_price_missing", {"order_type": order_type})
    if order_type in _STOPPED and stop_price is None:
        return Refused("stop_price_missing", {"order_type": order_type})
    return None


def _ask(view: View, request: Request, command: CancelOrder | ReplaceOrder) -> Decision:
    order_id, order = resolve_order(view, command.order_id, command.ids)
    if order is None:
        return Refused("unknown_order", {"order_id": order_id})
    match command:
        case CancelOrder():
            refused = _too_late(order) if leaves_quantity(order) == 0 else None
        case ReplaceOrder():
            refused = _check_replace(order, command)
        case _:
            assert_never(command)
    return refused or _accepted(order, order_id, request, command)


def _check_replace(order: Order, command: ReplaceOrder) -> Refused | None:
    refused = _check_terms(
        command.quantity,
        command.order_type or order.order_type,
        order.limit_price if command.limit_price is None else command.limit_price,
        order.stop_price if command.stop_price is None else command.stop_price,
    )
    if refused is not None:
        return refused
    told = command.quantity
    # A venue may accept that a filled order be increased (C.1.c).
    increased = told is not None and told > order.cum_quantity and is_filled(order)
    if leaves_quantity(order) == 0 and not (increased and order.finished is None):
        return _too_late(order)
    if told is not None and told < order.cum_quantity:
        filled = money.to_plain(order.cum_quantity)
        return Refused("below_filled", {"quantity": money.to_plain(told), "cum_quantity": filled})
    return None


def _too_late(order: Order) -> Refused:
    numbers = {"status": order.status, "cum_quantity": money.to_plain(order.cum_quantity)}
    quantity = working_quantity(order)
    if quantity is not None:
        numbers["quantity"] = money.to_plain(quantity)
    return Refused("too_late", numbers)


def _report(view: View, request: Request, command: OrderReportCommand) -> Accepted:
    order_id, order = resolve_order(view, command.order_id, command.ids)
    return _accepted(order, order_id, request, command)


def _accepted(
    order: Order | None,
    order_id: str,
    request: Request,
    command: CancelOrder | ReplaceOrder | OrderReportCommand,
) -> Accepted:
    """Return the event of a command, which takes over its fields, with the flags it deserves."""
    event_type = type(command).__base__
    assert event_type is not None
    fields: dict[str, Any] = msgspec.structs.asdict(command)
    event = event_type(**{**fields, "order_id": order_id})
    assert isinstance(event, Report)
    _, flags = apply_report(order, event, Instant(request.event_time))
    return Accepted(event, (*request.flags, *flags))


__all__ = [
    "OrderRow",
    "aliases",
    "average_price",
    "decide_order",
    "evolve_order",
    "evolve_orders",
    "fill_flags",
    "fill_order",
    "leaves_quantity",
    "order_row",
    "order_status",
    "order_told_flags",
    "resolve_order",
    "unfill_order",
]
