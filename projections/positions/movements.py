"""Units that move without a deal: what their cost becomes, and what is realised.

1. A leg against what is held takes lots out (those it names, else by the method) and releases
   their cost, whatever the order of the legs. More than is held comes in at cost 0, flagged.
2. A leg whose lots have a told cost is opened lot by lot at that cost; against what is held it
   closes like a deal at that cost. It takes lots out by rule 1 where it names one that is open.
3. Of the legs that come in whole, the first in a currency of cost inherits all cost released in
   it, lot by lot, with `deal_id` and `opened_at`, as lots `MOVEMENT/1`, `/2`, ... Costs stay
   whole. Units are shared out by cumulative proportion, rounded half-even at ten decimals where it
   does not divide, so that the last lot takes the rest; a lot left with no units gives its cost to
   its neighbour. How to split cost over several instruments is the corporate action's to say: the
   second heir, like a leg that nothing was released for, comes in at cost 0, flagged.
4. Realised, by currency: the movement's cash and the told cost that came in, minus the cost
   released where nobody inherited it. It goes to the first position that released. An expiry so
   loses its cost, and a cash merger earns the cash minus the cost. A reason that only changes the
   place of units (opening, transfer, allocation) realises nothing: the cost leaves with them.

5. What a transfer sends, the other account is told as it was then. Where a fact that comes before
   it in trade order was told or corrected after it, other lots may leave on a second look, or
   another cost: the position is flagged.

Where cost was released and profit is realised, `realised - cost_basis` of the currency changes by
the movement's cash exactly.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from typing import Final

from msgspec import Struct, field

from domain.cash import TRANSFER_IDS
from domain.errors import InvalidValue
from domain.money import divide_half_even
from projections.positions.facts import Movement, NamedLot, UnitLeg
from projections.positions.lots import (
    COST_UNKNOWN,
    PROCEEDS_ELSEWHERE,
    SENT_LOTS_OUTDATED,
    Book,
    Lot,
    Method,
    Opener,
    Part,
    PositionState,
    closing_part,
    cost_of_part,
    open_lot,
    pool,
    position_at,
    release,
    trade,
)

_TEN_DECIMALS: Final = 10**8
_WITHOUT_PNL: Final = frozenset({"opening", "transfer", "allocation"})


class _Incoming(Struct, frozen=True):
    """What is left of a leg after it closed what it was against."""

    position: PositionState
    quantity: int
    lots: tuple[NamedLot, ...] = ()
    told: bool = False
    whole: bool = False


class _Progress(Struct):
    """One movement on its way through the book; money by currency of cost."""

    movement: Movement
    method: Method
    lot_ids: Iterator[str]
    released: dict[str, list[tuple[PositionState, Part]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    received36: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    heirs: set[str] = field(default_factory=set)
    touched: list[Lot] = field(default_factory=list)

    @property
    def is_sent(self) -> bool:
        """Whether the units go to another account, which was told which lots they are."""
        movement_id = self.movement.movement_id
        return movement_id.startswith(TRANSFER_IDS) and movement_id.endswith("/sent")


def apply_movement(book: Book, movement: Movement, method: Method) -> list[Lot]:
    """Change a book by a movement; return the lots touched, one perhaps twice.

    Raises InvalidValue for a quantity of 0, before anything has changed.
    """
    _check(movement)
    lot_ids = (f"{movement.movement_id}/{n}" for n in count(1))
    progress = _Progress(movement, method, lot_ids)
    for cash in movement.cash:
        progress.received36[cash.currency] += cash.amount36
    for incoming in [_take_out(progress, book, leg) for leg in movement.legs]:
        currency = incoming.position.key.currency
        if not incoming.quantity:
            continue
        if incoming.told:
            _open_told(progress, incoming)
        elif incoming.whole and currency in progress.released.keys() - progress.heirs:
            progress.heirs.add(currency)
            _inherit(progress, incoming)
        else:
            progress.received36[currency] += 0  # something came in, if at no known cost
            _open_unknown(progress, incoming)
    if movement.reason not in _WITHOUT_PNL:
        _realise(progress)
    for leg in movement.legs:
        position = book[leg.key]
        position.latest_told_ns = max(position.latest_told_ns, movement.told_ns)
    return progress.touched


def _check(movement: Movement) -> None:
    for leg in movement.legs:
        if not leg.quantity or any(not lot.quantity for lot in leg.lots):
            expected = f"legs and lots with units in movement {movement.movement_id}"
            raise InvalidValue("quantity", 0, expected)


def _take_out(progress: _Progress, book: Book, leg: UnitLeg) -> _Incoming:
    position = position_at(book, leg.key)
    if progress.method is Method.AVERAGE:
        progress.touched += pool(position)
    closing = closing_part(position.quantity, leg.quantity)
    told = any(lot.cost36 is not None for lot in leg.lots)
    if told and not (closing and any(open_lot(position, lot.lot_id) for lot in leg.lots)):
        return _Incoming(position, leg.quantity, leg.lots, told=True)
    if closing:
        parts = release(position, -closing, leg.lots, progress.method)
        progress.released[leg.key.currency] += [(position, part) for part in parts]
        progress.touched += [lot for lot, _, _ in parts]
        if progress.is_sent and position.latest_told_ns > progress.movement.told_ns:
            position.flags.add(SENT_LOTS_OUTDATED)
    return _Incoming(
        position, leg.quantity - closing, () if closing else leg.lots, whole=not closing
    )


def _open_told(progress: _Progress, incoming: _Incoming) -> None:
    position, left = incoming.position, incoming.quantity
    sign = 1 if left > 0 else -1
    for lot in incoming.lots:
        units = sign * min(abs(lot.quantity), abs(left))
        if not units:
            break
        if lot.cost36 is None:
            position.flags.add(COST_UNKNOWN)
        cost36 = cost_of_part(lot.cost36 or 0, abs(units), abs(lot.quantity))
        progress.received36[position.key.currency] += cost36
        _bring_in(progress, position, units, cost36, _told_opener(progress, position, lot))
        left -= units
    if left:
        _open_unknown(progress, _Incoming(position, left))


def _told_opener(progress: _Progress, position: PositionState, lot: NamedLot) -> Opener:
    """Keep the told id, but for one that is open here already: ids of open lots are unique."""
    taken = open_lot(position, lot.lot_id) is not None
    lot_id = next(progress.lot_ids) if taken else lot.lot_id
    return lot_id, None, lot.opened_at or progress.movement.event_time


def _open_unknown(progress: _Progress, incoming: _Incoming) -> None:
    position = incoming.position
    position.flags.add(COST_UNKNOWN)
    if incoming.lots:
        lots = tuple(NamedLot(lot.lot_id, lot.quantity, lot.opened_at, 0) for lot in incoming.lots)
        _open_told(progress, _Incoming(position, incoming.quantity, lots, told=True))
        return
    opener = (next(progress.lot_ids), None, progress.movement.event_time)
    _bring_in(progress, position, incoming.quantity, 0, opener)


def _inherit(progress: _Progress, incoming: _Incoming) -> None:
    position = incoming.position
    parts = [part for _, part in progress.released[position.key.currency]]
    for source, units, cost36 in _shares(parts, incoming.quantity):
        opener = (next(progress.lot_ids), source.deal_id, source.opened_at)
        _bring_in(progress, position, units, cost36, opener)


def _shares(parts: list[Part], quantity: int) -> list[Part]:
    """Share units out over released parts in proportion; each keeps its cost."""
    sign = 1 if quantity > 0 else -1
    whole = sum(abs(part) for _, part, _ in parts)
    shares: list[Part] = []
    passed = given = carried36 = 0
    for lot, part, cost36 in parts:
        passed += abs(part)
        upto = _proportion(abs(quantity), passed, whole)
        carried36 += cost36
        if upto != given:
            shares.append((lot, sign * (upto - given), carried36))
            given, carried36 = upto, 0
    if carried36:
        lot, units, cost36 = shares[-1]
        shares[-1] = (lot, units, cost36 + carried36)
    return shares


def _proportion(quantity: int, passed: int, whole: int) -> int:
    units, remainder = divmod(quantity * passed, whole)
    if not remainder:
        return units
    rounded = divide_half_even(quantity * passed, whole * _TEN_DECIMALS) * _TEN_DECIMALS
    return min(rounded, quantity)


def _bring_in(
    progress: _Progress, position: PositionState, units: int, cost36: int, opener: Opener
) -> None:
    progress.touched += trade(position, units, cost36, opener, (), progress.method)


def _realise(progress: _Progress) -> None:
    elsewhere = progress.received36.keys() - progress.released.keys()
    for currency, released in progress.released.items():
        first = released[0][0]
        first.realised36 += progress.received36.get(currency, 0)
        if currency in progress.heirs:
            continue
        for position, (_, _, cost36) in released:
            position.realised36 -= cost36
        if elsewhere:
            first.flags.add(PROCEEDS_ELSEWHERE)
