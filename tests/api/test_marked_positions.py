"""What a mark makes of a position, to the digit that was told."""

from decimal import Decimal

import pytest

from api.marks import POSITION_COLUMNS, marked_position
from domain.money import to_plain
from projections.positions.tables import PositionRow
from projections.prices.fold import PriceRow

POSITION = {
    "account": "A1",
    "instrument": "X",
    "average_cost": None,
    "realised_pnl": Decimal(0),
    "fees": Decimal(0),
    "lots_opened": 1,
    "flags": [],
    "last_event_time_ns": 0,
    "last_sequence": 0,
    "last_seq": 1,
    "changed_offset": 1,
}


@pytest.mark.parametrize(
    ("position", "price", "told"),
    [
        (("1.5", "15.75", "USD", "1"), ("150.50", "1"), ("150.50", "225.75", "210.00")),
        (("1.50", "15.75", "USD", "1"), ("150", "1"), ("150", "225.00", "209.25")),
        (("10", "1000", "GBP", "0.01"), ("15050.00", "0.01"), ("150.50", "1505.00", "505.00")),
        (("3", "2955", "USD", "0.01"), ("98.125", "1"), ("98.125", "2.94375", "-2952.05625")),
    ],
)
def test_no_zeros_are_told_that_nobody_told(
    position: tuple[str, str, str, str], price: tuple[str, str], told: tuple[str, str, str]
) -> None:
    quantity, cost_basis, currency, price_unit = position
    row = PositionRow(
        **POSITION,
        quantity=Decimal(quantity),
        cost_basis=Decimal(cost_basis),
        currency=currency,
        multiplier=Decimal(1),
        price_unit=Decimal(price_unit),
    )
    amount, unit = map(Decimal, price)
    mark = PriceRow("X", 0, "close", "", 1, amount, currency, unit, None, 0, 1)
    shown = dict(
        zip([name for name, _ in POSITION_COLUMNS], marked_position(row, mark), strict=True)
    )
    names = ("mark", "market_value", "unrealised_pnl")
    assert tuple(to_plain(shown[name]) for name in names) == told
