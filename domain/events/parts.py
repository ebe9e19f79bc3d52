"""What events are made of: what every event and every fact from outside has, and their parts."""

from decimal import Decimal

from msgspec import Struct

from domain.times import Day, Instant, TimePrecision


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A fact of one stream. Its type name and version stand in the envelope."""


class Timed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A fact from outside: how finely its time was told, and its place among equal times."""

    time_precision: TimePrecision = "nano"
    sequence: int = 0
    action_time: Instant | None = None


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
