"""What moves a position: effective deals and movements, as plain data for the folds.

Units are ints at 10**18, money is ints at 10**36 (names end in `36`), so that every price times
quantity the ledger takes is whole. Into the account is positive: a bought unit, a received amount.
"""

from decimal import Decimal
from typing import Final, NamedTuple

from msgspec import Struct

from domain.events import MovementReason
from domain.times import Instant

UNIT: Final = 10**18
"""One unit of an instrument."""
MONEY: Final = 10**36
"""One unit of a currency."""


class PositionKey(NamedTuple):
    """What a position is kept by; `currency` is the currency of cost."""

    account: str
    instrument: str
    currency: str


class NamedLot(Struct, frozen=True, gc=False):
    """A lot that a fact names; `quantity` as told, its size is what counts.

    With `cost36` (whole, signed like the units) it is a lot that arrives and is opened as told;
    without it, a lot that a closing takes from, or an arriving one of unknown cost.
    """

    lot_id: str
    quantity: int
    opened_at: Instant | None = None
    cost36: int | None = None


class Deal(Struct, frozen=True, gc=False):
    """One effective deal, its corrections applied.

    `quantity` is signed, buy positive, never 0. `cost36` is signed likewise: what a buy costs,
    minus what a sale brings, in the currency of cost, before fees. `fees36` is positive for a cost
    and holds only fees in that currency. `lots` names what a closing takes. The lot it opens has
    the deal's id and `event_time`. `terms`, its multiplier and price unit, are only carried along.
    `told_ns` is when the ledger was told of it as it is now, by its last correction.
    """

    key: PositionKey
    deal_id: str
    event_time: Instant
    sequence: int
    seq: int
    quantity: int
    cost36: int
    fees36: int = 0
    capitalise_fees: bool = False
    lots: tuple[NamedLot, ...] = ()
    terms: tuple[Decimal, Decimal] | None = None
    told_ns: int = 0


class UnitLeg(Struct, frozen=True, gc=False):
    """Units that a movement takes out of (negative) or puts into (positive) a position."""

    key: PositionKey
    quantity: int
    lots: tuple[NamedLot, ...] = ()


class CashLeg(Struct, frozen=True, gc=False):
    """Cash that a movement brings (positive) or takes beside the units."""

    currency: str
    amount36: int


class Movement(Struct, frozen=True, gc=False):
    """Units that move without a deal, all legs of one account together."""

    movement_id: str
    reason: MovementReason
    event_time: Instant
    sequence: int
    seq: int
    legs: tuple[UnitLeg, ...]
    cash: tuple[CashLeg, ...] = ()
    told_ns: int = 0


Fact = Deal | Movement


def order_key(fact: Fact) -> tuple[str, int, int]:
    """Return what orders the facts of a position: event_time, sequence, seq."""
    return fact.event_time, fact.sequence, fact.seq
