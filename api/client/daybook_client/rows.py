"""Rows of the tables as they are told in JSON, with decimals as decimals."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

Row = dict[str, Any]

DECIMALS: Final[Mapping[str, frozenset[str]]] = {
    "accounts": frozenset(),
    "orders": frozenset(
        (
            "quantity",
            "limit_price",
            "cum_quantity",
            "leaves_quantity",
            "average_price",
            "stop_price",
        )
    ),
    "deals": frozenset(("quantity", "price", "net", "fees", "cost", "multiplier")),
    "cash": frozenset(("amount",)),
    "movements": frozenset(("quantity",)),
    "balances": frozenset(("balance", "settled")),
    "positions": frozenset(
        (
            "quantity",
            "cost_basis",
            "average_cost",
            "realised_pnl",
            "fees",
            "mark",
            "market_value",
            "unrealised_pnl",
        )
    ),
    "lots": frozenset(("quantity", "remaining", "cost")),
    "instruments": frozenset(("multiplier", "price_unit", "strike")),
    "prices": frozenset(("price", "unit")),
}
"""By table, the columns that are decimals."""


def with_decimals(table: str, row: Mapping[str, Any]) -> Row:
    """Return a row with its decimals as decimals."""
    decimals = DECIMALS.get(table, frozenset())
    return {
        name: Decimal(value) if name in decimals and value is not None else value
        for name, value in row.items()
    }
