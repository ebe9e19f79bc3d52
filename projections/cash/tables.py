"""The rows of cash movements, legs of cash and balances."""

from decimal import Decimal
from typing import Any, Final

from msgspec import Struct

from projections.rows import Table


class CashRow(Struct, frozen=True):
    """Cash that moved without a deal; `status` is effective or reversed."""

    account: str
    cash_id: str
    kind: str
    amount: Decimal
    currency: str
    event_time_ns: int
    booked_date: str
    settlement_date: str | None
    status: str
    source_kind: str | None
    instrument: str | None
    relates_to: dict[str, Any] | None
    ids: dict[str, str] | None
    seq: int
    recorded_time_ns: int
    flags: list[str]
    changed_offset: int


class CashLegRow(Struct, frozen=True, gc=False):
    """Cash that an effective fact moves. Into the account is positive.

    `source` is deal, cash or movement; `business_date` the trade date of a deal, else the date it
    was booked.
    """

    account: str
    source: str
    source_id: str
    leg: str
    currency: str
    amount: Decimal
    business_date: str
    settlement_date: str | None
    event_time_ns: int
    changed_offset: int


class BalanceDayRow(Struct, frozen=True):
    """The sum of an account's legs in a currency that settle on a date, '' where none was told."""

    account: str
    currency: str
    settlement_date: str
    amount: Decimal
    changed_offset: int


CASH: Final = Table("cash", CashRow, ("account", "cash_id"))
CASH_LEGS: Final = Table("cash_legs", CashLegRow, ("account", "source", "source_id", "leg"))
BALANCE_DAYS: Final = Table(
    "balance_days", BalanceDayRow, ("account", "currency", "settlement_date")
)
