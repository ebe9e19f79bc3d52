"""Rebuild read models beside those that serve, and put them in their place in one transaction.

The new tables are filled in a schema of their own, with their own checkpoints. Readers see the old
tables, complete, until they see the new ones, complete. Whatever dies on the way leaves the old
ones serving; the next rebuild starts over. Grants, and views that others built on them, stay.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import psycopg
from msgspec import Struct
from psycopg import sql

from infra import postgres
from infra.postgres import Connection
from projections.rows import Projection
from streams import sql_contract
from streams.hot_copy import CopiedReadModels
from streams.log import Log, LogError
from streams.news import ANYTHING, encode
from streams.projecting import BATCH, Projector
from streams.read_models import ReadModels, refuse_newer
from streams.timescale import add_policies, add_series, refresh

_log = logging.getLogger(__name__)
_LOCK: Final = "daybook/rebuilding/"
_WAIT_MS: Final = 500
_TRIES: Final = 20
"""A swap waits so long, so often, for those who read: it would make others wait behind it."""
_IN_THE_WAY: Final = (
    psycopg.errors.DependentObjectsStillExist,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidTableDefinition,
)
_KEPT_HERE: Final = (
    *("projections", "projection_checkpoints", "projection_heads", "daybook_migrations"),
)


class RebuildRefused(LogError):  # noqa: N818 - a refusal, named as such
    """The new tables are not put in place of the old ones, which serve on."""


class Rebuilt(Struct, frozen=True):
    """The old read models and the new ones beside them, up to the same offsets or further."""

    old: ReadModels
    new: ReadModels
    projections: tuple[Projection, ...]


Models = TypeVar("Models", bound=ReadModels)

Approve = Callable[[Rebuilt], None]
"""Looks at what differs before the swap, and raises RebuildRefused where it must not be."""


def _approve_all(_: Rebuilt) -> None:
    """Approve whatever the log makes."""


def rebuild_beside(
    log: Log,
    models: ReadModels,
    projections: Sequence[Projection],
    *,
    batch: int = BATCH,
    approve: Approve = _approve_all,
) -> int:
    """Fill projections from the log's beginning and swap them in; return the records read.

    Readers never wait longer than for a moment; projecting waits for the last records and the swap.
    Who has folded rows of the old tables gets CheckpointMoved at its next write in each partition.
    Raises RebuildRefused when the new ones halt before the old, or are not approved.
    """
    with _alone(models) as beside:
        done = _rebuild(log, models, beside, projections, batch, approve)
    if isinstance(models, CopiedReadModels) and models.copy is not None:
        models.copy.clear()
    return done


def _rebuild(
    log: Log,
    models: ReadModels,
    beside: str,
    projections: Sequence[Projection],
    batch: int,
    approve: Approve,
) -> int:
    shadow = _Shadow(models, beside, projections)
    try:
        projector = Projector(log, shadow, batch=batch)
        done = projector.catch_up()
        refresh(shadow.connection)
        with models.projecting_lock():
            done += projector.catch_up()
            refresh(shadow.connection)
            _refuse_halt(models, shadow, projections)
            approve(Rebuilt(models, shadow, tuple(projections)))
            _swap_patiently(models, beside, projections)
    finally:
        shadow.close()
    return done


def open_read_models(
    log: Log,
    dsn: str,
    schema: str,
    projections: Sequence[Projection],
    kind: type[Models] = ReadModels,  # type: ignore[assignment]
    *,
    goes_back: bool = False,
) -> Models:
    """Open read models; those of an older version are rebuilt first, the old ones serving on.

    To others, that is: whoever opens waits for it, for it cannot read the old ones. Those of a
    newer version are rebuilt only if `goes_back`; else raises MigrationRefused.
    """
    if _outdated(dsn, schema, log.log_id, projections, goes_back=goes_back):
        models = _Serving(dsn, schema, log.log_id, projections)
        try:
            with _alone(models) as beside:
                # Somebody else may have done it while this one waited.
                old = _outdated(dsn, schema, log.log_id, projections, goes_back=goes_back)
                if old:
                    names = ", ".join(one.name for one in old)
                    _log.warning("%s: made by another version of the program, rebuilding", names)
                    _rebuild(log, models, beside, old, BATCH, _approve_all)
        finally:
            models.close()
    return kind(dsn, schema, log.log_id, projections)


def _outdated(
    dsn: str, schema: str, log_id: str, projections: Sequence[Projection], *, goes_back: bool
) -> list[Projection]:
    """Return the projections whose tables are there, of this log and of another version.

    Raises MigrationRefused for those of a newer one, unless `goes_back`.
    """
    connection = postgres.connect(dsn, schema=schema, part="the read models' store")
    try:
        if connection.execute("SELECT to_regclass('projections')").fetchone() == (None,):
            return []
        rows = connection.execute("SELECT name, version, log_id FROM projections").fetchall()
    finally:
        connection.close()
    if not goes_back:
        refuse_newer(projections, log_id, {name: (made, of_log) for name, made, of_log in rows})
    found = {name: version for name, version, of_log in rows if of_log == log_id}
    return [one for one in projections if found.get(one.name, one.version) != one.version]


class _Serving(ReadModels):
    """Read models of another version, left as they are."""

    def _make_tables(self) -> None:
        pass

    def publish(self) -> None:
        """Leave what is read with SQL as it is."""


class _Shadow(ReadModels):
    """Read models beside others, for these to take over."""

    def __init__(self, models: ReadModels, schema: str, projections: Sequence[Projection]) -> None:
        self._home = models.schema
        super().__init__(models.dsn, schema, models.log_id, projections)

    def publish(self) -> None:
        """Make what is summed up over time as it will have to be in its final place."""
        with self.connection.transaction():
            add_series(self.connection, self._home)


@contextlib.contextmanager
def _alone(models: ReadModels) -> Iterator[str]:
    """Hold the one place beside the read models, waiting for it, empty; yields its schema."""
    beside = f"{models.schema[:58]}_next"
    connection = postgres.connect(models.dsn, schema=models.schema)
    try:
        with postgres.advisory_lock(connection, _LOCK + models.schema):
            _drop(connection, beside)
            try:
                yield beside
            finally:
                _drop(connection, beside)
    finally:
        connection.close()


def _drop(connection: Connection, schema: str) -> None:
    connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


def _refuse_halt(models: ReadModels, shadow: ReadModels, projections: Sequence[Projection]) -> None:
    old, new = models.checkpoints(), shadow.checkpoints()
    names = {one.name for one in projections}
    for (name, partition), checkpoint in old.items():
        if name not in names:
            continue
        reached = new.get((name, partition))
        if (reached.next_offset if reached else 0) < checkpoint.next_offset:
            reason = reached.halted if reached and reached.halted else "it came no further"
            raise RebuildRefused(
                f"{name} in {checkpoint.topic}/{partition} is at {checkpoint.next_offset}, and the"
                f" new one at {reached.next_offset if reached else 0}: {reason}"
            )


# --- the swap ------------------------------------------------------------------------------------


def _swap_patiently(models: ReadModels, beside: str, projections: Sequence[Projection]) -> None:
    """Swap when nobody is in the way: trying for long would make all readers wait behind it."""
    for _ in range(_TRIES):
        try:
            with models.connection.transaction():
                models.connection.execute(f"SET LOCAL lock_timeout = {_WAIT_MS}".encode())
                _swap(models.connection, models.schema, beside, projections)
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            continue
        except _IN_THE_WAY as error:
            told = error.diag.message_detail or str(error).strip()
            reason = f"what others built on the tables is in the way: {told}"
            raise RebuildRefused(reason) from error
    raise RebuildRefused(f"the tables were in use for {_TRIES * _WAIT_MS / 1000:g} s")


def _swap(
    connection: Connection, schema: str, beside: str, projections: Sequence[Projection]
) -> None:
    """Put what is in the schema beside in the place of what has its names, in a transaction."""
    names = _relations(connection, beside)
    old = [name for name in names if name in _relations(connection, schema)]
    views = _views_on(connection, schema, old)
    grants = [grant for name in old for grant in _grants(connection, schema, name)]
    away = f"{beside[:58]}_gone"
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(away)))
    for name in old:
        _move(connection, schema, name, away)
    for name in names:
        _move(connection, beside, name, schema)
    for statement in (*views, *grants):
        connection.execute(statement)
    _take_over(connection, beside, [one.name for one in projections])
    connection.execute("SELECT pg_notify(%s, %s)", (schema, encode(ANYTHING).decode()))
    if sql_contract.is_made(connection, schema):
        sql_contract.publish(connection, schema)
    else:
        add_policies(connection)
    for name in reversed(old):
        # Without CASCADE: what somebody built on it is theirs.
        kind = _kind(connection, away, name)
        if kind is not None:
            place = sql.Identifier(away, name)
            connection.execute(sql.SQL("DROP {} {}").format(sql.SQL(kind), place))
    connection.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(away)))


def _relations(connection: Connection, schema: str) -> list[str]:
    """Return the read models of a schema: tables first, then what is made of them."""
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s)"
        " AND relkind IN ('r', 'p', 'v', 'm') AND relname <> ALL(%s)"
        " ORDER BY relkind IN ('v', 'm'), relname",
        (schema, list(_KEPT_HERE)),
    ).fetchall()
    return [name for (name,) in rows]


def _kind(connection: Connection, schema: str, name: str) -> str | None:
    """Return what SQL calls a relation; None where it is gone. One that TimescaleDB keeps summed
    up looks like a view, and is dropped like what it is."""
    row = connection.execute(
        "SELECT c.relkind, EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"
        " FROM pg_class c WHERE c.relnamespace = to_regnamespace(%s) AND c.relname = %s",
        (schema, name),
    ).fetchone()
    if row is None:
        return None
    kind, has_timescale = row
    if kind == "v" and has_timescale and _is_summed_up(connection, schema, name):
        return "MATERIALIZED VIEW"
    return {"r": "TABLE", "p": "TABLE", "v": "VIEW", "m": "MATERIALIZED VIEW"}[kind]


def _is_summed_up(connection: Connection, schema: str, name: str) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM timescaledb_information.continuous_aggregates"
        " WHERE view_schema = %s AND view_name = %s)",
        (schema, name),
    ).fetchone()
    return row == (True,)


def _move(connection: Connection, schema: str, name: str, to: str) -> None:
    kind = _kind(connection, schema, name) or "TABLE"
    connection.execute(
        sql.SQL("ALTER {} {} SET SCHEMA {}").format(
            sql.SQL(kind), sql.Identifier(schema, name), sql.Identifier(to)
        )
    )


def _views_on(connection: Connection, schema: str, names: list[str]) -> list[sql.Composed]:
    """Return what makes the views again that others built on tables of these names."""
    connection.execute("SELECT set_config('search_path', 'pg_catalog', true)")
    rows = connection.execute(
        "SELECT DISTINCT n.nspname, v.relname, pg_get_viewdef(v.oid)"
        " FROM pg_class t JOIN pg_depend d ON d.refobjid = t.oid AND d.deptype = 'n'"
        " JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class"
        " JOIN pg_namespace n ON n.oid = v.relnamespace"
        " WHERE t.relnamespace = to_regnamespace(%s) AND t.relname = ANY(%s) AND v.relkind = 'v'"
        " AND n.nspname NOT LIKE '\\_timescaledb%%' AND n.nspname <> %s"
        " AND NOT (n.nspname = %s AND v.relname = ANY(%s)) ORDER BY 1, 2",
        (schema, names, sql_contract.contract_schema(schema), schema, names),
    ).fetchall()
    connection.execute("SELECT set_config('search_path', %s, true)", (schema,))
    return [
        sql.SQL("CREATE OR REPLACE VIEW {} AS {}").format(
            sql.Identifier(place, view), sql.SQL(definition)
        )
        for place, view, definition in rows
    ]


def _grants(connection: Connection, schema: str, name: str) -> list[sql.Composed]:
    """Return what gives others again what they may do with a table; its owner has all anyway."""
    rows = connection.execute(
        "SELECT coalesce(pg_get_userbyid(nullif(a.grantee, 0)), ''), a.privilege_type,"
        " a.is_grantable FROM pg_class c, aclexplode(c.relacl) a"
        " WHERE c.relnamespace = to_regnamespace(%s) AND c.relname = %s"
        " AND a.grantee <> c.relowner",
        (schema, name),
    ).fetchall()
    return [
        sql.SQL("GRANT {} ON {} TO {}{}").format(
            sql.SQL(privilege),
            sql.Identifier(schema, name),
            sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC"),
            sql.SQL(" WITH GRANT OPTION" if may_grant else ""),
        )
        for grantee, privilege, may_grant in rows
    ]


def _take_over(connection: Connection, beside: str, names: list[str]) -> None:
    """Take the checkpoints, heads and versions that go with the new tables."""
    for table, column in (
        ("projection_checkpoints", "projection"),
        ("projection_heads", "projection"),
        ("projections", "name"),
    ):
        parts: dict[str, Any] = {
            "here": sql.Identifier(table),
            "there": sql.Identifier(beside, table),
            "column": sql.Identifier(column),
        }
        connection.execute(
            sql.SQL("DELETE FROM {here} WHERE {column} = ANY(%s)").format(**parts), (names,)
        )
        connection.execute(
            sql.SQL("INSERT INTO {here} SELECT * FROM {there} WHERE {column} = ANY(%s)").format(
                **parts
            ),
            (names,),
        )
