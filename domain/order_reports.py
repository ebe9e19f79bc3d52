"""How an order changes with each event: placed, asked, reported, filled.

Reports are facts from outside: none is refused, whatever their order. What does not fit leaves a
note on the order for a person to look at. The scenarios are those of FIX 4.4's Appendix D.
"""

from collections.abc import Iterable
from typing import Any, Final, Literal, assert_never

from msgspec.structs import replace

from domain import money
from domain.decisions import Stamped
from domain.entities import Order, OrderRequest
from domain.events import (
    OrderAccepted,
    OrderAcceptedForBidding,
    OrderCalculated,
    OrderCanceled,
    OrderCancelRefused,
    OrderCancelRequested,
    OrderDoneForDay,
    OrderExpired,
    OrderPending,
    OrderPlaced,
    OrderRejected,
    OrderReplaced,
    OrderReplaceRefused,
    OrderReplaceRequested,
    OrderRestated,
    OrderStopped,
    OrderSuspended,
    OrderTold,
    Report,
)
from domain.order_states import Applied, event_flags, leaves_quantity, settle
from domain.times import Instant

ASSUMED: Final = "assumed"
"""Flag of an event whose asker assumed what it says, because nobody had told it."""
LATE_REPORT: Final = "late_report"
"""Flag of a report on an order that was past it: it is kept, and changes nothing."""
OVER_CANCEL: Final = "over_cancel"
"""Flag of a partial cancel of more than the order left."""
DUPLICATE_ORDER: Final = "duplicate_order"
"""Flag of an order whose repetition under the same ClOrdID was rejected: it goes on itself."""
_OF_REPORTS: Final = frozenset(("ExecID", "SecondaryExecID"))
_MOST_IDS: Final = 64
_MOST_REQUESTS: Final = 64
_FINISHED: Final = frozenset(("canceled", "expired", "rejected"))
_TERMS: Final = ("quantity", "limit_price", "stop_price", "order_type", "time_in_force")


def evolve_order(order: Order | None, stamped: Stamped) -> Order:
    """Return an order, None if it is not known, after an event of its own. Never fails."""
    event = stamped.event
    if isinstance(event, OrderPlaced):
        return _place(order, event, stamped)
    if not isinstance(event, Report):
        raise TypeError(f"{type(event).__name__} is not an event of an order")
    return apply_report(order, event, stamped.event_time)[0]


def apply_report(order: Order | None, event: Report, event_time: Instant) -> Applied:
    """Return an order after a report or request, and the flags that belong on the event."""
    known = order or Order(order_id=event.order_id)
    after, notes = _apply(_with_ids(known, event), event, event_time)
    settled = settle(after, event.told, notes)
    return settled, event_flags(known, settled, event.told, notes)


def _with_ids(order: Order, event: Report) -> Order:
    cl_ord_ids = (("ClOrdID", value) for value in (event.orig_cl_ord_id, event.cl_ord_id) if value)
    told = ((scheme, value) for scheme, value in event.ids.items() if scheme not in _OF_REPORTS)
    return replace(
        order,
        ids=_merge_ids(order.ids, (*told, *cl_ord_ids)),
        cl_ord_id=order.cl_ord_id or event.orig_cl_ord_id or event.cl_ord_id,
    )


def _merge_ids(ids: dict[str, str], told: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return all ids told: a second one of a scheme is `ClOrdID.2`, and so on to a bound."""
    merged = dict(ids)
    for scheme, value in told:
        name, ordinal = scheme, 1
        while ordinal < _MOST_IDS and merged.get(name, value) != value:
            ordinal += 1
            name = f"{scheme}.{ordinal}"
        merged[name] = value
    return merged


def _place(order: Order | None, event: OrderPlaced, stamped: Stamped) -> Order:
    """Return the order that was placed; what reports told of it before stays."""
    known = order or Order(order_id=event.order_id)
    told = (("ClOrdID", event.cl_ord_id),) if event.cl_ord_id else ()
    replaced = known.cl_ord_id not in (None, event.cl_ord_id) and known.quantity is not None
    terms: dict[str, Any] = {} if replaced else {name: getattr(event, name) for name in _TERMS}
    placed = replace(
        known,
        content_hash=stamped.content_hash or "placed",
        offset=stamped.offset,
        seq=stamped.seq,
        assumed=ASSUMED in stamped.flags,
        instrument=event.instrument,
        side=event.side,
        cl_ord_id=known.cl_ord_id or event.cl_ord_id,
        ids=_merge_ids(known.ids, (*event.ids.items(), *told)),
        pending_new=known.pending_new or event.pending,
        **terms,
    )
    return settle(placed)


def _apply(order: Order, event: Report, event_time: Instant) -> Applied:
    match event:
        case OrderCancelRequested() | OrderReplaceRequested():
            return _ask(order, event)
        case OrderPending() | OrderAccepted() | OrderAcceptedForBidding():
            return _acknowledge(order, event)
        case OrderCancelRefused():
            return replace(order, requests=_answered(order, "cancel", event.cl_ord_id)), ()
        case OrderReplaceRefused():
            return replace(order, requests=_answered(order, "replace", event.cl_ord_id)), ()
        case OrderReplaced() | OrderRestated():
            return _change(order, event)
        case OrderCanceled():
            return _cancel(order, event)
        case OrderExpired() | OrderRejected():
            return _end(order, event)
        case OrderDoneForDay() | OrderSuspended() | OrderStopped() | OrderCalculated():
            return _rest(order, event, event_time)
        case _:
            assert_never(event)


def _ask(order: Order, event: OrderCancelRequested | OrderReplaceRequested) -> Applied:
    if order.finished is not None:
        return order, (LATE_REPORT,)
    if isinstance(event, OrderCancelRequested):
        request = OrderRequest(kind="cancel", cl_ord_id=event.cl_ord_id)
    else:
        terms: dict[str, Any] = {name: getattr(event, name) for name in _TERMS}
        request = OrderRequest(kind="replace", cl_ord_id=event.cl_ord_id, **terms)
    return replace(order, requests=(*order.requests, request)[-_MOST_REQUESTS:]), ()


def _acknowledge(
    order: Order, event: OrderPending | OrderAccepted | OrderAcceptedForBidding
) -> Applied:
    if order.finished is not None:
        return order, (LATE_REPORT,)
    match event:
        case OrderPending(what="new"):
            return replace(order, pending_new=True), (LATE_REPORT,) if order.accepted else ()
        case OrderPending(what="cancel"):
            return _see(order, "cancel", event.cl_ord_id), ()
        case OrderPending():
            return _see(order, "replace", event.cl_ord_id), ()
        case OrderAccepted():
            return replace(_awake(order), accepted=True, bidding=False), ()
        case OrderAcceptedForBidding():
            return replace(order, bidding=True), ()
        case _:
            assert_never(event)


def _awake(order: Order) -> Order:
    return replace(order, done_for_day_at=None, calculated=False, suspended=False)


def _see(order: Order, kind: Literal["cancel", "replace"], cl_ord_id: str | None) -> Order:
    """Return the order with the request marked as seen; one that nobody told is taken from it."""
    request = _request(order, kind, cl_ord_id)
    if request is None:
        request = OrderRequest(kind=kind, cl_ord_id=cl_ord_id, seen=True)
        return replace(order, requests=(*order.requests, request)[-_MOST_REQUESTS:])
    seen = replace(request, seen=True)
    return replace(
        order, requests=tuple(seen if each is request else each for each in order.requests)
    )


def _request(
    order: Order, kind: Literal["cancel", "replace"], cl_ord_id: str | None
) -> OrderRequest | None:
    """Return the request that an answer is to: of the same ClOrdID, else the first without one."""
    asked = [request for request in order.requests if request.kind == kind]
    if cl_ord_id is None:
        return asked[0] if asked else None
    for wanted in (cl_ord_id, None):
        for request in asked:
            if request.cl_ord_id == wanted:
                return request
    return None


def _answered(
    order: Order, kind: Literal["cancel", "replace"], cl_ord_id: str | None
) -> tuple[OrderRequest, ...]:
    request = _request(order, kind, cl_ord_id)
    return tuple(each for each in order.requests if each is not request)


def _change(order: Order, event: OrderReplaced | OrderRestated) -> Applied:
    """Return the order with new terms; a replace takes those that are absent from its request."""
    if isinstance(event, OrderRestated):
        return _restate(order, event)
    request = _request(order, "replace", event.cl_ord_id)
    terms: dict[str, Any] = {}
    for name in _TERMS:
        told, asked = getattr(event, name), getattr(request, name, None)
        if told is not None or asked is not None:
            terms[name] = asked if told is None else told
    if event.quantity is None and "quantity" in terms:
        # Asked for less than is filled by now, the quantity becomes what is filled (C.3.b, C.3.c).
        terms["quantity"] = max(terms["quantity"], order.cum_quantity)
    if "quantity" in terms:
        terms["canceled_quantity"] = money.ZERO
    replaced = replace(
        order,
        requests=_answered(order, "replace", event.cl_ord_id),
        cl_ord_id=event.cl_ord_id or (request and request.cl_ord_id) or order.cl_ord_id,
        **{"accepted": True, **terms},
    )
    return replaced, (LATE_REPORT,) if order.finished is not None else ()


def _restate(order: Order, event: OrderRestated) -> Applied:
    told = event.told or OrderTold()
    terms: dict[str, Any] = {
        name: value for name in _TERMS if (value := getattr(event, name, None)) is not None
    }
    if "quantity" in terms:
        terms["canceled_quantity"] = money.ZERO
    if event.reason == "gt_corporate_action" and told.cum_quantity is not None:
        # A split restates what is filled in the new units; what it cost stays (H.1.b).
        terms["cum_quantity"] = told.cum_quantity
    if told.status not in ("done_for_day", "calculated", "suspended"):
        order = _awake(order)
    if told.status is not None and told.status not in _FINISHED:
        order = replace(order, finished=None)
    return replace(order, **terms), ()


def _cancel(order: Order, event: OrderCanceled) -> Applied:
    if event.quantity is None:
        return _finish(order, "canceled")
    leaves = leaves_quantity(order)
    canceled = money.add((order.canceled_quantity, event.quantity))
    cut = replace(order, canceled_quantity=canceled)
    if leaves is None or event.quantity < leaves:
        return cut, ()
    notes = (OVER_CANCEL,) if event.quantity > leaves else ()
    ended, late = _finish(cut, "canceled")
    return ended, (*notes, *late)


def _end(order: Order, event: OrderExpired | OrderRejected) -> Applied:
    if isinstance(event, OrderExpired):
        return _finish(order, "expired")
    if event.reason == DUPLICATE_ORDER and order.accepted:
        return order, (DUPLICATE_ORDER,)
    return _finish(order, "rejected")


def _finish(order: Order, how: Literal["canceled", "expired", "rejected"]) -> Applied:
    if order.finished is not None:
        return order, () if order.finished == how else (LATE_REPORT,)
    rested = replace(_awake(order), bidding=False, stopped=False)
    ended = replace(rested, finished=how, requests=())
    return ended, ()


def _rest(
    order: Order,
    event: OrderDoneForDay | OrderSuspended | OrderStopped | OrderCalculated,
    event_time: Instant,
) -> Applied:
    if isinstance(event, OrderCalculated):
        return replace(order, calculated=True), ()
    if order.finished is not None:
        return order, (LATE_REPORT,)
    match event:
        case OrderDoneForDay():
            return replace(order, accepted=True, done_for_day_at=event_time), ()
        case OrderSuspended():
            return replace(order, accepted=True, suspended=True), ()
        case OrderStopped():
            return replace(order, accepted=True, stopped=True), ()
        case _:
            assert_never(event)
