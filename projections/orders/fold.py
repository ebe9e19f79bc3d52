"""Fold orders: their own events by the domain's rules, and the fills that deals are."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from importlib.resources import files
from typing import Any, Final

import msgspec
from msgspec import Struct

from domain import events
from domain.deal_chains import has_effect
from domain.decisions import Stamped
from domain.entities import Order
from domain.order_states import order_row
from domain.orders import evolve_order, fill_order, unfill_order
from projections.plain import Folded, PlainDeal, whole
from projections.rows import Changed, Projection, Rows, Table, Wanted, time_ns

_ORDER_EVENTS: Final[frozenset[type[events.Event]]] = frozenset(
    (events.OrderPlaced, *events.OrderReport.__subclasses__())
)
_REPLACING: Final[frozenset[type[events.Event]]] = frozenset(
    (events.DealCorrected, events.DealBusted)
)
_KEPT: Final = 10_000
_encode = msgspec.json.Encoder().encode
_decode_order = msgspec.json.Decoder(Order).decode


class OrderRow(Struct, frozen=True):
    """An order; `state` is the whole of what its events have made, from which the rest derives.

    `event_time_ns` is that of its last event.
    """

    account: str
    order_id: str
    ids: dict[str, str] | None
    cl_ord_id: str | None
    instrument: str | None
    side: str | None
    order_type: str | None
    status: str
    quantity: Decimal | None
    limit_price: Decimal | None
    cum_quantity: Decimal
    leaves_quantity: Decimal | None
    average_price: Decimal | None
    flags: list[str]
    stop_price: Decimal | None
    time_in_force: str | None
    event_time_ns: int
    state: str
    changed_offset: int


class FillRow(Struct, frozen=True):
    """A deal that fills an order, under its chain's id; `status` is effective or busted."""

    account: str
    deal_id: str
    order_id: str
    quantity: Decimal
    price: Decimal | None
    status: str
    changed_offset: int


ORDERS: Final = Table("orders", OrderRow, ("account", "order_id"))
FILLS: Final = Table("order_fills", FillRow, ("account", "deal_id"))


class OrdersFold:
    """Fold order events and fills to one row an order, and one a fill."""

    def __init__(self, *, fresh: bool) -> None:
        self._fresh = fresh
        self._orders = Rows(ORDERS)
        self._fills = Rows(FILLS)
        self._states: dict[tuple[str, str], tuple[Order, Stamped]] = {}
        self._told: Sequence[Folded] = ()
        self._batch: Sequence[Stamped] = ()

    def wants(self, told: Sequence[Folded]) -> Sequence[Wanted]:
        """Want the fills that are corrected or busted, then the orders that the batch touches."""
        if self._fresh:
            return ()
        batch = self._opened(told)
        fills = self._fills.unseen(
            (one.key, one.event.chain_id)  # type: ignore[attr-defined]
            for one in batch
            if type(one.event) in _REPLACING
        )
        if fills:
            return (Wanted(FILLS, FILLS.key, fills),)
        orders = self._orders.unseen(
            (one.key, order_id) for one in batch for order_id in self._order_ids(one)
        )
        return (Wanted(ORDERS, ORDERS.key, orders),) if orders else ()

    def _order_ids(self, one: Stamped) -> Iterable[str]:
        event = one.event
        kind = type(event)
        if kind in _ORDER_EVENTS:
            yield event.order_id  # type: ignore[attr-defined]
        elif isinstance(event, events.DealRecorded) and event.order_id is not None:
            yield event.order_id
        if kind in _REPLACING:
            fill = self._fills.get(one.key, event.chain_id)  # type: ignore[attr-defined]
            if fill is not None:
                yield fill.order_id

    def give(self, wanted: Wanted, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take stored rows."""
        (self._orders if wanted.table is ORDERS else self._fills).give(wanted, rows)

    def _opened(self, told: Sequence[Folded]) -> Sequence[Stamped]:
        """Return the events that may be about an order; a plain deal is decoded once for it."""
        if self._told is not told:
            about = (one for one in told if type(one) is not PlainDeal or one.has_order)
            self._told, self._batch = told, whole(about)
        return self._batch

    def apply(self, told: Sequence[Folded]) -> None:
        """Fold a batch."""
        for one in self._opened(told):
            event = one.event
            if type(event) is events.DealRecorded:
                if event.order_id is not None:
                    self._fill(one, event, event.deal_id)
            elif isinstance(event, events.OrderPlaced | events.OrderReport):
                order = evolve_order(self._order(one.key, event.order_id), one)
                self._put(one, order)
            elif isinstance(event, events.DealCorrected | events.DealBusted):
                self._replace(one, event)

    def _replace(self, one: Stamped, event: events.DealCorrected | events.DealBusted) -> None:
        fill: FillRow | None = self._fills.get(one.key, event.chain_id)
        if fill is not None and fill.status == "effective":
            order = self._order(one.key, fill.order_id)
            told = event.told if isinstance(event, events.DealBusted) else None
            if order is not None:
                self._put(one, unfill_order(order, fill.quantity, fill.price, told))
            gone = msgspec.structs.replace(fill, status="busted", changed_offset=one.offset)
            self._fills.put((one.key, event.chain_id), gone)
        if isinstance(event, events.DealCorrected):
            self._fill(one, event, event.chain_id)

    def _fill(self, one: Stamped, event: events.DealRecorded, chain_id: str) -> None:
        if event.order_id is None or not has_effect(one.flags):
            return
        order = self._order(one.key, event.order_id)
        self._put(one, fill_order(order, event.order_id, event, one.event_time))
        row = FillRow(
            account=one.key,
            deal_id=chain_id,
            order_id=event.order_id,
            quantity=event.quantity,
            price=event.price,
            status="effective",
            changed_offset=one.offset,
        )
        self._fills.put((one.key, chain_id), row)

    def _order(self, account: str, order_id: str) -> Order | None:
        known = self._states.get((account, order_id))
        if known is not None:
            return known[0]
        row: OrderRow | None = self._orders.get(account, order_id)
        return None if row is None else _decode_order(row.state)

    def _put(self, one: Stamped, order: Order) -> None:
        self._states[one.key, order.order_id] = (order, one)

    def changes(self) -> Sequence[Changed]:
        """Return the changed orders and fills."""
        for (account, order_id), (order, one) in self._states.items():
            self._orders.put((account, order_id), _row(account, order, one))
        self._states.clear()
        self._told = self._batch = ()
        changed = (self._orders.changes(), self._fills.changes())
        if not self._fresh:
            self._orders.forget(_KEPT)
            self._fills.forget(_KEPT)
        return changed

    def rows(self, table: Table) -> Iterable[Any]:
        """Return all rows of a table."""
        self.changes()
        return (self._orders if table is ORDERS else self._fills).by_key.values()


def _row(account: str, order: Order, one: Stamped) -> OrderRow:
    shown = order_row(account, order)
    return OrderRow(
        account=account,
        order_id=shown.order_id,
        ids=shown.ids or None,
        cl_ord_id=shown.cl_ord_id,
        instrument=shown.instrument,
        side=shown.side,
        order_type=shown.order_type,
        status=shown.status,
        quantity=shown.quantity,
        limit_price=shown.limit_price,
        cum_quantity=shown.cum_quantity,
        leaves_quantity=shown.leaves_quantity,
        average_price=shown.average_price,
        flags=list(shown.flags),
        stop_price=order.stop_price,
        time_in_force=order.time_in_force,
        event_time_ns=time_ns(one.event_time),
        state=_encode(order).decode(),
        changed_offset=one.offset,
    )


PROJECTION: Final = Projection(
    name="orders",
    version=3,
    topic="events",
    handles=_ORDER_EVENTS | _REPLACING | {events.DealRecorded},
    tables=(ORDERS, FILLS),
    make=OrdersFold,
    schema_sql=files("projections.orders").joinpath("schema.sql").read_text(),
    takes_plain=True,
)
