"""Open lots and what closing takes from them, by each method.

The rules, once:

* **Lot cost.** A lot carries its whole cost. A part taken out of it costs
  `cost * part / quantity`; where that is not whole at 10**-36 it is rounded half-even at ten
  decimals, and the rest stays in the lot. A deal that crosses zero is split by the same rule.
* **FIFO** takes the oldest lots first, by `opened_at` and among equals as they came, but for lots
  that the fact names. Where the names do not cover what is closed it is flagged, and the rest is
  taken oldest first.
* **LIFO** takes the youngest first, **HIFO** those of the highest cost a unit, **specific** is FIFO
  for what no fact names.
* **Average** keeps one pool for each position, listed as one lot: its id and date are those of the
  deal that opened it, its quantity what was put in since then. Units of a pool cannot be told
  apart, so names are not looked at, and a part is taken at the pool's average by the lot cost rule.
"""

from bisect import bisect_right
from collections import deque
from enum import StrEnum
from fractions import Fraction
from operator import attrgetter
from typing import Final

from msgspec import Struct, field

from domain.money import divide_half_even
from projections.positions.facts import NamedLot, PositionKey

_TEN_DECIMALS: Final = 10**26

COST_UNKNOWN: Final = "cost_unknown"
"""Units came in without a cost: it counts as 0."""
LOTS_UNMATCHED: Final = "lots_unmatched"
"""The lots that a fact named do not cover what it closed."""
SENT_LOTS_OUTDATED: Final = "sent_lots_outdated"
"""What came before a transfer was told, or corrected, after it: other lots may leave here than
arrived there."""
PROCEEDS_ELSEWHERE: Final = "proceeds_elsewhere"
"""Units left for something in another currency than their cost: realised has the cost alone."""


class Method(StrEnum):
    """Which units a closing takes."""

    FIFO = "fifo"
    LIFO = "lifo"
    HIFO = "hifo"
    AVERAGE = "average"
    SPECIFIC = "specific"


class Lot(Struct, gc=False):
    """Units opened together; `quantity`, `remaining` and `cost36` are signed like the position.

    `cost36` is the whole cost of what remains; a closed lot has nothing remaining. `deal_id` is
    the deal that first opened the units, through any movement since, where it is known. `ordinal`
    counts the lots that the position has ever opened, from 0.
    """

    key: PositionKey
    lot_id: str
    deal_id: str | None
    opened_at: str
    quantity: int
    remaining: int
    cost36: int
    ordinal: int = 0


class PositionState(Struct):
    """A position: `cost36` is the sum of its open lots' costs, `lots` are in order of opening.

    `opened` counts the lots that were ever opened. `latest_told_ns` is when the ledger was told
    the last of the facts applied one by one; those that a stored state has were told before any to
    come.
    """

    key: PositionKey
    quantity: int = 0
    cost36: int = 0
    realised36: int = 0
    fees36: int = 0
    lots: deque[Lot] = field(default_factory=deque)
    flags: set[str] = field(default_factory=set)
    opened: int = 0
    latest_told_ns: int = 0


Opener = tuple[str, str | None, str]
"""Under which name and date units are opened: lot_id, deal_id, opened_at."""

Book = dict[PositionKey, PositionState]
Part = tuple[Lot, int, int]
"""What was taken out of a lot: the lot, and units and cost signed like it."""


def position_at(book: Book, key: PositionKey) -> PositionState:
    """Return the position of that key, entered in the book when it is new."""
    position = book.get(key)
    if position is None:
        position = book[key] = PositionState(key)
    return position


def cost_of_part(cost36: int, part: int, whole: int) -> int:
    """Return the cost of `part` units out of `whole` (same sign) by the lot cost rule."""
    if part == whole:
        return cost36
    cost, remainder = divmod(cost36 * part, whole)
    if not remainder:
        return cost
    return divide_half_even(cost36 * part, whole * _TEN_DECIMALS) * _TEN_DECIMALS


def closing_part(held: int, quantity: int) -> int:
    """Return how much of a signed quantity closes what is held; signed like the quantity."""
    if held > 0 > quantity:
        return max(quantity, -held)
    if held < 0 < quantity:
        return min(quantity, -held)
    return 0


def trade(
    position: PositionState,
    quantity: int,
    cost36: int,
    opener: Opener,
    named: tuple[NamedLot, ...],
    method: Method,
) -> list[Lot]:
    """Close what signed units at a signed cost are against, with its P&L, and open the rest.

    Returns the lots touched.
    """
    touched = pool(position) if method is Method.AVERAGE else []
    held = position.quantity
    if held > 0 > quantity or held < 0 < quantity:
        closing = closing_part(held, quantity)
        against36 = cost_of_part(cost36, closing, quantity)
        held36 = position.cost36
        touched += [lot for lot, _, _ in release(position, -closing, named, method)]
        position.realised36 -= against36 + held36 - position.cost36
        quantity -= closing
        cost36 -= against36
    if quantity:
        touched.append(_open(position, quantity, cost36, opener, method))
    return touched


def release(
    position: PositionState, take: int, named: tuple[NamedLot, ...], method: Method
) -> list[Part]:
    """Take units, at most what is held and signed like it, out of the lots; no P&L."""
    parts: list[Part] = []
    if named and method is not Method.AVERAGE:
        parts = _release_named(position, take, named)
        take -= sum(part for _, part, _ in parts)
        if take:
            position.flags.add(LOTS_UNMATCHED)
    lots = position.lots
    while take:
        index = _next_lot(lots, method)
        lot = lots[index]
        remaining = lot.remaining
        if abs(remaining) > abs(take):
            parts.append(_take(lot, take))
            break
        parts.append((lot, remaining, lot.cost36))
        lot.remaining = lot.cost36 = 0
        del lots[index]
        take -= remaining
    for _, part, cost36 in parts:
        position.quantity -= part
        position.cost36 -= cost36
    return parts


def _next_lot(lots: deque[Lot], method: Method) -> int:
    """Return the index of the lot that a closing takes first: the oldest among equals."""
    if method is Method.LIFO:
        return len(lots) - 1
    if method is Method.HIFO:
        return max(range(len(lots)), key=lambda index: (_unit_cost(lots[index]), -index))
    return 0


def _unit_cost(lot: Lot) -> Fraction:
    return Fraction(lot.cost36, lot.remaining)


def open_lot(position: PositionState, lot_id: str) -> Lot | None:
    """Return the open lot of that id, if there is one."""
    return next((lot for lot in position.lots if lot.lot_id == lot_id), None)


def pool(position: PositionState) -> list[Lot]:
    """Merge several lots into the first: an account has turned from FIFO to average cost."""
    if len(position.lots) < 2:
        return []
    first, *others = position.lots
    for lot in others:
        first.quantity += lot.remaining
        first.remaining += lot.remaining
        first.cost36 += lot.cost36
        lot.remaining = lot.cost36 = 0
    position.lots = deque([first])
    return [first, *others]


def _open(
    position: PositionState, quantity: int, cost36: int, opener: Opener, method: Method
) -> Lot:
    position.quantity += quantity
    position.cost36 += cost36
    if method is Method.AVERAGE and position.lots:
        lot = position.lots[0]
        lot.quantity += quantity
        lot.remaining += quantity
        lot.cost36 += cost36
        return lot
    lot = Lot(position.key, *opener, quantity, quantity, cost36, position.opened)
    position.opened += 1
    lots = position.lots
    if not lots or lots[-1].opened_at <= lot.opened_at:
        lots.append(lot)
    else:
        _queue(lots, lot)
    return lot


def _queue(lots: deque[Lot], lot: Lot) -> None:
    """Put a lot behind those that are as old: one that has moved in keeps its date."""
    lots.insert(bisect_right(lots, lot.opened_at, key=attrgetter("opened_at")), lot)


def _release_named(position: PositionState, take: int, named: tuple[NamedLot, ...]) -> list[Part]:
    sign = 1 if take > 0 else -1
    parts = []
    for name in named:
        lot = open_lot(position, name.lot_id)
        if lot is None:
            continue
        part = sign * min(abs(name.quantity), abs(lot.remaining), abs(take))
        if not part:
            continue
        parts.append(_take(lot, part))
        if not lot.remaining:
            position.lots.remove(lot)
        take -= part
    return parts


def _take(lot: Lot, part: int) -> Part:
    cost36 = cost_of_part(lot.cost36, part, lot.remaining)
    lot.remaining -= part
    lot.cost36 -= cost36
    return lot, part, cost36
