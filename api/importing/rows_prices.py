"""Rows of prices, and the units that prices are quoted in."""

from decimal import Decimal

from msgspec import Struct

from api.importing import cells
from api.importing.lines import Fact
from api.importing.reading import Reading, assumed_instrument, pair_of
from domain.commands import RecordPrice
from domain.currencies import price_unit_of
from domain.errors import InvalidValue
from domain.events import PriceKind
from domain.money import to_plain


class PriceRow(Struct, gc=False):
    """A price of an instrument; a negative one is legal."""

    instrument: cells.Name
    price: cells.Number
    currency: cells.PriceCurrency
    event_time: cells.Time
    kind: PriceKind = "close"
    unit: cells.Name | None = None
    price_date: cells.Date | None = None
    source: cells.Name = ""


def price(reading: Reading, line: int, row: PriceRow) -> Fact:
    """Record a price. A date alone is the end of that day in the instrument's zone."""
    currency, unit = quoted_in(row.currency, row.unit, "unit")
    pair = pair_of(row.instrument)
    if pair is not None and currency != pair[1]:
        expected = f"{pair[1]}: the price of {row.instrument} is {pair[1]} for one {pair[0]}"
        raise InvalidValue("currency", row.currency, expected)
    event_time, precision = reading.place(row.event_time, "instrument", row.instrument)
    command = RecordPrice(
        time_precision=precision,
        price=row.price,
        currency=currency,
        unit=unit,
        kind=row.kind,
        price_date=row.price_date or row.event_time.day,
        source=row.source,
    )
    defines = assumed_instrument(row.instrument, currency)
    return reading.fact(line, row.instrument, event_time, command, defines=defines)


def quoted_in(currency: str, told_unit: str | None, field: str) -> tuple[str, Decimal]:
    """Return the main currency that a price is in, and what the price counts.

    Both may name a hundredth: currency GBX is GBP by 1/100, and so is currency GBP by unit GBX.
    Raises InvalidValue where the two do not fit each other.
    """
    main = price_unit_of(currency)
    if main is None:
        raise InvalidValue("currency", currency, "an ISO 4217 currency such as USD")
    if told_unit is None:
        return main
    named = price_unit_of(told_unit)
    if named is not None and named[0] != main[0]:
        raise InvalidValue(field, told_unit, f"a unit of {main[0]}")
    unit = named[1] if named is not None else cells.price_unit(told_unit, field)
    if main[1] not in (1, unit):
        raise InvalidValue(field, told_unit, f"{to_plain(main[1])}, which {currency} stands for")
    return main[0], unit
