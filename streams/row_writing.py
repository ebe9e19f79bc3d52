"""Rows of read models as they are written: few of many tables by one statement, many by COPY."""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, Final, get_type_hints

import msgspec
from psycopg import sql

from infra.postgres import Connection
from projections.rows import Changed, Table
from streams.row_text import copy_text

_COPIED_ROWS: Final = 1000
_FEW_ROWS: Final = 500
_FEW_INSERTS: Final = 100


def write_few(connection: Connection, few: Sequence[Changed]) -> None:
    """Write few rows of several tables by one statement: each by itself costs more."""
    statements: list[bytes] = []
    told: list[str] = []
    for changed in few:
        made = ((_insert_few, changed.inserts), (_upsert_few, changed.upserts))
        for statement, rows in made:
            if rows:
                statements.append(statement(changed.table))
                told.append(msgspec.json.encode(rows).decode())
    if statements:
        connection.execute(_at_once(tuple(statements)), told)


def write_rows(connection: Connection, changed: Changed) -> None:
    """Write the rows of one table: those that go first, then the new and the changed ones."""
    table = changed.table
    if changed.deletes:
        _delete(connection, table, changed.deletes)
    if changed.inserts or changed.lines:
        _copy(connection, table, table.name, changed.inserts, changed.lines)
    if changed.upserts:
        _upsert(connection, table, changed.upserts)


def _delete(connection: Connection, table: Table, keys: list[tuple[Any, ...]]) -> None:
    names = [sql.Identifier(name) for name in table.key]
    query = sql.SQL("DELETE FROM {} AS t USING unnest({}) AS w ({}) WHERE {}").format(
        sql.Identifier(table.name),
        arrays(table, table.key),
        sql.SQL(", ").join(names),
        sql.SQL(" AND ").join(sql.SQL("t.{0} = w.{0}").format(name) for name in names),
    )
    connection.execute(query, [list(column) for column in zip(*keys, strict=True)])


def _copy(
    connection: Connection,
    table: Table,
    into: str,
    rows: list[Any],
    lines: Sequence[str] = (),
) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(into), listed(table.columns)
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for start in range(0, len(rows), _COPIED_ROWS):
            copy.write(copy_text(table, rows[start : start + _COPIED_ROWS]))
        # In the order of the key, or nearly: an index takes neighbours in half the time.
        lines = sorted(lines)
        for start in range(0, len(lines), _COPIED_ROWS):
            copy.write("".join(lines[start : start + _COPIED_ROWS]).encode())


def _upsert(connection: Connection, table: Table, rows: list[Any]) -> None:
    if len(rows) <= _FEW_ROWS:
        # A table to copy a few rows into, and its truncation, cost more than all else of them.
        told = msgspec.json.encode(rows).decode()
        connection.execute(_upsert_few(table), (told,))
        return
    staging = f"staging_{table.name}"
    connection.execute(
        sql.SQL("CREATE TEMP TABLE IF NOT EXISTS {} (LIKE {}) ON COMMIT DELETE ROWS").format(
            sql.Identifier(staging), sql.Identifier(table.name)
        )
    )
    _copy(connection, table, staging, rows)
    connection.execute(_upsert_from(table, sql.Identifier("pg_temp", staging)))
    connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier("pg_temp", staging)))


def _upsert_from(table: Table, source: sql.Composable) -> sql.Composed:
    others = [name for name in table.columns if name not in table.key]
    return sql.SQL(
        "INSERT INTO {table} ({columns}) SELECT {columns} FROM {source}"
        " ON CONFLICT ({key}) DO UPDATE SET {sets}"
    ).format(
        table=sql.Identifier(table.name),
        source=source,
        columns=listed(table.columns),
        key=listed(table.key),
        sets=sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in others
        ),
    )


def is_few(changed: Changed) -> bool:
    """Tell whether what changed is written best together with that of other tables."""
    if changed.deletes or changed.lines:
        return False
    return len(changed.inserts) <= _FEW_INSERTS and len(changed.upserts) <= _FEW_ROWS


@lru_cache(maxsize=256)
def _at_once(statements: tuple[bytes, ...]) -> bytes:
    """Return one statement that does all of these, in no order."""
    parts = [b"w%d AS (%b)" % (number, one) for number, one in enumerate(statements)]
    return b"WITH %b SELECT" % b", ".join(parts)


@cache
def _insert_few(table: Table) -> bytes:
    """Return the statement that inserts a table's rows, one JSON array of objects.

    For few rows COPY costs more: it is not prepared, and takes two answers.
    """
    query = sql.SQL(
        "INSERT INTO {table} ({columns})"
        " SELECT {columns} FROM json_populate_recordset(NULL::{table}, %s::json)"
    )
    name = sql.Identifier(table.name)
    return query.format(table=name, columns=listed(table.columns)).as_bytes()


@cache
def _upsert_few(table: Table) -> bytes:
    """Return the statement that takes a table's rows as one JSON array of objects."""
    rows = sql.SQL("json_populate_recordset(NULL::{}, %s::json)").format(sql.Identifier(table.name))
    return _upsert_from(table, rows).as_bytes()


@cache
def arrays(table: Table, columns: tuple[str, ...]) -> sql.Composed:
    """Return placeholders for arrays of the values of some columns, each with its type."""
    types = get_type_hints(table.row)
    return sql.SQL(", ").join(
        sql.SQL("%s::bigint[]" if types[name] is int else "%s::text[]") for name in columns
    )


def listed(names: Sequence[str], alias: str | None = None) -> sql.Composed:
    """Return names of columns, with that of their table, as they are listed in a query."""
    if alias is None:
        return sql.SQL(", ").join(map(sql.Identifier, names))
    return sql.SQL(", ").join(sql.Identifier(alias, name) for name in names)
