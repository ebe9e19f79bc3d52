"""The algebraic audit: FIFO positions without following a single lot.

Number the units bought 1, 2, 3, ... in trade order, and the units sold likewise. Under FIFO the
j-th unit bought meets the j-th unit sold, over the whole history, through every crossing of zero.
Proof: after B bought and S sold suppose the pairs met are 1..min(B, S). If B >= S the open units
are bought units S+1..B, oldest first, so a sale of x takes them in that order and pairs S+1..S+x
until the lots run out; what is left opens as sold units from B+1 on. The same with the sides
exchanged, and both sides are empty at the start.

With m = min(B, S), realised P&L is so what the first m units sold brought minus what the first m
units bought cost: two prefix sums, each clipped inside one deal. What is open is the longer side
beyond m. Parts of lots taken on the way add up to the whole lot, rounded or not, so the one deal
that m clips is the only place where the order of rounding could matter.
"""

from collections.abc import Iterable
from itertools import accumulate

from msgspec import Struct

from projections.positions.facts import Deal


class Audit(Struct, frozen=True):
    """One position, as the algebra has it.

    `open_lots` are (deal_id, remaining units, cost36) oldest first, signed like the position.
    """

    quantity: int
    cost36: int
    realised36: int
    open_lots: tuple[tuple[str, int, int], ...]


def audit_position(deals: Iterable[Deal]) -> Audit | None:
    """Return quantity, cost basis and realised P&L of one position's deals in trade order.

    None where the algebra does not hold to the last digit: a deal names its lots, or the deal that
    the open quantity begins in has a cost that its units do not divide.
    """
    bought: list[Deal] = []
    sold: list[Deal] = []
    for deal in deals:
        if deal.lots:
            return None
        (bought if deal.quantity > 0 else sold).append(deal)
    units_bought = sum(deal.quantity for deal in bought)
    units_sold = -sum(deal.quantity for deal in sold)
    met = min(units_bought, units_sold)
    buys, sales = _clip(bought, met), _clip(sold, met)
    if buys is None or sales is None:
        return None
    open_lots = tuple(buys[1] or sales[1])
    cost36 = sum(cost for _, _, cost in open_lots)
    return Audit(units_bought - units_sold, cost36, -sales[0] - buys[0], open_lots)


def _cost(deal: Deal) -> int:
    return deal.cost36 + deal.fees36 if deal.capitalise_fees else deal.cost36


def _clip(side: list[Deal], met: int) -> tuple[int, list[tuple[str, int, int]]] | None:
    """Return what one side's first `met` units cost, and its lots beyond; None where inexact."""
    met36, lots = 0, []
    upto = accumulate(abs(deal.quantity) for deal in side)
    for deal, passed in zip(side, upto, strict=True):
        cost36, size = _cost(deal), abs(deal.quantity)
        left = min(max(passed - met, 0), size)
        if 0 < left < size and cost36 % size:
            return None
        left36 = cost36 * left // size
        met36 += cost36 - left36
        if left:
            lots.append((deal.deal_id, left if deal.quantity > 0 else -left, left36))
    return met36, lots
