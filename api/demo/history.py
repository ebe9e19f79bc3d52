"""Thirteen years of trading in two accounts: made up, by a rule, on real prices.

The prices are real: daily opens and closes of AAPL, FB, GOOG, IBM and MSFT from 1 March 2000 to
1 March 2013; so are the days of splits and dividends (see `market`). **The trades are made up.**
There is no chance in them, so that every run makes the same history:

* Two accounts of portfolio DEMO begin with 250,000 USD each, and trade whole shares on the first
  trading day of a month, by what was known the evening before. 2 % stays in cash.
* DEMO-EQUAL holds all stocks at equal weight. Its orders and deals come in files (`deals_file`).
* DEMO-MOMENTUM holds the two stocks that gained most over the last 252 trading days, dividends
  included, if they did gain. Its orders come as messages of a FIX session (`fix_session`).
* Each fill costs half a cent a share, a dollar at least. Trades settle on the third weekday.
* A split is booked as units that move, a dividend as cash, both on their ex-date: the data does
  not know when dividends were paid.
"""

from collections.abc import Iterable
from decimal import Decimal
from itertools import groupby
from typing import Final

from msgspec import Struct

from api.demo.book import Book, Order, Seen, equal_weights, momentum_weights, orders_towards
from api.demo.clock import ZONE, at
from api.demo.deals_file import DealsFile, Row
from api.demo.fix_session import FixSession
from api.demo.market import Bar, Market
from domain import money
from domain.times import Day

PORTFOLIO: Final = "DEMO"
EQUAL: Final = "DEMO-EQUAL"
MOMENTUM: Final = "DEMO-MOMENTUM"
SOURCE: Final = "bokeh-sampledata"
_DEPOSIT: Final = Decimal(250_000)
_STOCKS: Final = {
    "AAPL": ("XNAS", "Information Technology"),
    "FB": ("XNAS", "Communication Services"),
    "GOOG": ("XNAS", "Communication Services"),
    "IBM": ("XNYS", "Information Technology"),
    "MSFT": ("XNAS", "Information Technology"),
}


class History(Struct, frozen=True):
    """Rows by file, in the order of import, and the lines of the FIX file."""

    tables: dict[str, list[Row]]
    messages: list[str]


def make_history(market: Market) -> History:
    """Return the history that the rule makes of prices; the same prices make the same history."""
    maker = _Maker(market)
    for _, days in groupby(market.days, lambda day: day[:7]):
        maker.live(days)
    return maker.history()


class _Maker:
    """Lives through the days, one after another."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._today = {(stock, bar.day): bar for stock, bars in market.bars.items() for bar in bars}
        self._seen: Seen = {}
        self._equal, self._momentum = self._books = Book(EQUAL), Book(MOMENTUM)
        self._files, self._session = DealsFile(), FixSession()
        self._actions: list[Row] = []
        self._movements: list[Row] = []
        self._cash: list[Row] = []
        for book in self._books:
            self._pay(book, "deposit", _DEPOSIT, market.days[0], "DEPOSIT")

    def live(self, days: Iterable[Day]) -> None:
        """Live through the trading days of a month."""
        for number, day in enumerate(days):
            for stock, ratio in self._market.splits.get(day, {}).items():
                self._split(stock, ratio, day)
            for stock, amount in self._market.dividends.get(day, {}).items():
                self._dividend(stock, amount, day)
            if not number and self._seen:
                self._trade(day)
            for stock in self._market.bars:
                bar = self._today.get((stock, day))
                if bar is not None:
                    self._seen.setdefault(stock, []).append(bar)

    def _trade(self, day: Day) -> None:
        for order in orders_towards(equal_weights(self._seen), self._equal, day, self._seen):
            self._files.execute(self._equal, order, self._bar(order))
        for order in orders_towards(momentum_weights(self._seen), self._momentum, day, self._seen):
            self._session.execute(self._momentum, order, self._bar(order))

    def _bar(self, order: Order) -> Bar:
        return self._today[order.stock, order.day]

    def _split(self, stock: str, ratio: int, day: Day) -> None:
        action_id = f"SPLIT-{stock}-{day}"
        self._announce(stock, action_id, "split", day, ratio_new=ratio, ratio_old=1)
        for book in self._books:
            held = book.shares.get(stock, 0)
            if not held:
                continue
            book.shares[stock] = held * ratio
            for quantity in (-held, held * ratio):
                self._movements.append(
                    {
                        "account": book.account,
                        "movement_id": action_id,
                        "reason": "corporate_action",
                        "event_time": at(day, "00:00:00"),
                        "instrument": stock,
                        "quantity": quantity,
                        "cost_currency": "USD",
                        "action_id": action_id,
                    }
                )

    def _dividend(self, stock: str, amount: Decimal, day: Day) -> None:
        action_id = f"DIVIDEND-{stock}-{day}"
        self._announce(stock, action_id, "cash_dividend", day, amount=amount, currency="USD")
        for book in self._books:
            if held := book.shares.get(stock, 0):
                paid = money.multiply(Decimal(held), amount)
                self._pay(book, "dividend", paid, day, action_id, stock)

    def _announce(self, stock: str, action_id: str, kind: str, day: Day, **told: object) -> None:
        row = dict.fromkeys(("ratio_new", "ratio_old", "amount", "currency"), "") | told
        named = {"instrument": stock, "action_id": action_id, "kind": kind, "ex_date": day}
        self._actions.append(named | row)

    def _pay(
        self, book: Book, kind: str, amount: Decimal, day: Day, cash_id: str, stock: str = ""
    ) -> None:
        book.cash = money.add((book.cash, amount))
        self._cash.append(
            {
                "account": book.account,
                "kind": kind,
                "amount": amount,
                "currency": "USD",
                "event_time": day,
                "cash_id": cash_id,
                "instrument": stock,
                "action_id": cash_id if stock else "",
            }
        )

    def history(self) -> History:
        """Return what has come of it."""
        bars = self._market.bars
        tables = {
            "portfolios": [{"portfolio": PORTFOLIO}],
            "accounts": [_account(book, self._market.days[0]) for book in self._books],
            "instruments": [_instrument(stock, own) for stock, own in bars.items()],
            "corporate_actions": self._actions,
            "cash": self._cash,
            "orders": self._files.orders,
            "deals": self._files.deals,
            "movements": self._movements,
            "prices": [_price(stock, bar) for stock, own in bars.items() for bar in own],
        }
        return History(tables, self._session.lines)


def _account(book: Book, day: Day) -> Row:
    return {
        "account": book.account,
        "base_currency": "USD",
        "from": day,
        "portfolio": PORTFOLIO,
        "method": "fifo",
        "time_zone": ZONE,
        "actions": "booked",
    }


def _instrument(stock: str, bars: list[Bar]) -> Row:
    mic, sector = _STOCKS[stock]
    return {
        "instrument": stock,
        "kind": "equity",
        "currency": "USD",
        "from": bars[0].day,
        "symbol": stock,
        "mic": mic,
        "time_zone": ZONE,
        "sector": sector,
        "country": "US",
    }


def _price(stock: str, bar: Bar) -> Row:
    return {
        "instrument": stock,
        "price": bar.close,
        "currency": "USD",
        "event_time": bar.day,
        "source": SOURCE,
    }
