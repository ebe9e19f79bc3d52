"""One cell of a table as a value: what each column may hold.

Every function takes a cell's text, which is not empty, and the name of its column, and raises
InvalidValue. The names in capitals annotate the fields of the rows in `rows_*.py`.
"""

import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from msgspec import Struct

from domain import currencies, identifiers, times
from domain.errors import InvalidValue
from domain.events import LotPick
from domain.money import parse_decimal
from domain.times import Day, Instant, TimePrecision

Parser = Callable[[str, str], Any]

_NUMBER: Final = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9})?\s*", re.ASCII)
_LONGEST_NUMBER: Final = 128
_EXPECTED_NUMBER: Final = (
    "a plain decimal number such as -1234.50, of at most 38 digits, 18 of them after the point"
)
_UTC_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ]((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:\.(\d{1,9}))?Z", re.ASCII
)
_LONGEST_TIME: Final = 64
_EXPECTED_TIME: Final = (
    "an RFC 3339 time with a zone such as 2024-01-02T14:30:00Z, or a date, in 1678 to 2261"
)
_PRECISIONS: Final[tuple[TimePrecision, ...]] = ("second", "milli", "micro", "nano")
_LONGEST_NOTE: Final = 100_000
_PRICE_UNITS: Final = {"percent": Decimal("0.01"), "1/100": Decimal("0.01")}


class Moment(Struct, frozen=True):
    """A time as told: an instant, or a day alone."""

    instant: Instant | None
    day: Day | None
    precision: TimePrecision


def number(text: str, field: str) -> Decimal:
    """Return a number at the scale it is written with."""
    try:
        if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text) is not None:
            return parse_decimal(text, field)
    except InvalidValue:
        pass
    raise InvalidValue(field, text, _EXPECTED_NUMBER)


def positive(text: str, field: str) -> Decimal:
    """Return a number above zero."""
    value = _number(text, field)
    if value <= 0:
        raise InvalidValue(field, text, "a number above zero")
    return value


def nonzero(text: str, field: str) -> Decimal:
    """Return a number of either sign that is not zero."""
    value = _number(text, field)
    if not value:
        raise InvalidValue(field, text, "a number other than zero")
    return value


def fraction(text: str, field: str) -> Decimal:
    """Return a number from 0 to 1."""
    value = _number(text, field)
    if not 0 <= value <= 1:
        raise InvalidValue(field, text, "a number from 0 to 1")
    return value


def price_unit(text: str, field: str) -> Decimal:
    """Return what a price counts: 1, percent or 1/100 (both 0.01), or a number as told."""
    return _PRICE_UNITS[text] if text in _PRICE_UNITS else positive(text, field)


def day(text: str, field: str) -> Day:
    """Return a date."""
    if len(text) > _LONGEST_TIME:
        raise InvalidValue(field, text, "a date such as 2024-01-02, in the years 1678 to 2261")
    return times.parse_day(text, field)


def time_zone(text: str, field: str) -> str:
    """Return the name of an IANA time zone."""
    times.zone(text, field)
    return text


def price_currency(text: str, field: str) -> str:
    """Return a currency, or a hundredth of one that prices are quoted in, such as GBX."""
    if currencies.price_unit_of(text) is None:
        expected = "an ISO 4217 currency such as USD, or a unit of prices such as GBX"
        raise InvalidValue(field, text, expected)
    return text


def tags(text: str, field: str) -> tuple[str, ...]:
    """Return the tags of a text that has semicolons between them."""
    return tuple(identifiers.check_id(tag.strip(), field) for tag in text.split(";") if tag.strip())


def lots(text: str, field: str) -> tuple[LotPick, ...]:
    """Return which lots a sale takes: `id:quantity;id:quantity`. An id may hold colons."""
    picks: dict[str, LotPick] = {}
    for part in text.split(";"):
        lot, colon, quantity = part.rpartition(":")
        if not colon or not quantity or lot in picks:
            raise InvalidValue(field, text, "lots as id:quantity;id:quantity, each lot once")
        picks[lot] = LotPick(
            lot=identifiers.check_id(lot, field), quantity=positive(quantity, field)
        )
    return tuple(picks.values())


def note(text: str, field: str) -> str:
    """Return free text; it may hold line breaks and tabs, and no other control characters."""
    if len(text) > _LONGEST_NOTE:
        raise InvalidValue(field, text, f"a text of at most {_LONGEST_NOTE} characters")
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text.translate(_BREAKS)):
        raise InvalidValue(field, text, "a text without control characters but line breaks")
    return text


_BREAKS: Final = str.maketrans("", "", "\r\n\t")


def one_of(literal: Any) -> Parser:
    """Return the parser of a Literal's values."""
    values: dict[str, str] = {value: value for value in get_args(literal)}
    expected = f"one of {', '.join(values)}"

    def choice(text: str, field: str) -> str:
        try:
            return values[text]
        except KeyError:
            raise InvalidValue(field, text, expected) from None

    return choice


def moment_in(zone_name: str | None) -> Parser:
    """Return the parser of times; those without a zone are in `zone_name`, an error if None."""

    def moment(text: str, field: str) -> Moment:
        told = _UTC_TIME.fullmatch(text)
        if told is not None:
            date, clock, digits = told.groups("")
            instant = Instant(f"{_day(date, field)}T{clock}.{digits:0<9}Z")
            return Moment(instant, None, _PRECISIONS[(len(digits) + 2) // 3])
        return _uncommon_moment(text, field, zone_name)

    return moment


def _uncommon_moment(text: str, field: str, zone_name: str | None) -> Moment:
    if len(text) > _LONGEST_TIME:
        raise InvalidValue(field, text, _EXPECTED_TIME)
    if times.is_day(text):
        return Moment(None, times.parse_day(text, field), "day")
    try:
        instant = times.parse_instant(text, field, zone_name)
    except InvalidValue as error:
        if error.field != field:
            raise
        raise InvalidValue(field, text, _EXPECTED_TIME) from None
    except OverflowError:
        raise InvalidValue(field, text, _EXPECTED_TIME) from None
    return Moment(instant, None, times.precision_of(text))


def _zoned_moment(text: str, field: str) -> Moment:
    return _uncommon_moment(text, field, None)


# A file repeats its accounts, prices, dates. What is kept is short: ids of at most 128 characters.
_number = lru_cache(maxsize=65536)(number)
_positive = lru_cache(maxsize=65536)(positive)
_nonzero = lru_cache(maxsize=65536)(nonzero)
_day = lru_cache(maxsize=4096)(day)
_name = lru_cache(maxsize=65536)(identifiers.check_id)

Id = Annotated[str, identifiers.check_id]
"""An id that is another in each row."""
Name = Annotated[str, _name]
"""An id that rows share."""
Number = Annotated[Decimal, _number]
Positive = Annotated[Decimal, _positive]
Nonzero = Annotated[Decimal, _nonzero]
Fraction = Annotated[Decimal, fraction]
Currency = Annotated[str, currencies.check_currency]
PriceCurrency = Annotated[str, price_currency]
Date = Annotated[Day, _day]
Time = Annotated[Moment, _zoned_moment]
Zone = Annotated[str, time_zone]
Tags = Annotated[tuple[str, ...], tags]
Lots = Annotated[tuple[LotPick, ...], lots]
Note = Annotated[str, note]


def parser_of(annotation: Any, zone_name: str | None) -> Parser:
    """Return the parser that a row's field is annotated with, alone or beside None.

    Fields of a Literal type take its values; times without a zone are read in `zone_name`.
    """
    for part in (annotation, *get_args(annotation)):
        if get_origin(part) is Literal:
            return one_of(part)
        if get_origin(part) is Annotated:
            parser: Parser = part.__metadata__[0]
            return moment_in(zone_name) if parser is _zoned_moment else parser
    raise TypeError(f"{annotation} does not say how a cell is read")
