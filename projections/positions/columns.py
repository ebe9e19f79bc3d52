"""Plain deals as the integer columns that the fast folds take."""

from collections.abc import Iterable
from math import gcd
from typing import Final

import numpy as np
from msgspec import Struct

from projections.positions.facts import Deal, Fact, PositionKey
from projections.positions.kernel import Int32s, Int64s

_MOST: Final = (1 << 63) - 1


class DealColumns(Struct, frozen=True, eq=False):
    """Deals in the order given: what `fold_columns` takes, and what its numbers count.

    By position: its key, and `quantity_unit` (at 10**-18) and `price_unit` (at 10**-18), so that
    a result times both units is money at 10**-36. `rows` are the deals the rows came from.
    """

    keys: tuple[PositionKey, ...]
    quantity_unit: tuple[int, ...]
    price_unit: tuple[int, ...]
    position_index: Int32s
    quantity: Int64s
    price: Int64s
    rows: tuple[Deal, ...]


def deal_columns(facts: Iterable[Fact]) -> tuple[DealColumns, frozenset[PositionKey]]:
    """Return facts in trade order as columns, and the positions left out as they do not fit.

    A position fits when all that moves it are deals without named lots, with a unit price that is
    whole at 10**-18 (a cost told or capitalised fees may not have one), and when its quantities
    and its prices are 64-bit multiples of a unit each: their greatest common divisor.
    """
    by_position: dict[PositionKey, list[tuple[Deal, int]]] = {}
    unfit: set[PositionKey] = set()
    plain: list[tuple[Deal, int]] = []
    for fact in facts:
        if not isinstance(fact, Deal):
            unfit.update(leg.key for leg in fact.legs)
            continue
        price = _unit_price(fact)
        if price is None:
            unfit.add(fact.key)
        elif fact.key not in unfit:
            row = (fact, price)
            plain.append(row)
            by_position.setdefault(fact.key, []).append(row)
    units = {key: _units(rows) for key, rows in by_position.items() if key not in unfit}
    unfit.update(key for key, pair in units.items() if pair is None)
    fitting = {key: pair for key, pair in units.items() if pair is not None}
    rows = [row for row in plain if row[0].key in fitting]
    return _columns(rows, fitting), frozenset(unfit)


def _unit_price(deal: Deal) -> int | None:
    if deal.lots or not deal.quantity:
        return None
    cost36 = deal.cost36 + deal.fees36 if deal.capitalise_fees else deal.cost36
    price, remainder = divmod(cost36, deal.quantity)
    return None if remainder else price


def _units(rows: list[tuple[Deal, int]]) -> tuple[int, int] | None:
    quantities, prices = [deal.quantity for deal, _ in rows], [price for _, price in rows]
    quantity_unit, price_unit = gcd(*quantities), gcd(*prices) or 1
    most_quantity = max(map(abs, quantities)) // quantity_unit
    most_price = max(map(abs, prices)) // price_unit
    return (quantity_unit, price_unit) if max(most_quantity, most_price) <= _MOST else None


def _columns(
    rows: list[tuple[Deal, int]], units: dict[PositionKey, tuple[int, int]]
) -> DealColumns:
    index = {key: n for n, key in enumerate(units)}
    return DealColumns(
        tuple(units),
        tuple(quantity_unit for quantity_unit, _ in units.values()),
        tuple(price_unit for _, price_unit in units.values()),
        np.array([index[deal.key] for deal, _ in rows], np.int32),
        np.array([deal.quantity // units[deal.key][0] for deal, _ in rows], np.int64),
        np.array([price // units[deal.key][1] for deal, price in rows], np.int64),
        tuple(deal for deal, _ in rows),
    )
