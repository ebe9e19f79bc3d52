"""The reference fold: facts in trade order to positions and lots, in plain Python ints.

`lots` has the rules for closing, `movements` those for units that move without a deal. Fees that
are expensed add to `fees36` and touch nothing else. Capitalised ones are part of the deal's cost:
what opens costs more, what closes brings less, and `fees36` leaves them out. Either way
`realised - fees - cost_basis` is the cash that the deals have made.
"""

from collections.abc import Iterable
from typing import assert_never

from domain.errors import InvalidValue
from projections.plain import PlainDeal
from projections.positions.facts import Deal, Fact, Movement, PositionKey
from projections.positions.lots import Book, Lot, Method, PositionState, position_at, trade
from projections.positions.movements import apply_movement


def fold(facts: Iterable[Fact], method: Method = Method.FIFO) -> Book:
    """Return the book that facts in trade order make; raises InvalidValue for a quantity of 0."""
    book: Book = {}
    for fact in facts:
        apply(book, fact, method)
    return book


def apply(book: Book, fact: Fact, method: Method = Method.FIFO) -> list[Lot]:
    """Change a book by the next fact in trade order; return the lots opened, reduced or closed.

    The lots are the book's own, so a later fact changes them again; one may be listed twice.
    Raises InvalidValue for a quantity of 0, before anything has changed.
    """
    match fact:
        case Deal():
            return _apply_deal(book, fact, method)
        case Movement():
            return apply_movement(book, fact, method)
        case _ as never:
            assert_never(never)


def _apply_deal(book: Book, deal: Deal, method: Method) -> list[Lot]:
    if not deal.quantity:
        raise InvalidValue("quantity", 0, f"a quantity other than 0 in deal {deal.deal_id}")
    opener = (deal.deal_id, deal.deal_id, deal.event_time)
    position = position_at(book, deal.key)
    position.latest_told_ns = max(position.latest_told_ns, deal.told_ns)
    cost36 = _charged(position, deal)
    return trade(position, deal.quantity, cost36, opener, deal.lots, method)


def apply_plain(
    book: Book, key: PositionKey, deals: Iterable[PlainDeal], method: Method
) -> dict[int, tuple[Lot, int]]:
    """Change a position by plain deals, in trade order, that are next in it.

    Returns the lots opened, reduced or closed by their ordinals, each with the offset of the last
    deal that touched it.
    """
    position = position_at(book, key)
    touched: dict[int, tuple[Lot, int]] = {}
    for deal in deals:
        deal_id, offset = deal.deal_id, deal.offset
        opener = (deal_id, deal_id, deal.place[0])
        cost36 = _charged(position, deal)
        for lot in trade(position, deal.quantity, cost36, opener, (), method):
            touched[lot.ordinal] = (lot, offset)
    return touched


def _charged(position: PositionState, deal: Deal | PlainDeal) -> int:
    """Put a deal's fees where they belong; return its cost, with them or not."""
    if deal.capitalise_fees:
        return deal.cost36 + deal.fees36
    position.fees36 += deal.fees36
    return deal.cost36
