"""The rows of deals, movements, lots and positions."""

from decimal import Decimal
from typing import Any, Final

from msgspec import Struct

from projections.rows import Table


class DealRow(Struct, frozen=True, gc=False):
    """A deal as its chain of corrections has made it, under the chain's first id.

    `cost` is the gross amount, unsigned but for a negative price; `net` the cash it moves in its
    currency; `fees` the sum in its currency, positive a cost. `status` is effective, corrected or
    busted. `details` has what few deals tell: ids, fees one by one, `late_fees` that came after
    the deal, named lots, tags, venue ...
    """

    account: str
    deal_id: str
    order_id: str | None
    instrument: str
    currency: str
    side: str
    quantity: Decimal
    price: Decimal | None
    cost: Decimal
    net: Decimal
    fees: Decimal
    capitalise_fees: bool
    kind: str
    multiplier: Decimal
    price_unit: Decimal
    status: str
    event_time_ns: int
    sequence: int
    seq: int
    trade_date: str
    settlement_date: str | None
    recorded_time_ns: int
    flags: list[str]
    details: dict[str, Any] | None
    changed_offset: int


class MovementRow(Struct, frozen=True):
    """One leg of a movement; of cash where it has no instrument. Into the account is positive.

    `lots` are [lot, quantity, opened_at, cost] with null for what was not told. `status` is
    effective or reversed.
    """

    account: str
    movement_id: str
    leg: int
    reason: Any
    instrument: str | None
    currency: str
    quantity: Decimal
    lots: list[list[Any]] | None
    action_id: str | None
    status: str
    event_time_ns: int
    sequence: int
    seq: int
    trade_date: str
    recorded_time_ns: int
    flags: list[str]
    changed_offset: int


class LotRow(Struct, frozen=True, gc=False):
    """Units opened together, the position's `ordinal`-th; `cost` is of what remains."""

    account: str
    instrument: str
    currency: str
    ordinal: int
    lot_id: str
    deal_id: str | None
    opened_at_ns: int
    quantity: Decimal
    remaining: Decimal
    cost: Decimal
    changed_offset: int


class PositionRow(Struct, frozen=True):
    """A position; `last_...` is the place in trade order of the last fact that it holds."""

    account: str
    instrument: str
    currency: str
    quantity: Decimal
    cost_basis: Decimal
    average_cost: Decimal | None
    realised_pnl: Decimal
    fees: Decimal
    multiplier: Decimal
    price_unit: Decimal
    lots_opened: int
    flags: list[str]
    last_event_time_ns: int
    last_sequence: int
    last_seq: int
    changed_offset: int


class WaitingFeesRow(Struct, frozen=True):
    """Fees that came before their deal, as [kind, amount, currency]; gone once it has come."""

    account: str
    fee_id: str
    deal_id: str
    fees: list[list[str]]
    changed_offset: int


class LotMethodRow(Struct, frozen=True):
    """The method by which an account's lots are taken."""

    account: str
    method: str
    changed_offset: int


DEALS: Final = Table("deals", DealRow, ("account", "deal_id"))
MOVEMENTS: Final = Table("movements", MovementRow, ("account", "movement_id", "leg"))
LOTS: Final = Table("lots", LotRow, ("account", "instrument", "currency", "ordinal"))
POSITIONS: Final = Table("positions", PositionRow, ("account", "instrument", "currency"))
WAITING_FEES: Final = Table("waiting_fees", WaitingFeesRow, ("account", "fee_id"))
LOT_METHODS: Final = Table("lot_methods", LotMethodRow, ("account",))
