"""One page of a read model: of the stored rows by one statement, of past ones by asking anew.

Rows and the position they are answered from come from one statement, or from one state of the
store, so they belong together.
"""

import contextlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import Struct
from psycopg import sql

from api import views
from api.questions import Asker, MarksNow, Question
from api.read_models import ReadModel
from api.views import BUSINESS_DATES, Shown
from api.wiring import Parts
from domain.errors import InvalidValue
from domain.times import Day, end_of_day, start_of_day, to_ns
from infra.postgres import Connection
from projections.registry import PROJECTIONS
from projections.rows import Projection, Table
from schemas.partitioning import partition_of
from streams.past import NOW, AsOf
from streams.positions import to_text
from streams.read_models import holding

_ONE_STATE: Final = b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; " + holding(
    PROJECTIONS
)
_TABLES: Final = {table.name: one for one in PROJECTIONS for table in one.tables}


class Page(Struct, frozen=True):
    """Rows as shown, the key of the last one if there are more, and whence they were answered."""

    shown: Shown
    last: list[Any] | None
    position: str
    is_provisional: bool = False


class Period(Struct, frozen=True):
    """The dates or instants between which facts are asked for, both included."""

    since: AsOf = NOW
    until: AsOf = NOW

    @property
    def has_day(self) -> bool:
        """Tell whether a bound is a date, so that facts' dates matter."""
        return self.since.day is not None or self.until.day is not None

    def includes(self, time_ns: int, day: str) -> bool:
        """Tell whether a fact lies in it."""
        since, until = self.since, self.until
        if since.day is not None and day < since.day:
            return False
        if since.ns is not None and time_ns < since.ns:
            return False
        return until.includes(time_ns, day)


EVER: Final = Period()


def projection_of(model: ReadModel) -> Projection:
    """Return the projection that a read model's rows come from."""
    return _TABLES["balance_days" if model.table is None else model.table.name]


def projections_of(model: ReadModel, *, of_portfolio: bool) -> tuple[str, ...]:
    """Return the projections that what is shown comes from, that of its rows first."""
    marks = ("prices",) if model.name == "positions" else ()
    members = ("accounts", "instruments") if of_portfolio else ()
    return (projection_of(model).name, *marks, *members)


def is_stored(model: ReadModel, question: Question) -> bool:
    """Tell whether a question is answered by rows as they are stored."""
    return is_of_now(question) and question.method is None and model.table is not None


def is_of_now(question: Question) -> bool:
    """Tell whether a question is about what is true and known now."""
    return question.as_of is NOW and question.known_at is None


def page(
    parts: Parts,
    model: ReadModel,
    question: Question,
    period: Period,
    after: list[Any] | None,
    limit: int,
    own: list[str] | None = None,
    marks_now: MarksNow | None = None,
    at_least: int | None = None,
) -> Page:
    """Return the rows that come after a key, at most `limit` of them; `own` accounts alone.

    `at_least` is an offset of the account's partition that the answer holds for certain: then rows
    may come from the hot copy. None where that is not known.
    """
    if is_stored(model, question):
        asker = Asker(parts, question, is_current=True, marks_now=marks_now)
        asker.keep_to(own)
        copied = None
        if at_least is not None and after is None and _is_copied(model, question):
            copied = _copied(parts, model, question, limit, at_least)
        found, position = copied or _stored(parts, model, question, asker, period, after, limit)
        return _page(model, asker, found, limit, position)
    # What is known at positions is the same whenever it is read; else the rows come from several
    # tables, and the position from another. Marks are asked for there: they are not those of now.
    of_now = question.known_at is None
    with one_state(parts.models.connection) if of_now else contextlib.nullcontext():
        position = position_now(parts, model, question)
        asker = Asker(parts, question, is_current=True)
        asker.keep_to(own)
        if asker.known_at is not None:
            position = to_text(asker.known_at)
        found = _following(model, period_rows(asker, model.rows(asker), period), after, limit)
        return _page(model, asker, found, limit, position)


def _page(model: ReadModel, asker: Asker, found: Sequence[Any], limit: int, position: str) -> Page:
    rows, more = found[:limit], len(found) > limit
    last = [getattr(rows[-1], name) for name in model.key] if more else None
    provisional = asker.known_at is not None and asker.known_at.provisional
    return Page(model.show(asker, rows), last, position, provisional)


@contextlib.contextmanager
def one_state(connection: Connection) -> Iterator[None]:
    """Let all that is read in a block be of one state of the read models."""
    with connection.transaction():
        connection.execute(_ONE_STATE, prepare=False)
        yield


def position_now(parts: Parts, model: ReadModel, question: Question) -> str:
    """Return the position that a read model holds for an account, or for all."""
    projection = projection_of(model)
    partition = _partition(parts, projection, question)
    query = _places(projection.name, partition is not None).as_bytes(None)
    values = () if partition is None else (partition,)
    row = parts.models.connection.execute(query, values).fetchone()
    return _named(projection, None if row is None else row[0])


def _partition(parts: Parts, projection: Projection, question: Question) -> int | None:
    """Return the partition of the one stream that is asked about, None where it is not one."""
    key = question.account if projection.topic == "events" else question.instrument
    return None if key is None else partition_of(key, parts.log.partitions)


def _places(projection: str, of_one: bool) -> sql.Composed:
    return sql.SQL(
        "SELECT string_agg(partition || ':' || (next_offset - 1), ',' ORDER BY partition)"
        " FILTER (WHERE next_offset > 1) AS position FROM projection_checkpoints"
        " WHERE projection = {projection}{one}"
    ).format(
        projection=sql.Literal(projection), one=sql.SQL(" AND partition = %s" if of_one else "")
    )


def _named(projection: Projection, position: str | None) -> str:
    text = position or "0:0"
    if projection.topic == "events":
        return text
    return ",".join(f"{projection.topic}/{one}" for one in text.split(","))


def _stored(
    parts: Parts,
    model: ReadModel,
    question: Question,
    asker: Asker,
    period: Period,
    after: list[Any] | None,
    limit: int,
) -> tuple[list[Any], str]:
    table = model.table
    assert table is not None
    projection = projection_of(model)
    partition = _partition(parts, projection, question)
    told, values = conditions(asker, table, question, period)
    key = [] if after is None else _key(table, after)
    query = _page_query(table.name, told, partition is not None, bool(key))
    place = [] if partition is None else [partition]
    found = parts.models.connection.execute(query, [*place, *values, *key, limit + 1]).fetchall()
    rows = [table.row(*row[1:]) for row in found if row[1] is not None]
    return rows, _named(projection, found[0][0])


def _is_copied(model: ReadModel, question: Question) -> bool:
    """Tell whether a question is for what the hot copy holds: all positions of an account."""
    is_whole = question.instrument is None and not question.open_only
    return model.name == "positions" and question.account is not None and is_whole


def _copied(
    parts: Parts, model: ReadModel, question: Question, limit: int, at_least: int
) -> tuple[list[Any], str] | None:
    """Return an account's first positions from the hot copy, or from Postgres, which then fills it.

    None where there is no copy.
    """
    if parts.copy is None:
        return None
    # Loaded where there is a Redis.
    from streams.hot_copy import positions_of_account

    account = question.account or ""
    connection = parts.models.connection
    found = positions_of_account(parts.copy, connection, account, at_least, limit + 1)
    partition = partition_of(account, parts.log.partitions)
    position = f"{partition}:{found.next_offset - 1}" if found.next_offset > 1 else None
    return found.rows[: limit + 1], _named(projection_of(model), position)


@lru_cache(maxsize=1024)
def _page_query(name: str, told: tuple[str, ...], of_one: bool, goes_on: bool) -> bytes:
    """Return the statement of a page. Putting it together takes longer than it takes to run."""
    projection = _TABLES[name]
    table = next(one for one in projection.tables if one.name == name)
    columns = _listed(table.key)
    marks = sql.SQL(", ").join(sql.Placeholder() for _ in table.key)
    after = sql.SQL(" AND ({}) > ({})" if goes_on else "").format(columns, marks)
    query = sql.SQL(
        "SELECT c.position, t.* FROM ({places}) AS c LEFT JOIN LATERAL"
        " (SELECT {columns} FROM {table} AS t{where}{after} ORDER BY {key} LIMIT %s) AS t ON true"
        " ORDER BY {key}"
    ).format(
        places=_places(projection.name, of_one),
        columns=_listed(table.columns),
        table=sql.Identifier(name),
        where=where(told),
        after=after,
        key=columns,
    )
    return query.as_bytes(None)


def where(told: tuple[str, ...]) -> sql.Composed:
    """Return conditions as one."""
    return sql.SQL(" WHERE ") + sql.SQL(" AND ").join(map(sql.SQL, told))


def conditions(
    asker: Asker, table: Table, question: Question, period: Period
) -> tuple[tuple[str, ...], list[Any]]:
    """Return the conditions on stored rows that a question makes, and their values."""
    told: list[str] = ["true"]
    values: list[Any] = []
    accounts = asker.accounts_asked
    if accounts is not None and "account" in table.columns:
        # One account is the rule, and a list of one takes psycopg longer than the rest.
        told.append("t.account = %s" if len(accounts) == 1 else "t.account = ANY(%s)")
        values.append(accounts[0] if len(accounts) == 1 else accounts)
    if question.instrument is not None and "instrument" in table.columns:
        told.append("t.instrument = %s")
        values.append(question.instrument)
    if question.open_only and table.name in _QUANTITIES:
        told.append(f"t.{_QUANTITIES[table.name]} <> 0")
    for sign, bound in ((">=", period.since), ("<=", period.until)):
        if bound.ns is not None:
            told.append(f"t.event_time_ns {sign} %s")
            values.append(bound.ns)
        if bound.day is not None:
            condition, found = _on_day(asker, table, sign, bound.day)
            told.append(condition)
            values += found
    return tuple(told), values


_QUANTITIES: Final = {"positions": "quantity", "lots": "remaining"}


def _on_day(asker: Asker, table: Table, sign: str, day: Day) -> tuple[str, list[Any]]:
    """Return the condition that a row's business date is on this side of a date, and its values.

    Where none is told it is the date of the time in the zone of the row's account or instrument,
    by the zones that Python knows, as everywhere else.
    """
    column = BUSINESS_DATES.get(table.name)
    if column is not None:
        return f"t.{column} {sign} %s", [day]
    owners = views.INSTRUMENTS_VIEW.table if table.name == "prices" else views.ACCOUNTS_VIEW.table
    key = owners.key[0]
    zones = asker.zones_set(owners)
    edge = start_of_day if sign == ">=" else end_of_day
    bounds = [to_ns(edge(day, zone_name)) for zone_name in zones]
    by_time = (
        f"t.event_time_ns {sign} (%s::bigint[])[coalesce(array_position(%s::text[],"
        f" (SELECT o.time_zone FROM {owners.name} AS o WHERE o.{key} = t.{key})), 1)]"
    )
    if table.name != "prices":
        return by_time, [bounds, zones]
    return (
        f"CASE WHEN t.price_date IS NULL THEN {by_time} ELSE t.price_date {sign} %s END",
        [bounds, zones, day],
    )


def period_rows(asker: Asker, rows: Sequence[Any], period: Period) -> Sequence[Any]:
    """Return the rows that lie in a period."""
    if period == EVER:
        return rows
    if not period.has_day:  # a date can take the zones of all accounts to tell
        return [row for row in rows if period.includes(row.event_time_ns, "")]
    return [row for row in rows if period.includes(row.event_time_ns, asker.day_of(row))]


def _following(model: ReadModel, rows: Sequence[Any], after: list[Any] | None, limit: int) -> Any:
    if after is not None:
        key = tuple(after)
        rows = [row for row in rows if tuple(getattr(row, name) for name in model.key) > key]
    return rows[: limit + 1]


def _key(table: Table, after: list[Any]) -> list[Any]:
    if len(after) != len(table.key):
        raise InvalidValue("cursor", msgspec.json.encode(after).decode(), "a cursor of this table")
    return after


def _listed(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier("t", name) for name in names)
