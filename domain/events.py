"""What happened: every event the log may hold. One event is one complete fact, kept for ever.

Decimals keep the scale they were told with. Times are Instants, dates Days. Fields that were not
told are absent. The catalogue in docs/reference/events.md is generated from these structs.
"""

from decimal import Decimal
from typing import Any, Literal

from msgspec import Struct

from domain.times import Day, Instant, TimePrecision

Side = Literal["buy", "sell"]
LotMethod = Literal["fifo", "lifo", "hifo", "average", "specific"]
InstrumentKind = Literal[
    "equity", "etf", "fund", "bond", "future", "option", "fx", "crypto", "index"
]
CashKind = Literal[
    "deposit",
    "withdrawal",
    "dividend",
    "coupon",
    "payment_in_lieu",
    "withholding",
    "interest",
    "borrow_fee",
    "fee",
    "tax",
    "variation_margin",
    "transfer",
    "other",
]
MovementReason = Literal[
    "opening",
    "transfer",
    "corporate_action",
    "exercise",
    "assignment",
    "expiry",
    "allocation",
    "adjustment",
]
OrderType = Literal[
    "market", "limit", "stop", "stop_limit", "market_on_close", "limit_on_close", "pegged", "other"
]
TimeInForce = Literal["day", "gtc", "opg", "ioc", "fok", "gtx", "gtd", "close"]
CorporateActionKind = Literal[
    "split",
    "stock_dividend",
    "cash_dividend",
    "spin_off",
    "merger",
    "rename",
    "rights",
    "return_of_capital",
    "delisting",
]
PriceKind = Literal["close", "mid", "last", "bid", "ask"]


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A fact of one stream. Its type name and version stand in the envelope."""


# --- parts of events ---------------------------------------------------------------------------


class Fee(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A cost of a deal; `amount` is positive for a cost, negative for a rebate."""

    kind: str
    amount: Decimal
    currency: str
    settlement_date: Day | None = None


class CashLeg(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Cash that an event moves: `amount` into the account is positive."""

    currency: str
    amount: Decimal
    settlement_date: Day | None = None


class LotPick(Struct, frozen=True, kw_only=True):
    """Units taken from a named lot; `quantity` > 0."""

    lot: str
    quantity: Decimal


class LotTold(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A lot that moves: `quantity` signed like its leg, whole `cost` signed likewise, if known."""

    lot: str
    quantity: Decimal
    opened_at: Instant | None = None
    cost: Decimal | None = None


class UnitLeg(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Units of an instrument that move: `quantity` into the account is positive.

    `currency` is the currency of cost; `lots` where they are known.
    """

    instrument: str
    quantity: Decimal
    currency: str
    lots: tuple[LotTold, ...] = ()


class OrderTold(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a source said an order's totals were after a report, to be compared with ours."""

    status: str | None = None
    cum_quantity: Decimal | None = None
    leaves_quantity: Decimal | None = None
    average_price: Decimal | None = None


class Relation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a cash movement belongs to."""

    date: Day | None = None
    deal_id: str | None = None
    action_id: str | None = None


class Timed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A fact from outside: how finely its time was told, and its place among equal times."""

    time_precision: TimePrecision = "nano"
    sequence: int = 0
    action_time: Instant | None = None


# --- accounts ----------------------------------------------------------------------------------


class AccountOpened(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An account, the smallest book with its own lots, exists with these settings."""

    base_currency: str
    from_date: Day | None = None
    portfolio: str | None = None
    method: LotMethod = "fifo"
    fees: Literal["expensed", "capitalised"] = "expensed"
    actions: Literal["derived", "booked"] = "derived"
    time_zone: str = "UTC"


class AccountChanged(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Settings of an account changed from a date on; what is absent stays."""

    from_date: Day | None = None
    base_currency: str | None = None
    portfolio: str | None = None
    method: LotMethod | None = None
    fees: Literal["expensed", "capitalised"] | None = None
    actions: Literal["derived", "booked"] | None = None
    time_zone: str | None = None


class AccountClosed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An account takes no more orders; facts from outside are still recorded, flagged."""

    reason: str | None = None


# --- orders ------------------------------------------------------------------------------------


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
    ids: dict[str, str] = {}
    trader: str | None = None
    strategy: str | None = None
    parent_id: str | None = None
    tags: tuple[str, ...] = ()


class OrderReport(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """What every report on an order carries. `order_id` never changes through a chain."""

    order_id: str
    cl_ord_id: str | None = None
    orig_cl_ord_id: str | None = None
    ids: dict[str, str] = {}
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


# --- deals -------------------------------------------------------------------------------------


class DealFields(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """What a deal is told with. `quantity` > 0; amounts told are facts and never rounded."""

    deal_id: str
    instrument: str
    side: Side
    quantity: Decimal
    currency: str
    price: Decimal | None = None
    gross: Decimal | None = None
    net: Decimal | None = None
    fees: tuple[Fee, ...] = ()
    accrued_interest: Decimal | None = None
    order_id: str | None = None
    ids: dict[str, str] = {}
    identifiers: dict[str, str] = {}
    trade_date: Day | None = None
    booked_date: Day | None = None
    settlement_date: Day | None = None
    settlement_currency: str | None = None
    settlement_amount: Decimal | None = None
    settlement_rate: Decimal | None = None
    effect: Literal["open", "close", "both"] | None = None
    short: Literal["short", "exempt"] | None = None
    lots: tuple[LotPick, ...] = ()
    capacity: str | None = None
    trader: str | None = None
    strategy: str | None = None
    broker: str | None = None
    venue: str | None = None
    counterparty: str | None = None
    parent_id: str | None = None
    tags: tuple[str, ...] = ()
    told: OrderTold | None = None


class Terms(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The terms a deal was booked with, so that folding it needs no other topic.

    Gross is price x quantity x `multiplier` x `price_unit`. A paid deal has a leg of cash for its
    gross amount; a margined one (a future) has none. `base_currency` is what an FX deal exchanges.
    """

    kind: InstrumentKind = "equity"
    multiplier: Decimal = Decimal(1)
    price_unit: Decimal = Decimal(1)
    cash_style: Literal["paid", "margined"] = "paid"
    base_currency: str | None = None


class DealRecorded(DealFields, frozen=True, kw_only=True, omit_defaults=True):
    """A deal: one execution on an account.

    `cost` is its gross amount, unsigned but for a negative price; `legs` the cash it moves. An FX
    deal has two legs and no position.
    """

    terms: Terms
    cost: Decimal
    legs: tuple[CashLeg, ...]
    trade_date_derived: bool = False
    capitalise_fees: bool = False


class DealCorrected(DealRecorded, frozen=True, kw_only=True, omit_defaults=True):
    """A deal takes the place of `ref_deal_id`, any id of its chain; the whole deal is told anew.

    `chain_id` is the id of the chain's first deal, as the decider found it.
    """

    ref_deal_id: str
    chain_id: str


class DealBusted(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """A deal, named by any id of its chain, never was. One that is not known yet waits for it."""

    deal_id: str
    ref_deal_id: str
    chain_id: str
    ids: dict[str, str] = {}
    order_id: str | None = None
    told: OrderTold | None = None
    booked_date: Day | None = None


class DealTermsAmended(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """The terms a deal was booked with were assumed, and are now known."""

    deal_id: str
    chain_id: str
    terms: Terms
    cost: Decimal
    legs: tuple[CashLeg, ...]


class FeesRecorded(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """Fees of a deal that came after it."""

    fee_id: str
    deal_id: str
    chain_id: str
    fees: tuple[Fee, ...]
    legs: tuple[CashLeg, ...]
    booked_date: Day | None = None


class LotsAssigned(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """The lots that a sale takes were named after it."""

    deal_id: str
    chain_id: str
    lots: tuple[LotPick, ...]


# --- cash and units ----------------------------------------------------------------------------


class CashMoved(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """Cash moved without a deal: `amount` into the account is positive."""

    cash_id: str
    kind: CashKind
    amount: Decimal
    currency: str
    source_kind: str | None = None
    booked_date: Day | None = None
    settlement_date: Day | None = None
    relates_to: Relation | None = None
    instrument: str | None = None
    identifiers: dict[str, str] = {}
    ids: dict[str, str] = {}
    note_id: str | None = None
    note_digest: str | None = None


class CashReversed(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """A cash movement, named by `ref_cash_id`, was taken back whole."""

    cash_id: str
    ref_cash_id: str
    booked_date: Day | None = None


class PositionMoved(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """Units moved without a deal; all legs together."""

    movement_id: str
    reason: MovementReason
    legs: tuple[UnitLeg, ...]
    cash: tuple[CashLeg, ...] = ()
    action_id: str | None = None
    booked_date: Day | None = None
    trade_date: Day | None = None
    ids: dict[str, str] = {}
    identifiers: dict[str, str] = {}


class PositionMoveReversed(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """A movement of units, named by `ref_movement_id`, was taken back whole."""

    movement_id: str
    ref_movement_id: str
    booked_date: Day | None = None


class TransferSent(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """Cash or lots left for another account and are in transit: amounts and quantities > 0."""

    transfer_id: str
    to_account: str
    cash: tuple[CashLeg, ...] = ()
    legs: tuple[UnitLeg, ...] = ()
    booked_date: Day | None = None


class TransferReceived(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """Cash or lots arrived from another account, with the cost and the dates they left with."""

    transfer_id: str
    from_account: str
    cash: tuple[CashLeg, ...] = ()
    legs: tuple[UnitLeg, ...] = ()
    booked_date: Day | None = None


class TransferReturned(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """A transfer that the other account did not take came back."""

    transfer_id: str
    to_account: str
    reason: str
    cash: tuple[CashLeg, ...] = ()
    legs: tuple[UnitLeg, ...] = ()
    booked_date: Day | None = None


# --- refusals ----------------------------------------------------------------------------------


class CommandRefused(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A command was decided against: why, the numbers behind it, and what was asked."""

    reason: str
    command_type: str
    asked: dict[str, Any]
    numbers: dict[str, str] = {}


# --- reference ---------------------------------------------------------------------------------


class InstrumentFields(Event, frozen=True, kw_only=True, omit_defaults=True):
    """What defines an instrument. `price_unit` is 1, 0.01 (percent, or a hundredth) or as told."""

    kind: InstrumentKind = "equity"
    currency: str = "USD"
    from_date: Day | None = None
    symbol: str | None = None
    mic: str | None = None
    isin: str | None = None
    figi: str | None = None
    conid: str | None = None
    multiplier: Decimal = Decimal(1)
    price_unit: Decimal = Decimal(1)
    expiry: Day | None = None
    strike: Decimal | None = None
    right: Literal["call", "put"] | None = None
    underlying: str | None = None
    time_zone: str | None = None
    sector: str | None = None
    country: str | None = None


class InstrumentDefined(InstrumentFields, frozen=True, kw_only=True, omit_defaults=True):
    """An instrument exists. Its id is permanent and opaque."""


class InstrumentChanged(InstrumentFields, frozen=True, kw_only=True, omit_defaults=True):
    """An instrument's definition from a date on, told anew as a whole."""


class InstrumentIdentified(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An instrument is known under an identifier between two dates."""

    scheme: str
    value: str
    from_date: Day | None = None
    to_date: Day | None = None


class PortfolioDefined(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A portfolio has this parent from a date on."""

    parent: str | None = None
    from_date: Day | None = None


class CorporateActionOption(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one option of an action gives for each unit held."""

    option: str = "default"
    ratio_new: Decimal | None = None
    ratio_old: Decimal | None = None
    amount: Decimal | None = None
    currency: str | None = None
    new_instrument: str | None = None
    cost_fraction: Decimal | None = None


class CorporateActionFields(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An action on an instrument: its dates and its options."""

    action_id: str
    kind: CorporateActionKind
    ex_date: Day
    record_date: Day | None = None
    pay_date: Day | None = None
    options: tuple[CorporateActionOption, ...] = ()


class CorporateActionAnnounced(
    CorporateActionFields, frozen=True, kw_only=True, omit_defaults=True
):
    """A corporate action was announced."""


class CorporateActionCorrected(
    CorporateActionFields, frozen=True, kw_only=True, omit_defaults=True
):
    """A corporate action, named by `ref_action_id`, is told anew as a whole."""

    ref_action_id: str


class CorporateActionCancelled(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A corporate action will not happen."""

    action_id: str
    ref_action_id: str


# --- prices ------------------------------------------------------------------------------------


class PriceRecorded(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """A price of an instrument; `currency` is a main currency, `unit` what the price counts.

    The same instrument, time, kind and source with another price is a revision.
    """

    price: Decimal
    currency: str
    unit: Decimal = Decimal(1)
    kind: PriceKind = "close"
    price_date: Day | None = None
    source: str = ""


# --- every log ---------------------------------------------------------------------------------


class LogCreated(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The first record of a partition: which log this is, how it is cut, how it is written."""

    log_id: str
    topic: str
    partition: int
    partitions: int
    format: int = 1


class TermStarted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An owner claims the partition: records of lower terms that come after it are void."""

    owner: str


class RecordParked(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A person set aside a record that no one can decode, so that readers may go on."""

    offset: int
    digest: str


AccountEvent = (
    AccountOpened
    | AccountChanged
    | AccountClosed
    | OrderPlaced
    | OrderPending
    | OrderAccepted
    | OrderRejected
    | OrderCancelRequested
    | OrderCancelRefused
    | OrderCanceled
    | OrderReplaceRequested
    | OrderReplaceRefused
    | OrderReplaced
    | OrderDoneForDay
    | OrderExpired
    | OrderSuspended
    | OrderStopped
    | OrderCalculated
    | OrderRestated
    | OrderAcceptedForBidding
    | DealRecorded
    | DealCorrected
    | DealBusted
    | DealTermsAmended
    | FeesRecorded
    | LotsAssigned
    | CashMoved
    | CashReversed
    | PositionMoved
    | PositionMoveReversed
    | TransferSent
    | TransferReceived
    | TransferReturned
    | CommandRefused
)
ReferenceEvent = (
    InstrumentDefined
    | InstrumentChanged
    | InstrumentIdentified
    | PortfolioDefined
    | CorporateActionAnnounced
    | CorporateActionCorrected
    | CorporateActionCancelled
    | CommandRefused
)
PriceEvent = PriceRecorded | CommandRefused
ControlEvent = LogCreated | TermStarted | RecordParked
