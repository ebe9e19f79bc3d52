"""Rows of orders, deals and fees."""

from typing import Any, Final, Literal, get_args

from msgspec import Struct

from api.importing import cells
from api.importing.cells import Moment
from api.importing.lines import Fact
from api.importing.reading import Reading, assumed_account, assumed_instrument, needed
from domain.commands import BustDeal, CorrectDeal, PlaceOrder, RecordDeal, RecordFees
from domain.errors import InvalidValue
from domain.events import CashKind, Fee, InstrumentKind, OrderType, Side, TimeInForce
from domain.money import to_plain

_ALSO_OF_FEES: Final = frozenset(("fee", "tax", "borrow_fee", "other"))
_KINDS_OF_CASH: Final = frozenset(get_args(CashKind)) - _ALSO_OF_FEES
"""Kinds that no fee is of: a file of cash may have the very columns of a file of fees."""


DEAL_AS_TOLD: Final = (
    *("price", "gross", "net", "accrued_interest", "order_id", "kind", "multiplier"),
    *("settlement_date", "settlement_currency", "settlement_amount", "effect", "short", "lots"),
    *("venue", "broker", "trader", "strategy", "tags"),
)
"""Columns of a deal that its command takes over as they are."""


class OrderRow(Struct, gc=False):
    """An order as it was entered."""

    account: cells.Name
    order_id: cells.Id
    instrument: cells.Name
    side: Side
    quantity: cells.Positive
    order_type: OrderType
    event_time: cells.Time
    limit_price: cells.Number | None = None
    stop_price: cells.Number | None = None
    time_in_force: TimeInForce = "day"
    expire_time: cells.Time | None = None
    trader: cells.Name | None = None
    strategy: cells.Name | None = None
    parent_id: cells.Id | None = None
    tags: cells.Tags = ()


class DealRow(Struct, gc=False):
    """A deal, or what takes the place of one, or that one never was."""

    account: cells.Name
    instrument: cells.Name | None = None
    quantity: cells.Nonzero | None = None
    currency: cells.Currency | None = None
    event_time: cells.Time | None = None
    trade_date: cells.Date | None = None
    price: cells.Number | None = None
    net: cells.Number | None = None
    deal_id: cells.Id | None = None
    side: Side | None = None
    order_id: cells.Id | None = None
    fee: cells.Number | None = None
    fee_currency: cells.Currency | None = None
    accrued_interest: cells.Number | None = None
    gross: cells.Number | None = None
    settlement_date: cells.Date | None = None
    settlement_currency: cells.Currency | None = None
    settlement_amount: cells.Number | None = None
    kind: InstrumentKind | None = None
    multiplier: cells.Positive | None = None
    effect: Literal["open", "close", "both"] | None = None
    short: Literal["short", "exempt"] | None = None
    lots: cells.Lots = ()
    venue: cells.Name | None = None
    broker: cells.Name | None = None
    trader: cells.Name | None = None
    strategy: cells.Name | None = None
    tags: cells.Tags = ()
    action: Literal["new", "bust", "correct"] = "new"
    ref_deal_id: cells.Id | None = None


class FeeRow(Struct, gc=False):
    """A fee that came after its deal; positive for a cost."""

    account: cells.Name
    deal_id: cells.Id
    kind: cells.Name
    amount: cells.Number
    currency: cells.Currency
    event_time: cells.Time
    fee_id: cells.Id | None = None


def order(reading: Reading, line: int, row: OrderRow) -> Fact:
    """Enter an order."""
    event_time, precision = reading.place(row.event_time, "account", row.account)
    expire_time = None
    if row.expire_time is not None:
        expire_time, _ = reading.place(row.expire_time, "account", row.account)
    command = PlaceOrder(
        time_precision=precision,
        order_id=row.order_id,
        instrument=row.instrument,
        side=row.side,
        quantity=row.quantity,
        order_type=row.order_type,
        limit_price=row.limit_price,
        stop_price=row.stop_price,
        time_in_force=row.time_in_force,
        expire_time=expire_time,
        trader=row.trader,
        strategy=row.strategy,
        parent_id=row.parent_id,
        tags=row.tags,
    )
    opens, defines = assumed_account(None), assumed_instrument(row.instrument, None)
    return reading.fact(line, row.account, event_time, command, opens, defines)


def deal(reading: Reading, line: int, row: DealRow) -> Fact:
    """Record, correct or bust a deal.

    Where a day alone is told, in either column, it is the trade date, and the deal stands at its
    end in the account's zone.
    """
    told = row.event_time
    if told is None:
        day = needed(row.trade_date, "event_time", "a time, or a trade_date")
        told = Moment(None, day, "day")
    event_time, precision = reading.place(told, "account", row.account)
    opens = assumed_account(row.currency)
    if row.action == "bust":
        bust = BustDeal(
            time_precision=precision,
            deal_id=reading.id_of(row, row.deal_id, "deal_id"),
            ref_deal_id=_deal_referred_to(row),
            order_id=row.order_id,
        )
        return reading.fact(line, row.account, event_time, bust, opens)
    if row.action == "new" and row.ref_deal_id is not None:
        raise InvalidValue("ref_deal_id", row.ref_deal_id, "none beside action new")
    fields = _deal_fields(reading, row)
    fields["time_precision"] = precision
    fields["trade_date"] = row.trade_date or told.day
    if row.action == "correct":
        command: RecordDeal = CorrectDeal(**fields, ref_deal_id=_deal_referred_to(row))
    else:
        command = RecordDeal(**fields)
    defines = assumed_instrument(command.instrument, command.currency, row.kind, row.multiplier)
    return reading.fact(line, row.account, event_time, command, opens, defines)


def _deal_referred_to(row: DealRow) -> str:
    return needed(row.ref_deal_id, "ref_deal_id", f"the deal that action {row.action} is about")


def _deal_fields(reading: Reading, row: DealRow) -> dict[str, Any]:
    quantity = needed(row.quantity, "quantity", "a number other than zero")
    currency = needed(row.currency, "currency", "a currency such as USD")
    side = row.side
    if side is None:
        side = "buy" if quantity > 0 else "sell"
        quantity = quantity.copy_abs()
    elif quantity < 0:
        expected = "a number above zero where a side is told"
        raise InvalidValue("quantity", to_plain(quantity), expected)
    if row.price is None and row.net is None:
        raise InvalidValue("price", "", "a price, or a net amount")
    fields = reading.as_told(row)
    fields["deal_id"] = row.deal_id or reading.id_of(row, None, "deal_id")
    fields["instrument"] = needed(row.instrument, "instrument", "an instrument")
    fields["side"] = side
    fields["quantity"] = quantity
    fields["currency"] = currency
    if row.fee:
        fee_currency = row.fee_currency or currency
        fields["fees"] = (Fee(kind="commission", amount=row.fee, currency=fee_currency),)
    return fields


def fee(reading: Reading, line: int, row: FeeRow) -> Fact:
    """Record a fee that came after its deal."""
    if row.fee_id is None and row.kind in _KINDS_OF_CASH:
        expected = "a kind of fee; a file of cash has a column cash_id, which may be empty"
        raise InvalidValue("kind", row.kind, expected)
    if row.amount < 0 and row.kind in _ALSO_OF_FEES and "fee_id" not in reading.columns:
        # As a fee this is given to the account, as cash it is taken from it.
        expected = (
            "a cost above zero; a file of fees given back has a column fee_id, a file of cash a "
            "column cash_id, which may be empty"
        )
        raise InvalidValue("amount", to_plain(row.amount), expected)
    event_time, precision = reading.place(row.event_time, "account", row.account)
    command = RecordFees(
        time_precision=precision,
        fee_id=reading.id_of(row, row.fee_id, "fee_id"),
        deal_id=row.deal_id,
        fees=(Fee(kind=row.kind, amount=row.amount, currency=row.currency),),
        booked_date=row.event_time.day,
    )
    return reading.fact(line, row.account, event_time, command, assumed_account(row.currency))
