"""The three folds on real trades: a day's executions at Nasdaq, and brokers' statements."""

import csv
import gzip
from pathlib import Path

from lxml import etree

from projections.positions.columns import deal_columns
from projections.positions.facts import UNIT, Deal, PositionKey
from projections.positions.kernel import KernelResult, fold_columns
from projections.positions.prefix_sums import audit_position
from projections.positions.reference import fold
from tests.projections.position_facts import check_book, check_cash, instant, units


def agree(deals: list[Deal]) -> int:
    """Check all three folds against each other; return how many positions the kernel held."""
    book = fold(deals)
    check_book(book)
    check_cash(book, deals)
    columns, unfit = deal_columns(deals)
    result = fold_columns(columns.position_index, columns.quantity, columns.price)
    assert isinstance(result, KernelResult)
    assert set(columns.keys) == book.keys() - unfit
    for p, key in enumerate(columns.keys):
        unit = columns.quantity_unit[p] * columns.price_unit[p]
        assert result.realised()[p] * unit == book[key].realised36
        assert result.cost_basis()[p] * unit == book[key].cost36
        opened_by = [
            columns.rows[row].deal_id for row in result.lots.row[result.lots.position == p]
        ]
        assert opened_by == [lot.lot_id for lot in book[key].lots]
    for key, state in book.items():
        audit = audit_position(fact for fact in deals if fact.key == key)
        assert audit is not None
        assert (audit.quantity, audit.realised36) == (state.quantity, state.realised36)
        assert audit.cost36 == state.cost36
    return len(columns.keys)


def test_an_hour_of_executions_at_nasdaq(shared_data: Path) -> None:
    message_file = next((shared_data / "lobster").glob("*_messages.csv.gz"))
    key = PositionKey("A1", "AAPL", "USD")
    deals = []
    with gzip.open(message_file, "rt") as lines:
        for n, (_, kind, _, size, price, direction) in enumerate(csv.reader(lines)):
            if kind in {"4", "5"}:
                quantity = int(size) * int(direction) * UNIT
                cost36 = quantity * int(price) * UNIT // 10_000
                deals.append(Deal(key, f"d{n}", instant(n), 0, n, quantity, cost36))
    assert len(deals) > 1_000
    assert agree(deals) == 1


def test_the_trades_of_brokers_statements(shared_data: Path) -> None:
    deals: list[Deal] = []
    for statement in sorted((shared_data / "ibkr-flex").glob("*.xml")):
        for row in etree.parse(statement).iter("Trade"):
            size, price = row.get("quantity"), row.get("tradePrice")
            if row.get("levelOfDetail", "EXECUTION") != "EXECUTION" or not (size and price):
                continue
            n, quantity = len(deals), units(size.replace(",", ""))
            if not quantity:
                continue
            multiplier = int(row.get("multiplier") or 1)
            key = PositionKey(statement.stem, row.get("symbol"), row.get("currency"))
            cost36 = quantity * units(price.replace(",", "")) * multiplier
            deals.append(Deal(key, f"d{n}", instant(n), 0, n, quantity, cost36))
    assert len(deals) > 20
    assert agree(deals) == len({fact.key for fact in deals})
