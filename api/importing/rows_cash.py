"""Rows of cash, and of movements of units."""

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from api.importing import cells
from api.importing.lines import Fact
from api.importing.reading import Reading, assumed_account, assumed_instrument, needed
from domain.commands import DefineInstrument, MoveCash, MovePosition, ReverseCash
from domain.errors import InvalidValue
from domain.events import CashKind, CashLeg, LotTold, MovementReason, Relation, UnitLeg


class CashRow(Struct, kw_only=True, gc=False):
    """Cash that moved, into the account positive, or that an earlier movement is taken back."""

    account: cells.Name
    kind: CashKind | None = None
    amount: cells.Number | None = None
    currency: cells.Currency | None = None
    event_time: cells.Time
    cash_id: cells.Id | None = None
    settlement_date: cells.Date | None = None
    relates_to: cells.Date | None = None
    deal_id: cells.Id | None = None
    action_id: cells.Id | None = None
    instrument: cells.Name | None = None
    note: cells.Note | None = None
    action: Literal["new", "reverse"] = "new"
    ref_cash_id: cells.Id | None = None


class MovementRow(Struct, kw_only=True, gc=False):
    """One leg of a movement: units of an instrument, or an amount of a currency."""

    account: cells.Name
    movement_id: cells.Id
    reason: MovementReason
    event_time: cells.Time
    quantity: cells.Nonzero
    instrument: cells.Name | None = None
    currency: cells.Currency | None = None
    lot_id: cells.Id | None = None
    opened_at: cells.Time | None = None
    cost: cells.Number | None = None
    cost_currency: cells.Currency | None = None
    action_id: cells.Id | None = None


def cash(reading: Reading, line: int, row: CashRow) -> Fact:
    """Record that cash moved, or was taken back. A day alone is also the booked date."""
    event_time, precision = reading.place(row.event_time, "account", row.account)
    opens = assumed_account(row.currency)
    cash_id = reading.id_of(row, row.cash_id, "cash_id")
    if row.action == "reverse":
        reversal = ReverseCash(
            time_precision=precision,
            cash_id=cash_id,
            ref_cash_id=needed(row.ref_cash_id, "ref_cash_id", "the cash that is taken back"),
            booked_date=row.event_time.day,
        )
        return reading.fact(line, row.account, event_time, reversal, opens, note=row.note)
    if row.ref_cash_id is not None:
        raise InvalidValue("ref_cash_id", row.ref_cash_id, "none beside action new")
    currency = needed(row.currency, "currency", "a currency such as USD")
    command = MoveCash(
        time_precision=precision,
        cash_id=cash_id,
        kind=needed(row.kind, "kind", "a kind of cash"),
        amount=needed(row.amount, "amount", "an amount, into the account positive"),
        currency=currency,
        booked_date=row.event_time.day,
        settlement_date=row.settlement_date,
        relates_to=_relation(row),
        instrument=row.instrument,
    )
    defines = assumed_instrument(row.instrument, currency) if row.instrument else ()
    return reading.fact(line, row.account, event_time, command, opens, defines, row.note)


def _relation(row: CashRow) -> Relation | None:
    if row.relates_to is None and row.deal_id is None and row.action_id is None:
        return None
    return Relation(date=row.relates_to, deal_id=row.deal_id, action_id=row.action_id)


def check_leg(row: MovementRow) -> None:
    """Raise InvalidValue unless a leg is of an instrument, or of a currency and of no lot."""
    if row.instrument is None:
        needed(row.currency, "instrument", "an instrument, or a currency")
        for name, value in (
            ("lot_id", row.lot_id),
            ("opened_at", row.opened_at and (row.opened_at.instant or row.opened_at.day)),
            ("cost", row.cost),
            ("cost_currency", row.cost_currency),
        ):
            if value is not None:
                raise InvalidValue(name, value, "none where no instrument is told")
    elif row.currency is not None:
        expected = "none beside an instrument; the currency of its cost is cost_currency"
        raise InvalidValue("currency", row.currency, expected)


def movement(reading: Reading, rows: list[MovementRow], line: int) -> Fact:
    """Record that units moved, all legs together.

    A day alone is its end in the account's zone, its start for an opening position.
    """
    first = rows[0]
    event_time, precision = reading.place(
        first.event_time, "account", first.account, at_start=first.reason == "opening"
    )
    units = tuple(
        UnitLeg(
            instrument=row.instrument,
            quantity=row.quantity,
            currency=reading.currency_of(row.instrument, row.cost_currency),
            lots=_lots(reading, row, number),
        )
        for number, row in enumerate(rows, 1)
        if row.instrument is not None
    )
    money = tuple(
        CashLeg(currency=row.currency, amount=row.quantity)
        for row in rows
        if row.instrument is None and row.currency is not None
    )
    command = MovePosition(
        time_precision=precision,
        movement_id=first.movement_id,
        reason=first.reason,
        legs=units,
        cash=money,
        action_id=first.action_id,
        booked_date=first.event_time.day,
        trade_date=first.event_time.day,
    )
    opens = assumed_account(money[0].currency if money else units[0].currency)
    return reading.fact(line, first.account, event_time, command, opens, _defined_by(units))


def _lots(reading: Reading, row: MovementRow, number: int) -> tuple[LotTold, ...]:
    """Return the lot that a leg tells of; one without an id is named by its place."""
    if row.lot_id is None and row.opened_at is None and row.cost is None:
        return ()
    opened_at = None
    if row.opened_at is not None:
        at_start = row.reason == "opening"
        opened_at, _ = reading.place(row.opened_at, "account", row.account, at_start=at_start)
    lot = LotTold(
        lot=row.lot_id or f"{row.movement_id}/{number}",
        quantity=row.quantity,
        opened_at=opened_at,
        cost=_signed_cost(row),
    )
    return (lot,)


def _signed_cost(row: MovementRow) -> Decimal | None:
    """Return the cost signed like the quantity: that of a short lot may be told without a sign."""
    if row.cost is not None and row.quantity < 0 < row.cost:
        return row.cost.copy_negate()
    return row.cost


def _defined_by(legs: tuple[UnitLeg, ...]) -> tuple[tuple[str, DefineInstrument], ...]:
    named = {leg.instrument: leg.currency for leg in legs}
    return tuple(
        definition
        for instrument, currency in named.items()
        for definition in assumed_instrument(instrument, currency)
    )
