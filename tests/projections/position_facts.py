"""Short ways to write facts, and what every book must hold."""

from collections.abc import Iterable
from decimal import Decimal

from domain.times import Instant
from projections.positions.facts import (
    MONEY,
    UNIT,
    CashLeg,
    Deal,
    Fact,
    Movement,
    NamedLot,
    PositionKey,
    UnitLeg,
)
from projections.positions.lots import Book

KEY = PositionKey("A1", "ACME", "USD")


def units(number: str | int) -> int:
    return int(Decimal(number) * UNIT)


def money(number: str | int) -> int:
    return int(Decimal(number) * MONEY)


def instant(n: int) -> Instant:
    return Instant(f"2024-01-02T14:30:00.{n:09d}Z")


def deal(n: int, quantity: str | int, price: str | int, key: PositionKey = KEY, **more) -> Deal:
    """A deal at a price, or at a told `cost`; its id is d1, d2, ..."""
    size = units(quantity)
    cost36 = size * units(price)
    if "cost" in more:
        cost36 = money(more.pop("cost"))
    return Deal(key, f"d{n}", instant(n), 0, n, size, cost36, **more)


def leg(instrument: str, quantity: str | int, *lots: NamedLot, currency: str = "USD") -> UnitLeg:
    return UnitLeg(PositionKey("A1", instrument, currency), units(quantity), lots)


def movement(n: int, reason: str, *legs: UnitLeg, cash: str | None = None) -> Movement:
    amounts = () if cash is None else (CashLeg("USD", money(cash)),)
    return Movement(f"m{n}", reason, instant(n), 0, n, legs, amounts)


def lots_of(book: Book, instrument: str = "ACME") -> list[tuple[str, Decimal, Decimal]]:
    """The open lots as (lot_id, remaining, cost) in decimals that are easy to read."""
    position = book[PositionKey("A1", instrument, "USD")]
    return [
        (lot.lot_id, Decimal(lot.remaining) / UNIT, Decimal(lot.cost36) / MONEY)
        for lot in position.lots
    ]


def check_book(book: Book) -> None:
    """Lots make up their position, all of its sign, oldest first, ids unique."""
    for position in book.values():
        lots = position.lots
        assert sum(lot.remaining for lot in lots) == position.quantity
        assert sum(lot.cost36 for lot in lots) == position.cost36
        assert all((lot.remaining > 0) == (position.quantity > 0) for lot in lots)
        assert all(0 < abs(lot.remaining) <= abs(lot.quantity) for lot in lots)
        assert [lot.opened_at for lot in lots] == sorted(lot.opened_at for lot in lots)
        assert len({lot.lot_id for lot in lots}) == len(lots)


def check_cash(book: Book, facts: Iterable[Fact]) -> None:
    """realised - fees - cost_basis is the cash that the deals made."""
    paid: dict[PositionKey, int] = {}
    for fact in facts:
        if isinstance(fact, Deal):
            paid[fact.key] = paid.get(fact.key, 0) + fact.cost36 + fact.fees36
    for key, position in book.items():
        assert position.realised36 - position.fees36 - position.cost36 == -paid.get(key, 0)
