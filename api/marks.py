"""Prices that mark positions: the latest of each instrument by then, and what it makes of them."""

from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from types import MappingProxyType
from typing import Any, Final, LiteralString

from psycopg import sql

from api.views import Kind, time_text
from domain import money
from domain.times import end_of_day, to_ns
from infra.postgres import Connection
from projections.positions.as_of import PastPosition
from projections.positions.tables import PositionRow
from projections.prices.fold import PRICES, PriceRow
from streams.past import NOW, AsOf

NO_END: Final = 2**63 - 1
"""The offset at which what is known ends where all of it is."""
_KINDS: Final = ("close", "last", "mid")

POSITION_COLUMNS: Final[tuple[tuple[str, Kind], ...]] = (
    ("account", "text"),
    ("instrument", "text"),
    ("currency", "text"),
    ("quantity", "decimal"),
    ("cost_basis", "decimal"),
    ("average_cost", "decimal"),
    ("realised_pnl", "decimal"),
    ("fees", "decimal"),
    ("mark", "decimal"),
    ("market_value", "decimal"),
    ("unrealised_pnl", "decimal"),
    ("mark_time", "time"),
    ("flags", "json"),
)


def marks(
    connection: Connection,
    instruments: list[str],
    ends: list[int],
    as_of: AsOf = NOW,
    zones: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, PriceRow]:
    """Return the price that marks each instrument: its latest close, last or mid by then.

    `ends` are the offsets at which what is known of each one's prices ends. `zones` are those of
    the instruments, UTC where none is set: a price without a date is of the date that it was there.
    """
    until = [_end_ns(as_of, zones.get(name, "UTC")) for name in instruments]
    condition, values = _told_by(as_of)
    query = _marks_query(condition)
    rows = connection.execute(query, (instruments, ends, until, *values)).fetchall()
    return {row[0]: PriceRow(*row) for row in rows}


def _end_ns(as_of: AsOf, zone_name: str) -> int:
    if as_of.day is not None:
        return to_ns(end_of_day(as_of.day, zone_name))
    return NO_END if as_of.ns is None else as_of.ns


def _told_by(as_of: AsOf) -> tuple[LiteralString, list[Any]]:
    """Return the condition on prices `t` that had been told, and its values."""
    if as_of.day is None:
        return "" if as_of.instant is None else " AND t.event_time_ns <= asked.until_ns", []
    by_date = (
        " AND CASE WHEN t.price_date IS NULL THEN t.event_time_ns <= asked.until_ns"
        " ELSE t.price_date <= %s END"
    )
    return by_date, [as_of.day]


@cache
def _marks_query(condition: LiteralString) -> bytes:
    query = sql.SQL(
        "SELECT price.* FROM unnest(%s::text[], %s::bigint[], %s::bigint[])"
        " AS asked (instrument, known_end, until_ns)"
        " CROSS JOIN LATERAL (SELECT {columns} FROM prices AS t"
        " WHERE t.instrument = asked.instrument AND t.changed_offset < asked.known_end"
        " AND t.kind IN ({kinds}){condition}"
        " ORDER BY t.event_time_ns DESC, t.seq DESC LIMIT 1) AS price"
    ).format(
        columns=sql.SQL(", ").join(sql.Identifier("t", name) for name in PRICES.columns),
        kinds=sql.SQL(", ").join(map(sql.Literal, _KINDS)),
        condition=sql.SQL(condition),
    )
    return query.as_bytes(None)


def marked_position(row: PositionRow | PastPosition, price: PriceRow | None) -> tuple[Any, ...]:
    """Return a position as POSITION_COLUMNS show it, with its mark and what that makes of it."""
    mark, value, unrealised, time = None, None, None, None
    if price is not None and price.currency == row.currency:
        in_currency = price.unit != 1
        mark = _product(price.price, price.unit) if in_currency else price.price
        unit = money.ZERO + 1 if in_currency else row.price_unit
        value = _product(row.quantity, mark, row.multiplier, unit)
        unrealised = money.EXACT.subtract(value, row.cost_basis)
        time = time_text(price.event_time_ns)
    return (
        row.account,
        row.instrument,
        row.currency,
        row.quantity,
        row.cost_basis,
        row.average_cost,
        row.realised_pnl,
        row.fees,
        mark,
        value,
        unrealised,
        time,
        row.flags,
    )


def _product(*factors: Decimal) -> Decimal:
    return money.shortened(money.multiply(*factors), *factors)
