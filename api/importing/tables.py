"""The kinds of tables that can be imported, told apart by their columns."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import fields

from api.importing import (
    rows_cash,
    rows_corporate_actions,
    rows_prices,
    rows_reference,
    rows_trading,
)
from api.importing.lines import Fact, Problem
from api.importing.reading import Reading
from domain.errors import shorten


class Table(Struct, frozen=True, kw_only=True):
    """A kind of table: `header` must be there, of each pair of `either` at least one."""

    kind: str
    row: type[Struct]
    header: tuple[str, ...]
    either: tuple[tuple[str, str], ...] = ()


class RowTable(Table, frozen=True, kw_only=True):
    """A table with one fact a row. `as_told`: columns that the command takes over."""

    as_told: tuple[str, ...] = ()
    build: Callable[[Reading, int, Any], Fact]


class GroupTable(Table, frozen=True, kw_only=True):
    """A table with one fact for all rows that have the same `by`; they agree in `same`."""

    by: tuple[str, ...]
    same: tuple[str, ...]
    check: Callable[[Any], None]
    build: Callable[[Reading, list[Any], int], Fact]


TABLES: Final[tuple[RowTable | GroupTable, ...]] = (
    RowTable(
        kind="accounts",
        row=rows_reference.AccountRow,
        header=("account", "base_currency"),
        build=rows_reference.account,
    ),
    RowTable(
        kind="portfolios",
        row=rows_reference.PortfolioRow,
        header=("portfolio",),
        build=rows_reference.portfolio,
    ),
    RowTable(
        kind="instruments",
        row=rows_reference.InstrumentRow,
        header=("instrument", "kind", "currency"),
        build=rows_reference.instrument,
    ),
    RowTable(
        kind="orders",
        row=rows_trading.OrderRow,
        header=(
            *("account", "order_id", "instrument", "side", "quantity", "order_type"),
            "event_time",
        ),
        build=rows_trading.order,
    ),
    RowTable(
        kind="deals",
        row=rows_trading.DealRow,
        header=("account", "instrument", "quantity", "currency"),
        either=(("event_time", "trade_date"), ("price", "net")),
        as_told=rows_trading.DEAL_AS_TOLD,
        build=rows_trading.deal,
    ),
    RowTable(
        kind="fees",
        row=rows_trading.FeeRow,
        header=("account", "deal_id", "kind", "amount", "currency", "event_time"),
        build=rows_trading.fee,
    ),
    RowTable(
        kind="cash",
        row=rows_cash.CashRow,
        header=("account", "kind", "amount", "currency", "event_time"),
        build=rows_cash.cash,
    ),
    GroupTable(
        kind="movements",
        row=rows_cash.MovementRow,
        header=("account", "movement_id", "reason", "event_time", "quantity"),
        either=(("instrument", "currency"),),
        by=("account", "movement_id"),
        same=("reason", "event_time", "action_id"),
        check=rows_cash.check_leg,
        build=rows_cash.movement,
    ),
    RowTable(
        kind="prices",
        row=rows_prices.PriceRow,
        header=("instrument", "price", "currency", "event_time"),
        build=rows_prices.price,
    ),
    GroupTable(
        kind="corporate actions",
        row=rows_corporate_actions.ActionRow,
        header=("instrument", "action_id", "kind", "ex_date"),
        by=("instrument", "action_id"),
        same=("kind", "ex_date", "record_date", "pay_date", "action", "ref_action_id"),
        check=rows_corporate_actions.check_option,
        build=rows_corporate_actions.corporate_action,
    ),
)


def recognise(header: Sequence[str], line: int = 1) -> RowTable | GroupTable | Problem:
    """Return the kind of table that has these columns, or why there is none.

    Where two fit, it is the one with more columns that must be there: fees before cash.
    """
    repeated = next((name for name in header if header.count(name) > 1), None)
    if repeated is not None:
        return Problem(line, repeated, repeated, "expected each column once")
    fitting = [table for table in TABLES if not any(_misfits(table, header))]
    if fitting:
        return max(fitting, key=lambda table: len(table.header))
    return _unrecognised(header, line)


def columns_of(table: Table) -> tuple[str, ...]:
    """Return all columns that a table may have."""
    return tuple(field.encode_name for field in fields(table.row))


def _misfits(table: Table, header: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return which columns are missing for a table, and which it does not know."""
    missing = [name for name in table.header if name not in header]
    missing += [
        f"{one} or {other}"
        for one, other in table.either
        if one not in header and other not in header
    ]
    known = columns_of(table)
    return missing, [name for name in header if name not in known]


def _unrecognised(header: Sequence[str], line: int) -> Problem:
    likely = [name.strip().lower() for name in header]
    nearest = min(TABLES, key=lambda table: sum(map(len, _misfits(table, likely))))
    missing, unknown = _misfits(nearest, header)
    names = ", ".join(header)
    wrong = []
    if missing:
        wrong.append(f"missing {', '.join(missing)}")
    if unknown:
        wrong.append(f"unknown {', '.join(shorten(name) or '(no name)' for name in unknown)}")
    reason = (
        f"expected the columns of one kind of table; the nearest is {nearest.kind}: "
        f"{'; '.join(wrong)}. A table of {nearest.kind} has {', '.join(columns_of(nearest))}"
    )
    return Problem(line, shorten((missing + unknown)[0]), shorten(names), reason)
