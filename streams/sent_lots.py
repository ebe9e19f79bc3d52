"""Which lots a transfer took from its sender, with the costs and dates that they had there."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, cast

from domain import money
from domain.events import LotTold, TransferSent, UnitLeg
from domain.times import from_ns, to_ns
from projections.positions.as_of import positions_of
from projections.positions.fold import PROJECTION
from projections.positions.lots import Method
from projections.positions.tables import DEALS, LOT_METHODS, MOVEMENTS, LotRow
from projections.rows import bounded
from schemas.envelope import Recorded
from streams.log import Log
from streams.past import stream_events

Place = tuple[int, int, int]
"""Place in trade order: event time in nanoseconds since 1970, sequence, seq."""


def sent_legs(log: Log, sent: Recorded) -> tuple[UnitLeg, ...]:
    """Return the units that a TransferSent took, one leg for each position, with their lots.

    Only what was recorded up to the transfer counts, so that the answer is the same whenever it is
    asked for. Units beyond what the sender held come without lots. Raises LogHalted.
    """
    event = cast("TransferSent", sent.event)
    envelope = sent.envelope
    place = (to_ns(envelope.event_time), bounded(event.sequence), envelope.seq)
    lots_when = _book(log, cast("str", envelope.stream), sent.offset)
    before = lots_when(lambda one: one < place)
    after = {_lot_key(lot): lot for lot in lots_when(lambda one: one <= place)}
    taken: dict[tuple[str, str], list[LotTold]] = defaultdict(list)
    for lot in before:
        left = after.get(_lot_key(lot))
        if left is not None and left.remaining < lot.remaining:
            taken[lot.instrument, lot.currency].append(_part(lot, left))
    quantities: dict[tuple[str, str], Decimal] = defaultdict(lambda: money.ZERO)
    for leg in event.legs:
        key = (leg.instrument, leg.currency)
        quantities[key] = money.EXACT.add(quantities[key], leg.quantity)
    return tuple(
        UnitLeg(
            instrument=instrument,
            quantity=quantity,
            currency=currency,
            lots=tuple(taken[instrument, currency]),
        )
        for (instrument, currency), quantity in quantities.items()
    )


def _book(
    log: Log, account: str, last_offset: int
) -> Callable[[Callable[[Place], bool]], list[LotRow]]:
    """Return what folds an account's lots from those facts that a place in trade order picks."""
    fold = PROJECTION.make(fresh=True)
    known = stream_events(log, "events", account, last_offset + 1)
    fold.apply([one for one in known if type(one.event) in PROJECTION.handles])
    deals, movements = list(fold.rows(DEALS)), list(fold.rows(MOVEMENTS))
    methods = {row.account: Method(row.method) for row in fold.rows(LOT_METHODS)}

    def lots_when(picks: Callable[[Place], bool]) -> list[LotRow]:
        def picked(rows: Iterable[Any]) -> list[Any]:
            return [row for row in rows if picks((row.event_time_ns, row.sequence, row.seq))]

        return positions_of(picked(deals), picked(movements), methods)[1]

    return lots_when


def _lot_key(lot: LotRow) -> tuple[str, str, int]:
    return lot.instrument, lot.currency, lot.ordinal


def _part(lot: LotRow, left: LotRow) -> LotTold:
    return LotTold(
        lot=lot.lot_id,
        quantity=money.EXACT.subtract(lot.remaining, left.remaining),
        opened_at=from_ns(lot.opened_at_ns),
        cost=money.EXACT.subtract(lot.cost, left.cost),
    )
