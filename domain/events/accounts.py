"""What happens to an account itself."""

from typing import Literal

from domain.events.parts import Event
from domain.events.words import LotMethod
from domain.times import Day


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
