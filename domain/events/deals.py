"""What happens to a deal: recorded, corrected, busted, its terms, fees and lots told after it."""

from decimal import Decimal
from typing import Literal

from msgspec import Struct, field

from domain.events.parts import CashLeg, Fee, LotPick, OrderTold, Timed
from domain.events.words import InstrumentKind, Side
from domain.times import Day


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
    ids: dict[str, str] = field(default_factory=dict)
    identifiers: dict[str, str] = field(default_factory=dict)
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

    `chain_id` is the id of the chain's first deal, as the decider found it. Where a correction of
    this one came first, the chain goes on as that one's, `continues_as`.
    """

    ref_deal_id: str
    chain_id: str
    continues_as: str | None = None


class DealBusted(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """A deal, named by any id of its chain, never was. One that is not known yet waits for it."""

    deal_id: str
    ref_deal_id: str
    chain_id: str
    ids: dict[str, str] = field(default_factory=dict)
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
