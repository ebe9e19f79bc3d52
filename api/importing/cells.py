"""One cell of a table as a value: what each column may hold.

Every function takes a cell's text, which is not empty, and the name of its column, and raises
InvalidValue. The names in capitals annotate the fields of the rows in `rows_*.py`.
"""

import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from msgspec import Struct

from domain import currencies, identifiers, times
from domain.errors import InvalidValue
from domain.events import LotPick
from domain.money import parse_decimal
from domain.times import Day, Instant, TimePrecision

Parser = Callable[[str, str], Any]

_NUMBER: Final = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9})?\s*", re.ASCII)
_USUAL_NUMBER: Final = re.compile(r"-?\d{1,20}(?:\.\d{1,18})?", re.ASCII)
_LONGEST_NUMBER: Final = 128
_EXPECTED_NUMBER: Final = (
    "a plain decimal number such as -1234.50, of at most 38 digits, 18 of them after the point"
)
_UTC_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?Z", re.ASCII
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
    if _USUAL_NUMBER.fullmatch(text) is not None:
        return Decimal(text)
    try:
        if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text) is not None:
            return parse_decimal(text, field)
    except InvalidValue:
        pass
    raise InvalidValue(field, text, _EXPECTED_NUMBER)


def positive(text: str, field: str) -> Decimal:
    """Return a number above zero."""
    value = number(text, field)
    if value <= 0:
        raise InvalidValue(field, text, "a number above zero")
    return value


def nonzero(text: str, field: str) -> Decimal:
    """Return a number of either sign that is not zero."""
    value = number(text, field)
    if not value:
        raise InvalidValue(field, text, "a number other than zero")
    return value


def fraction(text: str, field: str) -> Decimal:
    """Return a number from 0 to 1."""
    value = number(text, field)
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


def _uncommon_moment(text: str, field: str, zone_name: str | None) -> Moment:
    if len(text) > _LONGEST_TIME:
        raise InvalidValue(field, text, _EXPECTED_TIME)
    if times.is_day(text):
        return Moment(None, times.parse_day(text, field), "day")
    try:
        instant = times.parse_instant(text, field, zone_name)
    except InvalidValue as error:
        if error.field != field or error.expected != times.EXPECTED_TIME:
            raise
        raise InvalidValue(field, text, _EXPECTED_TIME) from None
    except OverflowError:
        raise InvalidValue(field, text, _EXPECTED_TIME) from None
    return Moment(instant, None, times.precision_of(text))


def _zoned_moment(text: str, field: str) -> Moment:
    return _uncommon_moment(text, field, None)


Id = Annotated[str, identifiers.check_id]
"""An id that is another in each row."""
Name = Annotated[str, identifiers.check_id, "shared"]
"""An id that rows share."""
Number = Annotated[Decimal, number, "shared"]
Positive = Annotated[Decimal, positive, "shared"]
Nonzero = Annotated[Decimal, nonzero, "shared"]
Fraction = Annotated[Decimal, fraction]
Currency = Annotated[str, currencies.check_currency, "shared"]
PriceCurrency = Annotated[str, price_currency, "shared"]
Date = Annotated[Day, day, "shared"]
Time = Annotated[Moment, _zoned_moment]
Zone = Annotated[str, time_zone]
Tags = Annotated[tuple[str, ...], tags, "shared"]
Lots = Annotated[tuple[LotPick, ...], lots]
Note = Annotated[str, note]


class _Shared(dict[str, Any]):
    """The values of a column that repeats itself, each parsed once; it forgets all when full.

    It is a dictionary because reading one is a third of the cost of calling a cached function.
    """

    def __init__(self, parse: Parser, column: str) -> None:
        super().__init__()
        self._parse = parse
        self._column = column

    def __missing__(self, text: str) -> Any:
        value = self._parse(text, self._column)
        if len(text) <= _LONGEST_SHARED:
            if len(self) == _MOST_SHARED:
                self.clear()
            self[text] = value
        return value


_MOST_SHARED: Final = 65536
_LONGEST_SHARED: Final = 128


def _moment_in(zone_name: str | None, column: str) -> Callable[[str], Moment]:
    """Return the parser of a column of times; the usual form of RFC 3339 takes the short way."""
    days = _Shared(day, column)

    def moment(text: str) -> Moment:
        if _UTC_TIME.fullmatch(text) is None:
            return _uncommon_moment(text, column, zone_name)
        digits = text[20:-1]
        instant = Instant(f"{days[text[:10]]}T{text[11:19]}.{digits:0<9}Z")
        return Moment(instant, None, _PRECISIONS[(len(digits) + 2) // 3])

    return moment


def cell_parser(annotation: Any, column: str, zone_name: str | None) -> Callable[[str], Any]:
    """Return the parser of a column, by what its field in the row is annotated with.

    Fields of a Literal type take its values; times without a zone are read in `zone_name`.
    """
    for part in (annotation, *get_args(annotation)):
        if get_origin(part) is Literal:
            return _Shared(one_of(part), column).__getitem__
        if get_origin(part) is Annotated:
            parse, *shared = part.__metadata__
            if shared:
                return _Shared(parse, column).__getitem__
            if parse is _zoned_moment:
                return _moment_in(zone_name, column)
            return partial(parse, field=column)
    raise TypeError(f"{annotation} does not say how a cell is read")
