"""Rebuilding beside what serves: complete before, complete after, and nothing in between."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from infra import postgres
from infra.errors import MigrationRefused
from projections.registry import PROJECTIONS
from streams import rebuilding
from streams.ledger import Ledger
from streams.postgres_log import PostgresLog
from streams.projecting import CheckpointMoved, Projector
from streams.read_models import Advance, ReadModels, holding
from streams.rebuilding import RebuildRefused, Rebuilt, open_read_models, rebuild_beside
from streams.sql_contract import contract_schema
from streams.timescale import refresh
from streams.verifying import verify
from tests.beside import beside
from tests.streams.read_rows import all_rows
from tests.streams.sample_book import sample_requests
from tests.streams.test_projecting import FailingFold
from tests.streams.test_sql_contract import drop_contract
from tests.streams.test_timescale import price_requests, timescale
from tests.waiting import until

__all__ = ["timescale"]

_SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def models(dsn: str, schema: str, log: PostgresLog, ledger: Ledger) -> Iterator[ReadModels]:
    """Read models with a book in them."""
    ledger.submit(sample_requests(120))
    opened = ReadModels(dsn, schema, log.log_id, PROJECTIONS)
    Projector(log, opened).catch_up()
    yield opened
    opened.close()
    drop_contract(dsn, schema)


def stored(models: ReadModels) -> dict[str, list[tuple[Any, ...]]]:
    """Every table's rows as Postgres has them, places and all."""
    names = [table.name for one in models.projections for table in one.tables]
    names += ["projection_checkpoints", "projection_heads", "projections"]
    return {
        name: sorted(models.connection.execute(f"SELECT * FROM {name}".encode()), key=repr)
        for name in names
    }


def schemas_beside(models: ReadModels) -> list[str]:
    rows = models.connection.execute(
        "SELECT nspname FROM pg_namespace WHERE nspname LIKE %s", (f"{models.schema}\\_next%",)
    ).fetchall()
    return [name for (name,) in rows]


def test_a_rebuild_is_what_was_there_to_the_byte(log: PostgresLog, models: ReadModels) -> None:
    before = stored(models)
    read = rebuild_beside(log, models, PROJECTIONS)
    assert read == sum(sum(log.heads(topic)) for topic in ("events", "prices", "reference"))
    assert stored(models) == before
    assert schemas_beside(models) == []
    assert Projector(log, models).catch_up() == 0
    rows = all_rows(models)
    rebuild_beside(log, models, PROJECTIONS, batch=37)
    assert all_rows(models) == rows
    assert verify(log, models).differences == []


def test_what_was_altered_by_hand_is_right_again(log: PostgresLog, models: ReadModels) -> None:
    before = stored(models)
    models.connection.execute("UPDATE positions SET quantity = quantity + 1")
    models.connection.execute("DELETE FROM cash")
    rebuild_beside(log, models, [one for one in PROJECTIONS if one.name == "positions"])
    after = stored(models)
    assert after["positions"] == before["positions"]
    assert after["cash"] == []
    rebuild_beside(log, models, PROJECTIONS)
    assert stored(models) == before


def catch_up(projector: Projector) -> None:
    """Catch up as one must beside rebuilds: again where the tables are others now."""
    while True:
        with contextlib.suppress(CheckpointMoved):
            projector.catch_up()
            return


def test_readers_and_writers_go_on(
    dsn: str, schema: str, log: PostgresLog, ledger: Ledger, models: ReadModels
) -> None:
    is_over = threading.Event()
    looks = [0]
    least = len(all_rows(models)["deals"])

    def read() -> None:
        connection = postgres.connect(dsn, schema=schema)
        views = contract_schema(schema)
        seen = least
        try:
            while not is_over.is_set():
                query = f"SELECT count(*), (SELECT count(*) FROM {views}.deals) FROM deals"
                row = connection.execute(query.encode()).fetchone()
                assert row is not None
                assert row[0] == row[1] >= seen
                seen = row[0]
                looks[0] += 1
        finally:
            connection.close()

    def write() -> None:
        own_log = PostgresLog.open(dsn, schema)
        own = ReadModels(dsn, schema, log.log_id, PROJECTIONS)
        projector = Projector(own_log, own, batch=5)
        requests = sample_requests(400, seed=2)
        try:
            for start in range(0, len(requests), 5):
                told = requests[start : start + 5]
                told = [replace(one, command_id=f"w{one.command_id}") for one in told]
                ledger.submit(told)
                catch_up(projector)
                if is_over.is_set():
                    break
        finally:
            own.close()
            own_log.close()

    with beside(read, read, write, over=is_over):
        for _ in range(2):
            rebuild_beside(log, models, PROJECTIONS, batch=100)
    assert looks[0] > 10
    catch_up(Projector(log, models))
    assert verify(log, models).differences == []


def test_rows_of_the_old_tables_in_memory_are_never_written(
    dsn: str, schema: str, log: PostgresLog, ledger: Ledger, models: ReadModels
) -> None:
    late = ReadModels(dsn, schema, log.log_id, PROJECTIONS)
    models.connection.execute("UPDATE positions SET fees = fees + 7")
    models.connection.execute("UPDATE balance_days SET amount = amount + 7")
    projector = Projector(log, models)
    ledger.submit(sample_requests(160)[120:])
    projector.catch_up()
    assert verify(log, models).differences
    own = ReadModels(dsn, schema, log.log_id, PROJECTIONS)
    rebuild_beside(log, own, PROJECTIONS)
    own.close()
    found = late.checkpoints()["positions", 0]
    place = ("positions", found.topic, 0, found.next_offset)
    assert not late.halt(*place, "rows of the old tables were refused")
    assert late.checkpoints()["positions", 0] == found
    late.close()
    ledger.submit(sample_requests(200)[160:])
    with pytest.raises(CheckpointMoved, match=r"positions, .*was made anew"):
        projector.catch_up()
    projector.catch_up()
    assert verify(log, models).differences == []


def _rebuild_and_die(dsn: str, schema: str, writes: int) -> None:
    """Rebuild, and die by SIGKILL at a write, or right before the swap, or in its midst."""
    log = PostgresLog.open(dsn, schema)
    models = ReadModels(dsn, schema, log.log_id, PROJECTIONS)
    left = [writes]
    write, take_over = ReadModels.write, rebuilding._take_over

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def dying_write(self: ReadModels, advances: Sequence[Advance]) -> None:
        write(self, advances)
        left[0] -= 1
        if left[0] == 0:
            die()

    def dying_take_over(*arguments: Any) -> None:
        take_over(*arguments)
        if writes == -2:
            die()

    ReadModels.write = dying_write  # type: ignore[method-assign]
    rebuilding._take_over = dying_take_over
    approve = (lambda _: die()) if writes == -1 else (lambda _: None)
    rebuild_beside(log, models, PROJECTIONS, batch=20, approve=approve)


@pytest.mark.parametrize("writes", [9, -1, -2])
def test_a_killed_rebuild_leaves_the_old_ones_serving(
    dsn: str, schema: str, log: PostgresLog, models: ReadModels, writes: int
) -> None:
    before = stored(models)
    process = _SPAWN.Process(target=_rebuild_and_die, args=(dsn, schema, writes))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert stored(models) == before
    assert verify(log, models).differences == []
    rebuild_beside(log, models, PROJECTIONS)
    assert stored(models) == before
    assert schemas_beside(models) == []


def test_grants_and_views_of_others_stay(
    dsn: str, schema: str, log: PostgresLog, models: ReadModels
) -> None:
    execute = models.connection.execute
    role = f"{schema}_friend"
    views = contract_schema(schema)
    execute(f"CREATE ROLE {role}".encode())
    execute(f"GRANT USAGE ON SCHEMA {schema}, {views} TO {role}".encode())
    execute(f"GRANT SELECT ON deals TO {role} WITH GRANT OPTION".encode())
    execute(f"GRANT SELECT ON {views}.lots TO {role}".encode())
    execute(f"CREATE VIEW {schema}.mine AS SELECT account, net FROM deals".encode())
    execute(f"CREATE VIEW {schema}.twice AS SELECT net * 2 AS net FROM {schema}.mine".encode())
    execute(f"CREATE VIEW {schema}.theirs AS SELECT * FROM {views}.positions".encode())
    names = ("mine", "twice", "theirs")
    before = [execute(f"SELECT * FROM {schema}.{name}".encode()).fetchall() for name in names]
    rebuild_beside(log, models, PROJECTIONS)
    after = [execute(f"SELECT * FROM {schema}.{name}".encode()).fetchall() for name in names]
    assert [sorted(rows) for rows in after] == [sorted(rows) for rows in before]
    execute("UPDATE deals SET net = 12345 WHERE account = 'A1'")
    row = execute(f"SELECT max(net) FROM {schema}.twice".encode()).fetchone()
    assert row is not None
    assert row[0] >= 24690
    execute(f"SET ROLE {role}".encode())
    assert execute("SELECT count(*) FROM deals").fetchone() != (0,)
    assert execute(f"SELECT count(*) FROM {views}.lots".encode()).fetchone() != (0,)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute("SELECT * FROM cash")
    execute("RESET ROLE")
    execute(f"DROP OWNED BY {role}".encode())
    execute(f"DROP ROLE {role}".encode())


def test_what_cannot_be_kept_refuses_the_swap(log: PostgresLog, models: ReadModels) -> None:
    models.connection.execute("CREATE MATERIALIZED VIEW kept AS SELECT account FROM deals")
    before = stored(models)
    with pytest.raises(RebuildRefused, match="materialized view kept depends on"):
        rebuild_beside(log, models, PROJECTIONS)
    assert stored(models) == before
    assert schemas_beside(models) == []
    models.connection.execute("DROP MATERIALIZED VIEW kept")
    rebuild_beside(log, models, PROJECTIONS)
    assert stored(models) == before


def test_a_difference_may_be_looked_at_and_refused(log: PostgresLog, models: ReadModels) -> None:
    models.connection.execute("UPDATE positions SET fees = 7")
    seen: list[bool] = []

    def approve(rebuilt: Rebuilt) -> None:
        old, new = all_rows(rebuilt.old)["positions"], all_rows(rebuilt.new)["positions"]
        seen.append(old != new and len(old) == len(new))
        raise RebuildRefused("fees differ")

    with pytest.raises(RebuildRefused, match="fees differ"):
        rebuild_beside(log, models, PROJECTIONS, approve=approve)
    assert seen == [True]
    assert {str(row["fees"]) for row in all_rows(models)["positions"]} == {"7"}


def newer(make: Any = None) -> tuple[Any, ...]:
    """The projections with another version of one, which may have another fold."""
    return tuple(
        replace(one, version=one.version + 1, make=make or one.make) if one.name == "cash" else one
        for one in PROJECTIONS
    )


def test_a_new_version_is_filled_while_the_old_one_serves(
    dsn: str, schema: str, log: PostgresLog, ledger: Ledger, models: ReadModels
) -> None:
    before = stored(models)
    again = open_read_models(log, dsn, schema, newer())
    assert {k: v for k, v in stored(again).items() if k != "projections"} == {
        k: v for k, v in before.items() if k != "projections"
    }
    assert Projector(log, again).catch_up() == 0
    ledger.submit(sample_requests(140)[120:])
    with pytest.raises(CheckpointMoved, match="cash was made anew"):
        Projector(log, models).catch_up()
    Projector(log, again).catch_up()
    assert verify(log, again).differences == []
    assert open_read_models(log, dsn, schema, newer()).close() is None
    again.close()


def test_a_newer_version_is_left_alone_unless_somebody_goes_back(
    dsn: str, schema: str, log: PostgresLog, models: ReadModels
) -> None:
    open_read_models(log, dsn, schema, newer()).close()
    made = stored(models)
    here = next(one.version for one in PROJECTIONS if one.name == "cash")
    refused = rf"of cash \(version {here + 1}, here {here}\) are newer than this program"
    with pytest.raises(MigrationRefused, match=refused):
        open_read_models(log, dsn, schema, PROJECTIONS)
    with pytest.raises(MigrationRefused, match=refused):
        ReadModels(dsn, schema, log.log_id, PROJECTIONS)
    assert stored(models) == made
    back = open_read_models(log, dsn, schema, PROJECTIONS, goes_back=True)
    assert Projector(log, back).catch_up() == 0
    assert verify(log, back).differences == []
    back.close()


def test_tables_of_another_log_are_made_anew_whatever_their_version(
    dsn: str, schema: str, models: ReadModels
) -> None:
    other = ReadModels(dsn, schema, "another-log", newer())
    other.close()
    again = ReadModels(dsn, schema, models.log_id, PROJECTIONS)
    assert again.checkpoints() == {}
    again.close()


def test_who_reads_keeps_the_tables_that_his_snapshot_knows(
    dsn: str, log: PostgresLog, models: ReadModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot sees no row of tables that were filled after it."""
    monkeypatch.setattr(rebuilding, "_TRIES", 1000)
    count = len(all_rows(models)["deals"])
    with contextlib.ExitStack() as stack:
        opened = (postgres.connect(dsn, schema=models.schema) for _ in range(2))
        reader, onlooker = (stack.enter_context(contextlib.closing(one)) for one in opened)

        def is_waited_for() -> bool:
            query = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
            return onlooker.execute(query).fetchone() == (True,)

        with beside(lambda: rebuild_beside(log, models, PROJECTIONS)), reader.transaction():
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            reader.execute(holding(PROJECTIONS))
            reader.execute("SELECT FROM projections")
            until(is_waited_for)
            assert reader.execute("SELECT count(*) FROM deals").fetchone() == (count,)
    assert len(all_rows(models)["deals"]) == count


def test_a_new_version_that_halts_is_not_swapped_in(
    dsn: str, schema: str, log: PostgresLog, models: ReadModels
) -> None:
    before = stored(models)
    with pytest.raises(RebuildRefused, match=r"cash in events/\d+ is at .* the fold failed"):
        open_read_models(log, dsn, schema, newer(FailingFold))
    assert stored(models) == before
    assert schemas_beside(models) == []
    assert Projector(log, models).catch_up() == 0


def test_hypertables_are_swapped_too(
    timescale: tuple[str, str], log: PostgresLog, ledger: Ledger
) -> None:
    url, schema = timescale
    ledger.submit([*sample_requests(60), *price_requests(200)])
    models = ReadModels(url, schema, log.log_id, PROJECTIONS)
    Projector(log, models).catch_up()
    refresh(models.connection)
    before = stored(models)
    query = f"SELECT * FROM {contract_schema(schema)}.prices_by_day ORDER BY 1, 2, 3, 4, 5, 6"
    by_day = models.connection.execute(query.encode()).fetchall()
    for _ in range(2):
        rebuild_beside(log, models, PROJECTIONS)
        assert stored(models) == before
        assert models.connection.execute(query.encode()).fetchall() == by_day
    rows = models.connection.execute(
        "SELECT hypertable_name FROM timescaledb_information.hypertables"
        " WHERE hypertable_schema LIKE %s",
        (f"{schema}%",),
    ).fetchall()
    assert rows == [("prices",)]
    models.close()
