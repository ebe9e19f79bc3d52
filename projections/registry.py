"""All projections, by name: adding one is its folder and a line here."""

from typing import Final

from projections.accounts.fold import PROJECTION as ACCOUNTS
from projections.cash.fold import PROJECTION as CASH
from projections.instruments.fold import PROJECTION as INSTRUMENTS
from projections.orders.fold import PROJECTION as ORDERS
from projections.positions.fold import PROJECTION as POSITIONS
from projections.prices.fold import PROJECTION as PRICES
from projections.rows import Projection

PROJECTIONS: Final[tuple[Projection, ...]] = (
    ACCOUNTS,
    INSTRUMENTS,
    PRICES,
    ORDERS,
    POSITIONS,
    CASH,
)
