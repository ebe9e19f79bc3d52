"""What the codes of FIX 4.4's fields mean to the ledger. Source: FIX 4.4, Volume 6."""

from decimal import Decimal
from typing import Final, Literal

from domain.entities import OrderStatus
from domain.events import InstrumentKind, OrderType, Side, TimeInForce

_OTHER: Final[OrderType] = "other"
_BOND: Final[InstrumentKind] = "bond"

SIDES: Final[dict[str, Side]] = {
    "1": "buy",
    "2": "sell",
    "3": "buy",
    "4": "sell",
    "5": "sell",
    "6": "sell",
    "D": "buy",
    "E": "sell",
}
SHORTS: Final[dict[str, Literal["short", "exempt"]]] = {"5": "short", "6": "exempt"}
ORDER_TYPES: Final[dict[str, OrderType]] = {
    "1": "market",
    "2": "limit",
    "3": "stop",
    "4": "stop_limit",
    "5": "market_on_close",
    "B": "limit_on_close",
    "P": "pegged",
    **dict.fromkeys("6789ACDEFGHIJKLM", _OTHER),
}
TIMES_IN_FORCE: Final[dict[str, TimeInForce]] = {
    "0": "day",
    "1": "gtc",
    "2": "opg",
    "3": "ioc",
    "4": "fok",
    "5": "gtx",
    "6": "gtd",
    "7": "close",
}
STATUSES: Final[dict[str, OrderStatus]] = {
    "0": "new",
    "1": "partially_filled",
    "2": "filled",
    "3": "done_for_day",
    "4": "canceled",
    "6": "pending_cancel",
    "7": "stopped",
    "8": "rejected",
    "9": "suspended",
    "A": "pending_new",
    "B": "calculated",
    "C": "expired",
    "D": "accepted_for_bidding",
    "E": "pending_replace",
}
CANCEL_REASONS: Final = {
    "0": "too_late",
    "1": "unknown_order",
    "2": "broker_option",
    "3": "already_pending",
    "4": "mass_cancel_failed",
    "5": "modified_since",
    "6": "duplicate_cl_ord_id",
    "99": "other",
}
REJECT_REASONS: Final = {
    "0": "broker_option",
    "1": "unknown_symbol",
    "2": "exchange_closed",
    "3": "exceeds_limit",
    "4": "too_late_to_enter",
    "5": "unknown_order",
    "6": "duplicate_order",
    "7": "duplicate_of_verbal",
    "8": "stale_order",
    "9": "trade_along_required",
    "10": "invalid_investor_id",
    "11": "unsupported_order",
    "12": "surveillance_option",
    "13": "incorrect_quantity",
    "14": "incorrect_allocated_quantity",
    "15": "unknown_account",
    "99": "other",
}
RESTATE_REASONS: Final = {
    "0": "gt_corporate_action",
    "1": "gt_renewal",
    "2": "verbal_change",
    "3": "repricing",
    "4": "broker_option",
    "5": "partial_decline",
    "6": "trading_halt",
    "7": "system_failure",
    "8": "market_option",
    "9": "canceled_not_best",
    "10": "warehouse_recap",
    "99": "other",
}
EFFECTS: Final[dict[str, Literal["open", "close"]]] = {"O": "open", "C": "close"}
FEE_KINDS: Final = {
    "1": "regulatory",
    "2": "tax",
    "3": "local_commission",
    "4": "exchange",
    "5": "stamp",
    "6": "levy",
    "8": "markup",
    "9": "consumption_tax",
    "10": "per_transaction",
    "11": "conversion",
    "12": "agent",
}
RIGHTS: Final[dict[str, Literal["call", "put"]]] = {"0": "put", "1": "call"}
_BONDS: Final = (
    "BRADY CB CORP EUCORP EUSOV EUSUPRA FAC FADN GO MUNI PEF REV SUPRA TB TBILL TBOND TINT TIPS"
    " TNOTE TPRN UST USTB VRDN YANK"
)
KINDS: Final[dict[str, InstrumentKind]] = {
    "CS": "equity",
    "PS": "equity",
    "MF": "fund",
    "FUT": "future",
    "OPT": "option",
    "FOR": "fx",
    **dict.fromkeys(_BONDS.split(), _BOND),
}
ID_SOURCES: Final = {
    "1": "cusip",
    "2": "sedol",
    "4": "isin",
    "5": "ric",
    "8": "exchange_symbol",
    "A": "bloomberg",
}
PERCENT: Final = Decimal("0.01")
SESSION_MESSAGES: Final = {
    "0": "Heartbeat",
    "1": "TestRequest",
    "2": "ResendRequest",
    "3": "Reject",
    "4": "SequenceReset",
    "5": "Logout",
    "A": "Logon",
}
