"""Rows of accounts, portfolios and instruments."""

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from api.importing import cells
from api.importing.lines import Fact
from api.importing.reading import Reading, begun, starting
from api.importing.rows_prices import quoted_in
from domain.commands import DefineInstrument, DefinePortfolio, OpenAccount
from domain.errors import InvalidValue
from domain.events import InstrumentKind, LotMethod


class AccountRow(Struct, gc=False, rename={"from_date": "from"}):
    """An account and its settings."""

    account: cells.Name
    base_currency: cells.Currency
    from_date: cells.Date | None = None
    portfolio: cells.Name | None = None
    method: LotMethod | None = None
    time_zone: cells.Zone | None = None
    actions: Literal["derived", "booked"] | None = None
    fees: Literal["expensed", "capitalised"] | None = None


class PortfolioRow(Struct, gc=False, rename={"from_date": "from"}):
    """A portfolio and its parent."""

    portfolio: cells.Name
    parent: cells.Name | None = None
    from_date: cells.Date | None = None


class InstrumentRow(Struct, gc=False, rename={"from_date": "from"}):
    """What an instrument is."""

    instrument: cells.Name
    kind: InstrumentKind
    currency: cells.PriceCurrency
    from_date: cells.Date | None = None
    symbol: cells.Name | None = None
    mic: cells.Name | None = None
    isin: cells.Name | None = None
    figi: cells.Name | None = None
    conid: cells.Name | None = None
    multiplier: cells.Positive | None = None
    price_unit: cells.Name | None = None
    expiry: cells.Date | None = None
    strike: cells.Number | None = None
    right: Literal["call", "put"] | None = None
    underlying: cells.Name | None = None
    time_zone: cells.Zone | None = None
    sector: cells.Name | None = None
    country: cells.Name | None = None


def account(reading: Reading, line: int, row: AccountRow) -> Fact:
    """Open an account, from the start of its date in its own zone."""
    command = OpenAccount(
        base_currency=row.base_currency,
        from_date=begun(row.from_date),
        portfolio=row.portfolio,
        method=row.method,
        fees=row.fees,
        actions=row.actions,
        time_zone=row.time_zone,
    )
    return reading.fact(line, row.account, starting(row.from_date, row.time_zone or "UTC"), command)


def portfolio(reading: Reading, line: int, row: PortfolioRow) -> Fact:
    """Define a portfolio, from the start of its date in UTC."""
    if row.parent == row.portfolio:
        raise InvalidValue("parent", row.portfolio, "another portfolio")
    command = DefinePortfolio(parent=row.parent, from_date=row.from_date)
    return reading.fact(line, row.portfolio, starting(row.from_date), command)


def instrument(reading: Reading, line: int, row: InstrumentRow) -> Fact:
    """Define an instrument, from the start of its date in its own zone."""
    currency, unit = quoted_in(row.currency, row.price_unit, "price_unit")
    command = DefineInstrument(
        kind=row.kind,
        currency=currency,
        from_date=begun(row.from_date),
        symbol=row.symbol,
        mic=row.mic,
        isin=row.isin,
        figi=row.figi,
        conid=row.conid,
        multiplier=Decimal(1) if row.multiplier is None else row.multiplier,
        price_unit=unit,
        expiry=row.expiry,
        strike=row.strike,
        right=row.right,
        underlying=row.underlying,
        time_zone=row.time_zone,
        sector=row.sector,
        country=row.country,
    )
    start = starting(row.from_date, row.time_zone or "UTC")
    return reading.fact(line, row.instrument, start, command)
