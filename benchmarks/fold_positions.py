"""How fast deals become FIFO positions and lots, beside what others do with the same fills.

Fills are made by a seeded rule: 1,000 a position, long only (beancount books no short by FIFO, and
NautilusTrader leaves crossings of zero to its engine). Every side gets them in the shape it folds
(integer columns; fill objects; transactions), made before the clock starts. The best of a few runs
counts. NautilusTrader keeps an average price in floats and no lots; its Rust position is called
from Python, as its users do.
"""

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import Row, best_seconds, skipped
from domain.times import Instant
from projections.positions.facts import UNIT, Deal, PositionKey
from projections.positions.kernel import KernelResult, fold_columns
from projections.positions.reference import fold

FILLS: Final = 1_000
POSITIONS: Final = 2_000
CENT: Final = 10**16
Fills = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Signed sizes and prices in cents, both (positions, FILLS)."""
Columns = tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]


def long_fills(positions: int, seed: int = 1) -> Fills:
    """Return sizes whose running sums never come to 0 and prices in cents, (positions, FILLS)."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 500, (positions, FILLS)) * rng.choice([-1, 1], (positions, FILLS))
    sizes[:, 0] = np.abs(sizes[:, 0])
    held = sizes[:, 0].copy()
    for n in range(1, FILLS):
        sizes[:, n] = np.where(held + sizes[:, n] > 0, sizes[:, n], np.abs(sizes[:, n]))
        held += sizes[:, n]
    return sizes.astype(np.int64), rng.integers(9_000, 11_000, sizes.shape)


def mixed_columns(fills: Fills, seed: int = 2) -> Columns:
    """Return the fills of all positions in one trade order."""
    rng = np.random.default_rng(seed)
    sizes, prices = fills
    positions = len(sizes)
    index = np.tile(np.arange(positions, dtype=np.int32), FILLS)
    for n in range(FILLS):
        rng.shuffle(index[n * positions : (n + 1) * positions])
    turn = np.repeat(np.arange(FILLS), positions)
    return index, sizes[index, turn], prices[index, turn]


def kernel_rate(columns: Columns) -> float:
    """Return deals a second through the compiled fold, lots and costs included."""
    fold_columns(*columns)
    return len(columns[0]) / best_seconds(lambda: fold_columns(*columns), 7)


def reference_rate(columns: Columns) -> float:
    """Return deals a second through the reference fold; its result must be the kernel's."""
    index, quantity, price = columns[0][:200_000], columns[1][:200_000], columns[2][:200_000]
    keys = [PositionKey("A1", f"I{n}", "USD") for n in range(int(index.max()) + 1)]
    when = Instant("2024-01-02T14:30:00.000000000Z")
    deals = [
        Deal(keys[p], f"d{n}", when, 0, n, units * UNIT, units * UNIT * cents * CENT)
        for n, (p, units, cents) in enumerate(np.column_stack((index, quantity, price)).tolist())
    ]
    book, result = fold(deals), fold_columns(index, quantity, price)
    assert isinstance(result, KernelResult)
    realised = dict(zip(keys, result.realised(), strict=False))
    assert all(book[key].realised36 == realised[key] * UNIT * CENT for key in book)
    return len(deals) / best_seconds(lambda: fold(deals))


def one_account_us(columns: Columns) -> float:
    """Return microseconds to fold one account of 1,000 deals in ten positions from the start."""
    index = np.arange(FILLS, dtype=np.int32) % 10
    quantity, price = columns[1][:FILLS].copy(), columns[2][:FILLS].copy()
    return best_seconds(lambda: fold_columns(index, quantity, price), 200) * 1e6


def rust_rate(fills: Fills) -> float:
    """Return fills a second through NautilusTrader's Rust position, called from Python."""
    from nautilus_trader.core import nautilus_pyo3 as nt
    from nautilus_trader.test_kit.rust.identifiers_pyo3 import TestIdProviderPyo3 as Ids
    from nautilus_trader.test_kit.rust.instruments_pyo3 import TestInstrumentProviderPyo3

    instrument = TestInstrumentProviderPyo3.aapl_equity()
    sides = {True: nt.OrderSide.BUY, False: nt.OrderSide.SELL}

    def fill(n: int, size: int, cents: int) -> Any:
        return nt.OrderFilled(
            Ids.trader_id(), Ids.strategy_id(), instrument.id, Ids.client_order_id(),
            Ids.venue_order_id(), Ids.account_id(), nt.TradeId(str(n)), sides[size > 0],
            nt.OrderType.LIMIT, nt.Quantity.from_int(abs(size)),
            nt.Price.from_str(f"{cents / 100:.2f}"), nt.Currency.from_str("USD"),
            nt.LiquiditySide.MAKER, nt.UUID4(), n, n, False, nt.PositionId("P-1"), None,
        )  # fmt: skip

    return applied_rate(made(fills, fill), fills, lambda first: nt.Position(instrument, first))


def cython_rate(fills: Fills) -> float:
    """Return fills a second through NautilusTrader's Cython position."""
    from nautilus_trader.core.uuid import UUID4
    from nautilus_trader.model.currencies import USD
    from nautilus_trader.model.enums import LiquiditySide, OrderSide, OrderType
    from nautilus_trader.model.events import OrderFilled
    from nautilus_trader.model.identifiers import PositionId, TradeId
    from nautilus_trader.model.objects import Money, Price, Quantity
    from nautilus_trader.model.position import Position
    from nautilus_trader.test_kit.providers import TestInstrumentProvider
    from nautilus_trader.test_kit.stubs.identifiers import TestIdStubs as Ids

    instrument = TestInstrumentProvider.equity()

    def fill(n: int, size: int, cents: int) -> Any:
        return OrderFilled(
            Ids.trader_id(), Ids.strategy_id(), instrument.id, Ids.client_order_id(),
            Ids.venue_order_id(), Ids.account_id(), TradeId(str(n)), PositionId("P-1"),
            OrderSide.BUY if size > 0 else OrderSide.SELL, OrderType.LIMIT,
            Quantity.from_int(abs(size)), Price.from_str(f"{cents / 100:.2f}"),
            USD, Money(0, USD), LiquiditySide.MAKER, UUID4(), n, n,
        )  # fmt: skip

    return applied_rate(made(fills, fill), fills, lambda first: Position(instrument, first))


def made(fills: Fills, make: Callable[[int, int, int], Any]) -> list[list[Any]]:
    """Return an object for each fill, by position, from its number, size and price in cents."""
    both = zip(fills[0].tolist(), fills[1].tolist(), strict=True)
    return [[make(n, *pair) for n, pair in enumerate(zip(*row, strict=True))] for row in both]


def applied_rate(objects: list[list[Any]], fills: Fills, start: Callable[[Any], Any]) -> float:
    """Return fills a second when each position is opened by its first and applies the others."""

    def run() -> list[Any]:
        positions = []
        for first, *others in objects:
            position = start(first)
            for fill in others:
                position.apply(fill)
            positions.append(position)
        return positions

    assert [float(p.signed_qty) for p in run()] == fills[0].sum(axis=1).tolist()
    return fills[0].size / best_seconds(run)


def beancount_rate(fills: Fills) -> float:
    """Return deals a second through beancount's FIFO booking of whole transactions."""
    from beancount.core.amount import Amount
    from beancount.core.data import Booking, Posting, Transaction, new_metadata
    from beancount.core.number import MISSING
    from beancount.core.position import CostSpec
    from beancount.parser.booking_full import book
    from beancount.parser.options import OPTIONS_DEFAULTS

    def transaction(n: int, size: int, cents: int) -> Any:
        """Return deal `n`: `size` units, negative for a sale, at a price in cents."""
        price = Decimal(cents) / 100
        spec = CostSpec(price, None, "USD", None, None, False)
        if size < 0:
            spec = CostSpec(MISSING, None, MISSING, None, None, False)
        cash = Amount(-price * size, "USD")
        postings = [
            Posting("Assets:Units", Amount(Decimal(size), "ACME"), spec, None, None, {}),
            Posting("Assets:Cash", cash, None, None, None, {}),
            Posting("Income:Realised", MISSING, None, None, None, {}),
        ]
        day = date(2020, 1, 1) + timedelta(days=n)
        return Transaction(
            new_metadata("made", n), day, "*", None, "", frozenset(), frozenset(), postings
        )

    books = made(fills, transaction)
    methods = dict.fromkeys(("Assets:Units", "Assets:Cash", "Income:Realised"), Booking.FIFO)

    def run() -> list[Any]:
        return [book(entries, OPTIONS_DEFAULTS, methods) for entries in books]

    booked, errors = run()[0]
    assert not errors
    held = sum(p.units.number for e in booked for p in e.postings if p.account == "Assets:Units")
    assert held == int(fills[0][0].sum())
    return fills[0].size / best_seconds(run, 2)


def inventory_rate(fills: Fills) -> float:
    """Return deals a second through beancount's Inventory and its FIFO choice of lots alone."""
    from beancount.core.amount import Amount
    from beancount.core.data import Posting
    from beancount.core.inventory import Inventory
    from beancount.core.position import Cost
    from beancount.parser.booking_method import booking_method_FIFO

    def change(n: int, size: int, cents: int) -> Any:
        cost = Cost(Decimal(cents) / 100, "USD", date(2020, 1, 1) + timedelta(days=n), None)
        units = Amount(Decimal(size), "ACME")
        return Posting("Assets:Units", units, cost if size > 0 else None, None, None, None)

    books = made(fills, change)

    def run() -> list[Any]:
        inventories = []
        for postings in books:
            inventory = Inventory()
            for posting in postings:
                parts = [posting]
                if posting.cost is None:
                    parts = booking_method_FIFO(None, posting, list(inventory))[0]
                for part in parts:
                    inventory.add_amount(part.units, part.cost)
            inventories.append(inventory)
        return inventories

    held = [int(inventory.get_currency_units("ACME").number) for inventory in run()]
    assert held == fills[0].sum(axis=1).tolist()
    return fills[0].size / best_seconds(run, 2)


OTHERS: Final[tuple[tuple[str, str, Callable[[Fills], float], int, float | None], ...]] = (
    ("nautilus_trader", "NautilusTrader Position.apply, Rust", rust_rate, 100, 12),
    ("nautilus_trader", "NautilusTrader Position.apply, Cython", cython_rate, 30, 100),
    ("beancount", "beancount Inventory, lots chosen by FIFO", inventory_rate, 5, None),
    ("beancount", "beancount FIFO booking of transactions", beancount_rate, 3, 500),
)


def main(*, full: bool = False) -> list[Row]:
    """Measure all sides; what is not installed is said so."""
    fills = long_fills(POSITIONS * (5 if full else 1))
    columns = mixed_columns(fills)
    ours = kernel_rate(columns)
    what = f"FIFO fold, {FILLS:,} fills a position, {len(fills[0]):,} positions mixed"

    def row(beside: str, other: float | None, target_ratio: float | None = None) -> Row:
        return Row(
            what=what,
            unit="deals/s",
            ours=ours,
            beside=beside,
            other=other,
            target=10_000_000,
            target_ratio=target_ratio,
        )

    rows = [row("the reference fold, plain Python", reference_rate(columns))]
    for module, beside, rate, positions, target_ratio in OTHERS:
        if find_spec(module) is None:
            skipped(beside, module)
            rows.append(row(beside, None, target_ratio))
            continue
        sample = (fills[0][:positions], fills[1][:positions])
        rows.append(row(beside, rate(sample), target_ratio))
    account = f"one account of {FILLS:,} deals from its start"
    rows.append(Row(what=account, unit="us", ours=one_account_us(columns)))
    return rows
