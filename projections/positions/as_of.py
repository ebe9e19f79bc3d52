"""Positions and lots folded from rows of deals and movements, for a past or another method."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

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
