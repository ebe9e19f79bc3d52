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
    position, cost36 = _charged(book, deal.key, deal)
    return trade(position, deal.quantity, cost36, opener, deal.lots, method)


def apply_plain(book: Book, deal: PlainDeal, method: Method) -> list[Lot]:
    """Change a book by a plain deal that is next in trade order; return lots as `apply` does."""
    opener = (deal.deal_id, deal.deal_id, deal.place[0])
    position, cost36 = _charged(book, deal.position, deal)
    return trade(position, deal.quantity, cost36, opener, (), method)


def _charged(book: Book, key: PositionKey, deal: Deal | PlainDeal) -> tuple[PositionState, int]:
    """Put a deal's fees where they belong; return its position, and its cost with them or not."""
    position = position_at(book, key)
    if deal.capitalise_fees:
        return position, deal.cost36 + deal.fees36
    position.fees36 += deal.fees36
    return position, deal.cost36
