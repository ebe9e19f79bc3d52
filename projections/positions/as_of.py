"""Positions and lots as of a past time, or by another method, from rows of deals and movements.

Where an account's lots are taken first in first out, no deal names any and no units have moved
without a deal, what is open are the last units bought (or sold), as `prefix_sums` proves. So the
server adds up the deals, and only the youngest have to be looked at. All else is folded.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct
from psycopg import Connection, sql

from domain import money
from domain.money import COST_SCALE, QUANTITY_SCALE, from_scaled, to_scaled
from projections.positions.book import PositionBook
from projections.positions.facts import Fact, PositionKey
from projections.positions.lots import Method
from projections.positions.row_facts import deal_fact, fact_keys, movement_fact
from projections.positions.tables import (
    LOTS,
    POSITIONS,
    DealRow,
    LotRow,
    MovementRow,
    PositionRow,
)

_SUMS: Final = sql.SQL("""
SELECT d.*, coalesce(m.method, 'fifo'),
    EXISTS (SELECT FROM deals WHERE deals.account = d.account AND details ? 'lots')
FROM (
    SELECT account, instrument, currency, sum(units), sum(worth), sum(expensed),
        (array_agg(multiplier {oldest}))[count(*)], (array_agg(price_unit {oldest}))[count(*)],
        string_agg(units::text, ' ' {oldest}), string_agg(worth::text, ' ' {oldest})
    FROM (
        SELECT account, instrument, currency, event_time_ns, sequence, seq, multiplier, price_unit,
            CASE side WHEN 'buy' THEN quantity ELSE -quantity END AS units,
            CASE side WHEN 'buy' THEN cost ELSE -cost END
                + CASE WHEN capitalise_fees THEN fees ELSE 0 END AS worth,
            CASE WHEN capitalise_fees THEN 0 ELSE fees END AS expensed
        FROM deals WHERE status <> 'busted' AND kind <> 'fx' AND {happened}
    ) AS deal
    GROUP BY account, instrument, currency
) AS d LEFT JOIN lot_methods AS m USING (account)
ORDER BY account, instrument, currency
""")
_OLDEST: Final = sql.SQL("ORDER BY event_time_ns, sequence, seq")
"""As the index `deals_by_position` has them: to sort them otherwise takes most of the query."""


class PastPosition(Struct, frozen=True):
    """A position as it was; the fields are those of PositionRow."""

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
    flags: list[str] = []


def summed_positions(
    connection: Connection[tuple[Any, ...]],
    happened: sql.Composable,
    values: Sequence[Any],
    method: Method | None = None,
) -> tuple[list[PastPosition], set[str]]:
    """Return the positions that sums alone decide, by key, and the accounts that must be folded.

    `happened` is the condition on deals that count, `values` are its parameters.
    """
    query = _SUMS.format(oldest=_OLDEST, happened=happened)
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(query, values).fetchall()
    found: list[PastPosition] = []
    unfit: set[str] = set()
    for *told, own_method, names_lots in rows:
        takes_oldest = (method or own_method) in (Method.FIFO, Method.SPECIFIC)
        position = _summed(*told) if takes_oldest and not names_lots else None
        if position is None:
            unfit.add(told[0])
        else:
            found.append(position)
    return [position for position in found if position.account not in unfit], unfit


def _summed(
    account: str,
    instrument: str,
    currency: str,
    quantity: Decimal,
    paid: Decimal,
    fees: Decimal,
    multiplier: Decimal,
    price_unit: Decimal,
    units: str,
    worth: str,
) -> PastPosition | None:
    """Return a position by its sums and its deals, oldest first; None where a cost is rounded.

    Units and worth of the deals are one text each: few of them are looked at.
    """
    open36 = _open_cost36(quantity, units.split(" "), worth.split(" "))
    if open36 is None:
        return None
    held = from_scaled(to_scaled(quantity, QUANTITY_SCALE), QUANTITY_SCALE)
    cost_basis = from_scaled(open36, COST_SCALE)
    return PastPosition(
        account=account,
        instrument=instrument,
        currency=currency,
        quantity=held,
        cost_basis=cost_basis,
        average_cost=money.average(cost_basis, held) if held else None,
        realised_pnl=from_scaled(open36 - to_scaled(paid, COST_SCALE), COST_SCALE),
        fees=from_scaled(to_scaled(fees, COST_SCALE), COST_SCALE),
        multiplier=multiplier,
        price_unit=price_unit,
    )


def _open_cost36(left: Decimal, units: list[str], worth: list[str]) -> int | None:
    """Return what the last `left` units of the open side cost; None where that is not whole."""
    cost = money.ZERO
    is_short = left < 0
    for told, price in zip(reversed(units), reversed(worth), strict=True):
        if not left:
            break
        if told.startswith("-") is not is_short:
            continue
        size = Decimal(told)
        if size.copy_abs() > left.copy_abs():
            return _part_cost36(cost, left, size, Decimal(price))
        cost = money.EXACT.add(cost, Decimal(price))
        left = money.EXACT.subtract(left, size)
    return to_scaled(cost, COST_SCALE)


def _part_cost36(cost: Decimal, left: Decimal, size: Decimal, price: Decimal) -> int | None:
    """Return a cost with that of the units left of a lot; None where that is not whole."""
    whole, whole36 = to_scaled(size, QUANTITY_SCALE), to_scaled(price, COST_SCALE)
    if whole36 % whole:
        return None
    return to_scaled(cost, COST_SCALE) + whole36 // whole * to_scaled(left, QUANTITY_SCALE)


def positions_of(
    deals: Iterable[DealRow],
    movements: Iterable[MovementRow],
    methods: Mapping[str, Method],
    method: Method | None = None,
) -> tuple[list[PositionRow], list[LotRow]]:
    """Return the positions and lots that deals and movements make, each in the order of its key.

    `methods` are the accounts' own; `method` takes the place of all of them.
    """
    facts: dict[str, list[Fact]] = defaultdict(list)
    for deal in deals:
        fact = deal_fact(deal)
        if fact is not None:
            facts[deal.account].append(fact)
    legs: dict[tuple[str, str], list[MovementRow]] = defaultdict(list)
    for leg in movements:
        legs[leg.account, leg.movement_id].append(leg)
    for (account, _), rows in legs.items():
        moved = movement_fact(rows)
        if moved is not None:
            facts[account].append(moved)
    book = PositionBook(fresh=True)
    for account in sorted(facts):
        keys: set[PositionKey] = {key for fact in facts[account] for key in fact_keys(fact)}
        chosen = method or methods.get(account, Method.FIFO)
        book.fold_again(keys, facts[account], chosen, {}, 0)
    positions: list[PositionRow] = list(book.rows(POSITIONS))
    lots: list[LotRow] = list(book.rows(LOTS))
    positions.sort(key=lambda row: (row.account, row.instrument, row.currency))
    lots.sort(key=lambda row: (row.account, row.instrument, row.currency, row.ordinal))
    return positions, lots
