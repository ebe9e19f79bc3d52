"""What may be read with SQL: a view for each read model, in a schema of their own, and a role.

Tables change with the versions of the projections; these views do not. Their columns are those of
the queries, a time in nanoseconds beside each `timestamptz`, which has microseconds only. They show
what was projected last.
"""

import hashlib
import logging
from typing import Final
from urllib.parse import quote

import psycopg
from psycopg import sql

from infra.postgres import Connection, lock_key
from streams.sql_views import VIEWS, SqlView
from streams.timescale import add_policies, add_series

_log = logging.getLogger(__name__)
_LONGEST_NAME: Final = 63
_ABOUT: Final = (
    "What Daybook's read models say, for reading: see the comments of views and columns. Contract"
)


def contract_schema(schema: str) -> str:
    """Return the schema of the views over the read models of a schema: `daybook_sql`."""
    return f"{schema[: _LONGEST_NAME - 4]}_sql"


def reader_role(schema: str) -> str:
    """Return the role that may read the views and nothing else: `daybook_reader`."""
    return f"{schema[: _LONGEST_NAME - 7]}_reader"


def reader_url(url: str, schema: str) -> str:
    """Return a URL of the same server whose sessions read the views and nothing else."""
    sign = "&" if "?" in url else "?"
    options = quote(f"-c role={reader_role(schema)} -c search_path={contract_schema(schema)}")
    return f"{url}{sign}options={options}"


def ensure(connection: Connection, schema: str) -> None:
    """Make the views, and what is summed up over time, where they are not as this version has them.

    One read where they are. A database in which this user may not make schemas goes without.
    """
    if is_current(connection, schema):
        return
    try:
        with connection.transaction():
            publish(connection, schema)
    except psycopg.errors.InsufficientPrivilege as error:
        reason = " ".join(str(error).split())
        _log.info("no views for SQL in %s: %s", contract_schema(schema), reason)


def publish(connection: Connection, schema: str) -> None:
    """Make the views over the tables that now stand in `schema`, in the caller's transaction.

    Views that are there keep their grants and whatever others built on them.
    """
    connection.execute(
        "SELECT pg_advisory_xact_lock(%s)", (lock_key(f"daybook_sql {contract_schema(schema)}"),)
    )
    add_series(connection, schema)
    add_policies(connection)
    name = contract_schema(schema)
    if not is_made(connection, schema):
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    for view in _possible(connection, schema):
        _make(connection, schema, view)
    about = sql.Literal(f"{_ABOUT} {_digest()}.")
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(name), about))
    _let_read(connection, schema)


def is_made(connection: Connection, schema: str) -> bool:
    """Tell whether there is a schema of views, of whatever version."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %s)", (contract_schema(schema),)
    ).fetchone()
    return row == (True,)


def is_current(connection: Connection, schema: str) -> bool:
    """Tell whether the views are those of this version, all of them."""
    row = connection.execute(
        "SELECT coalesce(obj_description(n.oid, 'pg_namespace') LIKE %s, false)"
        " AND (SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind = 'v')"
        " >= %s FROM pg_namespace n WHERE n.nspname = %s",
        (f"%{_digest()}.", len(_possible(connection, schema)), contract_schema(schema)),
    ).fetchone()
    return row == (True,)


def _possible(connection: Connection, schema: str) -> list[SqlView]:
    """Return the views whose tables are there: a ledger need not keep all read models."""
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s)"
        " AND relkind IN ('r', 'v', 'p')",
        (schema,),
    ).fetchall()
    there = {name for (name,) in rows}
    if "prices" in there:
        there.add("price_days")
    return [view for view in VIEWS if there.issuperset(view.tables)]


def _make(connection: Connection, schema: str, view: SqlView) -> None:
    place = sql.Identifier(contract_schema(schema), view.name)
    body = sql.SQL(view.query()).format(
        **{table: sql.Identifier(schema, table) for table in view.tables}
    )
    create = sql.SQL("CREATE OR REPLACE VIEW {} AS {}").format(place, body)
    try:
        with connection.transaction():
            connection.execute(create)
    except psycopg.errors.InvalidTableDefinition:
        # Columns that move or go cannot be replaced.
        connection.execute(sql.SQL("DROP VIEW {} CASCADE").format(place))
        connection.execute(create)
    comments = [sql.SQL("COMMENT ON VIEW {} IS {}").format(place, sql.Literal(view.comment))]
    comments += [
        sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(
            place, sql.Identifier(column.name), sql.Literal(column.comment)
        )
        for column in view.columns
    ]
    connection.execute(sql.SQL("; ").join(comments))


def _let_read(connection: Connection, schema: str) -> None:
    """Let the role read the views; it is made where this user may make roles."""
    role = sql.Identifier(reader_role(schema))
    found = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s),"
        " (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user)",
        (reader_role(schema),),
    ).fetchone()
    is_there, may_make = found or (False, False)
    if not is_there:
        if not may_make:
            return
        try:
            with connection.transaction():
                connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(role))
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            pass  # another process, over another database of this server, was first
    place = sql.Identifier(contract_schema(schema))
    connection.execute(
        sql.SQL(
            "GRANT USAGE ON SCHEMA {0} TO {1}; GRANT SELECT ON ALL TABLES IN SCHEMA {0} TO {1}"
        ).format(place, role)
    )


def _digest() -> str:
    told = repr([(view.name, view.comment, view.query(), view.columns) for view in VIEWS])
    return hashlib.sha256(told.encode()).hexdigest()[:16]
