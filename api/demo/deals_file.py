"""Orders that are told as a broker's files tell them: rows of orders, rows of deals.

Where two of the last three rules meet in a deal, the upper one is followed.

| rule | what the file of deals shows of it |
| --- | --- |
| an order of 100 shares or more | fills half at the open and the rest at the close; else whole |
| every 35th deal | is told ten cents too dear, and corrected |
| every 40th deal | is told twice, and the second one busted |
| every 30th deal | is told a month late |
"""

from decimal import Decimal
from typing import Any, Final

from api.demo.book import TOO_DEAR, Book, Order, fee
from api.demo.clock import at, settles
from api.demo.market import Bar
from domain import money

_PARTED_FROM: Final = 100
_CORRECTED, _DOUBLED, _LATE = 35, 40, 30

Row = dict[str, Any]


class DealsFile:
    """The rows that a broker's files come to hold; deals in the order they are told in."""

    def __init__(self) -> None:
        self.orders: list[Row] = []
        self._deals: list[tuple[str, int, Row]] = []

    def execute(self, book: Book, order: Order, bar: Bar) -> None:
        """Fill a market order of the day, and write down what is told of it."""
        order_id = f"E{len(self.orders) + 1:05}"
        self.orders.append(
            {
                "account": book.account,
                "order_id": order_id,
                "instrument": order.stock,
                "side": order.side,
                "quantity": order.quantity,
                "order_type": "market",
                "event_time": at(order.day, "09:00:00"),
                "strategy": "equal-weight",
            }
        )
        half = order.quantity // 2 if order.quantity >= _PARTED_FROM else 0
        if half:
            self._deal(book, order, order_id, half, bar.open, "09:30:00")
        self._deal(book, order, order_id, order.quantity - half, bar.close, "16:00:00")

    def _deal(
        self, book: Book, order: Order, order_id: str, quantity: int, price: Decimal, clock: str
    ) -> None:
        book.deal(order, quantity, price)
        number = len(self._deals) + 1
        row = {
            "account": book.account,
            "deal_id": f"D{number:05}",
            "action": "new",
            "ref_deal_id": "",
            "order_id": order_id,
            "instrument": order.stock,
            "side": order.side,
            "quantity": quantity,
            "price": price,
            "currency": "USD",
            "fee": fee(quantity),
            "event_time": at(order.day, clock),
            "settlement_date": settles(order.day),
        }
        month = order.day[:7]
        if number % _CORRECTED == 0:
            self._tell(month, row | {"price": money.add((price, TOO_DEAR))})
            self._tell(month, row | _change(row, "correct", "C"))
        elif number % _DOUBLED == 0:
            self._tell(month, row)
            self._tell(month, row | {"deal_id": f"{row['deal_id']}X"})
            self._tell(month, _bust(row, f"{row['deal_id']}X"))
        else:
            self._tell(_month_after(month) if number % _LATE == 0 else month, row)

    def _tell(self, month: str, row: Row) -> None:
        self._deals.append((month, len(self._deals), row))

    @property
    def deals(self) -> list[Row]:
        """The rows of deals, in the order they are told in."""
        return [row for _, _, row in sorted(self._deals, key=lambda told: told[:2])]


def _change(row: Row, action: str, suffix: str) -> Row:
    return {
        "deal_id": f"{row['deal_id']}{suffix}",
        "action": action,
        "ref_deal_id": row["deal_id"],
    }


def _bust(row: Row, deal_id: str) -> Row:
    kept = ("account", "order_id", "event_time")
    told = dict.fromkeys(row, "") | {name: row[name] for name in kept}
    return told | {"deal_id": f"{deal_id}B", "action": "bust", "ref_deal_id": deal_id}


def _month_after(month: str) -> str:
    year, number = map(int, month.split("-"))
    return f"{year + number // 12:04}-{number % 12 + 1:02}"
