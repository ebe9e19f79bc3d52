"""An order's story: its events as the log has them, each in words and with what it left behind."""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from msgspec import Struct

from domain import events
from domain.decisions import Stamped
from domain.money import to_plain
from projections.orders.fold import ORDERS, OrdersFold

_IN_WORDS = {
    events.OrderAccepted: "the venue accepts it",
    events.OrderCancelRequested: "asks to cancel what is left",
    events.OrderCanceled: "the venue has cancelled what was left",
    events.OrderReplaced: "the venue has replaced it",
    events.OrderExpired: "the rest expires",
}


class Chapter(Struct, frozen=True):
    """An event of an order in words, and the order as it stood after it."""

    seq: int
    event_time: str
    words: str
    status: str
    cum_quantity: Decimal
    leaves_quantity: Decimal | None


def order_events(account_events: Iterable[Stamped]) -> dict[str, list[Stamped]]:
    """Return an account's events by the order that they are about."""
    by_order: dict[str, list[Stamped]] = {}
    for one in account_events:
        order_id = getattr(one.event, "order_id", None)
        if order_id is not None:
            by_order.setdefault(order_id, []).append(one)
    return by_order


def most_eventful(by_order: dict[str, list[Stamped]]) -> str:
    """Return the order to which most kinds of things happened: the first of them."""
    return max(by_order, key=lambda order_id: len({type(one.event) for one in by_order[order_id]}))


def tell(own: Sequence[Stamped]) -> Iterator[Chapter]:
    """Yield the chapters of one order's events; the standings are folded from them."""
    fold = OrdersFold(fresh=True)
    for one in own:
        fold.apply([one])
        (order,) = fold.rows(ORDERS)
        when = getattr(one.event, "action_time", None) or one.event_time
        yield Chapter(
            one.seq,
            when,
            in_words(one.event),
            order.status,
            order.cum_quantity,
            order.leaves_quantity,
        )


def in_words(event: Any) -> str:
    """Return what an event of an order says."""
    match event:
        case events.OrderPlaced():
            return f"{event.side} {_plain(event.quantity)} {event.instrument}{_limit(event)}"
        case events.OrderReplaceRequested():
            return f"asks to replace it:{_limit(event)}"
        case events.OrderPending(what="new"):
            return "the venue has it"
        case events.OrderPending():
            return f"the venue has the request to {event.what} it"
        case events.DealCorrected():
            return f"corrects {event.ref_deal_id}: {_fill(event)}"
        case events.DealRecorded():
            return f"fill {event.deal_id}: {_fill(event)}"
        case events.DealBusted():
            return f"busts {event.ref_deal_id}"
        case _:
            return _IN_WORDS.get(type(event), type(event).__name__)


def _limit(event: events.OrderPlaced | events.OrderReplaceRequested) -> str:
    return "" if event.limit_price is None else f" at {_plain(event.limit_price)} or better"


def _fill(event: events.DealRecorded) -> str:
    price = "" if event.price is None else f" at {_plain(event.price)}"
    return f"{_plain(event.quantity)}{price}"


def _plain(number: Decimal | None) -> str:
    return "" if number is None else to_plain(number)
