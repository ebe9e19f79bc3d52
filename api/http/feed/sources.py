"""Where the rows of each topic come from: what has changed since an offset, as it is shown."""

import datetime
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from msgspec import Struct
from psycopg import sql

from api import views
from api.marks import NO_END, POSITION_COLUMNS, marked_position, marks
from api.views import BALANCE_COLUMNS, View, show
from infra.postgres import Connection
from projections.cash.tables import BALANCE_DAYS
from projections.positions.tables import DEALS, POSITIONS
from projections.rows import Table
from schemas.codec import record_hash
from streams.log import Log
from streams.voids import voids_between

PIECE_ROWS: Final = 1000
"""Rows of one read of one subscription; what has changed beside them comes in the next."""


class Place(Struct, frozen=True):
    """What is asked of one partition: `number` tells its rows from another's, `ask` who asks.

    Rows of an account, of every account of the partition when None, changed at `since` or later;
    `end` is the checkpoint, and `voids` how many records below it do not count.
    """

    number: int
    ask: int
    account: str | None
    partition: int
    since: int
    end: int
    voids: int


class Found(Struct, frozen=True, gc=False):
    """A row as it is shown, in the order of the source's columns."""

    number: int
    offset: int
    values: Any


class Fetched(Struct, frozen=True):
    """The rows of some places, by place in the order of their change.

    `reached` has, by number, the offsets at which a place was left with more to come.
    """

    rows: Sequence[Found]
    reached: dict[int, int]


class Source(Struct, frozen=True):
    """A topic: the projection whose checkpoint it has, its columns and key, how it is read.

    `columns` are None where rows are encoded as they come. `changes_daily` says that rows depend
    on the date.
    """

    topic: str
    projection: str
    columns: tuple[str, ...] | None
    key: tuple[str, ...]
    fetch: Callable[[Connection, Log, Sequence[Place]], Fetched]
    changes_daily: bool = False


def today() -> str:
    """Return the date in UTC, by which cash settles."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


# --- rows of tables ------------------------------------------------------------------------------

Rows = list[tuple[Any, ...]]
"""Rows as they are stored, the number of their place before each."""


def _spread(
    places: Sequence[Place],
    of_accounts: Callable[[Sequence[Place]], Rows],
    of_partition: Callable[[Place], Rows],
) -> tuple[Rows, dict[int, int]]:
    """Return rows of all places, and where those were left that have not been read at all.

    Accounts are read together. Partitions are read one after another, until there is enough.
    """
    rows = of_accounts([place for place in places if place.account is not None])
    counts: Counter[int] = Counter()
    unread = {}
    for place in places:
        if place.account is not None:
            continue
        if counts[place.ask] >= PIECE_ROWS:
            unread[place.number] = place.since
            continue
        found = of_partition(place)
        counts[place.ask] += len(found)
        rows += found
    return rows, unread


def _fetched(found: list[Found], unread: dict[int, int]) -> Fetched:
    """Return rows with where places were left with more to come."""
    counts = Counter(row.number for row in found)
    last = {row.number: row.offset for row in found}
    full = {number: last[number] + 1 for number, rows in counts.items() if rows >= PIECE_ROWS}
    return Fetched(found, full | unread)


def _changed(
    connection: Connection, table: Table, projection: str, places: Sequence[Place]
) -> tuple[list[tuple[int, Any]], dict[int, int]]:
    """Return stored rows that changed, each with the number of its place, and what is unread."""
    columns = sql.SQL(", ").join(sql.Identifier("t", name) for name in table.columns)
    query = sql.SQL(
        "SELECT {columns} FROM {table} AS t"
        " WHERE t.account = asked.account AND t.changed_offset >= asked.since"
    ).format(columns=columns, table=sql.Identifier(table.name))
    rows, unread = _spread(
        places,
        lambda named: _of_accounts(connection, query, named),
        lambda place: _of_partition(connection, table, projection, columns, place),
    )
    return [(row[0], table.row(*row[1:])) for row in rows], unread


def _of_accounts(connection: Connection, query: sql.Composable, named: Sequence[Place]) -> Rows:
    """Return what a query finds for accounts, each with the number of its place."""
    if not named:
        return []
    return connection.execute(
        sql.SQL(
            "SELECT asked.number, found.* FROM unnest(%s::integer[], %s::text[], %s::bigint[])"
            " AS asked (number, account, since)"
            " CROSS JOIN LATERAL ({query} ORDER BY changed_offset"
            " FETCH FIRST {limit} ROWS WITH TIES) AS found"
        ).format(query=query, limit=PIECE_ROWS),
        (
            [place.number for place in named],
            [place.account for place in named],
            [place.since for place in named],
        ),
    ).fetchall()


def _of_partition(
    connection: Connection,
    table: Table,
    projection: str,
    columns: sql.Composable,
    place: Place,
) -> Rows:
    """Return rows of all accounts of a partition, which the heads of its streams name."""
    return connection.execute(
        sql.SQL(
            "SELECT %s, {columns} FROM projection_heads AS heads"
            " JOIN {table} AS t ON t.account = heads.stream"
            " WHERE heads.projection = %s AND heads.partition = %s AND t.changed_offset >= %s"
            " ORDER BY t.changed_offset FETCH FIRST {limit} ROWS WITH TIES"
        ).format(columns=columns, table=sql.Identifier(table.name), limit=PIECE_ROWS),
        (place.number, projection, place.partition, place.since),
    ).fetchall()


def _viewed(view: View, projection: str) -> Source:
    def fetch(connection: Connection, _log: Log, places: Sequence[Place]) -> Fetched:
        rows, unread = _changed(connection, view.table, projection, places)
        shown = show(view, [row for _, row in rows]).rows
        found = [
            Found(number, row.changed_offset, values)
            for (number, row), values in zip(rows, shown, strict=True)
        ]
        return _fetched(found, unread)

    columns = tuple(column.name for column in view.columns)
    return Source(view.table.name, projection, columns, view.table.key, fetch)


def _positions(connection: Connection, _log: Log, places: Sequence[Place]) -> Fetched:
    """Return positions, each with the mark that is current now."""
    rows, unread = _changed(connection, POSITIONS, "positions", places)
    names = sorted({row.instrument for _, row in rows})
    prices = marks(connection, names, [NO_END] * len(names)) if names else {}
    found = [
        Found(number, row.changed_offset, marked_position(row, prices.get(row.instrument)))
        for number, row in rows
    ]
    return _fetched(found, unread)


_SUMS: Final = sql.SQL(
    "SELECT t.account, t.currency, sum(t.amount) AS balance,"
    " coalesce(sum(t.amount) FILTER (WHERE t.settlement_date <= {day}), 0) AS settled,"
    " max(t.changed_offset) AS changed_offset FROM {table} AS t"
)
_GROUPED: Final = sql.SQL(" GROUP BY t.account, t.currency HAVING max(t.changed_offset) >= ")


def _balances(connection: Connection, _log: Log, places: Sequence[Place]) -> Fetched:
    """Return balances, each summed up from the totals of its settlement dates, as of today."""
    sums = _SUMS.format(day=today(), table=sql.Identifier(BALANCE_DAYS.name))
    query = sql.SQL("{} WHERE t.account = asked.account{}asked.since").format(sums, _GROUPED)
    whole = sql.SQL(
        "SELECT %s, found.* FROM ({sums} JOIN projection_heads AS heads"
        " ON t.account = heads.stream WHERE heads.projection = 'cash'"
        " AND heads.partition = %s{grouped}%s) AS found"
        " ORDER BY found.changed_offset FETCH FIRST {limit} ROWS WITH TIES"
    ).format(sums=sums, grouped=_GROUPED, limit=PIECE_ROWS)
    rows, unread = _spread(
        places,
        lambda named: _of_accounts(connection, query, named),
        lambda one: connection.execute(whole, (one.number, one.partition, one.since)).fetchall(),
    )
    return _fetched([Found(row[0], row[5], row[1:5]) for row in rows], unread)


# --- events --------------------------------------------------------------------------------------


def _events(_connection: Connection, log: Log, places: Sequence[Place]) -> Fetched:
    """Return events as the log has them, up to where the read models have come."""
    rows: list[Found] = []
    reached: dict[int, int] = {}
    scanned: Counter[int] = Counter()
    for place in places:
        end = min(place.end, place.since + PIECE_ROWS - min(PIECE_ROWS, scanned[place.ask]))
        scanned[place.ask] += end - place.since
        rows += _records(log, place, end)
        if end < place.end:
            reached[place.number] = end
    return Fetched(rows, reached)


def _records(log: Log, place: Place, end: int) -> Iterator[Found]:
    """Yield the records of accounts that count."""
    offset = place.since
    voids = voids_between(log, place.partition, offset, place.end, place.voids)
    while offset < end:
        records = log.read("events", place.partition, offset, end - offset)
        if not records:
            return
        for record in records:
            offset = record.offset + 1
            if record.key is None or record.offset in voids:
                continue
            if place.account in (None, record.key):
                row = _record_json(place.partition, record.offset, record.value)
                yield Found(place.number, record.offset, row)


def _record_json(partition: int, offset: int, value: bytes) -> bytes:
    """Return a record as `daybook log` prints it: as stored, with its position and hash."""
    extra = f',"position":"{partition}:{offset}","hash":"{record_hash(value)}"}}'
    return value.rstrip().removesuffix(b"}") + extra.encode()


SOURCES: Final = {
    source.topic: source
    for source in (
        _viewed(views.ORDERS_VIEW, "orders"),
        _viewed(views.DEALS_VIEW, "positions"),
        Source(
            "positions",
            "positions",
            tuple(name for name, _ in POSITION_COLUMNS),
            POSITIONS.key,
            _positions,
        ),
        Source(
            "balances",
            "cash",
            tuple(name for name, _ in BALANCE_COLUMNS),
            ("account", "currency"),
            _balances,
            changes_daily=True,
        ),
        Source("events", "accounts", None, ("position",), _events),
    )
}
"""The topics whose rows change with the log, by name."""

FED_TABLES: Final = (views.ORDERS_VIEW.table, DEALS, POSITIONS, BALANCE_DAYS)
"""The tables that they are read from. A row of them stays: a closed one says so."""
