"""What the decider remembers: small states by kind and id, made by evolving events.

They are a disposable index, never the truth. Kinds: account, order, cl_ord_id, deal, cash,
movement, fee, transfer in a stream of the events topic; instrument, portfolio, action in reference.
"""

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from domain.events import (
    AccountOpened,
    CashLeg,
    DealRecorded,
    InstrumentFields,
    OrderType,
    Side,
    TimeInForce,
    UnitLeg,
)
from domain.times import Instant

OrderStatus = Literal[
    "pending_new",
    "new",
    "partially_filled",
    "filled",
    "done_for_day",
    "canceled",
    "pending_cancel",
    "pending_replace",
    "rejected",
    "suspended",
    "stopped",
    "calculated",
    "expired",
    "accepted_for_bidding",
]


class Entity(Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True, gc=False):
    """One remembered thing of a stream."""


class Account(Entity, frozen=True, kw_only=True, omit_defaults=True):
    """An account's settings in force; `assumed` while nobody has told them.

    `earlier` are those that were told before and are others, oldest first.
    """

    settings: AccountOpened
    offset: int
    seq: int
    assumed: bool = False
    closed: bool = False
    earlier: tuple[AccountOpened, ...] = ()


class OrderRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A cancel or replace that is not answered yet; the terms are those a replace asks for.

    `seen` once the venue said that it is pending; `crossed` while the venue has told a status since
    that knew nothing of it.
    """

    kind: Literal["cancel", "replace"]
    cl_ord_id: str | None = None
    seen: bool = False
    crossed: bool = False
    quantity: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    order_type: OrderType | None = None
    time_in_force: TimeInForce | None = None


class Order(Entity, frozen=True, kw_only=True, omit_defaults=True):
    """An order as its events have made it: facts, from which `status` is derived by precedence.

    `cum_notional` is the sum of quantity x price of its effective fills, `unpriced_quantity` what
    was filled without a price. `quantity` is null for an order that is only known from reports;
    `content_hash`, `offset` and `seq` are where it was placed, the hash empty if it never was.
    `canceled_quantity` counts partial cancels. `instrument` may be told by a fill alone.
    """

    order_id: str
    content_hash: str = ""
    offset: int = 0
    seq: int = 0
    assumed: bool = False
    instrument: str | None = None
    side: Side | None = None
    quantity: Decimal | None = None
    order_type: OrderType | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce | None = None
    status: OrderStatus = "new"
    cl_ord_id: str | None = None
    ids: dict[str, str] = {}
    cum_quantity: Decimal = Decimal(0)
    cum_notional: Decimal = Decimal(0)
    unpriced_quantity: Decimal = Decimal(0)
    canceled_quantity: Decimal = Decimal(0)
    pending_new: bool = False
    accepted: bool = False
    bidding: bool = False
    suspended: bool = False
    stopped: bool = False
    calculated: bool = False
    done_for_day_at: Instant | None = None
    finished: Literal["canceled", "expired", "rejected"] | None = None
    requests: tuple[OrderRequest, ...] = ()
    flags: tuple[str, ...] = ()


class Alias(Entity, frozen=True, kw_only=True, omit_defaults=True):
    """Another id: a correction's or a bust's of its deal's chain, or a client's id of an order."""

    target: str
    content_hash: str = ""
    offset: int = 0
    seq: int = 0


class Deal(Entity, frozen=True, kw_only=True, omit_defaults=True):
    """A chain of corrections under its first deal's id.

    `content_hash` is of the first deal as told; not `told` while only a correction or a bust of it
    has arrived. A bust that came before its deal is `waiting`. The order, quantity and price are
    those of the last version; `assumed` is that version whole, while its terms are assumed.
    """

    status: Literal["effective", "corrected", "busted", "waiting"]
    content_hash: str = ""
    offset: int = 0
    seq: int = 0
    told: bool = True
    order_id: str | None = None
    quantity: Decimal = Decimal(0)
    price: Decimal | None = None
    assumed: DealRecorded | None = None


class Fact(Entity, frozen=True, kw_only=True, omit_defaults=True):
    """A cash movement, a movement of units or late fees that cannot be told twice."""

    content_hash: str
    offset: int
    seq: int
    status: Literal["effective", "reversed", "waiting"] = "effective"


class Transfer(Entity, frozen=True, kw_only=True, omit_defaults=True):
    """A transfer as this account knows it."""

    status: Literal["sent", "received", "returned"]
    content_hash: str
    offset: int
    seq: int
    other_account: str
    cash: tuple[CashLeg, ...] = ()
    legs: tuple[UnitLeg, ...] = ()


class Instrument(Entity, frozen=True, kw_only=True, omit_defaults=True):
    """An instrument as defined last, and where in the reference log.

    `earlier` are the terms that were told before and are others, oldest first.
    """

    terms: InstrumentFields
    partition: int
    offset: int
    seq: int
    assumed: bool = False
    earlier: tuple[InstrumentFields, ...] = ()


class Named(Entity, frozen=True, kw_only=True, omit_defaults=True):
    """A portfolio or corporate action that exists, by the content it was told with last."""

    content_hash: str
    offset: int
    seq: int


AnyEntity = Account | Order | Alias | Deal | Fact | Transfer | Instrument | Named
