"""Orders that are told as a FIX 4.4 session tells them, message by message.

An order is limited to the last close. If the open is as good, half of it (of two shares or more)
fills there. At 15:50, where the close is going to be

* as good as the limit, nothing is done, and the rest fills at the close;
* up to 2 % worse, the order is replaced by one limited to the close, and the rest fills there;
* worse still, what is left is cancelled.

Of every tenth order that filled in two parts the first fill was reported ten cents too dear and is
corrected after the close, the second is busted, and the rest of the order expires.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct, field

from api.demo.book import TOO_DEAR, Book, Order, fee
from api.demo.clock import settles, utc
from api.demo.market import Bar
from domain import money

_WORSE_BY: Final = Decimal("0.02")
_REVIEWED: Final = 10
_SOH: Final = "\x01"

Fields = Sequence[tuple[int, Any]]


class FixSession:
    """The messages of both sides, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._orders = 0
        self._executions = 0
        self._parted = 0

    def execute(self, book: Book, order: Order, bar: Bar) -> None:
        """Bring an order to its end on the day that it is entered."""
        self._orders += 1
        ticket = _Ticket(book.account, order, f"M{self._orders:05}", order.limit)
        self._send(ticket, "D", "09:00:00", ((11, ticket.name), *ticket.terms()))
        self._report(ticket, "0", "09:00:01")
        half = order.quantity // 2 if _is_as_good(order, bar.open) else 0
        is_given_up = not _is_as_good(order, bar.close, order.limit * _WORSE_BY)
        is_reviewed = False
        if half and not is_given_up:
            self._parted += 1
            is_reviewed = self._parted % _REVIEWED == 0
        if half:
            told = money.add((bar.open, TOO_DEAR)) if is_reviewed else bar.open
            self._fill(ticket, half, told, "09:30:00")
        if is_given_up:
            self._cancel(ticket)
        else:
            if not _is_as_good(order, bar.close):
                self._replace(ticket, bar.close)
            self._fill(ticket, ticket.leaves, bar.close, "16:00:00")
        if is_reviewed:
            self._review(ticket, bar)
        for quantity, price in ticket.fills.values():
            book.deal(order, quantity, price)

    def _replace(self, ticket: "_Ticket", limit: Decimal) -> None:
        before = ticket.chain(f"{ticket.name}R")
        self._send(ticket, "G", "15:50:00", (*before, *ticket.terms(limit)))
        self._report(ticket, "E", "15:50:01", before)
        ticket.name, ticket.limit = f"{ticket.name}R", limit
        self._report(ticket, "5", "15:50:02", before)

    def _cancel(self, ticket: "_Ticket") -> None:
        before = ticket.chain(f"{ticket.name}X")
        self._send(ticket, "F", "15:50:00", (*before, *ticket.ordered))
        self._report(ticket, "6", "15:50:01", before)
        ticket.is_over = True
        self._report(ticket, "4", "15:50:02", before)

    def _review(self, ticket: "_Ticket", bar: Bar) -> None:
        """Correct the first of two fills, bust the second, and let the order expire."""
        (first, (quantity, _)), (second, busted) = ticket.fills.items()
        ticket.fills[first] = quantity, bar.open
        self._report(ticket, "G", "16:30:00", ((19, first), *_deal(ticket, quantity, bar.open)))
        del ticket.fills[second]
        self._report(ticket, "H", "16:45:00", ((19, second), (32, busted[0]), (31, busted[1])))
        ticket.is_over = True
        self._report(ticket, "C", "17:00:00")

    def _fill(self, ticket: "_Ticket", quantity: int, price: Decimal, clock: str) -> None:
        ticket.fills[self._execution(1)] = quantity, price
        self._report(ticket, "F", clock, _deal(ticket, quantity, price))

    def _execution(self, ahead: int = 0) -> str:
        return f"X{self._executions + ahead:05}"

    def _report(self, ticket: "_Ticket", exec_type: str, clock: str, more: Fields = ()) -> None:
        self._executions += 1
        named = () if any(tag == 11 for tag, _ in more) else ((11, ticket.name),)
        fields = (
            (37, f"V{self._orders:05}"),
            *named,
            (17, self._execution()),
            (150, exec_type),
            (39, ticket.status(exec_type)),
            *ticket.terms(),
            (14, ticket.filled),
            (151, ticket.leaves),
            (6, ticket.average),
            *more,
        )
        self._send(ticket, "8", clock, fields)

    def _send(self, ticket: "_Ticket", kind: str, clock: str, fields: Fields) -> None:
        number, time = len(self.lines) + 1, utc(ticket.order.day, clock)
        sides = ("DEMO", "BROKER") if kind in "DFG" else ("BROKER", "DEMO")
        head = ((35, kind), (49, sides[0]), (56, sides[1]), (34, number), (52, time))
        self.lines.append(_message((*head, (1, ticket.account), *fields, (60, time))))


class _Ticket(Struct):
    """An order on its day: the name it goes by (ClOrdID), and its fills by ExecID."""

    account: str
    order: Order
    name: str
    limit: Decimal
    fills: dict[str, tuple[int, Decimal]] = field(default_factory=dict)
    is_over: bool = False

    @property
    def ordered(self) -> Fields:
        """What is ordered, but for its limit."""
        order = self.order
        return (
            (55, order.stock),
            (15, "USD"),
            (167, "CS"),
            (54, 1 if order.side == "buy" else 2),
            (38, order.quantity),
        )

    def terms(self, limit: Decimal | None = None) -> Fields:
        """Return what is ordered, at another limit where one is told."""
        return (*self.ordered, (40, 2), (44, limit or self.limit), (59, 0))

    def chain(self, name: str) -> Fields:
        """Return the fields that name a request and the order it is about."""
        return (11, name), (41, self.name)

    def status(self, exec_type: str) -> str:
        """Return OrdStatus: what is pending or over comes before what is filled."""
        if exec_type in "6E4C":
            return exec_type
        if not self.filled:
            return "0"
        return "1" if self.leaves else "2"

    @property
    def filled(self) -> int:
        """Shares filled so far."""
        return sum(quantity for quantity, _ in self.fills.values())

    @property
    def leaves(self) -> int:
        """Shares that may still be filled."""
        return 0 if self.is_over else self.order.quantity - self.filled

    @property
    def average(self) -> Decimal:
        """The average price of what is filled, 0 for nothing."""
        if not self.filled:
            return money.ZERO
        paid = [money.multiply(Decimal(each), price) for each, price in self.fills.values()]
        return money.average(money.add(paid), Decimal(self.filled))


def _deal(ticket: _Ticket, quantity: int, price: Decimal) -> Fields:
    day = ticket.order.day
    return (
        (32, quantity),
        (31, price),
        (75, day.replace("-", "")),
        (64, settles(day).replace("-", "")),
        (12, fee(quantity)),
        (13, 3),
    )


def _is_as_good(order: Order, price: Decimal, worse_by: Decimal = money.ZERO) -> bool:
    return order.sign * (price - order.limit) <= worse_by


def _message(fields: Fields) -> str:
    """Return a message with its length and checksum, fields ended by | for people to read."""
    body = "".join(f"{tag}={value}{_SOH}" for tag, value in fields)
    sent = f"8=FIX.4.4{_SOH}9={len(body)}{_SOH}{body}"
    return f"{sent}10={sum(sent.encode()) % 256:03}{_SOH}".replace(_SOH, "|")
