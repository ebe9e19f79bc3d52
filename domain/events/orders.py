"""What happens to an order: placed, asked, reported. Fills are deals."""

from decimal import Decimal
from typing import Literal

from msgspec import field

from domain.events.parts import OrderTold, Timed
from domain.events.words import OrderType, Side, TimeInForce
from domain.times import Instant


class OrderPlaced(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """An order was entered. `pending` until its venue acknowledges it, where venues do."""

    order_id: str
    instrument: str
    side: Side
    quantity: Decimal
    order_type: OrderType
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = "day"
    expire_time: Instant | None = None
    pending: bool = False
    cl_ord_id: str | None = None
    ids: dict[str, str] = field(default_factory=dict)
    trader: str | None = None
    strategy: str | None = None
    parent_id: str | None = None
    tags: tuple[str, ...] = ()


class OrderReport(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """What every report on an order carries. `order_id` never changes through a chain."""

    order_id: str
    cl_ord_id: str | None = None
    orig_cl_ord_id: str | None = None
    ids: dict[str, str] = field(default_factory=dict)
    told: OrderTold | None = None
    reason: str | None = None


class OrderPending(OrderReport, frozen=True, kw_only=True, omit_defaults=True):
    """A venue said that a new order, a cancel or a replace is pending."""

    what: Literal["new", "cancel", "replace"] = "new"


class OrderAccepted(OrderReport, frozen=True, kw_only=True, omit_defaults=True):
    """A venue accepted an order."""


class OrderRejected(OrderReport, frozen=True, kw_only=True, omit_defaults=True):
    """A venue rejected an order."""


class OrderCancelRequested(OrderReport, frozen=True, kw_only=True, omit_defaults=True):
    """A cancel was asked for."""


class OrderCancelRefused(OrderReport, frozen=True, kw_only=True, omit_defaults=True):
    """A venue refused to cancel an order."""


class OrderCanceled(OrderReport, frozen=True, kw_only=True, omit_defaults=True):
    """An order, or with `quantity` a part of what it leaves, was cancelled."""

    quantity: Decimal | None = None


class OrderReplaceRequested(OrderReport, frozen=True, kw_only=True, omit_defaults=True):
    """A replace was asked for; what is absent stays as it is."""

    quantity: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    order_type: OrderType | None = None
    time_in_force: TimeInForce | None = None


class OrderReplaceRefused(OrderReport, frozen=True, kw_only=True, omit_defaults=True):
    """A venue refused to replace an order."""


class OrderReplaced(OrderReport, frozen=True, kw_only=True, omit_defaults=True):
    """An order was replaced; what is absent stays as it was, or as the request asked."""

    quantity: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    order_type: OrderType | None = None
    time_in_force: TimeInForce | None = None


class OrderDoneForDay(OrderReport, frozen=True, kw_only=True, omit_defaults=True):
    """An order is done for the day."""


class OrderExpired(OrderReport, frozen=True, kw_only=True, omit_defaults=True):
    """An order expired."""


class OrderSuspended(OrderReport, frozen=True, kw_only=True, omit_defaults=True):
    """A venue suspended an order."""


class OrderStopped(OrderReport, frozen=True, kw_only=True, omit_defaults=True):
    """A venue guaranteed an order's price: stopped in FIX's sense."""


class OrderCalculated(OrderReport, frozen=True, kw_only=True, omit_defaults=True):
    """A venue calculated an order's commissions or settlement after it was filled."""


class OrderRestated(OrderReport, frozen=True, kw_only=True, omit_defaults=True):
    """A venue changed an order by itself; what is absent stays."""

    quantity: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce | None = None


class OrderAcceptedForBidding(OrderReport, frozen=True, kw_only=True, omit_defaults=True):
    """A venue accepted an order for bidding."""
