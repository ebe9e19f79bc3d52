"""Bring the tables of one owner up to what the code expects, once, whoever comes first."""

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec
from psycopg import sql

from infra.errors import MigrationRefused
from infra.postgres import Connection, checked_schema, lock_key

_TABLE: Final = b"""
CREATE TABLE IF NOT EXISTS daybook_migrations (
    owner text NOT NULL,
    number integer NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (owner, number)
)
"""


class Migration(msgspec.Struct, frozen=True):
    """One step: SQL that is never changed once it was published. Numbers are 1, 2, 3, ..."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The digest by which a database knows what was applied to it."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


class _Applied(msgspec.Struct, frozen=True):
    number: int
    name: str
    sha256: str


def apply(
    connection: Connection, owner: str, migrations: Sequence[Migration], *, schema: str
) -> tuple[Migration, ...]:
    """Apply what is missing, all of it or nothing; return what was applied.

    The tables are made in `schema`, which is made too. Where nothing is missing this is one read,
    takes no lock and needs no right to write. Two processes at once: one applies, the other waits
    and finds it done. Raises MigrationRefused when a migration that was applied has been changed
    since, or the database is newer than the code; ValueError for numbers that are not 1, 2, 3, ...
    """
    if [migration.number for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise ValueError(f"the migrations of {owner} are not numbered 1, 2, 3, ... in order")
    checked_schema(schema)
    if not _missing(owner, migrations, _applied(connection, owner, schema)):
        return ()
    with connection.transaction():
        connection.execute(
            "SELECT pg_advisory_xact_lock(%s)", (lock_key(f"daybook_migrations {schema}"),)
        )
        _enter_schema(connection, schema)
        connection.execute(_TABLE)
        missing = _missing(owner, migrations, _applied(connection, owner, schema))
        for migration in missing:
            connection.execute(migration.sql.encode())
            connection.execute(
                "INSERT INTO daybook_migrations (owner, number, name, sha256)"
                " VALUES (%s, %s, %s, %s)",
                (owner, migration.number, migration.name, migration.sha256),
            )
    return missing


def _enter_schema(connection: Connection, schema: str) -> None:
    # CREATE ... IF NOT EXISTS asks for the right to create even where there is nothing to do.
    row = connection.execute("SELECT to_regnamespace(%s) IS NULL", (schema,)).fetchone()
    if row == (True,):
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    connection.execute("SELECT set_config('search_path', %s, true)", (schema,))


def _applied(connection: Connection, owner: str, schema: str) -> list[_Applied]:
    table = f"{schema}.daybook_migrations"
    if connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() == (None,):
        return []
    statement = sql.SQL("SELECT number, name, sha256 FROM {} WHERE owner = %s ORDER BY number")
    rows = connection.execute(
        statement.format(sql.Identifier(schema, "daybook_migrations")), (owner,)
    )
    return [_Applied(*row) for row in rows]


def _missing(
    owner: str, migrations: Sequence[Migration], applied: Sequence[_Applied]
) -> tuple[Migration, ...]:
    if len(applied) > len(migrations):
        newest = applied[-1]
        raise MigrationRefused(
            f"the tables of {owner} are newer than this program: the database has migration"
            f" {newest.number} ({newest.name}), the program knows {len(migrations)};"
            " run the program that made them, or a later one"
        )
    for known, found in zip(migrations, applied, strict=False):
        if (known.number, known.sha256) != (found.number, found.sha256):
            raise MigrationRefused(
                f"migration {found.number} of {owner} ({found.name}) was changed after it was"
                f" applied: SHA-256 in the database {found.sha256}, in the program {known.sha256};"
                " put it back and write a new one"
            )
    return tuple(migrations[len(applied) :])
