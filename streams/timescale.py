"""What has a time axis, kept by TimescaleDB where the database has it, and by Postgres where not.

The names and the answers are the same. Nothing is ever dropped for its age: read models are made of
events, and so long as an event is in the log its row is in its table.
"""

import contextlib
import logging
import time
from importlib.resources import files
from typing import Final

import psycopg
from psycopg import sql

from infra.postgres import Connection

_log = logging.getLogger(__name__)
_TRIES: Final = 100
_WAIT_S: Final = 0.2
_FOLDER: Final = files("projections.prices")
_COMMUNITY: Final = "timescale"
"""The edition that has continuous aggregates and compression; the other one is `apache`."""
_DECOMPRESSED: Final = "timescaledb.max_tuples_decompressed_per_dml_transaction"


def add_series(connection: Connection, home: str) -> bool:
    """Make what is summed up over time, where it is missing; return whether TimescaleDB keeps it.

    In the connection's schema and its transaction. `home` is the schema that the read models end
    up in, where these are filled for it. An extension that can be created is created; a table that
    was made without it stays as it is until it is rebuilt.
    """
    row = connection.execute(
        "SELECT to_regclass('prices') IS NULL, to_regclass('price_days') IS NULL"
    ).fetchone()
    if row != (False, True):
        return False
    schema = extension_schema(connection)
    if schema is None:
        connection.execute(_FOLDER.joinpath("timescale_absent.sql").read_text().encode())
        return False
    text = _FOLDER.joinpath("timescale.sql").read_text()
    connection.execute(
        sql.SQL(text).format(
            home=sql.Identifier(home),
            timescale=sql.Identifier(schema),
            now=sql.Literal(f"{home}.now_ns"),
        )
    )
    _lift_limit(connection)
    return True


def extension_schema(connection: Connection) -> str | None:
    """Return the schema of TimescaleDB's functions; None where it cannot be had here."""
    row = connection.execute(
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'timescaledb'"
    ).fetchone()
    if row is None:
        if not _can_create(connection):
            return None
        connection.execute("CREATE EXTENSION timescaledb SCHEMA public")
        row = ("public",)
    edition = connection.execute("SELECT current_setting('timescaledb.license', true)").fetchone()
    return str(row[0]) if edition == (_COMMUNITY,) else None


def add_policies(connection: Connection) -> None:
    """Have TimescaleDB sum up and compress by itself, where it keeps the prices and does not yet.

    To be done where the tables serve, and not where they are filled beside others.
    """
    schema = _keeping_schema(connection)
    if schema is not None:
        text = _FOLDER.joinpath("timescale_policies.sql").read_text()
        connection.execute(sql.SQL(text).format(timescale=sql.Identifier(schema)))


def refresh(connection: Connection) -> None:
    """Bring what is summed up to the prices there are now; without TimescaleDB it always is.

    Outside any transaction. Where it is being brought there already, that is waited for.
    """
    schema = _keeping_schema(connection)
    if schema is None:
        return
    call = sql.SQL("CALL {}.refresh_continuous_aggregate('price_days', NULL, NULL)")
    for _ in range(_TRIES):
        with contextlib.suppress(psycopg.errors.LockNotAvailable):
            connection.execute(call.format(sql.Identifier(schema)))
            return
        time.sleep(_WAIT_S)
    _log.warning("prices by day are being summed up elsewhere, and not waited for any longer")


def _keeping_schema(connection: Connection) -> str | None:
    """Return the schema of TimescaleDB's functions where it sums up the prices of this schema."""
    row = connection.execute(
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'timescaledb'"
    ).fetchone()
    if row is None:
        return None
    kept = connection.execute(
        "SELECT EXISTS (SELECT FROM timescaledb_information.continuous_aggregates"
        " WHERE view_schema = current_schema() AND view_name = 'price_days')"
    ).fetchone()
    return str(row[0]) if kept == (True,) else None


def _can_create(connection: Connection) -> bool:
    row = connection.execute(
        "SELECT 'timescaledb' = ANY(regexp_split_to_array("
        "current_setting('shared_preload_libraries'), '\\s*,\\s*'))"
        " AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')"
        " AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
    ).fetchone()
    return row == (True,)


def _lift_limit(connection: Connection) -> None:
    """Let one transaction put as many late prices into what is compressed as it has."""
    row = connection.execute("SELECT current_setting(%s)", (_DECOMPRESSED,)).fetchone()
    if row == ("0",):
        return
    statement = sql.SQL("ALTER ROLE CURRENT_USER IN DATABASE {} SET {} = 0")
    database = connection.info.dbname
    connection.execute(
        statement.format(sql.Identifier(database), sql.Identifier(*_DECOMPRESSED.split(".")))
    )
    connection.execute(sql.SQL("SET {} = 0").format(sql.Identifier(*_DECOMPRESSED.split("."))))
