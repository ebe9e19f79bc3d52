"""Between stored rows and the facts, lots and positions that the folds speak of."""

from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from domain import money
from domain.money import COST_SCALE, QUANTITY_SCALE, from_scaled, to_scaled
from domain.times import Instant, from_ns
from projections.positions.facts import (
    CashLeg,
    Deal,
    Fact,
    Movement,
    NamedLot,
    PositionKey,
    UnitLeg,
)
from projections.positions.lots import Lot, PositionState
from projections.positions.tables import DealRow, LotRow, MovementRow, PositionRow
from projections.rows import time_ns

_ONE_AT: Final = {scale: 10**scale for scale in (QUANTITY_SCALE, COST_SCALE)}


def deal_key(row: DealRow) -> PositionKey:
    """Return the position that a deal belongs to."""
    return PositionKey(row.account, row.instrument, row.currency)


def deal_fact(
    row: DealRow, event_time: Instant | None = None, key: PositionKey | None = None
) -> Deal | None:
    """Return what a deal does to its position; None where it does nothing (busted, or FX).

    `event_time` and `key`, where they are at hand, spare the row's from being made again.
    """
    if row.status == "busted" or row.kind == "fx":
        return None
    quantity, cost36 = to_scaled(row.quantity, QUANTITY_SCALE), to_scaled(row.cost, COST_SCALE)
    if row.side != "buy":
        quantity, cost36 = -quantity, -cost36
    return Deal(
        key or deal_key(row),
        row.deal_id,
        event_time or from_ns(row.event_time_ns),
        row.sequence,
        row.seq,
        quantity,
        cost36,
        to_scaled(row.fees, COST_SCALE) if row.fees else 0,
        row.capitalise_fees,
        _named_by(row.details) if row.details and "lots" in row.details else (),
        (row.multiplier, row.price_unit),
        row.recorded_time_ns,
    )


def _named_by(details: dict[str, Any]) -> tuple[NamedLot, ...]:
    return tuple(
        NamedLot(lot, to_scaled(money.parse_decimal(quantity, "lots"), QUANTITY_SCALE))
        for lot, quantity in details["lots"]
    )


def movement_fact(legs: list[MovementRow]) -> Movement | None:
    """Return what a movement's legs do; None where it was reversed or moves cash alone.

    Legs and lots without units move nothing.
    """
    first = legs[0]
    units = [leg for leg in legs if leg.instrument is not None and leg.quantity]
    if first.status != "effective" or not units:
        return None
    return Movement(
        movement_id=first.movement_id,
        reason=first.reason,
        event_time=from_ns(first.event_time_ns),
        sequence=first.sequence,
        seq=first.seq,
        legs=tuple(_unit_leg(leg) for leg in units),
        cash=tuple(
            CashLeg(leg.currency, to_scaled(leg.quantity, COST_SCALE))
            for leg in legs
            if leg.instrument is None
        ),
        told_ns=first.recorded_time_ns,
    )


def _unit_leg(leg: MovementRow) -> UnitLeg:
    assert leg.instrument is not None
    key = PositionKey(leg.account, leg.instrument, leg.currency)
    named = (_named_lot(*lot) for lot in leg.lots or ())
    lots = tuple(lot for lot in named if lot.quantity)
    return UnitLeg(key, to_scaled(leg.quantity, QUANTITY_SCALE), lots)


def _named_lot(lot: str, quantity: str, opened_at: str | None, cost: str | None) -> NamedLot:
    return NamedLot(
        lot,
        to_scaled(money.parse_decimal(quantity, "quantity"), QUANTITY_SCALE),
        None if opened_at is None else Instant(opened_at),
        None if cost is None else to_scaled(money.EXACT.create_decimal(cost), COST_SCALE),
    )


def fact_keys(fact: Fact) -> tuple[PositionKey, ...]:
    """Return the positions that a fact moves."""
    match fact:
        case Deal():
            return (fact.key,)
        case Movement():
            return tuple(leg.key for leg in fact.legs)


def position_state(row: PositionRow, lots: Iterable[LotRow]) -> PositionState:
    """Return a stored position as the fold left it; `lots` are its open ones."""
    key = PositionKey(row.account, row.instrument, row.currency)
    return PositionState(
        key,
        quantity=to_scaled(row.quantity, QUANTITY_SCALE),
        cost36=to_scaled(row.cost_basis, COST_SCALE),
        realised36=to_scaled(row.realised_pnl, COST_SCALE),
        fees36=to_scaled(row.fees, COST_SCALE),
        lots=deque(_lot(key, lot) for lot in sorted(lots, key=_age)),
        flags=set(row.flags),
        opened=row.lots_opened,
    )


def _age(lot: LotRow) -> tuple[int, int]:
    """Order lots as first in first out takes them."""
    return lot.opened_at_ns, lot.ordinal


def _lot(key: PositionKey, row: LotRow) -> Lot:
    return Lot(
        key,
        row.lot_id,
        row.deal_id,
        from_ns(row.opened_at_ns),
        to_scaled(row.quantity, QUANTITY_SCALE),
        to_scaled(row.remaining, QUANTITY_SCALE),
        to_scaled(row.cost, COST_SCALE),
        row.ordinal,
    )


def lot_row(lot: Lot, changed_offset: int) -> LotRow:
    """Return a lot as it is stored."""
    quantity = from_scaled(lot.quantity, QUANTITY_SCALE)
    is_whole = lot.remaining == lot.quantity
    return LotRow(
        *lot.key,
        lot.ordinal,
        lot.lot_id,
        lot.deal_id,
        time_ns(Instant(lot.opened_at)),
        quantity,
        quantity if is_whole else from_scaled(lot.remaining, QUANTITY_SCALE),
        from_scaled(lot.cost36, COST_SCALE),
        changed_offset,
    )


def lot_line(key: str, lot: Lot, changed_offset: int) -> str:
    """Return a lot's row as COPY's text has it; `key` is its position's columns.

    For a lot that a plain deal opened: no text of it needs escaping.
    """
    quantity = _plain(lot.quantity, QUANTITY_SCALE)
    is_whole = lot.remaining == lot.quantity
    remaining = quantity if is_whole else _plain(lot.remaining, QUANTITY_SCALE)
    return (
        f"{key}{lot.ordinal}\t{lot.lot_id}\t{lot.deal_id}\t{time_ns(Instant(lot.opened_at))}\t"
        f"{quantity}\t{remaining}\t{_plain(lot.cost36, COST_SCALE)}\t{changed_offset}\n"
    )


def _plain(count: int, scale: int) -> str:
    """Return what `from_scaled` makes of a count, in plain notation."""
    whole, part = divmod(abs(count), _ONE_AT[scale])
    sign = "-" if count < 0 else ""
    return f"{sign}{whole}.{str(part).zfill(scale).rstrip('0')}" if part else f"{sign}{whole}"
