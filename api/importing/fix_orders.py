"""What a FIX message says of an order: the command that records it."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct

from api.importing.fix_codes import (
    CANCEL_REASONS,
    ORDER_TYPES,
    REJECT_REASONS,
    RESTATE_REASONS,
    SHORTS,
    SIDES,
    STATUSES,
    TIMES_IN_FORCE,
)
from api.importing.fix_message import FixMessage, label
from domain import commands, money
from domain.commands import CancelOrder, Command, PlaceOrder, ReplaceOrder
from domain.errors import InvalidValue
from domain.events import OrderTold, OrderType
from domain.times import Instant, TimePrecision, end_of_day

_UNKNOWN_ID: Final = frozenset(("NONE", "0"))
_ORDER_IDS: Final = {37: "OrderID", 198: "SecondaryOrderID", 526: "SecondaryClOrdID"}
_EXEC_IDS: Final = {17: "ExecID", 527: "SecondaryExecID"}
_DEAL_IDS: Final = {**_EXEC_IDS, 37: "OrderID", 11: "ClOrdID", 198: "SecondaryOrderID"}
_REFUSALS: Final[dict[str, Callable[..., Command]]] = {
    "1": commands.ReportCancelRefused,
    "2": commands.ReportReplaceRefused,
}
_REPORTS: Final[dict[str, Callable[..., Command]]] = {
    "0": commands.ReportOrderAccepted,
    "3": commands.ReportOrderDoneForDay,
    "4": commands.ReportOrderCanceled,
    "5": commands.ReportOrderReplaced,
    "6": commands.ReportOrderPending,
    "7": commands.ReportOrderStopped,
    "8": commands.ReportOrderRejected,
    "9": commands.ReportOrderSuspended,
    "A": commands.ReportOrderPending,
    "B": commands.ReportOrderCalculated,
    "C": commands.ReportOrderExpired,
    "D": commands.ReportOrderRestated,
    "E": commands.ReportOrderPending,
}
_PENDING: Final = {"A": "new", "6": "cancel", "E": "replace"}
_LIMITED: Final = frozenset(("limit", "stop_limit", "limit_on_close"))
_STOPPED: Final = frozenset(("stop", "stop_limit"))


class Told(Struct, frozen=True):
    """A message about an order, and whose and when; `is_new` if nothing was said of it before."""

    line: int
    message: FixMessage
    kind: str
    account: str
    order_id: str
    event_time: Instant
    precision: TimePrecision
    is_new: bool


def placing(told: Told, instrument: str, *, assumed: bool) -> PlaceOrder:
    """Return the placing of an order by its own message, or as assumed from a later one."""
    message = told.message
    if not assumed:
        message.need(40)
        if message.text(38) is None:
            raise InvalidValue(label(38), "", "a quantity of units: orders for cash are not read")
    expire_time, expire_date = message.time(126), message.day(432)
    if expire_time is None and expire_date is not None:
        expire_time = end_of_day(expire_date, "UTC")
    side, short = message.need_code(54, SIDES), SHORTS.get(message.need(54))
    limit_price, stop_price = message.number(44), message.number(99)
    order_type: OrderType = message.code(40, ORDER_TYPES) or "other"
    unlimited = order_type in _LIMITED and limit_price is None
    if assumed and (unlimited or (order_type in _STOPPED and stop_price is None)):
        order_type = "other"
    return PlaceOrder(
        order_id=told.order_id,
        instrument=instrument,
        side=side,
        quantity=_quantity(message),
        order_type=order_type,
        limit_price=limit_price,
        stop_price=stop_price,
        time_in_force=message.code(59, TIMES_IN_FORCE) or "day",
        expire_time=expire_time,
        pending=True,
        cl_ord_id=(message.text(41) if assumed else None) or message.text(11),
        ids=_ids(message, _ORDER_IDS),
        tags=(short,) if short else (),
        time_precision=told.precision,
    )


def can_place(told: Told) -> bool:
    """Tell whether a message is the first of its order and says enough to place it."""
    message = told.message
    if told.kind == "D" or not told.is_new or message.text(54) is None:
        return False
    if message.text(55) is None and message.text(48) is None:
        return False
    total = message.text(14) is not None and message.text(151) is not None
    return (message.text(38) is not None or total) and _quantity(message) > 0


def _quantity(message: FixMessage) -> Decimal:
    told = message.number(38)
    if told is not None:
        return told
    return money.add((message.need_number(14), message.need_number(151)))


def request(told: Told) -> CancelOrder | ReplaceOrder:
    """Return what an OrderCancelRequest or OrderCancelReplaceRequest asks for."""
    fields = _fields(told, _ORDER_IDS)
    del fields["told"]
    if told.kind == "F":
        return CancelOrder(**fields)
    return ReplaceOrder(**fields, **_terms(told.message))


def refusal(told: Told) -> Command:
    """Return the report that an OrderCancelReject is."""
    report = told.message.need_code(434, _REFUSALS)
    reason = _reason(told.message, 102, CANCEL_REASONS)
    return report(**_fields(told, _ORDER_IDS), reason=reason)


def report(told: Told) -> Command:
    """Return the report that an ExecutionReport is which tells of no fill."""
    message, exec_type = told.message, told.message.need(150)
    make = message.need_code(150, _REPORTS)
    fields = _fields(told, {**_ORDER_IDS, **_EXEC_IDS})
    match exec_type:
        case "A" | "6" | "E":
            fields["what"] = _PENDING[exec_type]
        case "5":
            fields |= _terms(message)
        case "D":
            fields |= _terms(message)
            del fields["order_type"]
            fields["reason"] = _reason(message, 378, RESTATE_REASONS)
        case "4":
            fields["reason"] = _reason(message, 378, RESTATE_REASONS)
        case "8":
            fields["reason"] = _reason(message, 103, REJECT_REASONS)
    return make(**fields)


def fill_fields(told: Told) -> dict[str, Any]:
    """Return what a fill, correction or bust says of its order."""
    return {
        "order_id": told.order_id,
        "ids": _ids(told.message, _DEAL_IDS),
        "told": _totals(told.message),
    }


def _terms(message: FixMessage) -> dict[str, Any]:
    return {
        "quantity": message.number(38),
        "limit_price": message.number(44),
        "stop_price": message.number(99),
        "order_type": message.code(40, ORDER_TYPES),
        "time_in_force": message.code(59, TIMES_IN_FORCE),
    }


def _fields(told: Told, schemes: dict[int, str]) -> dict[str, Any]:
    return {
        "order_id": told.order_id,
        "cl_ord_id": told.message.text(11),
        "orig_cl_ord_id": told.message.text(41),
        "ids": _ids(told.message, schemes),
        "told": _totals(told.message),
        "time_precision": told.precision,
    }


def _ids(message: FixMessage, schemes: dict[int, str]) -> dict[str, str]:
    told = {scheme: message.name(tag) for tag, scheme in schemes.items()}
    return {scheme: value for scheme, value in told.items() if value and value not in _UNKNOWN_ID}


def _totals(message: FixMessage) -> OrderTold | None:
    totals = OrderTold(
        status=message.code(39, STATUSES),
        cum_quantity=message.number(14),
        leaves_quantity=message.number(151),
        average_price=message.number(6),
    )
    return None if totals == OrderTold() else totals


def _reason(message: FixMessage, tag: int, meanings: dict[str, str]) -> str | None:
    """Return what a numbered reason means; venues have numbers of their own."""
    code = message.text(tag)
    if code is None:
        return None
    if not (code.isascii() and code.isdigit() and len(code) <= 9):
        raise InvalidValue(label(tag), code, "a number")
    return meanings.get(code, f"code_{code}")
