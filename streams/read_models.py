"""The read models' tables: made, read for a fold, and written with the checkpoint as one.

Rows, checkpoint, term and the heads of the streams are written in one transaction, guarded by the
checkpoint's expected value. Postgres is the authority on what has been processed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import psycopg
from msgspec import Struct
from psycopg import sql

from infra import migrations, postgres
from infra.errors import MigrationRefused
from infra.migrations import Migration
from infra.postgres import Connection
from projections.rows import Changed, Projection, Table, Wanted
from schemas.validity import Head, PartitionState
from streams import sql_contract
from streams.checkpoint_moves import MADE, ask_moves, merged
from streams.log import LogError
from streams.row_writing import arrays, is_few, listed, write_few, write_rows

_OWNER: Final = "read_models"
_SQL: Final = """
CREATE TABLE projections (
    name text PRIMARY KEY,
    version integer NOT NULL,
    log_id text NOT NULL
);
CREATE TABLE projection_checkpoints (
    projection text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    term bigint NOT NULL,
    voids bigint NOT NULL,
    halted text,
    PRIMARY KEY (projection, partition)
);
CREATE TABLE projection_heads (
    projection text NOT NULL,
    partition integer NOT NULL,
    stream text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    hash text NOT NULL,
    PRIMARY KEY (projection, partition, stream)
);
"""
_MIGRATIONS: Final = (Migration(1, "read_models", _SQL),)
_SCAN_ROWS: Final = 5000
_LOCK: Final = "daybook/projecting/"


class CheckpointMoved(LogError):  # noqa: N818 - names what happened
    """Somebody else has projected these records: what was about to be written is thrown away."""


class RowsRefused(LogError):  # noqa: N818 - names what happened
    """The database does not take the rows that a fold made: nothing was written."""


class Checkpoint(Struct, frozen=True):
    """How far a projection is in a partition: `next_offset` comes next. `halted` says why not."""

    projection: str
    topic: str
    partition: int
    next_offset: int
    term: int
    voids: int
    halted: str | None


class Advance(Struct, frozen=True):
    """One step of a projection in a partition: what to write, from which checkpoint to which."""

    projection: Projection
    partition: int
    from_offset: int
    state: PartitionState
    voids: int
    heads: dict[str, Head]
    changed: Sequence[Changed]


class ReadModels:
    """The read models of one log in one schema. One connection, for one thread."""

    def __init__(
        self, dsn: str, schema: str, log_id: str, projections: Sequence[Projection]
    ) -> None:
        self.schema = schema
        self.projections = tuple(projections)
        self.log_id = log_id
        self.dsn = dsn
        self._connection = self._connect()
        self._made_seen: dict[tuple[str, int], str] = {}
        try:
            postgres.warn_of_lossy(self.connection, "the read models' PostgreSQL")
            migrations.apply(self.connection, _OWNER, _MIGRATIONS, schema=schema)
            self._make_tables()
            self._made = self._rows_made()
            self.publish()
        except BaseException:
            self.close()
            raise

    @property
    def connection(self) -> Connection:
        """Return the connection; one that was lost is opened anew."""
        if self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> Connection:
        return postgres.connect(self.dsn, schema=self.schema, part="the read models' store")

    def close(self) -> None:
        """Close the connection."""
        postgres.close(self._connection)

    def projecting_lock(self) -> Any:
        """Hold the lock of the one process that projects, waiting for it."""
        return postgres.advisory_lock(self.connection, _LOCK + self.schema)

    def sharing_lock(self) -> Any:
        """Hold that lock together with other workers, waiting for a process that holds it alone."""
        return postgres.shared_advisory_lock(self.connection, _LOCK + self.schema)

    # --- tables --------------------------------------------------------------------------------

    def _make_tables(self) -> None:
        wanted = {one.name: (one.version, self.log_id) for one in self.projections}
        if self._registered() == wanted:
            return
        with self.projecting_lock(), self.connection.transaction():
            registered = self._registered()
            refuse_newer(self.projections, self.log_id, registered)
            for projection in self.projections:
                if registered.get(projection.name) != wanted[projection.name]:
                    self._make_anew(projection)

    def publish(self) -> None:
        """Make what is read with SQL over the tables, where it is not as this version has it."""
        sql_contract.ensure(self.connection, self.schema)

    def _registered(self) -> dict[str, tuple[int, str]]:
        rows = self.connection.execute("SELECT name, version, log_id FROM projections").fetchall()
        return {name: (version, log_id) for name, version, log_id in rows}

    def _rows_made(self) -> dict[str, str]:
        """Return by projection what changes when its tables are made anew, by whomever."""
        rows = self.connection.execute(f"SELECT {MADE} FROM projections".encode()).fetchall()
        return dict(rows)

    def made_of(self, projection: str, partition: int) -> str:
        """Return whose tables the rows of a partition were last found to be; "" of none."""
        return self._made_seen.get((projection, partition), self._made.get(projection, ""))

    def _check_made(self, advances: Sequence[Advance], now: Mapping[str, str]) -> None:
        """Raise CheckpointMoved for a fold of rows that stand no longer: the tables are others."""
        others: dict[str, None] = {}
        for advance in advances:
            if not self._is_own(advance.projection, advance.partition, now):
                others[advance.projection.name] = None
        if others:
            raise CheckpointMoved(f"{', '.join(others)} was made anew by another process")

    def _is_own(self, projection: Projection, partition: int, now: Mapping[str, str]) -> bool:
        """Tell whether the tables are those that were seen last; remember those that are there."""
        made, place = now.get(projection.name, ""), (projection.name, partition)
        is_own = made == self.made_of(*place)
        self._made_seen[place] = made
        return is_own and made.startswith(f"{projection.version} {self.log_id} ")

    def _make_anew(self, projection: Projection) -> None:
        execute = self.connection.execute
        for table in projection.tables:
            execute(sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(sql.Identifier(table.name)))
        execute(projection.schema_sql.encode())
        execute("DELETE FROM projection_checkpoints WHERE projection = %s", (projection.name,))
        execute("DELETE FROM projection_heads WHERE projection = %s", (projection.name,))
        execute("DELETE FROM projections WHERE name = %s", (projection.name,))
        execute(
            "INSERT INTO projections VALUES (%s, %s, %s)",
            (projection.name, projection.version, self.log_id),
        )

    def empty(self, projection: Projection) -> None:
        """Make a projection's tables anew, empty, and its checkpoints with them."""
        with self.connection.transaction():
            self._make_anew(projection)
        self._made = self._rows_made()
        self._made_seen.clear()
        self.publish()

    # --- reading -------------------------------------------------------------------------------

    def checkpoints(self) -> dict[tuple[str, int], Checkpoint]:
        """Return the checkpoints there are, by projection and partition."""
        rows = self.connection.execute(
            "SELECT projection, topic, partition, next_offset, term, voids, halted"
            " FROM projection_checkpoints"
        ).fetchall()
        return {(row[0], row[2]): Checkpoint(*row) for row in rows}

    def heads(self, projection: str, partition: int) -> dict[str, Head]:
        """Return the heads of a partition's streams as a projection knows them."""
        rows = self.connection.execute(
            "SELECT stream, seq, hash FROM projection_heads"
            " WHERE projection = %s AND partition = %s",
            (projection, partition),
        ).fetchall()
        return {stream: (seq, digest) for stream, seq, digest in rows}

    def scan(self, table: Table, where: sql.Composable, values: Sequence[Any]) -> Iterator[Any]:
        """Yield the rows of a table that a condition picks, by key, as the table's structs."""
        query = sql.SQL("SELECT {} FROM {} AS t{} ORDER BY {}").format(
            listed(table.columns, "t"), sql.Identifier(table.name), where, listed(table.key, "t")
        )
        with (
            self.connection.transaction(),
            self.connection.cursor(name="scan") as cursor,
        ):
            cursor.itersize = _SCAN_ROWS
            cursor.execute(query, values)
            for row in cursor:
                yield table.row(*row)

    def fetch(self, wanted: Wanted) -> list[tuple[Any, ...]]:
        """Return the rows that a fold wants, as tuples of the table's columns."""
        query = _wanted_rows(wanted.table, wanted.columns, wanted.only)
        columns = [list(column) for column in zip(*wanted.values, strict=True)]
        return self.connection.execute(query, columns).fetchall()

    # --- writing -------------------------------------------------------------------------------

    def write(self, advances: Sequence[Advance]) -> None:
        """Write what folds changed with their checkpoints, all or nothing.

        Raises CheckpointMoved when a checkpoint is not where an advance starts, RowsRefused when
        the database finds fault with a row.
        """
        changes = merged(advances)
        few = [changed for changed in changes if is_few(changed)]
        # COPY cannot be sent together with other statements.
        writing = postgres.sent_together if len(few) == len(changes) else Connection.transaction
        try:
            with postgres.reporting_outage("the read models' store"), writing(self.connection):
                take_moves = ask_moves(self.connection, self.schema, advances)
                self._write_few(few)
                for changed in changes:
                    if not is_few(changed):
                        self._write_rows(changed)
                self._check_moved(advances, *take_moves())
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise RowsRefused(str(error).strip()) from error

    def _check_moved(
        self, advances: Sequence[Advance], made: Mapping[str, str], has_moved: bool
    ) -> None:
        self._check_made(advances, made)
        if not has_moved:
            starts = [
                f"{one.projection.name} {one.partition}:{one.from_offset}" for one in advances
            ]
            raise CheckpointMoved(f"no longer all at {', '.join(starts)}")

    def _write_few(self, few: Sequence[Changed]) -> None:
        write_few(self.connection, few)

    def _write_rows(self, changed: Changed) -> None:
        write_rows(self.connection, changed)

    def halt(
        self, projection: str, topic: str, partition: int, next_offset: int, reason: str
    ) -> bool:
        """Write down why a projection stands still in a partition, if that is where it stands.

        Returns whether it is: who stands elsewhere has been overtaken by somebody who went on, or
        has rows of tables that stand no longer.
        """
        (own,) = (one for one in self.projections if one.name == projection)
        if not self._is_own(own, partition, self._rows_made()):
            return False
        place = (projection, partition, next_offset)
        halted = self.connection.execute(
            "UPDATE projection_checkpoints SET halted = %s"
            " WHERE projection = %s AND partition = %s AND next_offset = %s",
            (reason, *place),
        ).rowcount
        if not halted and not next_offset:
            halted = self.connection.execute(
                "INSERT INTO projection_checkpoints VALUES (%s, %s, %s, 0, 0, 0, %s)"
                " ON CONFLICT (projection, partition) DO NOTHING",
                (projection, topic, partition, reason),
            ).rowcount
        return bool(halted)


def refuse_newer(
    projections: Sequence[Projection], log_id: str, made: Mapping[str, tuple[int, str]]
) -> None:
    """Raise MigrationRefused where a newer program made read models of this log.

    `made` has the version and the log's id by projection. Were they made as this program has them,
    the newer ones that work on them would stop, and each older one that starts would do it again.
    """
    newer = [
        f"{one.name} (version {made[one.name][0]}, here {one.version})"
        for one in projections
        if one.name in made and made[one.name][1] == log_id and made[one.name][0] > one.version
    ]
    if newer:
        raise MigrationRefused(
            f"the tables of {', '.join(newer)} are newer than this program:"
            " run the program that made them, or a later one"
        )


def holding(projections: Iterable[Projection]) -> bytes:
    """Return the statement that keeps tables from being swapped until a transaction ends.

    It is to be the first one, as it takes no snapshot. With one from before a swap, who comes to
    read a table only after it would read the new one, and nothing of what was written to it last.
    """
    # In the order in which a swap takes them. Chunks of a table are not swapped by themselves.
    names = sorted(table.name for one in projections for table in one.tables)
    only = sql.SQL(", ").join(sql.SQL("ONLY {}").format(sql.Identifier(name)) for name in names)
    return sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(only).as_bytes()


@lru_cache(maxsize=256)
def _wanted_rows(table: Table, columns: tuple[str, ...], only: str) -> bytes:
    """Return the query of a table's rows whose columns have one of the values in arrays."""
    names = [sql.Identifier(name) for name in columns]
    query = sql.SQL(
        "SELECT {columns} FROM {table} AS t JOIN unnest({arrays}) AS w ({names}) ON {matches}{only}"
    ).format(
        columns=listed(table.columns, "t"),
        table=sql.Identifier(table.name),
        arrays=arrays(table, columns),
        names=sql.SQL(", ").join(names),
        matches=sql.SQL(" AND ").join(sql.SQL("t.{0} = w.{0}").format(name) for name in names),
        only=sql.SQL(f" WHERE {only}" if only else ""),
    )
    return query.as_bytes()
