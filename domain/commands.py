"""What may be asked. A command asks for exactly one event, and is told with that event's fields.

Most commands therefore take over the fields of their event. Deals are told with DealFields, and
the decider adds the terms, the cost and the legs of cash.
"""

from decimal import Decimal
from typing import Final, Literal, get_args

from msgspec import Struct

from domain import events
from domain.times import Day, Instant

Topic = Literal["events", "prices", "reference"]


class Source(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Where an imported fact stood: the SHA-256 of the file, and its line (from 1)."""

    digest: str
    line: int


# --- accounts ----------------------------------------------------------------------------------


class OpenAccount(events.AccountChanged, frozen=True, kw_only=True, omit_defaults=True):
    """Open an account, or change the settings of one that is open.

    What is absent is left as it is, or as accounts are opened; the currency then is USD.
    """


class CloseAccount(events.AccountClosed, frozen=True, kw_only=True, omit_defaults=True):
    """Close an account."""


# --- orders ------------------------------------------------------------------------------------


class PlaceOrder(events.OrderPlaced, frozen=True, kw_only=True, omit_defaults=True):
    """Enter an order."""


class CancelOrder(events.OrderCancelRequested, frozen=True, kw_only=True, omit_defaults=True):
    """Ask that an order be cancelled."""


class ReplaceOrder(events.OrderReplaceRequested, frozen=True, kw_only=True, omit_defaults=True):
    """Ask that an order be replaced."""


class ReportOrderPending(events.OrderPending, frozen=True, kw_only=True, omit_defaults=True):
    """Record that a new order, a cancel or a replace is pending."""


class ReportOrderAccepted(events.OrderAccepted, frozen=True, kw_only=True, omit_defaults=True):
    """Record that a venue accepted an order."""


class ReportOrderRejected(events.OrderRejected, frozen=True, kw_only=True, omit_defaults=True):
    """Record that a venue rejected an order."""


class ReportCancelRefused(events.OrderCancelRefused, frozen=True, kw_only=True, omit_defaults=True):
    """Record that a venue refused a cancel."""


class ReportOrderCanceled(events.OrderCanceled, frozen=True, kw_only=True, omit_defaults=True):
    """Record that an order, or a part of it, was cancelled."""


class ReportReplaceRefused(
    events.OrderReplaceRefused, frozen=True, kw_only=True, omit_defaults=True
):
    """Record that a venue refused a replace."""


class ReportOrderReplaced(events.OrderReplaced, frozen=True, kw_only=True, omit_defaults=True):
    """Record that an order was replaced."""


class ReportOrderDoneForDay(events.OrderDoneForDay, frozen=True, kw_only=True, omit_defaults=True):
    """Record that an order is done for the day."""


class ReportOrderExpired(events.OrderExpired, frozen=True, kw_only=True, omit_defaults=True):
    """Record that an order expired."""


class ReportOrderSuspended(events.OrderSuspended, frozen=True, kw_only=True, omit_defaults=True):
    """Record that an order was suspended."""


class ReportOrderStopped(events.OrderStopped, frozen=True, kw_only=True, omit_defaults=True):
    """Record that an order was stopped."""


class ReportOrderCalculated(events.OrderCalculated, frozen=True, kw_only=True, omit_defaults=True):
    """Record that an order was calculated."""


class ReportOrderRestated(events.OrderRestated, frozen=True, kw_only=True, omit_defaults=True):
    """Record that a venue restated an order."""


class ReportOrderAcceptedForBidding(
    events.OrderAcceptedForBidding, frozen=True, kw_only=True, omit_defaults=True
):
    """Record that an order was accepted for bidding."""


# --- deals -------------------------------------------------------------------------------------


class RecordDeal(events.DealFields, frozen=True, kw_only=True, omit_defaults=True):
    """Record a deal. Terms that are absent are those of the instrument."""

    kind: events.InstrumentKind | None = None
    multiplier: Decimal | None = None
    price_unit: Decimal | None = None


class CorrectDeal(RecordDeal, frozen=True, kw_only=True, omit_defaults=True):
    """Record that a deal takes the place of `ref_deal_id`; the whole deal is told anew."""

    ref_deal_id: str


class BustDeal(events.Timed, frozen=True, kw_only=True, omit_defaults=True):
    """Record that a deal never was."""

    deal_id: str
    ref_deal_id: str
    ids: dict[str, str] = {}
    order_id: str | None = None
    told: events.OrderTold | None = None
    booked_date: Day | None = None


class AmendDealTerms(events.Timed, frozen=True, kw_only=True, omit_defaults=True):
    """Record the terms of a deal that was booked with assumed ones."""

    deal_id: str
    terms: events.Terms


class RecordFees(events.Timed, frozen=True, kw_only=True, omit_defaults=True):
    """Record fees that came after their deal."""

    fee_id: str
    deal_id: str
    fees: tuple[events.Fee, ...]
    booked_date: Day | None = None


class AssignLots(events.Timed, frozen=True, kw_only=True, omit_defaults=True):
    """Name the lots that a sale takes."""

    deal_id: str
    lots: tuple[events.LotPick, ...]


# --- cash and units ----------------------------------------------------------------------------


class MoveCash(events.CashMoved, frozen=True, kw_only=True, omit_defaults=True):
    """Record that cash moved."""


class ReverseCash(events.CashReversed, frozen=True, kw_only=True, omit_defaults=True):
    """Record that a cash movement was taken back."""


class MovePosition(events.PositionMoved, frozen=True, kw_only=True, omit_defaults=True):
    """Record that units moved without a deal."""


class ReversePositionMove(
    events.PositionMoveReversed, frozen=True, kw_only=True, omit_defaults=True
):
    """Record that a movement of units was taken back."""


class SendTransfer(events.TransferSent, frozen=True, kw_only=True, omit_defaults=True):
    """Send cash or lots to another account."""


class ReceiveTransfer(events.TransferReceived, frozen=True, kw_only=True, omit_defaults=True):
    """Take in what another account sent."""


class ReturnTransfer(events.TransferReturned, frozen=True, kw_only=True, omit_defaults=True):
    """Take back what another account did not take."""


# --- reference and prices ----------------------------------------------------------------------


class DefineInstrument(events.InstrumentDefined, frozen=True, kw_only=True, omit_defaults=True):
    """Define an instrument, or change its definition."""


class IdentifyInstrument(
    events.InstrumentIdentified, frozen=True, kw_only=True, omit_defaults=True
):
    """Record that an instrument is known under an identifier."""


class DefinePortfolio(events.PortfolioDefined, frozen=True, kw_only=True, omit_defaults=True):
    """Define a portfolio or its parent."""


class AnnounceCorporateAction(
    events.CorporateActionAnnounced, frozen=True, kw_only=True, omit_defaults=True
):
    """Record that a corporate action was announced."""


class CorrectCorporateAction(
    events.CorporateActionCorrected, frozen=True, kw_only=True, omit_defaults=True
):
    """Record that a corporate action is told anew."""


class CancelCorporateAction(
    events.CorporateActionCancelled, frozen=True, kw_only=True, omit_defaults=True
):
    """Record that a corporate action will not happen."""


class RecordPrice(events.PriceRecorded, frozen=True, kw_only=True, omit_defaults=True):
    """Record a price."""


OrderReportCommand = (
    ReportOrderPending
    | ReportOrderAccepted
    | ReportOrderRejected
    | ReportCancelRefused
    | ReportOrderCanceled
    | ReportReplaceRefused
    | ReportOrderReplaced
    | ReportOrderDoneForDay
    | ReportOrderExpired
    | ReportOrderSuspended
    | ReportOrderStopped
    | ReportOrderCalculated
    | ReportOrderRestated
    | ReportOrderAcceptedForBidding
)
OrderCommand = PlaceOrder | CancelOrder | ReplaceOrder | OrderReportCommand
DealCommand = RecordDeal | CorrectDeal | BustDeal | AmendDealTerms | RecordFees | AssignLots
CashCommand = MoveCash | ReverseCash | MovePosition | ReversePositionMove
TransferCommand = SendTransfer | ReceiveTransfer | ReturnTransfer
AccountCommand = (
    OpenAccount | CloseAccount | OrderCommand | DealCommand | CashCommand | TransferCommand
)
ReferenceCommand = (
    DefineInstrument
    | IdentifyInstrument
    | DefinePortfolio
    | AnnounceCorporateAction
    | CorrectCorporateAction
    | CancelCorporateAction
)
PriceCommand = RecordPrice
Command = AccountCommand | ReferenceCommand | PriceCommand


class Request(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One command as it was asked.

    `key` is the account of an account's command, the instrument of a price, the entity of a
    reference command. `flags` say what the asker assumed. The same `command_id` with the same
    content is the same request.
    """

    command_id: str
    key: str
    event_time: Instant
    command: Command
    actor: str = "local"
    correlation_id: str | None = None
    causation_id: str | None = None
    source: Source | None = None
    flags: tuple[str, ...] = ()


_TOPICS: Final[dict[type, Topic]] = {
    **dict.fromkeys(get_args(AccountCommand), "events"),
    **dict.fromkeys(get_args(ReferenceCommand), "reference"),
    PriceCommand: "prices",
}


def topic_of(command: Command) -> Topic:
    """Return the log that a command's event belongs in."""
    return _TOPICS[type(command)]
