"""The words that events are told in: closed sets, as they stand in the log."""

from typing import Literal

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
