"""Corporate actions of a Flex statement: units out, units in and cash, as IBKR booked them.

Lines that share actionID, or else the description up to the part in brackets that names the
instrument, and time and booking date, are one action (F01:38-39: units tendered for others;
F01:40-41: a split 1 for 25; F01:42 and F23:6: units gone for cash). `proceeds` is the cash, and
neither `amount` nor `value` is. Out of these no deal is ever made.
"""

from api.importing.flex_groups import Leg
from api.importing.flex_instruments import named
from api.importing.flex_rows import Row, known_ids
from domain.errors import InvalidValue
from domain.events import CashLeg, UnitLeg
from domain.identifiers import check_id


def read_action(row: Row) -> Leg:
    """Return one line of a corporate action as a leg of it; raises InvalidValue."""
    instrument = named(row)
    quantity, proceeds = row.number("quantity"), row.number("proceeds")
    currency = row.currency()
    if instrument is None and quantity:
        raise InvalidValue("conid", "", "a conid, isin, figi, cusip or symbol")
    at, booked_date = row.moment(), row.day("reportDate")
    action_id = row.identifier("actionID")
    when = (at.instant, booked_date or "")
    unit = None
    if instrument is not None and quantity:
        unit = UnitLeg(instrument=instrument.instrument, quantity=quantity, currency=currency)
    return Leg(
        row=row,
        group=("corporate_action", row.account, action_id or _head(row), *when),
        reason="corporate_action",
        at=at,
        movement_id=_movement_id(row, action_id, when),
        booked_date=booked_date,
        action_id=action_id,
        unit=unit,
        cash=CashLeg(currency=currency, amount=proceeds) if proceeds else None,
        ids=known_ids(row, ("transactionID", "actionID")),
        identifiers=instrument.identifiers if instrument else {},
        defines=instrument.defines if instrument else (),
    )


def _head(row: Row) -> str:
    """Return the description without `(SYMBOL, NAME, ISIN)`, which differs from leg to leg."""
    text = row.text("description") or row.text("actionDescription") or ""
    head, found, _ = text.partition(f" ({row.text('symbol')},")
    return head if found else text.rpartition(" (")[0] or text


def _movement_id(row: Row, action_id: str | None, when: tuple[str, str]) -> str | None:
    if action_id is not None:
        return check_id(f"action/{action_id}/{when[0]}/{when[1]}", "actionID")
    transaction = row.identifier("transactionID")
    return f"transaction/{transaction}" if transaction else None
