"""Real daily prices of five stocks, 2000 to 2013, and the splits and dividends they tell of.

The file is in the wheel `bokeh-sampledata`. Its closes are those of the day, as traded; its
adjusted closes follow a holder's return. Where the two part from one day to the next something
happened: on a split by its ratio, on a day ex dividend by `1 - dividend / last close`. Dividends
found so are rounded to the cent, and may be a few cents off what was paid.
"""

import csv
import gzip
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from importlib.resources import files
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Final

from msgspec import Struct

from domain.times import Day, parse_day

_LEAST_SPLIT: Final = Fraction(3, 2)
_LEAST_DIVIDEND: Final = Fraction(1, 1000)
"""Of the last close: less is rounding of the adjusted closes."""
_CENT: Final = Decimal("0.01")


class Bar(Struct, frozen=True):
    """A stock's day: prices as traded, in USD a share, and `adjusted` for splits and dividends."""

    day: Day
    open: Decimal
    close: Decimal
    adjusted: Decimal


class Market(Struct, frozen=True):
    """Bars by stock, in order of days; splits (new shares for one) and dividends by their day."""

    bars: dict[str, list[Bar]]
    splits: dict[Day, dict[str, int]]
    dividends: dict[Day, dict[str, Decimal]]

    @property
    def days(self) -> list[Day]:
        """All days on which a stock was traded."""
        return sorted({bar.day for bars in self.bars.values() for bar in bars})


def read_market() -> Market:
    """Read the prices out of the wheel; raises ModuleNotFoundError where it is not installed."""
    packed = files("bokeh_sampledata").joinpath("_data", "stocks.csv.gz").read_bytes()
    return market_of(csv.DictReader(gzip.decompress(packed).decode().splitlines()))


def market_of(rows: Iterable[dict[str, str]]) -> Market:
    """Return the market that rows tell of: one stock after another, each in order of days."""
    bars = {stock: list(map(_bar, own)) for stock, own in groupby(rows, itemgetter("Ticker"))}
    market = Market(bars, {}, {})
    for stock, own in bars.items():
        for before, bar in pairwise(own):
            _find_action(market, stock, before, bar)
    return market


def _bar(row: dict[str, str]) -> Bar:
    return Bar(
        parse_day(row["Date"], "Date"),
        Decimal(row["Open"]),
        Decimal(row["Close"]),
        Decimal(row["Adj Close"]),
    )


def _find_action(market: Market, stock: str, before: Bar, bar: Bar) -> None:
    told = Fraction(bar.adjusted) / Fraction(before.adjusted)
    jump = told / (Fraction(bar.close) / Fraction(before.close))
    if jump >= _LEAST_SPLIT:
        market.splits.setdefault(bar.day, {})[stock] = round(jump)
        return
    dividend = 1 - 1 / jump
    if dividend >= _LEAST_DIVIDEND:
        cents = round(Fraction(before.close) * dividend / Fraction(_CENT))
        market.dividends.setdefault(bar.day, {})[stock] = cents * _CENT
