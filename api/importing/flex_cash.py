"""Cash of a Flex statement: payments, opening balances, and the exchange rates that go with them.

The balance changes when IBKR booked a payment, its reportDate. Where that is another day than the
one in dateTime, the payment is placed at the end of the booked day and relates to the other one
(F23:9 concerns May 2019 and was booked in February 2020; F05:9 was paid three days later). Without
a reportDate it is placed where dateTime says. A payment and its opposite (F20:20-21) are two facts
as told: IBKR names no id that one of them takes back.

startingCash is what the account held before the statement began: for who starts in the middle of
history it is booked as a movement with reason `opening`, at the start of the statement. Its id
is `opening-cash`, the same in every statement of an account: the first one imported opens the
book, a later month's, with other amounts, repeats the id with other content and is refused as a
conflict, so that no balance is counted twice. Amounts of 0 are told too, for the same reason: who
began with nothing has no other opening later. Of several statements of an account in one file (IBKR
breaks a period out by day on request) the first opens the book, the others are listed.
"""

from typing import Final

from api.importing import cells
from api.importing.flex_groups import Leg
from api.importing.flex_instruments import named, pair
from api.importing.flex_rows import (
    Moment,
    Row,
    end_of,
    fact,
    known_ids,
    listed,
    price_fact,
)
from api.importing.lines import Fact, Listed, Ordinals
from domain.commands import MoveCash, RecordPrice
from domain.errors import InvalidValue
from domain.events import CashKind, CashLeg, Relation
from domain.times import Day, start_of_day

OPENING_CASH: Final = "opening-cash"
_PRICE_SOURCE: Final = "ibkr-flex"
_KINDS: Final[dict[str, CashKind]] = {
    "dividends": "dividend",
    "payment in lieu of dividends": "payment_in_lieu",
    "withholding tax": "withholding",
    "871(m) withholding": "withholding",
    "broker interest paid": "interest",
    "broker interest received": "interest",
    "bond interest paid": "coupon",
    "bond interest received": "coupon",
    "other fees": "fee",
    "broker fees": "fee",
    "advisor fees": "fee",
    "commission adjustments": "fee",
    "deposits/withdrawals": "deposit",
    "deposits & withdrawals": "deposit",
    "deposits and withdrawals": "deposit",
}
_CONTENT: Final = (
    "dateTime",
    "reportDate",
    "currency",
    "amount",
    "type",
    "conid",
    "symbol",
    "isin",
)


def read_cash(row: Row, ordinals: Ordinals) -> Fact | Listed:
    """Return what a cash transaction's line says; raises InvalidValue."""
    level = row.text("levelOfDetail")
    if level not in (None, "DETAIL"):
        return listed(row, f"{level}: payments are booked one by one")
    told, booked_date = row.moment(), row.day("reportDate")
    late = booked_date is not None and booked_date != told.day
    at = end_of(row, booked_date) if booked_date is not None and late else told
    instrument = named(row)
    amount = row.needed_number("amount")
    description = row.text("description")
    command = MoveCash(
        cash_id=_cash_id(row, ordinals),
        kind=_kind(row, amount < 0),
        amount=amount,
        currency=row.currency(),
        source_kind=row.identifier("type"),
        booked_date=booked_date,
        settlement_date=row.day("settleDate"),
        relates_to=_relation(row, told.day if late else None),
        instrument=instrument.instrument if instrument else None,
        identifiers=instrument.identifiers if instrument else {},
        ids=known_ids(row, ("transactionID", "tradeID", "actionID")),
        time_precision=at.precision,
    )
    return fact(
        row,
        command,
        at.instant,
        defines=instrument.defines if instrument else (),
        note=cells.note(description, "description") if description else None,
    )


def _kind(row: Row, paid: bool) -> CashKind:
    kind = _KINDS.get((row.text("type") or "").lower(), "other")
    return "withdrawal" if kind == "deposit" and paid else kind


def _relation(row: Row, day: Day | None) -> Relation | None:
    deal_id, action_id = row.identifier("tradeID"), row.identifier("actionID")
    if day is None and deal_id is None and action_id is None:
        return None
    return Relation(date=day, deal_id=deal_id, action_id=action_id)


def _cash_id(row: Row, ordinals: Ordinals) -> str:
    """Return IBKR's id, else one of the content without its free text, which can be erased."""
    transaction = row.identifier("transactionID")
    if transaction is not None:
        return transaction
    return ordinals.content_id("cash", row.account, *(row.fields.get(n, "") for n in _CONTENT))


def read_opening(row: Row, from_date: str | None) -> Leg | Listed:
    """Return one currency of the cash an account began with; raises InvalidValue."""
    if row.text("currency") == "BASE_SUMMARY" or row.text("levelOfDetail") == "BaseCurrency":
        return listed(row, "a summary of all currencies")
    amount = row.number("startingCash")
    if amount is None:
        return listed(row, "tells no startingCash")
    day = row.day("fromDate") or (cells.day(from_date, "fromDate") if from_date else None)
    if day is None:
        raise InvalidValue("fromDate", "", "the first date of the statement")
    return Leg(
        row=row,
        group=(OPENING_CASH, row.account),
        reason="opening",
        at=Moment(start_of_day(day, row.zone), "day", day),
        movement_id=OPENING_CASH,
        booked_date=day,
        cash=CashLeg(currency=row.currency(), amount=amount),
    )


def read_rate(row: Row) -> Fact | Listed:
    """Return an exchange rate as the day's closing price of a pair; raises InvalidValue."""
    base, quote = row.currency("fromCurrency"), row.currency("toCurrency")
    if base == quote:
        return listed(row, "a currency in itself")
    rate, day = row.needed_number("rate"), row.day("reportDate")
    if rate <= 0:
        raise InvalidValue("rate", rate, "a number above zero")
    if day is None:
        raise InvalidValue("reportDate", "", "a date such as 20240102")
    price = RecordPrice(
        price=rate,
        currency=quote,
        kind="close",
        price_date=day,
        source=_PRICE_SOURCE,
        time_precision="day",
    )
    instrument, defines = pair(base, quote)
    return price_fact(row, instrument, price, end_of(row, day), defines)
