"""What happened: every event the log may hold. One event is one complete fact, kept for ever.

Decimals keep the scale they were told with. Times are Instants, dates Days. Fields that were not
told are absent. The catalogue in docs/reference/events.md is generated from these structs.
"""

from domain.events.accounts import (
    AccountChanged,
    AccountClosed,
    AccountOpened,
)
from domain.events.deals import (
    DealBusted,
    DealCorrected,
    DealFields,
    DealRecorded,
    DealTermsAmended,
    FeesRecorded,
    LotsAssigned,
    Terms,
)
from domain.events.movements import (
    CashMoved,
    CashReversed,
    PositionMoved,
    PositionMoveReversed,
    TransferReceived,
    TransferReturned,
    TransferSent,
)
from domain.events.orders import (
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
    OrderReport,
    OrderRestated,
    OrderStopped,
    OrderSuspended,
)
from domain.events.parts import (
    CashLeg,
    Event,
    Fee,
    LotPick,
    LotTold,
    OrderTold,
    Relation,
    Timed,
    UnitLeg,
)
from domain.events.prices import (
    PriceRecorded,
)
from domain.events.records import (
    CommandRefused,
    LogCreated,
    RecordParked,
    TermStarted,
)
from domain.events.reference import (
    CorporateActionAnnounced,
    CorporateActionCancelled,
    CorporateActionCorrected,
    CorporateActionFields,
    CorporateActionOption,
    InstrumentChanged,
    InstrumentDefined,
    InstrumentFields,
    InstrumentIdentified,
    PortfolioDefined,
)
from domain.events.words import (
    CashKind,
    CorporateActionKind,
    InstrumentKind,
    LotMethod,
    MovementReason,
    OrderType,
    PriceKind,
    Side,
    TimeInForce,
)

Report = (
    OrderPending
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
)
"""What was told of an order from outside."""

AccountEvent = (
    AccountOpened
    | AccountChanged
    | AccountClosed
    | OrderPlaced
    | Report
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

__all__ = [
    "AccountChanged",
    "AccountClosed",
    "AccountEvent",
    "AccountOpened",
    "CashKind",
    "CashLeg",
    "CashMoved",
    "CashReversed",
    "CommandRefused",
    "ControlEvent",
    "CorporateActionAnnounced",
    "CorporateActionCancelled",
    "CorporateActionCorrected",
    "CorporateActionFields",
    "CorporateActionKind",
    "CorporateActionOption",
    "DealBusted",
    "DealCorrected",
    "DealFields",
    "DealRecorded",
    "DealTermsAmended",
    "Event",
    "Fee",
    "FeesRecorded",
    "InstrumentChanged",
    "InstrumentDefined",
    "InstrumentFields",
    "InstrumentIdentified",
    "InstrumentKind",
    "LogCreated",
    "LotMethod",
    "LotPick",
    "LotTold",
    "LotsAssigned",
    "MovementReason",
    "OrderAccepted",
    "OrderAcceptedForBidding",
    "OrderCalculated",
    "OrderCancelRefused",
    "OrderCancelRequested",
    "OrderCanceled",
    "OrderDoneForDay",
    "OrderExpired",
    "OrderPending",
    "OrderPlaced",
    "OrderRejected",
    "OrderReplaceRefused",
    "OrderReplaceRequested",
    "OrderReplaced",
    "OrderReport",
    "OrderRestated",
    "OrderStopped",
    "OrderSuspended",
    "OrderTold",
    "OrderType",
    "PortfolioDefined",
    "PositionMoveReversed",
    "PositionMoved",
    "PriceEvent",
    "PriceKind",
    "PriceRecorded",
    "RecordParked",
    "ReferenceEvent",
    "Relation",
    "Report",
    "Side",
    "TermStarted",
    "Terms",
    "TimeInForce",
    "Timed",
    "TransferReceived",
    "TransferReturned",
    "TransferSent",
    "UnitLeg",
]
