"""What an account of the demo holds while its history is made, and what it orders next."""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Final

from msgspec import Struct, field

from api.demo.market import Bar
from domain import money
from domain.times import Day

FEE_A_SHARE: Final = Decimal("0.005")
LEAST_FEE: Final = Decimal("1.00")
TOO_DEAR: Final = Decimal("0.10")
"""By how much a price is told wrong where a rule has it told wrong."""
_INVESTED: Final = Fraction(98, 100)
_LEAST_HISTORY: Final = 20
_YEAR: Final = 252
_BEST: Final = 2

Seen = dict[str, list[Bar]]
"""The bars before today, by stock."""
Weights = dict[str, Fraction]


class Order(Struct, frozen=True):
    """An order of the day, whole shares; `limit` is the last close."""

    day: Day
    stock: str
    side: str
    quantity: int
    limit: Decimal

    @property
    def sign(self) -> int:
        """1 for a buy, -1 for a sale."""
        return 1 if self.side == "buy" else -1


class Book(Struct):
    """Cash in USD and whole shares."""

    account: str
    cash: Decimal = Decimal(0)
    shares: dict[str, int] = field(default_factory=dict)

    def deal(self, order: Order, quantity: int, price: Decimal) -> None:
        """Take in a deal, with its fee."""
        change = order.sign * quantity
        self.shares[order.stock] = self.shares.get(order.stock, 0) + change
        self.cash = money.add((self.cash, money.multiply(Decimal(-change), price), -fee(quantity)))


def fee(quantity: int) -> Decimal:
    """Return the commission on a deal: half a cent a share, a dollar at least."""
    return max(LEAST_FEE, money.multiply(FEE_A_SHARE, Decimal(quantity)))


def orders_towards(weights: Weights, book: Book, day: Day, seen: Seen) -> Iterator[Order]:
    """Yield orders for whole shares, sales first, as the book stands when each is asked for.

    No purchase is for more than the cash there is.
    """
    last = {stock: bars[-1].close for stock, bars in seen.items()}
    held = {stock: number for stock, number in book.shares.items() if number}
    value = Fraction(book.cash)
    value += sum(number * Fraction(last[stock]) for stock, number in held.items())
    changes = {}
    for stock in sorted({*held, *weights}):
        share = weights.get(stock, Fraction(0)) * _INVESTED * value
        changes[stock] = int(share / Fraction(last[stock])) - held.get(stock, 0)
    for stock, change in changes.items():
        if change < 0:
            yield Order(day, stock, "sell", -change, last[stock])
    for stock, change in changes.items():
        affordable = int(_INVESTED * Fraction(book.cash) / Fraction(last[stock]))
        if min(change, affordable) > 0:
            yield Order(day, stock, "buy", min(change, affordable), last[stock])


def equal_weights(seen: Seen) -> Weights:
    """Weigh all stocks that have been traded for a while alike."""
    stocks = [stock for stock, bars in seen.items() if len(bars) >= _LEAST_HISTORY]
    return {stock: Fraction(1, len(stocks)) for stock in stocks}


def momentum_weights(seen: Seen) -> Weights:
    """Weigh alike the two stocks that gained most over a year of trading days, if they did gain."""
    gains = {
        stock: Fraction(bars[-1].adjusted) / Fraction(bars[-1 - _YEAR].adjusted)
        for stock, bars in seen.items()
        if len(bars) > _YEAR
    }
    best = sorted(gains, key=lambda stock: gains[stock], reverse=True)[:_BEST]
    return {stock: Fraction(1, _BEST) for stock in best if gains[stock] > 1}
